"""Catalog of known networks, and which of them a file can be, given its size.

`known_networks.json` has the floats of every layer of every cfg that ships with Darknet and stores
weights. The count is an affine function of the class count (heads) and of the input channels (first
convolution), so a file's size can be solved for both, and for the layer after which the file was
truncated (`yolov4.conv.137` ends after 137 layers).

The data file is generated: `python -m yolotf.weights.catalog_build FOLDER_OF_CFGS`.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from yolotf.darknet.roles import NORMALIZED, PLAIN
from yolotf.weights import layout

MOST_CLASSES = 1000
"""Largest class count to solve for; a stock cfg may have more (yolo9000: 9418)."""
_LVIS_CLASSES = 1203
"""Also solved for: the class count of the LVIS data set."""
CHANNELS = (3, 1, 4, 2, 6, 5, 8, 9, 12, 7, 10, 11, 13, 14, 15, 16)
"""Input channels to solve for, most common first."""

TABLE_CLASSES, TABLE_CHANNELS = 80, 3
"""The class count and input channels that the data file's numbers are for."""

_COMMON = (
    "yolov4",
    "yolov4-tiny",
    "yolov3",
    "yolov3-tiny",
    "yolov2-voc",  # the one that Darknet's training instructions start from
    "yolov2",
    "yolov2-tiny",
    "yolov3-spp",
    "yolov4-csp",
    "yolov4x-mish",
    "yolov7",
    "yolov7-tiny",
    "yolov7x",
    "yolov4-tiny-3l",
    "darknet53",
    "darknet19",
    "csdarknet53-omega",
)
"""If several networks have the same size, these come first, in this order."""


class LayerFloats(NamedTuple):
    """The floats that a layer stores.

    Attributes:
        layer: index of the section, from 0 after `[net]`.
        filters: number of filters; 0 if the layer is not a convolution.
        kernel: floats of the kernel, or all floats of the layer if `filters` is 0.
        batch_normalize: whether gamma, mean and variance are stored too.
    """

    layer: int
    filters: int
    kernel: int
    batch_normalize: bool

    @property
    def floats(self) -> int:
        """Number of floats."""
        return self.filters * (4 if self.batch_normalize else 1) + self.kernel


def layer_floats(segments: Iterable[layout.Segment]) -> list[LayerFloats]:
    """Sums up segments by layer."""
    by_layer: dict[int, list[layout.Segment]] = {}
    for segment in segments:
        by_layer.setdefault(segment.layer, []).append(segment)
    rows = []
    for layer, stored in by_layer.items():
        roles = tuple(segment.role for segment in stored)
        if roles in (PLAIN, NORMALIZED) and len(stored[-1].shape) == 4:
            rows.append(LayerFloats(layer, stored[0].count, stored[-1].count, roles == NORMALIZED))
        else:
            rows.append(LayerFloats(layer, 0, sum(segment.count for segment in stored), False))
    return rows


class HeadRow(NamedTuple):
    """A convolution before a head: it has `anchors * (coords + 1 + classes)` filters."""

    layer: int
    anchors: int
    coords: int


@dataclass(frozen=True)
class Architecture:
    """A known network, or several whose layers store the same numbers of floats.

    Attributes:
        names: the stock cfgs and their class counts (None for a classifier).
        packed_rows: the numbers of `rows`, three for each.
        heads: the convolutions that depend on the class count; empty if none does.
        inputs: kernel floats per input channel, by layer.
        layers: number of layers.
        decoding: `decoding_of` each stock cfg, by name.
    """

    names: Mapping[str, int | None]
    packed_rows: tuple[int, ...]
    heads: tuple[HeadRow, ...]
    inputs: Mapping[int, int]
    layers: int
    decoding: Mapping[str, tuple[tuple[str, ...], ...]]

    def name(self, classes: int | None) -> str:
        """Returns the name of the cfg that has `classes` classes, otherwise the most common one."""
        return next((name for name, count in self.names.items() if count == classes), self.first)

    @property
    def first(self) -> str:
        """The name of the most common cfg."""
        return next(iter(self.names))

    @functools.cached_property
    def rows(self) -> tuple[LayerFloats, ...]:
        """The floats of every layer that stores some, for 80 classes and 3 input channels."""
        numbers = iter(self.packed_rows)
        return tuple(
            LayerFloats(layer, abs(filters), kernel, filters > 0)
            for layer, filters, kernel in zip(numbers, numbers, numbers, strict=True)
        )

    @property
    def row_count(self) -> int:
        """The length of `rows`, which need not be unpacked for it."""
        return len(self.packed_rows) // 3

    @functools.cached_property
    def floats(self) -> int:
        """Number of floats for 80 classes and 3 input channels."""
        return sum(row.floats for row in self.rows)

    @functools.cached_property
    def per_class(self) -> int:
        """Floats that one more class adds."""
        heads = {head.layer: head.anchors for head in self.heads}
        return sum(
            heads[row.layer] * (row.floats // row.filters)
            for row in self.rows
            if row.layer in heads
        )

    @functools.cached_property
    def per_channel(self) -> int:
        """Floats that one more input channel adds."""
        return sum(self.inputs.values())

    def at(self, classes: int | None, channels: int) -> tuple[LayerFloats, ...]:
        """Returns `rows` for another class count and another number of input channels."""
        heads = {head.layer: head for head in self.heads} if classes else {}
        rows = []
        for row in self.rows:
            if row.layer in self.inputs:
                added = self.inputs[row.layer] * (channels - TABLE_CHANNELS)
                row = row._replace(kernel=row.kernel + added)
            if row.layer in heads:
                head = heads[row.layer]
                filters = head.anchors * (head.coords + 1 + (classes or 0))
                kernel = row.kernel // row.filters * filters
                row = row._replace(filters=filters, kernel=kernel)
            rows.append(row)
        return tuple(rows)

    @functools.cached_property
    def cuts(self) -> dict[int, int]:
        """Layer count by float count, for files truncated before any head."""
        first_head = min((head.layer for head in self.heads), default=self.layers)
        total, layers_of = 0, {}
        for row in self.rows[:-1]:
            if row.layer >= first_head:
                break
            total += row.floats
            layers_of[total] = row.layer + 1
        return layers_of


class Match(NamedTuple):
    """A known network that has exactly the given number of floats.

    Attributes:
        architecture: the network.
        classes: class count; None if the stored floats do not depend on it.
        channels: input channels.
        layers: number of layers in a truncated file; None for the whole network.
    """

    architecture: Architecture
    classes: int | None
    channels: int
    layers: int | None = None

    @property
    def name(self) -> str:
        """Name of the stock cfg."""
        return self.architecture.name(self.classes)

    @property
    def ships(self) -> bool:
        """Whether a stock cfg has this class count; True for a network without heads."""
        return self.classes is None or self.classes in self.architecture.names.values()

    @property
    def penalty(self) -> float:
        """How unusual the match is: 0 for the most common stock file."""
        odd = rank(self.architecture.first) / 20 + CHANNELS.index(self.channels)
        if self.layers is not None:
            odd += 2
        if self.classes is not None and not self.ships:
            # More than any rank: a stock class count is likelier than another in any network.
            odd += 1 + min(self.classes, 2000) / 200
        return odd


def solve(floats: int) -> list[Match]:
    """Returns the known networks, whole or truncated, with `floats` floats; most usual first."""
    matches = [match for known in table() for match in _solve(known, floats)]
    return sorted(matches, key=lambda match: match.penalty)


def _solve(known: Architecture, floats: int) -> Iterator[Match]:
    for channels in CHANNELS if known.per_channel else CHANNELS[:1]:
        surplus = floats - known.floats - known.per_channel * (channels - TABLE_CHANNELS)
        if not known.heads:
            if surplus == 0:
                yield Match(known, None, channels)
        elif surplus % known.per_class == 0:
            classes = TABLE_CLASSES + surplus // known.per_class
            match = Match(known, classes, channels)
            if 1 <= classes <= MOST_CLASSES or classes == _LVIS_CLASSES or match.ships:
                yield match
        at_default_channels = floats - known.per_channel * (channels - TABLE_CHANNELS)
        if at_default_channels in known.cuts:
            yield Match(known, None, channels, known.cuts[at_default_channels])


def identify(rows: Iterable[LayerFloats]) -> Architecture | None:
    """Returns the known network that stores `rows` for some class count and number of channels."""
    stored = list(rows)
    layers = [(row.layer, row.batch_normalize) for row in stored]
    for known in table():
        if len(layers) != known.row_count:
            continue
        if layers != [(row.layer, row.batch_normalize) for row in known.rows]:
            continue
        variable = {head.layer for head in known.heads} | set(known.inputs)
        if all(
            row == other or row.layer in variable
            for row, other in zip(stored, known.rows, strict=True)
        ):
            return known
    return None


@functools.cache
def table() -> tuple[Architecture, ...]:
    """Returns the contents of the data file."""
    text = (importlib.resources.files("yolotf.weights") / "known_networks.json").read_text("utf-8")
    return tuple(_unpack(entry) for entry in json.loads(text)["networks"])


def _unpack(entry: dict[str, Any]) -> Architecture:
    return Architecture(
        names=entry["names"],
        packed_rows=tuple(entry["floats"]),
        heads=tuple(HeadRow(*head) for head in entry["heads"]),
        inputs=dict(entry["inputs"]),
        layers=entry["layers"],
        decoding={
            name: tuple(tuple(head) for head in heads) for name, heads in entry["decoding"].items()
        },
    )


def rank(name: str) -> int:
    """Returns how common a stock cfg is: 0 for the most common one."""
    return _COMMON.index(name) if name in _COMMON else len(_COMMON)
