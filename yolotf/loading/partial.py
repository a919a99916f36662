"""Partial loads: by name, only matching layers, backbone files, transfer between networks.

The order and shapes of the file come from the network it was trained as; the model has names and
shapes. `by_name` matches layers of the same name. `align` matches two sequences by shape and
connections: it skips extra layers on either side, pairs a layer with its counterpart of another
shape without loading it, and leaves a layer unchanged that several sections match equally well.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from yolotf.darknet import cfg
from yolotf.darknet.layer import activation_of
from yolotf.loading import alignment
from yolotf.loading.alignment import Node
from yolotf.models import keras_graph
from yolotf.models.activations import UnitActivations
from yolotf.models.layer_names import part_name
from yolotf.models.units import Structure, Unit
from yolotf.weights import layout


@dataclass(frozen=True)
class FileLayer:
    """A section of the file's network that stores floats, or a part of a recurrent section.

    Attributes:
        index: index of the section.
        name: the name `build_model` gives its layer: `conv_17`.
        segments: its segments by role.
        node: its connections, for `align`.
    """

    index: int
    name: str
    segments: Mapping[str, layout.Segment]
    node: Node | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of its kernel, or of its first array, in Darknet's order of axes (OIHW)."""
        kernel = self.segments.get("kernel")
        return (kernel or next(iter(self.segments.values()))).shape


@dataclass(frozen=True)
class ModelLayer:
    """A layer of the model, together with its batch normalization."""

    name: str
    slots: Mapping[str, layout.Slot]
    node: Node | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of its kernel, or of its first variable, in Keras' order of axes (HWIO)."""
        kernel = self.slots.get("kernel")
        return (kernel or next(iter(self.slots.values()))).shape


class Skipped(NamedTuple):
    """A layer whose shape differs between file and model."""

    name: str
    """Name of the model's layer."""
    file_shape: tuple[int, ...]
    """Shape of the differing variable in the file, in Keras' order of axes."""
    model_shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: the file has {self.file_shape}, the model {self.model_shape}"


class Doubt(NamedTuple):
    """A layer of the model left unchanged, and the sections that match it equally well."""

    layer: str
    sections: tuple[str, ...]


Pairs = list[tuple[FileLayer | None, ModelLayer | None]]


class Aligned(NamedTuple):
    """Two aligned sequences.

    Attributes:
        pairs: every layer of either side once, with None if it has no counterpart.
        doubts: layers without a counterpart because several sections match them equally well.
        score: score of the alignment; of several orders of a model the highest is right.
    """

    pairs: Pairs
    doubts: tuple[Doubt, ...]
    score: float


@dataclass(frozen=True)
class Pairing:
    """The layers of the file matched to those of the model.

    Attributes:
        assignments: the segments to load and their variables, in file order.
        loaded: names of the model's layers that are written.
        skipped: pairs of layers whose shapes differ.
        unpaired_in_model: layers of the model without a counterpart.
        unpaired_in_file: layers of the file without a counterpart.
        doubts: the layers of `unpaired_in_model` that several layers of the file match equally
            well.
    """

    assignments: tuple[layout.Assignment, ...]
    loaded: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    unpaired_in_model: tuple[ModelLayer, ...]
    unpaired_in_file: tuple[FileLayer, ...]
    doubts: tuple[Doubt, ...] = ()

    @property
    def untouched(self) -> tuple[str, ...]:
        """The names of `unpaired_in_model`."""
        return tuple(layer.name for layer in self.unpaired_in_model)

    @property
    def unused(self) -> tuple[str, ...]:
        """The names of `unpaired_in_file`."""
        return tuple(layer.name for layer in self.unpaired_in_file)


def file_layers(network: cfg.Network, segments: Sequence[layout.Segment]) -> list[FileLayer]:
    """Groups segments by section, or by part of a recurrent section."""
    grouped: dict[tuple[int, str], dict[str, layout.Segment]] = {}
    for segment in segments:
        grouped.setdefault((segment.layer, segment.part), {})[segment.role] = segment
    nodes = section_nodes(network, list(grouped))
    return [
        FileLayer(index, node.name, by_role, node)
        for ((index, _), by_role), node in zip(grouped.items(), nodes, strict=True)
    ]


def section_nodes(network: cfg.Network, places: Sequence[tuple[int, str]]) -> list[Node]:
    """Returns the nodes of the (section, part) pairs, whose inputs are indices into `places`."""
    first: dict[int, int] = {}
    for number, (index, _) in enumerate(places):
        first.setdefault(index, number)
    inputs = keras_graph.network_inputs(network, first)
    return [
        Node(
            part_name(network.layers[index], part),
            tuple(inputs.get(number, ())),
            sliding.strides if (sliding := network.layers[index].sliding) else None,
            _activation_of_section(network, index),
        )
        for number, (index, part) in enumerate(places)
    ]


def unit_nodes(structure: Structure, order: Sequence[Unit]) -> list[Node]:
    """Returns the nodes of a model's units, whose inputs are indices into `order`."""
    place = {unit: number for number, unit in enumerate(order)}
    keys = {number: place[unit] for number, unit in enumerate(structure.units) if unit in place}
    activations = UnitActivations(structure)
    return [
        Node(
            unit.name,
            tuple(
                keras_graph.collapsed(expression, ("*", "?"))
                for entering in structure.inputs.get(unit, ())
                if (expression := keras_graph.translate(entering, keys)) is not None
            ),
            _strides(unit.leaf.layer),
            _activation_of_unit(activations, unit),
        )
        for unit in order
    ]


def _activation_of_unit(activations: UnitActivations, unit: Unit) -> str | None:
    """Returns the name of a unit's activation; None if no graph shows it."""
    after_unit = activations.of(unit)
    return None if after_unit is None else after_unit[0].name


def _activation_of_section(network: cfg.Network, index: int) -> str | None:
    """Returns the activation of a section with windows; None before a head or at the end."""
    layer = network.layers[index]
    readers = [other for other in network.layers if index in other.inputs]
    if layer.sliding is None or not readers or any(reader.ends_graph for reader in readers):
        return None
    return activation_of(layer)


def _strides(layer: object) -> tuple[int, int] | None:
    """Returns the strides (rows, columns) of a Keras layer; None if it has none."""
    strides = getattr(layer, "strides", None)
    if isinstance(strides, (tuple, list)) and len(strides) == 2:
        return int(strides[0]), int(strides[1])
    return None


def pairing_of(pairs: Pairs, doubts: tuple[Doubt, ...] = ()) -> Pairing:
    """Sorts pairs into layers to load, layers that differ in shape, and unpaired layers."""
    assignments: list[layout.Assignment] = []
    loaded: list[str] = []
    skipped: list[Skipped] = []
    unpaired_in_model: list[ModelLayer] = []
    unpaired_in_file: list[FileLayer] = []
    for source, target in pairs:
        if source is None or target is None:
            if target is not None:
                unpaired_in_model.append(target)
            if source is not None:
                unpaired_in_file.append(source)
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
    return Pairing(
        assignments=tuple(assignments),
        loaded=tuple(loaded),
        skipped=tuple(skipped),
        unpaired_in_model=tuple(unpaired_in_model),
        unpaired_in_file=tuple(unpaired_in_file),
        doubts=doubts,
    )


def by_name(sources: Sequence[FileLayer], targets: Sequence[ModelLayer]) -> Pairs:
    """Pairs layers of the same name."""
    named = {target.name: target for target in targets}
    pairs: Pairs = [(source, named.pop(source.name, None)) for source in sources]
    return pairs + [(None, target) for target in named.values()]


def align(sources: Sequence[FileLayer], targets: Sequence[ModelLayer]) -> Aligned:
    """Pairs two sequences in order, including counterparts of another shape.

    A layer stays unpaired if only its shape matches a section, or if several sections match it
    equally well; see `alignment`.
    """
    aligned = alignment.align(
        [source.node or Node(source.name) for source in sources],
        [target.node or Node(target.name) for target in targets],
        lambda i, j: _difference(sources[i], targets[j]) is None,
        lambda i, j: _same_kind(sources[i], targets[j]),
    )
    place_of = dict(sorted((*aligned.pairs, *aligned.unlike)))
    row_of = {place: row for row, place in place_of.items()}
    pairs: Pairs = []
    row = 0
    for place, target in enumerate(targets):
        if place not in row_of:
            pairs.append((None, target))
            continue
        pairs += [(source, None) for source in sources[row : row_of[place]]]
        pairs.append((sources[row_of[place]], target))
        row = row_of[place] + 1
    pairs += [(source, None) for source in sources[row:]]
    doubts = tuple(
        Doubt(targets[place].name, tuple(sources[row].name for row in rows))
        for place, rows in sorted(aligned.doubtful.items())
    )
    return Aligned(pairs, doubts, aligned.score)


def _same_kind(source: FileLayer, target: ModelLayer) -> bool:
    # A bias makes no difference: a batch normalization may have been added.
    same_kind = ("kernel" in source.segments) == ("kernel" in target.slots)
    if not same_kind or _rank(source.shape, 2) != _rank(target.shape, 0):
        return False
    kernel = target.slots.get("kernel")
    return kernel is None or not kernel.depthwise or source.shape[1] == 1


def _rank(shape: tuple[int, ...], rows: int) -> int:
    """Returns the number of axes; 2 for a 1x1 kernel, which may be a dense layer's.

    Args:
        shape: the shape of a kernel.
        rows: the axis of its rows; the axis of its columns follows.
    """
    return 2 if len(shape) == 4 and shape[rows : rows + 2] == (1, 1) else len(shape)


def _difference(
    source: FileLayer, target: ModelLayer
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Returns (file's shape, model's shape) of the first variable that differs, kernel first."""
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


def similar_names(
    sources: Sequence[FileLayer], targets: Sequence[ModelLayer], cutoff: float = 0.5
) -> dict[str, str]:
    """Maps names of `sources` to similarly spelled names of `targets` whose shapes match.

    Best match first; each name is used once.
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
    similar: dict[str, str] = {}
    taken: set[str] = set()
    for ratio, source_name, target_name in sorted(ratios, key=lambda scored: -scored[0]):
        if ratio >= cutoff and source_name not in similar and target_name not in taken:
            similar[source_name] = target_name
            taken.add(target_name)
    return similar


def layers_in_backbone(
    segments: Sequence[layout.Segment], floats: int, named_layers: int | None
) -> int | None:
    """Returns after how many layers a file of `floats` floats ends: 137 for `yolov4.conv.137`.

    Layers that store nothing make the number ambiguous; the number in the file's name then
    decides.

    Returns:
        The number of layers; None if the file ends inside a layer, or holds all layers.
    """
    if not segments or floats <= 0:
        return None
    for segment, following in itertools.pairwise(segments):
        if segment.end == layout.FLOAT_BYTES * floats and following.layer != segment.layer:
            layers = named_layers or 0
            return layers if segment.layer < layers <= following.layer else segment.layer + 1
    return None
