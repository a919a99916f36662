"""Loads that are not the whole file into the whole model: by name, what fits, backbones, transfer.

The file has an order and shapes, from the network it was trained as (the source); the model has
names and shapes. `by_name` pairs layers that are called alike. `align` pairs two sequences: extra
layers on either side are stepped over, and a layer of another shape stands against its
counterpart without being loaded, so that nothing is ever shifted through.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from yolotf.darknet import cfg
from yolotf.models.built import part_name
from yolotf.weights import layout

# A pair that fits is worth more than any two that do not; a name in common decides between pairs
# that fit alike; a pair of one kind stands against each other rather than against nothing.
_FITS, _SAME_NAME, _SAME_KIND = 8, 2, 1


@dataclass(frozen=True)
class FileLayer:
    """A section of the source that stores floats, or a part of one.

    Attributes:
        index: of the section.
        name: as `build_model` calls its layer: `conv_17`.
        segments: by role.
    """

    index: int
    name: str
    segments: Mapping[str, layout.Segment]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the kernel, or of whatever it stores; Darknet's order of axes."""
        kernel = self.segments.get("kernel")
        return (kernel or next(iter(self.segments.values()))).shape


@dataclass(frozen=True)
class ModelLayer:
    """A layer of the model, its batch normalization included."""

    name: str
    slots: Mapping[str, layout.Slot]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the kernel, or of whatever it holds; Keras' order of axes."""
        kernel = self.slots.get("kernel")
        return (kernel or next(iter(self.slots.values()))).shape


class Skipped(NamedTuple):
    """A layer that both have and that does not fit."""

    name: str
    """Of the model's layer."""
    file_shape: tuple[int, ...]
    """What the file has for the variable that differs, in Keras' order of axes."""
    model_shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: the file has {self.file_shape}, the model {self.model_shape}"


@dataclass(frozen=True)
class Pairing:
    """Which layers of the file go into which of the model.

    Attributes:
        assignments: of the pairs that fit, in file order.
        loaded: names of the model's layers that are written.
        skipped: pairs that do not fit.
        left: layers of the model without a counterpart.
        spare: layers of the file without one.
    """

    assignments: tuple[layout.Assignment, ...]
    loaded: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    left: tuple[ModelLayer, ...]
    spare: tuple[FileLayer, ...]

    @property
    def untouched(self) -> tuple[str, ...]:
        """The names of `left`."""
        return tuple(layer.name for layer in self.left)

    @property
    def unused(self) -> tuple[str, ...]:
        """The names of `spare`."""
        return tuple(layer.name for layer in self.spare)


def file_layers(network: cfg.Network, segments: Sequence[layout.Segment]) -> list[FileLayer]:
    """Groups segments by section, or by part of a recurrent one."""
    grouped: dict[tuple[int, str], dict[str, layout.Segment]] = {}
    for segment in segments:
        grouped.setdefault((segment.layer, segment.part), {})[segment.role] = segment
    return [
        FileLayer(index, part_name(network.layers[index], part), found)
        for (index, part), found in grouped.items()
    ]


def pair(
    pairs: Sequence[tuple[FileLayer | None, ModelLayer | None]],
) -> Pairing:
    """Sorts pairs into what fits and what does not."""
    assignments: list[layout.Assignment] = []
    loaded: list[str] = []
    skipped: list[Skipped] = []
    left: list[ModelLayer] = []
    spare: list[FileLayer] = []
    for source, target in pairs:
        if source is None or target is None:
            if target is not None:
                left.append(target)
            if source is not None:
                spare.append(source)
            continue
        difference = _difference(source, target)
        if difference is None:
            loaded.append(target.name)
            assignments += [
                layout.assignment(segment, target.slots[role])
                for role, segment in source.segments.items()
            ]
        else:
            skipped.append(Skipped(target.name, *difference))
    assignments.sort(key=lambda assignment: assignment.segment.offset)
    return Pairing(tuple(assignments), tuple(loaded), tuple(skipped), tuple(left), tuple(spare))


def by_name(
    sources: Sequence[FileLayer], targets: Sequence[ModelLayer]
) -> list[tuple[FileLayer | None, ModelLayer | None]]:
    """Pairs layers that are called alike."""
    named = {target.name: target for target in targets}
    pairs: list[tuple[FileLayer | None, ModelLayer | None]] = [
        (source, named.pop(source.name, None)) for source in sources
    ]
    return pairs + [(None, target) for target in named.values()]


def align(
    sources: Sequence[FileLayer], targets: Sequence[ModelLayer]
) -> list[tuple[FileLayer | None, ModelLayer | None]]:
    """Pairs two sequences in order, as many layers that fit as possible.

    Names decide where several alignments are as good (Needleman and Wunsch, J. Mol. Biol. 48,
    1970).
    """
    rows, columns = len(sources), len(targets)
    # best[i][j]: of sources[i:] against targets[j:].
    best = [[0] * (columns + 1) for _ in range(rows + 1)]
    scores = [[_score(source, target) for target in targets] for source in sources]
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + scores[i][j])
    pairs: list[tuple[FileLayer | None, ModelLayer | None]] = []
    i = j = 0
    while i < rows or j < columns:
        if (
            i < rows
            and j < columns
            and scores[i][j]
            and best[i][j] == best[i + 1][j + 1] + scores[i][j]
        ):
            pairs.append((sources[i], targets[j]))
            i, j = i + 1, j + 1
        elif j < columns and (i == rows or best[i][j] == best[i][j + 1]):
            pairs.append((None, targets[j]))
            j += 1
        else:
            pairs.append((sources[i], None))
            i += 1
    return pairs


def _score(source: FileLayer, target: ModelLayer) -> int:
    same_name = _SAME_NAME if source.name == target.name else 0
    if _difference(source, target) is None:
        return _FITS + same_name
    # A bias alone does not make two layers of another kind: a batch norm may have been added.
    same_kind = ("kernel" in source.segments) == ("kernel" in target.slots)
    if same_kind and len(source.shape) == len(target.shape):
        return _SAME_KIND + same_name
    return 0


def _difference(
    source: FileLayer, target: ModelLayer
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The first variable that differs, as (file's shape, model's shape); the kernel first."""
    roles = sorted({*source.segments, *target.slots}, key=lambda role: role != "kernel")
    for role in roles:
        segment, slot = source.segments.get(role), target.slots.get(role)
        if segment is None:
            return (), target.slots[role].shape
        if slot is None:
            return segment.shape, ()
        wanted = layout.assignment(segment, slot).shape
        if wanted != slot.shape:
            return wanted, slot.shape
    return None


def likely_meant(
    sources: Sequence[FileLayer], targets: Sequence[ModelLayer], cutoff: float = 0.5
) -> dict[str, str]:
    """Names of `targets` by names of `sources` that are spelt much alike and would fit.

    The likest pair first, and no name twice.
    """
    ratios = []
    matcher = difflib.SequenceMatcher(autojunk=False)
    for target in targets:
        matcher.set_seq2(target.name)
        for source in sources:
            matcher.set_seq1(source.name)
            if (
                matcher.real_quick_ratio() >= cutoff
                and matcher.quick_ratio() >= cutoff
                and _difference(source, target) is None
            ):
                ratios.append((matcher.ratio(), source.name, target.name))
    meant: dict[str, str] = {}
    taken: set[str] = set()
    for ratio, source_name, target_name in sorted(ratios, key=lambda entry: -entry[0]):
        if ratio >= cutoff and source_name not in meant and target_name not in taken:
            meant[source_name] = target_name
            taken.add(target_name)
    return meant


def cut_of(segments: Sequence[layout.Segment], floats: int, path: str) -> int | None:
    """After how many layers a file of `floats` floats ends, counted as `.conv.137` counts.

    Layers that store nothing leave the number open; then the one in the file's name counts.

    Returns:
        None if it ends inside a layer, or holds everything.
    """
    if not segments or floats <= 0:
        return None
    for segment, following in itertools.pairwise(segments):
        if segment.end == layout.FLOAT_BYTES * floats and following.layer != segment.layer:
            named = _BACKBONE.search(path)
            layers = int(named.group(1)) if named else 0
            return layers if segment.layer < layers <= following.layer else segment.layer + 1
    return None


_BACKBONE = re.compile(r"\.conv\.(\d+)$")


def is_backbone_name(path: str) -> bool:
    """`yolov4.conv.137`: a file that says of itself that it is cut."""
    return _BACKBONE.search(path) is not None
