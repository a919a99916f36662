"""Causes and warnings: a frozen class for each kind, with its facts, message and fix.

A finding is also a mapping with the keys of its JSON: `kind`, the facts, `message` and, for a
cause, `fix`. Fields marked `MESSAGE_ONLY` appear only in the message and are left out of the JSON.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from yolotf.diagnosis.report import escaped
from yolotf.files.detect import Contents
from yolotf.text import plural
from yolotf.weights.catalog import same_size_warning
from yolotf.weights.header import width_warning

MESSAGE_ONLY = {"message_only": True}
"""Marks a field that appears only in the message."""
_OPTIONAL = {"optional": True}
"""Marks a field that is left out of the JSON if it is None."""


_TITLES = {
    "not_weights": "not a weights file",
    "class_count": "wrong number of classes",
    "channels": "wrong number of input channels",
    "architecture": "another network",
    "head_filters": "heads of another size",
    "folded": "batch normalization folded",
    "layer_shape": "a layer differs",
    "truncated": "ends too early",
    "partial_backbone": "only a backbone",
    "trailing": "too long",
    "unknown": "another network",
    "header_width": "unusual header",
    "unverified": "not verified",
    "same_size_networks": "other networks of the same size",
}
"""Readable titles of the kinds; for any other kind, its name with spaces."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Finding(Mapping[str, Any]):
    """A cause or a warning.

    Attributes:
        path: name of the file.
    """

    kind: ClassVar[str]  # an instance field in a class of several kinds

    path: str = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        """Returns the message without the file's name."""
        raise NotImplementedError

    @property
    def message(self) -> str:
        """What is wrong, with both numbers, and where; control characters are escaped."""
        return escaped(f"{self.path}: {self._sentence()}")

    @property
    def fix(self) -> str | None:
        """What to change; None for a warning."""
        return None

    @property
    def text(self) -> str:
        """The message without the file's name."""
        return self._sentence()

    @property
    def title(self) -> str:
        """A readable title of the kind."""
        return _TITLES.get(self.kind) or self.kind.replace("_", " ")

    def to_dict(self) -> dict[str, Any]:
        """Returns the finding as in the JSON."""
        document: dict[str, Any] = {"kind": self.kind}
        for fact in dataclasses.fields(self):
            value = getattr(self, fact.name)
            if fact.metadata.get("message_only"):
                continue
            if value is None and fact.metadata.get("optional"):
                continue
            document[fact.name] = _as_json(value)
        document["message"] = self.message
        if (fix := self.fix) is not None:
            document["fix"] = fix
        return document

    def __getitem__(self, key: str) -> Any:
        return self.to_dict()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def __len__(self) -> int:
        return len(self.to_dict())


def _as_json(value: Any) -> Any:
    """Converts tuples to lists, as in JSON."""
    return [_as_json(item) for item in value] if isinstance(value, tuple) else value


# The file is not a weights file, or was damaged in transfer.


@dataclass(frozen=True, kw_only=True, eq=False)
class NotWeights(Finding):
    """The file is missing, unreadable or of another type.

    Attributes:
        detected: the type of the file, in one word.
        points_to: for a Git LFS pointer, the network whose file has the size it states.
        oid: for a pointer, the SHA-256 of the file it refers to.
        pointer_bytes: for a pointer, the size of that file.
        contents: the result of the file type detection.
    """

    kind: ClassVar[str] = "not_weights"

    detected: str
    points_to: Mapping[str, Any] | None = field(default=None, metadata=_OPTIONAL)
    oid: str | None = field(default=None, metadata=_OPTIONAL)
    pointer_bytes: int | None = field(default=None, metadata=_OPTIONAL)
    contents: Contents = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        text = self.contents.description
        if self.pointer_bytes is not None:
            text += f"; the file itself has {self.pointer_bytes} bytes"
        if self.points_to:
            text += f", the size of {self.points_to['architecture']}"
            if self.points_to["classes"]:
                text += f" with {plural(self.points_to['classes'], 'class', 'classes')}"
        return text

    @property
    def fix(self) -> str:
        """The advice for this file type."""
        return self.contents.fix


_TEXT_DAMAGE = {
    "utf8_replacement": (
        "read as UTF-8 text and written back: every invalid byte became EF BF BD, so the "
        "numbers are lost"
    ),
    "cp1252_to_utf8": "read as CP1252 or Latin-1 text and written back as UTF-8, which grew it",
    "lf_to_crlf": "copied in text mode: every byte 0A was written as 0D 0A",
    "crlf_to_lf": "copied in text mode: every 0D 0A was written as 0A",
    "cr_to_lf": "copied in text mode: every byte 0D was written as 0A",
}


class _Damage(Finding):
    """The file is damaged; `detected` tells how."""

    kind: ClassVar[str] = "damaged"

    detected: str

    @property
    def title(self) -> str:
        """The kind, and the kind of damage."""
        return f"damaged: {self.detected.replace('_', ' ')}"


@dataclass(frozen=True, kw_only=True, eq=False)
class TextDamage(_Damage):
    """A program treated the file as text.

    Attributes:
        detected: utf8_replacement, cp1252_to_utf8 or newline_translation.
        how: a key of `_TEXT_DAMAGE`.
    """

    detected: str = field(init=False)
    how: str = field(metadata=MESSAGE_ONLY)

    def __post_init__(self) -> None:
        newline = self.how in ("lf_to_crlf", "crlf_to_lf", "cr_to_lf")
        object.__setattr__(self, "detected", "newline_translation" if newline else self.how)

    def _sentence(self) -> str:
        return _TEXT_DAMAGE[self.how]

    @property
    def fix(self) -> str:
        """How to copy the file without damage."""
        return (
            "copy or download it again as a binary file (FTP: binary; Git: mark *.weights binary "
            "in .gitattributes)"
        )


_DAMAGE = {
    "nan_or_inf": ("number", "not finite"),
    "huge": ("number", "1e30 or more, which no network learns"),
    "negative_variance": ("variance", "negative"),
    "zeros": ("byte", "zero where numbers belong"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Damaged(_Damage):
    """The layout is right, but some values are impossible.

    Attributes:
        detected: nan_or_inf, huge, negative_variance, zeros or repeated.
        count: the number of bad values; for `zeros` and `repeated` the number of bytes.
        layer: the first damaged section; None if the layout is unknown.
        role: the first damaged array.
        offset: offset of the first damaged range, in bytes.
        end: offset of the end of that range (exclusive), in bytes.
        repeats: for `repeated`, the offset of the other copy of the same bytes.
        where: the section, in words.
        other: for `repeated`, the array and section of the other copy, in words.
    """

    detected: str
    count: int
    layer: int | None = field(default=None, metadata=_OPTIONAL)
    role: str | None = field(default=None, metadata=_OPTIONAL)
    offset: int | None = field(default=None, metadata=_OPTIONAL)
    end: int | None = field(default=None, metadata=_OPTIONAL)
    repeats: int | None = field(default=None, metadata=_OPTIONAL)
    where: str = field(default="", metadata=MESSAGE_ONLY)
    other: str = field(default="", metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        if self.detected == "repeated":
            start = self.repeats or 0
            return (
                f"bytes {self.offset}..{self.end} are the same as bytes {start}.."
                f"{start + self.count}: in the {self.role} of {self.where}, and in {self.other}"
            )
        noun, state = _DAMAGE[self.detected]
        text = f"{plural(self.count, noun)} {'is' if self.count == 1 else 'are'} {state}"
        if self.where:
            text += f", the first in the {self.role} of {self.where}"
        if self.offset is not None and self.end is not None:
            text += f", bytes {self.offset}..{self.end}"
        return text

    @property
    def fix(self) -> str:
        """Which copy to use instead."""
        if self.detected in ("zeros", "repeated"):
            return "get an undamaged copy: a download was not finished, or resumed at a wrong place"
        return "get an undamaged copy; if training diverged, use an earlier checkpoint"


# The file belongs to another network.


TAKES_CLASSES = "pass classes={classes}, or --classes {classes}"
"""Advice of functions and commands with an argument for the number of classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassCount(Finding):
    """The file was trained with another number of classes.

    Attributes:
        file: the file's number of classes.
        model: the network's number of classes.
        source: the network's name.
        remedy: what else to change; may be empty.
        argument: what to pass, or None where the number of classes is not an argument: for a
            function that takes `classes`, and a command. See `Diagnosis.with_argument`.
        other_networks: other networks of the file's size, in words; may be empty.
    """

    kind: ClassVar[str] = "class_count"

    file: int
    model: int | None
    source: str = field(metadata=MESSAGE_ONLY)
    remedy: str = field(default="", metadata=MESSAGE_ONLY)
    argument: str | None = field(default=TAKES_CLASSES, metadata=MESSAGE_ONLY)
    other_networks: str = field(default="", metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        text = f"trained with {plural(self.file, 'class', 'classes')}, {self.source} has "
        text += "none" if self.model is None else str(self.model)
        return f"{text}; {self.other_networks}" if self.other_networks else text

    @property
    def fix(self) -> str:
        """The argument to pass, or the cfg lines to change."""
        argument = (self.argument or "").replace("{classes}", str(self.file))
        return "; or ".join(filter(None, (argument, self.remedy)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Channels(Finding):
    """The file was trained on images with another number of channels.

    Attributes:
        file: the file's number of channels.
        model: the network's number of channels.
        source: the network's name.
        at: the cfg line of `channels=`; empty if there is none.
    """

    kind: ClassVar[str] = "channels"

    file: int
    model: int
    source: str = field(metadata=MESSAGE_ONLY)
    at: str = field(default="", metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        return (
            f"trained on images of {plural(self.file, 'channel')}, {self.source} takes {self.model}"
        )

    @property
    def fix(self) -> str:
        """The cfg line to change."""
        return f"set channels={self.file} in [net]" + (f", {self.at}" if self.at else "")


@dataclass(frozen=True, kw_only=True, eq=False)
class OtherArchitecture(Finding):
    """The file belongs to another known network.

    Attributes:
        file: name of the file's network.
        file_classes: its number of classes.
        model: name of the network it was compared with.
    """

    kind: ClassVar[str] = "architecture"

    file: str
    file_classes: int | None
    model: str

    def _sentence(self) -> str:
        classes = self.file_classes
        stated = f" with {plural(classes, 'class', 'classes')}" if classes else ""
        return f"has the size of {self.file}{stated}, not of {self.model}"

    @property
    def fix(self) -> str:
        """The cfg to use."""
        option = f" and classes={self.file_classes}" if self.file_classes else ""
        return f"use the cfg of {self.file}{option}"


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadFilters(Finding):
    """Some heads have another size in the file: not updated in the cfg, or with other masks.

    Attributes:
        file: filters of the convolution before each head, in the file.
        model: the same in the network.
        heads: indices of the heads that differ, if only their number of classes differs; None if
            the anchors are distributed differently among the heads.
        classes: number of classes of these heads in the file.
        source: the network's name.
        lines: cfg lines of the filters of these heads.
        class_lines: cfg lines of their classes.
    """

    kind: ClassVar[str] = "head_filters"

    file: list[int]
    model: list[int]
    heads: list[int] | None = field(default=None, metadata=_OPTIONAL)
    classes: int = field(metadata=MESSAGE_ONLY)
    source: str = field(metadata=MESSAGE_ONLY)
    lines: list[str] = field(metadata=MESSAGE_ONLY)
    class_lines: list[str] = field(default_factory=list, metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        if self.heads is None:
            return (
                f"its heads have {self.file} filters, those of {self.source} have {self.model}: "
                f"{plural(self.classes, 'class', 'classes')}, and the anchors are distributed "
                "differently among the heads"
            )
        return "; ".join(self._heads_alike())

    def _heads_alike(self) -> Iterator[str]:
        """Yields a clause for each group of heads with the same filters in cfg and file."""
        alike: dict[tuple[int, int], list[int]] = {}
        for place in self.heads or ():
            alike.setdefault((self.model[place], self.file[place]), []).append(place)
        lines = dict(zip(self.heads or (), self.lines, strict=False))
        for (model, file), places in alike.items():
            several = len(places) > 1
            numbers = _joined_with_and([str(place) for place in places])
            yield (
                f"head{'s' if several else ''} {numbers} {'have' if several else 'has'} {model} "
                f"filters ({_numbered([lines[place] for place in places])}), the file has {file}, "
                f"as for {plural(self.classes, 'class', 'classes')}"
            )

    @property
    def fix(self) -> str:
        """The cfg lines to change."""
        if self.heads is None:
            return f"set filters and mask as they were in training, in {', '.join(self.lines)}"
        filters = dict.fromkeys(self.file[place] for place in self.heads)
        remedy = f"set filters={' or '.join(map(str, filters))} in {', '.join(self.lines)}"
        if self.class_lines:
            remedy += f" and classes={self.classes} in {', '.join(self.class_lines)}"
        return remedy


def _joined_with_and(texts: list[str]) -> str:
    """Joins texts as in `0`, `0 and 1`, `0, 1 and 2`."""
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _numbered(places: list[str]) -> str:
    """Formats `a.cfg:580`, `a.cfg:664` as `lines 580, 664`, and sections as `sections 81, 93`."""
    lines = [place.rpartition(":")[2] for place in places]
    noun = "line" if all(":" in place for place in places) else "section"
    numbers = ", ".join(line.removeprefix("section ") for line in lines)
    return f"{noun}{'s' if len(places) > 1 else ''} {numbers}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Folded(Finding):
    """Batch normalization was folded into the kernels on one side only.

    Attributes:
        file: the file's side, `folded` or `normalized`.
        layers: the number of convolutions that differ.
        source: the network's name.
    """

    kind: ClassVar[str] = "folded"

    file: str
    layers: int
    source: str = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        convolutions = plural(self.layers, "convolution")
        if self.file == "folded":
            return (
                f"has a bias alone in {convolutions} where {self.source} has batch normalization, "
                "as after folding it into the kernels"
            )
        return (
            f"has batch normalization in {convolutions} where {self.source} has a bias alone, as "
            "after folding"
        )

    @property
    def fix(self) -> str:
        """The cfg or file to use."""
        if self.file == "folded":
            return (
                "use the file from before folding; or leave batch normalization out of these "
                "layers (batch_normalize=0)"
            )
        return (
            "use the network from before folding, with batch normalization in these layers "
            "(batch_normalize=1)"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerShape(Finding):
    """A layer stores something else in the file than in the network.

    Attributes:
        layer: index of its section.
        section: type of its section.
        layer_type: the same as `section`, for compatibility with older versions.
        cfg_line: line of the option that differs; None without a cfg.
        file_floats_minus_model: floats in the file minus floats in the network.
        layers: for layers in another order, the indices of the two layers.
        change: `added` for a section that the file lacks, `missing` for a section before `layer`
            that the cfg lacks.
        where: the section, in words.
        problem: what differs.
        remedy: what to change.
    """

    kind: ClassVar[str] = "layer_shape"

    layer: int
    section: str
    layer_type: str = field(init=False)
    cfg_line: int | None
    file_floats_minus_model: int
    layers: list[int] | None = field(default=None, metadata=_OPTIONAL)
    change: str | None = field(default=None, metadata=_OPTIONAL)
    where: str = field(metadata=MESSAGE_ONLY)
    problem: str = field(metadata=MESSAGE_ONLY)
    remedy: str = field(metadata=MESSAGE_ONLY)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer_type", self.section)

    def _sentence(self) -> str:
        problem = f"{self.where} {self.problem}".strip()
        return f"{problem}; {self.file_floats_minus_model:+d} floats"

    @property
    def fix(self) -> str:
        """The option to change and its cfg line, or the cfg to use."""
        return self.remedy


# The file ends too early or too late.


@dataclass(frozen=True, kw_only=True, eq=False)
class Truncated(Finding):
    """The file ends inside an array.

    Attributes:
        at: its size in bytes.
        expected: the size it should have, in bytes.
        layer: the section it ends in; None if it ends inside the header.
        where: the array it ends in, in words.
        cut: whether the values before the end are plausible for the network, so that only the end
            is missing.
    """

    kind: ClassVar[str] = "truncated"

    at: int
    expected: int
    layer: int | None
    where: str = field(metadata=MESSAGE_ONLY)
    cut: bool = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        return f"ends after {self.at} of {self.expected} bytes, {self.where}"

    @property
    def fix(self) -> str:
        """Download the file again, or use another cfg."""
        again = f"download it again; the whole file has {self.expected} bytes"
        if self.cut:
            return again
        return f"use the cfg it was trained with; if the download broke off, {again}"


@dataclass(frozen=True, kw_only=True, eq=False)
class PartialBackbone(Finding):
    """The file ends after a layer, as a backbone file does.

    Attributes:
        layers: the number of layers it has.
        of: the network, in words.
    """

    kind: ClassVar[str] = "partial_backbone"

    layers: int
    of: str = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        return (
            f"ends exactly after {plural(self.layers, 'layer')} of {self.of}: a backbone to train "
            "from, not a whole network"
        )

    @property
    def fix(self) -> str:
        """The file for inference, and how to train from this one."""
        return (
            "use the whole file to detect or classify with; to train from this one, "
            "load_darknet_weights(model, file, strict=False)"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Trailing(Finding):
    """Bytes are left after the last layer.

    Attributes:
        bytes: the number of bytes left.
        size: size of the file in bytes.
        expected: the size it should have, in bytes.
        source: the network's name.
    """

    kind: ClassVar[str] = "trailing"

    bytes: int
    size: int = field(metadata=MESSAGE_ONLY)
    expected: int = field(metadata=MESSAGE_ONLY)
    source: str = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        return (
            f"{plural(self.bytes, 'byte')} left after the last layer: the file has {self.size}, "
            f"{self.source} needs {self.expected}"
        )

    @property
    def fix(self) -> str:
        """Use another cfg, or another copy."""
        return "use the cfg it was trained with, or get an undamaged copy"


@dataclass(frozen=True, kw_only=True, eq=False)
class Unknown(Finding):
    """No explanation was found, or the cause has no kind.

    Attributes:
        problem: what is wrong, or which explanations were tried.
        remedy: what may help.
    """

    kind: ClassVar[str] = "unknown"

    problem: str = field(metadata=MESSAGE_ONLY)
    remedy: str = field(
        default="use the cfg it was trained with; it is usually kept beside the .weights file",
        metadata=MESSAGE_ONLY,
    )

    def _sentence(self) -> str:
        return self.problem

    @property
    def fix(self) -> str:
        """What may help."""
        return self.remedy


# Warnings: problems that do not prevent loading.


@dataclass(frozen=True, kw_only=True, eq=False)
class HeaderWidth(Finding):
    """The width of the header does not match its version.

    Attributes:
        file: size of the header in bytes, according to the size of the file.
        expected: size of the header in bytes, according to its version.
        version: the version, as in `0.2`.
    """

    kind: ClassVar[str] = "header_width"

    file: int
    expected: int
    version: str = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        return width_warning(self.version, self.expected, self.file)


@dataclass(frozen=True, kw_only=True, eq=False)
class Unverified(Finding):
    """Only the size could be checked; `why` gives the reason."""

    kind: ClassVar[str] = "unverified"

    why: str = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        return f"{self.why}, so only the size could be checked"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Quoted(Finding):
    """A sentence about something other than the file, which it names.

    Attributes:
        sentence: the whole message.
    """

    sentence: str = field(metadata=MESSAGE_ONLY)

    @property
    def message(self) -> str:
        """The sentence, without the file's name."""
        return self.sentence

    def _sentence(self) -> str:
        return self.sentence


@dataclass(frozen=True, kw_only=True, eq=False)
class CfgLine(_Quoted):
    """A problem in the cfg, such as a line that Darknet ignores, or implausible anchors."""

    kind: ClassVar[str] = "cfg"


@dataclass(frozen=True, kw_only=True, eq=False)
class SameSizeNetworks(Finding):
    """Other networks store the same floats but decode differently.

    Attributes:
        networks: names of the other networks.
        differing: the cfg keys that differ.
        title_of: name of the network the file was compared with.
        differences: what differs, for each of `networks`.
    """

    kind: ClassVar[str] = "same_size_networks"

    networks: tuple[str, ...]
    differing: tuple[str, ...]
    title_of: str = field(metadata=MESSAGE_ONLY)
    differences: tuple[str, ...] = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        return same_size_warning(self.title_of, zip(self.networks, self.differences, strict=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelDifference(_Quoted):
    """A Keras model computes something else than its network.

    Attributes:
        kind: epsilon, leaky_slope, activation, padding, concat_order, upsampling, ...
        layers: names of the layers that differ.
    """

    kind: str = field(metadata=MESSAGE_ONLY)  # type: ignore[misc]
    layers: tuple[str, ...]
