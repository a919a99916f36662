"""The ways file and network can belong together: one frozen class a kind, and what each says.

An explanation is a layout of the file's floats. `search` finds them and weighs their layouts
against the numbers; the one that is borne out says its causes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from yolotf.darknet import cfg
from yolotf.diagnosis import causes as findings
from yolotf.diagnosis.causes import Finding
from yolotf.diagnosis.mutations import Edit, Option
from yolotf.diagnosis.target import Case
from yolotf.text import plural
from yolotf.weights import layout
from yolotf.weights.catalog import Match
from yolotf.weights.likelihood import Evidence
from yolotf.weights.statistics import Run


class Place(NamedTuple):
    """A point of the network's own layout: where file and network part."""

    layer: int
    role: str
    start: int
    """Floats from the end of the header."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One way file and network can belong together.

    Attributes:
        unlikeliness: nats against it before the content is looked at.
        weight: nats for it in the content.
        layout: gives what it says the file holds, which may go on beyond the file's end.
        place: where the network's layout stops being the file's; None if it never does.
        header_bytes: how the header was read.
    """

    exact: ClassVar[bool] = False
    """Whether it accounts for every float of the file and leaves nothing to chance."""

    unlikeliness: float
    weight: float
    layout: Callable[[], Sequence[Run]] = field(repr=False, compare=False)
    place: Place | None = None
    header_bytes: int = 0

    @property
    def score(self) -> float:
        """What explanations are compared by."""
        return self.weight - self.unlikeliness

    def impossible(self, evidence: Evidence) -> float:
        """Share of the numbers it takes for variances that no variance can be."""
        variances = [
            run
            for run in self.layout()
            if run.role == "moving_variance" and run.end <= evidence.floats
        ]
        count = sum(run.floats for run in variances)
        return sum(evidence.impossible(run) for run in variances) / max(1, count)

    def causes(self, case: Case) -> Iterator[Finding]:
        """What it means for the user."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class AsIs(Explanation):
    """The network's own layout, all of it."""

    exact: ClassVar[bool] = True

    def causes(self, case: Case) -> Iterator[Finding]:
        """None: what is wrong then is in the numbers."""
        return iter(())


@dataclass(frozen=True, kw_only=True)
class Edited(Explanation):
    """The network with a change.

    Attributes:
        edit: the change.
        otherwise: other networks of that size, in words; may be empty.
    """

    edit: Edit
    otherwise: str = ""

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """A change of the whole network, rather than of one layer."""
        return self.edit.of_the_whole

    def causes(self, case: Case) -> Iterator[Finding]:
        """The option to change, and the class count where that changes too."""
        edit = self.edit
        if edit.what == Option.CLASSES and not case.subject.network.heads:
            yield _classifier(case, edit)
        elif edit.what == Option.CLASSES:
            yield _class_count(case, edit.file[0], self.otherwise)
            if edit.channels is not None:
                yield _channels(case, edit.channels)
        elif edit.what == Option.CHANNELS:
            yield _channels(case, edit.file[0])
        elif edit.what == Option.HEADS:
            yield self._head_filters(case)
        elif edit.what in (Option.FOLDED, Option.NORMALIZED):
            yield self._folded(case)
            if edit.classes is not None:
                yield _class_count(case, edit.classes, self.otherwise)
        elif self.place is not None:
            if edit.classes is not None:
                yield _class_count(case, edit.classes, self.otherwise)
            if edit.what in (Option.MISSING, Option.ADDED):
                yield self._other_layers(case)
            else:
                yield self._layer_shape(case, self.place)

    def _head_filters(self, case: Case) -> Finding:
        edit, subject = self.edit, case.subject
        layers = subject.network.layers
        heads = [head for head in subject.network.heads if not isinstance(head, cfg.Detection)]
        classes = edit.classes or 0
        differing = [
            place for place, head in enumerate(heads) if edit.file[place] != edit.model[place]
        ]
        # The same masks: nothing but the class count can be meant.
        same_masks = all(
            edit.file[place] == len(heads[place].anchors) * (heads[place].coords + 1 + classes)
            for place in differing
        )
        chosen = [heads[place] for place in differing] if same_masks else heads
        before = [layers[head.index - 1] for head in chosen]
        return findings.HeadFilters(
            path=case.file.name,
            file=list(edit.file),
            model=list(edit.model),
            heads=differing if same_masks else None,
            classes=classes,
            source=subject.source,
            lines=[subject.at(layer, "filters") for layer in before],
            class_lines=[subject.at(head, "classes") for head in chosen if head.classes != classes],
        )

    def _folded(self, case: Case) -> Finding:
        edit = self.edit
        return findings.Folded(
            path=case.file.name,
            file="folded" if edit.what == Option.FOLDED else "normalized",
            layers=edit.file[0],
            source=case.subject.source,
        )

    def _other_layers(self, case: Case) -> Finding:
        """A layer that only the cfg has, or only the file."""
        edit, subject = self.edit, case.subject
        network = subject.network
        if edit.what == Option.ADDED:
            return _layer_shape(
                case,
                edit.layer,
                f"is not in the file: {subject.source} has one layer more than the network the "
                "file was trained with",
                "remove it, or use the cfg it was trained with; to load the other layers, pass "
                "skip_mismatch=True",
                -edit.model[0],
                change="added",
            )
        after = edit.model[0]
        where = f"after {subject.where(after)}" if after >= 0 else "before all others"
        # The section before which it stands; behind the last there is none.
        before = min(after + 1, len(network.layers) - 1)
        return _layer_shape(
            case,
            before,
            f"the file has one layer more than {subject.source}, {where}: {edit.words}",
            "add it, or use the cfg it was trained with; to load the other layers, pass "
            "skip_mismatch=True",
            edit.file[0],
            change="missing",
        )

    def _layer_shape(self, case: Case, place: Place) -> Finding:
        edit, subject = self.edit, case.subject
        edited = subject.network.layers[edit.layer]
        key = "layers" if edit.what == Option.ROUTE else edit.what.value
        at = subject.at(edited, key)
        file, model = edit.file[0], edit.model[0]
        remedy = f"set {key}={file} in {at}, or use the cfg it was trained with"
        if edit.what == Option.ROUTE:
            story = (
                f"its input passes section {edit.layer} [route] ({at}), of {file} channels in the "
                f"file and {model} here"
            )
            remedy = f"set layers= in {at} as it was in training, for {file} channels in all"
        elif edit.what in (Option.DONTLOAD, Option.DONTLOADSCALES):
            story = f"{key}=1 here ({at}), and the file holds what that line leaves out"
            remedy = f"take {key}= out of {at}"
        elif edited.section.option(key) is None:
            story = f"{key} {file} in the file; {key}= is missing here ({at}), which means {model}"
        else:
            story = f"{key}={file} in the file, {key}={model} here ({at})"
        return _layer_shape(
            case,
            place.layer,
            f"is different in the file: {story}",
            remedy,
            edit.floats or case.floats - subject.floats,
            line=subject.line(edited, key),
        )


@dataclass(frozen=True, kw_only=True)
class Known(Explanation):
    """Another network that people pass around.

    Attributes:
        match: which.
        others: further networks of that size, in words.
    """

    exact: ClassVar[bool] = True

    match: Match
    others: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether it is all of a network as it ships."""
        return self.match.layers is None and self.match.ships

    def causes(self, case: Case) -> Iterator[Finding]:
        """The other network, how much of it, and its channels."""
        match = self.match
        if match.architecture is not case.subject.architecture:
            yield findings.OtherArchitecture(
                path=case.file.name,
                file=match.name,
                file_classes=match.classes,
                model=case.subject.title,
            )
        if match.layers is not None:
            yield _partial(case, match.layers, match.layers, match.name)
        if match.channels != case.subject.network.input_shape.channels:
            yield _channels(case, match.channels)


@dataclass(frozen=True, kw_only=True)
class Partial(Explanation):
    """The network up to a layer.

    Attributes:
        layers: the fewest and the most layers the file may have been cut after.
    """

    exact: ClassVar[bool] = True

    layers: tuple[int, int]

    def causes(self, case: Case) -> Iterator[Finding]:
        """A backbone."""
        yield _partial(case, *self.layers)


@dataclass(frozen=True, kw_only=True)
class Truncated(Explanation):
    """The network's layout, cut inside an array.

    Attributes:
        cut: whether the numbers bear the network out up to the file's end.
    """

    cut: bool = False

    def causes(self, case: Case) -> Iterator[Finding]:
        """How many bytes are missing."""
        yield truncated(case, self.place, cut=self.cut)


@dataclass(frozen=True, kw_only=True)
class Trailing(Explanation):
    """The network's layout, and more after it."""

    def causes(self, case: Case) -> Iterator[Finding]:
        """How many bytes are left."""
        yield findings.Trailing(
            path=case.file.name,
            bytes=case.file.size_bytes - case.expected_bytes,
            size=case.file.size_bytes,
            expected=case.expected_bytes,
            source=case.subject.source,
        )


@dataclass(frozen=True, kw_only=True)
class Swapped(Explanation):
    """Two layers in each other's place.

    Attributes:
        layers: the two.
        floats: how many more the file has at `place`.
    """

    layers: tuple[int, int]
    floats: int

    def causes(self, case: Case) -> Iterator[Finding]:
        """Both layers."""
        first, second = (case.subject.where(layer) for layer in self.layers)
        story = f"{first} and {second} have changed places in the file"
        yield _displaced(case, self.place, story, self.floats, self.layers)


@dataclass(frozen=True, kw_only=True)
class Moved(Explanation):
    """A layer that stands elsewhere.

    Attributes:
        layers: the layer, and the one it stands before.
        floats: how many more the file has at `place`.
    """

    layers: tuple[int, int]
    floats: int

    def causes(self, case: Case) -> Iterator[Finding]:
        """Where it stands."""
        first, second = (case.subject.where(layer) for layer in self.layers)
        yield _displaced(
            case, self.place, f"{first} stands before {second}", self.floats, self.layers
        )


@dataclass(frozen=True, kw_only=True)
class Shifted(Explanation):
    """Floats added or lost: from `place` on, all stand `floats` floats later.

    Attributes:
        floats: how many; negative where lost.
    """

    floats: int

    def causes(self, case: Case) -> Iterator[Finding]:
        """From where on, and by how much."""
        bytes_moved = plural(layout.FLOAT_BYTES * abs(self.floats), "byte")
        later = self.floats > 0
        story = (
            f"is where file and cfg diverge: from here on, everything stands {bytes_moved} "
            f"{'later' if later else 'earlier'} in the file"
        )
        remedy = "use the cfg it was trained with"
        if case.floats == case.subject.floats or abs(self.floats) <= _MOST_LOST:
            remedy += f"; or get an undamaged copy: bytes were {'added' if later else 'lost'} here"
        else:
            remedy += (
                f", in which a section up to here stores {abs(self.floats)} floats "
                f"{'more' if later else 'fewer'}"
            )
        layer = self.place.layer if self.place else 0
        yield _layer_shape(case, layer, story, remedy, self.floats)


_MOST_LOST = 256
"""Floats that are lost on the way; more are another section."""


# What several of them say.


def truncated(case: Case, place: Place | None, *, cut: bool) -> Finding:
    """The file ends inside `place`; inside the header without one."""
    where = "inside the header"
    if place and case.file.size_bytes >= case.header.size_bytes:
        where = f"in the {place.role} of {case.subject.where(place.layer)}"
    return findings.Truncated(
        path=case.file.name,
        at=case.file.size_bytes,
        expected=case.expected_bytes,
        layer=place.layer if place else None,
        where=where,
        cut=cut,
    )


def _class_count(case: Case, classes: int, otherwise: str) -> Finding:
    network = case.subject.network
    remedy = f"pass classes={classes}, or --classes {classes}"
    if case.subject.has_lines and network.heads:
        heads = [
            (network.layers[head.index - 1], head)
            for head in network.heads
            if not isinstance(head, cfg.Detection)
        ]
        filters = sorted({len(h.anchors) * (h.coords + 1 + classes) for _, h in heads})
        remedy += (
            f"; or set classes={classes} in "
            f"{case.subject.lines((head, 'classes') for _, head in heads)} and filters="
            f"{' or '.join(map(str, filters))} in "
            f"{case.subject.lines((before, 'filters') for before, _ in heads)}"
        )
    return findings.ClassCount(
        path=case.file.name,
        file=classes,
        model=network.classes,
        source=case.subject.source,
        remedy=remedy,
        otherwise=otherwise,
    )


def _classifier(case: Case, edit: Edit) -> Finding:
    """Another class count of a network without heads."""
    subject, classes = case.subject, edit.file[0]
    layer = subject.network.layers[edit.layer]
    key = "output" if isinstance(layer, cfg.Connected) else "filters"
    if not subject.has_lines:
        remedy = f"pass classes={classes}, or --classes {classes}"
    elif subject.line(layer):
        remedy = f"set {key}={classes} in {subject.at(layer, key)}"
    else:
        remedy = f"build the model with {classes} outputs in {subject.where(layer.index)}"
    return findings.ClassCount(
        path=case.file.name,
        file=classes,
        model=edit.model[0],
        source=subject.source,
        remedy=f"{remedy}; or load the other layers with skip_mismatch=True",
    )


def _channels(case: Case, channels: int) -> Finding:
    network = case.subject.network
    option = network.net.option("channels")
    return findings.Channels(
        path=case.file.name,
        file=channels,
        model=network.input_shape.channels,
        source=case.subject.source,
        at=f"{case.subject.source}:{option.line}" if option and case.subject.has_lines else "",
    )


def _partial(case: Case, fewest: int, most: int, name: str | None = None) -> Finding:
    # Layers that store nothing leave the number open; people write it into the name.
    named = re.search(r"\.(\d{1,9})$", case.file.path)
    layers = int(named.group(1)) if named and fewest <= int(named.group(1)) <= most else fewest
    of = name or f"the {len(case.subject.network.layers)} of {case.subject.source}"
    return findings.PartialBackbone(path=case.file.name, layers=layers, of=of)


def _layer_shape(
    case: Case,
    index: int,
    story: str,
    remedy: str,
    floats: int,
    *,
    line: int | None = None,
    layers: tuple[int, ...] | None = None,
    change: str | None = None,
) -> Finding:
    layer = case.subject.network.layers[index]
    return findings.LayerShape(
        path=case.file.name,
        layer=layer.index,
        section=layer.type,
        cfg_line=line if line is not None else case.subject.line(layer),
        file_floats_minus_model=floats,
        layers=None if layers is None else list(layers),
        change=change,
        where="" if change == "missing" else case.subject.where(layer.index),
        story=story,
        remedy=remedy,
    )


def _displaced(
    case: Case, place: Place | None, story: str, floats: int, layers: tuple[int, int]
) -> Finding:
    return _layer_shape(
        case,
        place.layer if place else 0,
        f"is not at its place: {story}",
        "use the cfg it was trained with, or write the file again in this cfg's order",
        floats,
        layers=layers,
    )
