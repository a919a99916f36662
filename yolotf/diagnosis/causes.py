"""What is wrong and what to change, in words: every cause and warning a diagnosis can give."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yolotf.darknet import cfg
from yolotf.diagnosis import edits as _edits
from yolotf.diagnosis import explain as _explain
from yolotf.weights import content as _content
from yolotf.weights import contents as _file
from yolotf.weights import known as _known
from yolotf.weights import layout
from yolotf.weights.content import Stats
from yolotf.weights.contents import Header


class Finding(Mapping[str, Any]):
    """A cause or a warning: a mapping as in the JSON, its fields attributes too."""

    def __init__(self, kind: str, message: str, fix: str | None = None, **facts: Any) -> None:
        self._fields = {"kind": kind, **facts, "message": message}
        if fix is not None:
            self._fields["fix"] = fix

    def __getitem__(self, key: str) -> Any:
        return self._fields[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("_fields", {})
        if name in fields:
            return fields[name]
        raise AttributeError(f"{fields.get('kind', 'finding')} has no field {name!r}")

    def __repr__(self) -> str:
        return f"Finding({', '.join(f'{key}={value!r}' for key, value in self.items())})"


@dataclass(frozen=True)
class Subject:
    """What a file is compared with.

    Attributes:
        source: the cfg's name in messages.
        segments: what the file would have to hold.
        network: the cfg behind it.
        name: the stock network it is, if it is one.
    """

    source: str
    segments: tuple[layout.Segment, ...]
    network: cfg.Network
    name: str | None

    @classmethod
    def of(cls, network: cfg.Network, *, transposed: bool = False) -> Subject:
        """The subject for a network."""
        segments = tuple(layout.segments(network, transposed=transposed))
        name = network.name
        if name is None and (known := _known.identify(_known.stored(segments))):
            name = known.name(network.classes)
        return cls(network.source, segments, network, name)

    @property
    def floats(self) -> int:
        """Floats of its file."""
        return self.segments[-1].end // layout.FLOAT_BYTES if self.segments else 0

    @property
    def title(self) -> str:
        """Its name, or else its source."""
        return self.name or self.source

    def size_bytes(self, header_bytes: int = _file.WIDE) -> int:
        """Bytes of its file."""
        return header_bytes + layout.FLOAT_BYTES * self.floats

    def where(self, layer: int) -> str:
        """The section, with its line."""
        return self.network.where(self.network.layers[layer])

    def lines(self, places: Iterable[tuple[cfg.Layer, str]]) -> str:
        """`yolov4.cfg:968, yolov4.cfg:1056`: where the options are written."""
        return ", ".join(f"{self.source}:{layer.line_of(key)}" for layer, key in places)


_NOUNS = {
    "empty": "an empty file",
    "git_lfs_pointer": "a Git LFS pointer, not the file it stands for",
    "html": "a web page",
    "text": "a text file",
    "hdf5": "an HDF5 file",
    "zip": "a ZIP archive",
    "pickle": "a Python pickle",
    "gzip": "a gzip file",
    "tensorflow_checkpoint": "part of a TensorFlow checkpoint",
    "binary": "no Darknet file",
}
_FIXES = {
    "empty": "download it again",
    "git_lfs_pointer": "run: git lfs pull; or download the file itself",
    "html": "the download went wrong; open the address in a browser and save the file itself",
    "text": "get the real file; a .weights file is binary",
    "hdf5": "load it with model.load_weights, or get the .weights file it was made from",
    "zip": "a PyTorch or Keras file needs its own loader; unpack an archive first",
    "pickle": "load it with PyTorch, or get the Darknet .weights file",
    "gzip": "unpack it first: gunzip",
    "tensorflow_checkpoint": "load it with tf.train.Checkpoint or model.load_weights",
    "binary": "get the Darknet .weights file",
    "missing": "check the path",
    "directory": "name a file in it",
    "unreadable": "check the permissions and the disk",
    "special_file": "name a regular file",
}
_AGAIN = "get an undamaged copy; if training diverged, use an earlier checkpoint"
_DAMAGE = {
    "utf8_replacement": (
        "read as UTF-8 text and written back: every byte that is none became EF BF BD, so the "
        "numbers are lost"
    ),
    "cp1252_to_utf8": "read as CP1252 or Latin-1 text and written back as UTF-8, which grew it",
    "lf_to_crlf": "copied in text mode: every byte 0A was written as 0D 0A",
    "crlf_to_lf": "copied in text mode: every 0D 0A was written as 0A",
    "cr_to_lf": "copied in text mode: every byte 0D was written as 0A",
}


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 layer`, `2 layers`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


class Causes:
    """Writes the findings about one file and one network."""

    def __init__(self, contents: _file.Contents, subject: Subject) -> None:
        self.path = contents.path
        self.size = contents.size_bytes
        self.contents = contents
        self.subject = subject
        self.network = subject.network

    def _finding(self, kind: str, message: str, fix: str | None = None, **facts: Any) -> Finding:
        return Finding(kind, f"{self.path}: {message}", fix, **facts)

    # What the bytes are.

    def not_weights(self) -> Finding:
        """`contents.detected` says what the file is; a pointer also what it stands for."""
        contents = self.contents
        detected = contents.detected or "binary"
        message = contents.unreadable or f"{_NOUNS[detected]}, {plural(self.size, 'byte')}"
        if contents.hint:
            message += f": {contents.hint}"
        facts: dict[str, Any] = {"detected": detected}
        if contents.pointer:
            stated = contents.pointer.size_bytes
            if stated is not None:
                message += f"; that has {stated}"
                target = self._pointed_to(stated)
                if target:
                    facts["points_to"] = target
                    message += f", as {target['architecture']}"
                    if target["classes"]:
                        message += f" with {plural(target['classes'], 'class', 'classes')} has"
            facts.update(oid=contents.pointer.oid, pointer_bytes=stated)
        return self._finding("not_weights", message, _FIXES[detected], **facts)

    def _pointed_to(self, size_bytes: int) -> dict[str, Any] | None:
        """The likeliest network of a file of that size, the subject's own first."""
        own = self.architecture
        found = [
            match
            for header in (_file.WIDE, _file.NARROW)
            if (size_bytes - header) % layout.FLOAT_BYTES == 0
            for match in _known.solve((size_bytes - header) // layout.FLOAT_BYTES)
        ]
        if not found:
            return None
        best = min(found, key=lambda match: match.oddity - 3 * (match.architecture is own))
        target = {"architecture": best.name, "classes": best.classes}
        return target if best.layers is None else {**target, "layers": best.layers}

    @property
    def architecture(self) -> _known.Architecture | None:
        """The known network that the subject is."""
        return _known.identify(_known.stored(self.subject.segments))

    def binary(self) -> Finding:
        """Neither the header nor the size is that of any network."""
        return self._finding(
            "not_weights",
            f"no Darknet file: versions in the header are out of range, and {self.size} bytes are "
            "the size of no known network",
            _FIXES["binary"],
            detected="binary",
        )

    def mangled(self, damage: str) -> Finding:
        """Text-mode damage: a key of `_DAMAGE`."""
        newline = damage in ("lf_to_crlf", "crlf_to_lf", "cr_to_lf")
        return self._finding(
            "damaged",
            _DAMAGE[damage],
            "copy or download it again as a binary file (FTP: binary; Git: mark *.weights binary "
            "in .gitattributes)",
            detected="newline_translation" if newline else damage,
        )

    def impossible_numbers(self, header: Header, scanned: Sequence[Stats]) -> Iterator[Finding]:
        """NaN, infinity and negative variances, the first place of each."""
        runs = _content.runs_of(self.subject.segments)
        for detected, noun in (("nan_or_inf", "number"), ("negative_variance", "variance")):
            bad = [
                (run, count)
                for run, found in zip(runs, scanned, strict=True)
                if (count := _bad_numbers(run, found, detected))
            ]
            if not bad:
                continue
            run, total = bad[0][0], sum(count for _, count in bad)
            state = "not finite" if noun == "number" else "negative"
            yield self._finding(
                "damaged",
                f"{plural(total, noun)} {'is' if total == 1 else 'are'} {state}, the first in the "
                f"{run.role} of {self.subject.where(run.layer)}",
                _AGAIN,
                detected=detected,
                count=total,
                layer=run.layer,
                role=run.role,
                offset=header.size_bytes + layout.FLOAT_BYTES * run.start,
            )

    def nonfinite(self, count: int) -> Finding:
        """NaN and infinity in a file whose layout is not the network's."""
        return self._finding(
            "damaged",
            f"{plural(count, 'number')} {'is' if count == 1 else 'are'} not finite",
            _AGAIN,
            detected="nan_or_inf",
            count=count,
        )

    # Warnings.

    def header_width(self, header: Header) -> Finding:
        """The version asks for another header than the size does."""
        return self._finding(
            "header_width",
            f"version {header.major}.{header.minor} asks for a header of "
            f"{header.version_size_bytes} bytes, the size is exact with one of "
            f"{header.size_bytes}",
            file=header.size_bytes,
            expected=header.version_size_bytes,
        )

    def unverified(self, why: str) -> Finding:
        """Only the size could be checked."""
        return self._finding("unverified", f"{why}, so only the size could be checked")

    # What explains it.

    def of(self, header: Header, best: _explain.Explanation) -> Iterator[Finding]:
        """The causes an explanation stands for; none for `as_is`."""
        match best.kind:
            case "edit" if best.edit:
                yield from self._edited(header, best.edit, best.place)
            case "known" if best.match:
                yield from self._known(best.match)
            case "partial":
                yield self._partial(best.layers[0], best.layers[1])
            case "truncated":
                yield self.truncated(header.size_bytes, best.place)
            case "trailing":
                yield self._trailing(header)
            case "swapped" | "moved" | "shifted":
                yield self._displaced(best)

    def _edited(
        self, header: Header, edit: _edits.Edit, place: _explain.Place | None
    ) -> Iterator[Finding]:
        if edit.what == "classes":
            yield self._class_count(edit.file[0])
            if channels := edit.overrides.get(("channels", _edits.INPUT)):
                yield self._channels(channels)
        elif edit.what == "channels":
            yield self._channels(edit.file[0])
        elif edit.what == "heads":
            yield self._head_filters(edit)
        elif place is not None:
            if edit.classes is not None:
                yield self._class_count(edit.classes)
            floats = (self.size - header.size_bytes) // layout.FLOAT_BYTES
            yield self._layer_shape(edit, place, edit.floats or floats - self.subject.floats)

    def _class_count(self, classes: int) -> Finding:
        network = self.network
        fix = f"pass classes={classes}, or --classes {classes}"
        if network.name is None:
            heads = [(network.layers[head.index - 1], head) for head in network.heads]
            filters = sorted({len(h.anchors) * (h.coords + 1 + classes) for _, h in heads})
            fix += (
                f"; or set classes={classes} in "
                f"{self.subject.lines((head, 'classes') for _, head in heads)} and filters="
                f"{' or '.join(map(str, filters))} in "
                f"{self.subject.lines((before, 'filters') for before, _ in heads)}"
            )
        return self._finding(
            "class_count",
            f"trained with {plural(classes, 'class', 'classes')}, {self.subject.source} has "
            f"{network.classes}",
            fix,
            file=classes,
            model=network.classes,
        )

    def _channels(self, channels: int) -> Finding:
        option = self.network.net.option("channels")
        model = self.network.input_shape.channels
        known = option is not None and self.network.name is None
        return self._finding(
            "channels",
            f"trained on pictures of {plural(channels, 'channel')}, {self.subject.source} takes "
            f"{model}",
            f"set channels={channels} in [net]"
            + (f", {self.subject.source}:{option.line}" if option and known else ""),
            file=channels,
            model=model,
        )

    def _head_filters(self, edit: _edits.Edit) -> Finding:
        convolutions = [self.network.layers[head.index - 1] for head in self.network.heads]
        classes = plural(edit.classes or 0, "class", "classes")
        return self._finding(
            "head_filters",
            f"its heads have {list(edit.file)} filters, those of {self.subject.source} "
            f"{list(edit.model)}: {classes}, the anchors shared out in another way",
            "set filters and mask as they were in training, in "
            + self.subject.lines((convolution, "filters") for convolution in convolutions),
            file=list(edit.file),
            model=list(edit.model),
        )

    def _layer_shape(self, edit: _edits.Edit, place: _explain.Place, difference: int) -> Finding:
        layer, edited = self.network.layers[place.layer], self.network.layers[edit.layer]
        line = edited.line_of("layers" if edit.what == "route" else edit.what)
        at = f"{self.subject.source}:{line}"
        file, model = edit.file[0], edit.model[0]
        if edit.what == "route":
            story = (
                f"its input passes section {edit.layer} [route] ({at}), of {file} channels in the "
                f"file and {model} here"
            )
            fix = f"set layers= in {at} as it was in training, for {file} channels in all"
        else:
            story = f"{edit.what}={file} in the file, {edit.what}={model} here ({at})"
            fix = f"set {edit.what}={file} in {at}, or use the cfg it was trained with"
        return self._shape(layer, line, f"is another in the file: {story}", fix, difference)

    def _shape(
        self, layer: cfg.Layer, line: int, story: str, fix: str, difference: int, **facts: Any
    ) -> Finding:
        return self._finding(
            "layer_shape",
            f"{self.network.where(layer)} {story}; {difference:+d} floats",
            fix,
            layer=layer.index,
            section=layer.type,
            layer_type=layer.type,
            cfg_line=line,
            file_floats_minus_model=difference,
            **facts,
        )

    def _displaced(self, best: _explain.Explanation) -> Finding:
        """Layers in another order, or floats too many or too few somewhere inside."""
        place = best.place or _explain.Place(0, "", 0)
        layer = self.network.layers[place.layer]
        fix = "use the cfg it was trained with, or write the file again in this cfg's order"
        facts: dict[str, Any] = {}
        if best.kind == "shifted":
            more = layout.FLOAT_BYTES * abs(best.floats)
            ways = "after too many" if best.floats > 0 else "after too few"
            story = f"is where the file shifts by {plural(more, 'byte')}: all that follows stands "
            story += f"{'later' if best.floats > 0 else 'earlier'} than in the cfg"
            fix = (
                f"use the cfg it was trained with, or get an undamaged copy: the floats come {ways}"
            )
        else:
            facts["layers"] = list(best.layers)
            first, second = best.layers
            story = f"is not at its place: {self.subject.where(first)} "
            story += "and " if best.kind == "swapped" else "stands before "
            story += self.subject.where(second)
            story += " have changed places in the file" * (best.kind == "swapped")
        return self._shape(layer, layer.line, story, fix, best.floats, **facts)

    def _known(self, match: _known.Match) -> Iterator[Finding]:
        if match.architecture is not self.architecture:
            stated = f" with {plural(match.classes, 'class', 'classes')}" if match.classes else ""
            option = f" and classes={match.classes}" if match.classes else ""
            yield self._finding(
                "architecture",
                f"the size of {match.name}{stated}, not of {self.subject.title}",
                f"use the cfg of {match.name}{option}",
                file=match.name,
                file_classes=match.classes,
                model=self.subject.title,
            )
        if match.layers is not None:
            yield self._partial(match.layers, match.layers, match.name)
        if match.channels != self.network.input_shape.channels:
            yield self._channels(match.channels)

    def _partial(self, fewest: int, most: int, name: str | None = None) -> Finding:
        # Layers that store nothing leave the number open; people write it into the name.
        named = re.search(r"\.(\d+)$", self.path)
        layers = int(named.group(1)) if named and fewest <= int(named.group(1)) <= most else fewest
        of = name or f"the {len(self.network.layers)} of {self.subject.source}"
        return self._finding(
            "partial_backbone",
            f"ends exactly after {plural(layers, 'layer')} of {of}: a backbone to train from, no "
            "whole detector",
            "get the whole file to detect with; to train, load it as a backbone",
            layers=layers,
        )

    def truncated(self, header_bytes: int, place: _explain.Place | None) -> Finding:
        """The file ends inside `place`; inside the header without one."""
        expected = self.subject.size_bytes(header_bytes)
        where = "inside the header"
        if place and self.size >= header_bytes:
            where = f"in the {place.role} of {self.subject.where(place.layer)}"
        return self._finding(
            "truncated",
            f"ends after {self.size} of {expected} bytes, {where}",
            f"download it again; the whole file has {expected} bytes",
            at=self.size,
            expected=expected,
            layer=place.layer if place else None,
        )

    def _trailing(self, header: Header) -> Finding:
        expected = self.subject.size_bytes(header.size_bytes)
        return self._finding(
            "trailing",
            f"{plural(self.size - expected, 'byte')} left after the last layer: {self.size}, "
            f"{self.subject.source} needs {expected}",
            "use the cfg it was trained with, or get an undamaged copy",
            bytes=self.size - expected,
        )

    def unknown(self, header: Header, place: _explain.Place | None) -> Finding:
        """Nothing explains it."""
        expected = self.subject.size_bytes(header.size_bytes)
        if self.size == expected:
            tried = (
                "the size is right, the numbers are not; tried layers in another order and floats "
                "added or lost"
            )
        else:
            tried = (
                f"{self.size} bytes in place of {expected}; tried other class counts, channels and "
                "masks, every single change of the cfg, and every known network whole or cut"
            )
        where = f"; they part at {self.subject.where(place.layer)}" if place else ""
        return self._finding(
            "unknown",
            f"written by another network than {self.subject.source}: {tried}{where}",
            "use the cfg it was trained with; it is usually kept beside the .weights file",
        )


def _bad_numbers(run: _content.Run, found: Stats, detected: str) -> int:
    if detected == "nan_or_inf":
        return found.nonfinite
    return found.negative if run.role == "moving_variance" else 0
