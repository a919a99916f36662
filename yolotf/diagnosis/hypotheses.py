"""Explanations of how a file relates to a network: a frozen class for each kind.

An explanation is a layout of the file's floats. `scoring` finds the explanations and scores their
layouts by the values; the best supported explanation gives the causes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from yolotf.diagnosis import case_findings
from yolotf.diagnosis import causes as findings
from yolotf.diagnosis.causes import Finding
from yolotf.diagnosis.edit import Edit, Option
from yolotf.diagnosis.target import Case, Place
from yolotf.text import plural
from yolotf.weights import layout
from yolotf.weights.catalog import Match
from yolotf.weights.likelihood import Evidence
from yolotf.weights.statistics import Run

_TRAINED_CFG = (
    "use the cfg it was trained with; to load the other layers, pass that cfg as network=, and "
    "skip_mismatch=True, to load_darknet_weights"
)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A hypothesis of how the file relates to the network.

    Attributes:
        penalty: prior penalty, in nats, before the values are considered.
        support: log-likelihood ratio of the values for it, in nats.
        layout: returns the layout of the file; it may go on beyond the file's end.
        place: where the layouts of network and file diverge; None if they do not.
        header_bytes: the header size assumed, in bytes.
    """

    exact: ClassVar[bool] = False
    """Whether it accounts for every float of the file, and is unlikely to match by chance."""

    penalty: float
    support: float
    layout: Callable[[], Sequence[Run]] = field(repr=False, compare=False)
    place: Place | None = None
    header_bytes: int = 0

    @property
    def score(self) -> float:
        """The log posterior, in nats, up to a constant; the highest is the likeliest."""
        return self.support - self.penalty

    def impossible(self, evidence: Evidence) -> float:
        """Returns the share of impossible values among its moving variances, 0 to 1."""
        variances = [
            run
            for run in self.layout()
            if run.role == "moving_variance" and run.end <= evidence.floats
        ]
        count = sum(run.floats for run in variances)
        return sum(evidence.impossible(run) for run in variances) / max(1, count)

    def causes(self, case: Case) -> Iterator[Finding]:
        """Yields the causes to report."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class AsIs(Explanation):
    """The complete layout of the network itself."""

    exact: ClassVar[bool] = True

    def causes(self, case: Case) -> Iterator[Finding]:
        """Yields nothing: the layout is right, so the fault is in the values."""
        return iter(())


@dataclass(frozen=True, kw_only=True)
class Edited(Explanation):
    """The network with a change.

    Attributes:
        edit: the change.
        other_networks: other networks of the file's size, in words; may be empty.
    """

    edit: Edit
    other_networks: str = ""

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """Whether the change affects the whole network, rather than one layer."""
        return self.edit.whole_network

    def causes(self, case: Case) -> Iterator[Finding]:
        """Yields the option to change, and the number of classes if that changes too."""
        edit = self.edit
        if edit.option == Option.CLASSES and not case.subject.network.heads:
            yield case_findings.classifier_classes(case, edit)
        elif edit.option == Option.CLASSES:
            yield case_findings.class_count(case, edit.file[0], self.other_networks)
            if edit.channels is not None:
                yield case_findings.channels(case, edit.channels)
        elif edit.option == Option.CHANNELS:
            yield case_findings.channels(case, edit.file[0])
        elif edit.option == Option.HEADS:
            yield self._head_filters(case)
        elif edit.option in (Option.FOLDED, Option.NORMALIZED):
            yield self._folded(case)
            if edit.classes is not None:
                yield case_findings.class_count(case, edit.classes, self.other_networks)
        elif self.place is not None:
            if edit.classes is not None:
                yield case_findings.class_count(case, edit.classes, self.other_networks)
            if edit.option in (Option.MISSING, Option.ADDED):
                yield self._other_layers(case)
            else:
                yield self._layer_shape(case, self.place)

    def _head_filters(self, case: Case) -> Finding:
        edit, subject = self.edit, case.subject
        pairs = {pair[0].index: pair for pair in subject.network.convolutions_of_heads}
        heads = [pairs[index] for index in edit.heads]
        classes = edit.classes or 0
        differing = [place for place in range(len(heads)) if edit.file[place] != edit.model[place]]
        # With the same masks, only the number of classes can differ.
        same_masks = all(
            edit.file[place] == heads[place][1].filters_for(classes) for place in differing
        )
        chosen = [heads[place] for place in differing] if same_masks else heads
        return findings.HeadFilters(
            path=case.file.name,
            file=list(edit.file),
            model=list(edit.model),
            heads=differing if same_masks else None,
            classes=classes,
            source=subject.source,
            lines=[subject.at(convolution, "filters") for convolution, _ in chosen],
            class_lines=[
                subject.at(head, "classes") for _, head in chosen if head.classes != classes
            ],
        )

    def _folded(self, case: Case) -> Finding:
        edit = self.edit
        return findings.Folded(
            path=case.file.name,
            file="folded" if edit.option == Option.FOLDED else "normalized",
            layers=edit.file[0],
            source=case.subject.source,
        )

    def _other_layers(self, case: Case) -> Finding:
        """Returns the cause for a layer that only the cfg has, or only the file."""
        edit, subject = self.edit, case.subject
        network = subject.network
        if edit.option == Option.ADDED:
            return case_findings.layer_shape(
                case,
                edit.layer,
                f"is not in the file: {subject.source} has one layer more than the network the "
                "file was trained with",
                f"remove it, or {_TRAINED_CFG}",
                -edit.model[0],
                change="added",
            )
        after = edit.model[0]
        where = f"after {subject.where(after)}" if after >= 0 else "before all others"
        # The section it precedes; for a layer at the end, the last section.
        before = min(after + 1, len(network.layers) - 1)
        return case_findings.layer_shape(
            case,
            before,
            f"the file has one layer more than {subject.source}, {where}: {edit.description}",
            f"add it, or {_TRAINED_CFG}",
            edit.file[0],
            change="missing",
        )

    def _layer_shape(self, case: Case, place: Place) -> Finding:
        edit, subject = self.edit, case.subject
        edited = subject.network.layers[edit.layer]
        key = "layers" if edit.option == Option.ROUTE else edit.option.value
        at = subject.at(edited, key)
        file, model = edit.file[0], edit.model[0]
        remedy = f"set {key}={file} in {at}, or use the cfg it was trained with"
        if edit.option == Option.ROUTE:
            problem = (
                f"its input comes through section {edit.layer} [route] ({at}), which has {file} "
                f"channels in the file and {model} here"
            )
            remedy = f"set layers= in {at} as it was in training, for {file} channels in all"
        elif edit.option in (Option.DONTLOAD, Option.DONTLOADSCALES):
            problem = f"{key}=1 here ({at}), but the file holds the floats that this line skips"
            remedy = f"remove {key}= in {at}"
        elif edited.section.option(key) is None:
            problem = (
                f"{key} {file} in the file; {key}= is missing here ({at}), which means {model}"
            )
        else:
            problem = f"{key}={file} in the file, {key}={model} here ({at})"
        return case_findings.layer_shape(
            case,
            place.layer,
            f"is different in the file: {problem}",
            remedy,
            edit.floats or case.file.floats - subject.floats,
            line=subject.line(edited, key),
        )


@dataclass(frozen=True, kw_only=True)
class KnownNetwork(Explanation):
    """Another known network.

    Attributes:
        match: the network.
    """

    exact: ClassVar[bool] = True

    match: Match

    @property
    def is_whole(self) -> bool:
        """Whether it is a complete network with its own number of classes."""
        return self.match.layers is None and self.match.ships

    def causes(self, case: Case) -> Iterator[Finding]:
        """Yields the other network, how much of it the file holds, and its channels."""
        match = self.match
        if match.architecture is not case.subject.architecture:
            yield findings.OtherArchitecture(
                path=case.file.name,
                file=match.name,
                file_classes=match.classes,
                model=case.subject.title,
            )
        if match.layers is not None:
            yield case_findings.partial_backbone(case, match.layers, match.layers, match.name)
        if match.channels != case.subject.network.input_shape.channels:
            yield case_findings.channels(case, match.channels)


@dataclass(frozen=True, kw_only=True)
class Partial(Explanation):
    """The network up to a layer.

    Attributes:
        layers: the fewest and the most layers that the file may hold.
    """

    exact: ClassVar[bool] = True

    layers: tuple[int, int]

    def causes(self, case: Case) -> Iterator[Finding]:
        """Yields the cause for a backbone file."""
        yield case_findings.partial_backbone(case, *self.layers)


@dataclass(frozen=True, kw_only=True)
class Truncated(Explanation):
    """The network's layout, cut off inside an array.

    Attributes:
        cut: whether the values support the network up to the end of the file.
    """

    cut: bool = False

    def causes(self, case: Case) -> Iterator[Finding]:
        """Yields the cause for a truncated file."""
        yield case_findings.truncated(case, self.place, cut=self.cut)


@dataclass(frozen=True, kw_only=True)
class Trailing(Explanation):
    """The network's layout, followed by more bytes."""

    def causes(self, case: Case) -> Iterator[Finding]:
        """Yields the cause for the bytes after the last layer."""
        yield findings.Trailing(
            path=case.file.name,
            bytes=case.file.size_bytes - case.expected_bytes,
            size=case.file.size_bytes,
            expected=case.expected_bytes,
            source=case.subject.source,
        )


@dataclass(frozen=True, kw_only=True)
class Swapped(Explanation):
    """Two layers have changed places in the file.

    Attributes:
        layers: the two layers.
        floats: floats the file's layer at `place` stores, minus those of the network's.
    """

    layers: tuple[int, int]
    floats: int

    def causes(self, case: Case) -> Iterator[Finding]:
        """Yields a cause that names both layers."""
        first, second = (case.subject.where(layer) for layer in self.layers)
        problem = f"{first} and {second} are swapped in the file"
        yield case_findings.displaced(case, self.place, problem, self.floats, self.layers)


@dataclass(frozen=True, kw_only=True)
class Moved(Explanation):
    """A layer has another position in the file.

    Attributes:
        layers: the layer, and the layer it precedes in the file.
        floats: floats the file's layer at `place` stores, minus those of the network's.
    """

    layers: tuple[int, int]
    floats: int

    def causes(self, case: Case) -> Iterator[Finding]:
        """Yields a cause that names the layer and its position."""
        first, second = (case.subject.where(layer) for layer in self.layers)
        yield case_findings.displaced(
            case, self.place, f"{first} comes before {second} there", self.floats, self.layers
        )


@dataclass(frozen=True, kw_only=True)
class Shifted(Explanation):
    """Floats were added or lost: everything from `place` on is shifted.

    Attributes:
        floats: the shift in floats; negative if floats were lost.
    """

    floats: int

    def causes(self, case: Case) -> Iterator[Finding]:
        """Yields a cause with the first shifted layer and the shift."""
        distance = plural(layout.FLOAT_BYTES * abs(self.floats), "byte")
        later = self.floats > 0
        problem = (
            f"is where file and cfg diverge: from here on, every array is {distance} "
            f"{'later' if later else 'earlier'} in the file"
        )
        remedy = "use the cfg it was trained with"
        if case.file.floats == case.subject.floats or abs(self.floats) <= _MAX_LOST:
            remedy += f"; or get an undamaged copy: bytes were {'added' if later else 'lost'} here"
        else:
            remedy += (
                f", in which a section up to here stores {abs(self.floats)} floats "
                f"{'more' if later else 'fewer'}"
            )
        layer = self.place.layer if self.place else 0
        yield case_findings.layer_shape(case, layer, problem, remedy, self.floats)


_MAX_LOST = 256
"""The most floats that may be lost in transfer; a larger shift means another section."""
