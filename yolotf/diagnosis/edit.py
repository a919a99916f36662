"""`Edit`, a single change of a network, and the option that it changes."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from yolotf.darknet import cfg
from yolotf.weights.statistics import Run

Overrides = Mapping[tuple[str, int], int]
"""(key, layer) -> value; the key is filters, size, groups, batch_normalize or channels."""
Counts = tuple[tuple[str, int], ...]
"""(role, floats) of each array that a layer stores, in file order."""

INPUT = cfg.NETWORK_INPUT
"""The layer index of the `channels` of `[net]` in overrides."""


class Option(enum.Enum):
    """The option that changes; the value is the cfg's key if there is one.

    `MISSING`: the cfg lacks a layer of the file. `ADDED`: the cfg has a layer that the file lacks.
    `FOLDED`: the file has biases in place of the cfg's batch normalizations. `NORMALIZED`: the
    file has batch normalizations in place of the cfg's biases.
    """

    FILTERS = "filters"
    SIZE = "size"
    GROUPS = "groups"
    BATCH_NORMALIZE = "batch_normalize"
    ROUTE = "route"
    CLASSES = "classes"
    CHANNELS = "channels"
    HEADS = "heads"
    DONTLOAD = "dontload"
    DONTLOADSCALES = "dontloadscales"
    OUTPUT = "output"
    STRIDE = "stride"
    PAD = "pad"
    PADDING = "padding"
    MISSING = "missing"
    ADDED = "added"
    FOLDED = "folded"
    NORMALIZED = "normalized"


@dataclass(frozen=True)
class Edit:
    """A change of one option, of one layer or of several heads at once.

    Attributes:
        option: the option that changes.
        layer: index of the changed layer; for heads the first, -1 for `[net]`.
        model: the value in the network; for heads a value for each.
        file: the value in the file's network.
        overrides: the change, for `ChannelFlow.changed`.
        penalty: prior penalty, in nats, before the values are considered.
        classes: the file's number of classes, if that changes too.
        channels: the file's number of input channels, if that changes too.
        floats: the number of floats that the change of the layer itself adds.
        resolved: the layout, if the change cannot be expressed as overrides.
        stored: what the affected layers store, if already known.
        description: the layer that the cfg lacks, in words.
        heads: for heads, the convolution before each, by index, as in `model` and `file`.
    """

    option: Option
    layer: int
    model: tuple[int, ...]
    file: tuple[int, ...]
    overrides: Overrides = field(repr=False)
    penalty: float
    classes: int | None = None
    channels: int | None = None
    floats: int = 0
    resolved: tuple[Run, ...] | None = field(default=None, repr=False)
    stored: Mapping[int, Counts] | None = field(default=None, repr=False)
    description: str = ""
    heads: tuple[int, ...] = field(default=(), repr=False)

    @property
    def whole_network(self) -> bool:
        """Whether the change affects the whole network rather than one layer."""
        return self.option in _WHOLE_NETWORK


_WHOLE_NETWORK = (
    Option.CLASSES,
    Option.CHANNELS,
    Option.HEADS,
    Option.FOLDED,
    Option.NORMALIZED,
)


def edit_of(
    option: Option, layer: int, model: int, file: int, penalty: float, key: str | None = None
) -> Edit:
    """Returns a change of one number of one layer; `key` replaces the option's in overrides."""
    overrides = {(key or option.value, layer): file}
    return Edit(option, layer, (model,), (file,), overrides, penalty)


def total(counts: Counts) -> int:
    """Returns the number of floats of a layer."""
    return sum(count for _, count in counts)
