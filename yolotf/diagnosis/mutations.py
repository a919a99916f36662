"""Finds single changes of a network after which it stores as many floats as a file.

Few changes explain the difference in size between file and network: for each layer at most one
number of filters, one kernel size, and so on. Each is an `Edit` with the layout it leads to; the
values of the file decide which is right.

A single backward pass through the network (`Graph.slopes`) gives the number of floats that one
more filter or channel of each layer adds to the whole file, so that trying all layers costs no
more than trying one.
"""

from __future__ import annotations

import enum
import heapq
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from yolotf.darknet import cfg
from yolotf.darknet.roles import SCALES, Role
from yolotf.errors import YolotfError
from yolotf.weights import layout
from yolotf.weights import statistics as _content

Overrides = Mapping[tuple[str, int], int]
"""(key, layer) -> value; the key is filters, size, groups, batch_normalize or channels."""
Counts = tuple[tuple[str, int], ...]
"""(role, floats) of each array that a layer stores, in file order."""

_SIZES = (1, 3, 5, 7, 2, 4, 9, 11, 6, 8, 10)
INPUT = cfg.NETWORK_INPUT
"""The layer index of the `channels` of `[net]` in overrides."""
_MOST_HEADS = 5
"""The most heads for which other distributions of the anchors are tried."""
_MOST_REPARSED = 100
"""The most sections of a network that is parsed again for changes of rows and columns."""


class Option(enum.Enum):
    """What is changed; the value is the cfg's key if there is one.

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
        what: the option.
        layer: index of the changed layer; for heads the first, -1 for `[net]`.
        model: the value in the network; for heads a value for each.
        file: the value in the file's network.
        overrides: the change, for `Graph.changed`.
        unlikeliness: prior penalty, in nats, before the values are considered.
        classes: the file's number of classes, if that changes too.
        channels: the file's number of input channels, if that changes too.
        floats: the number of floats that the change of the layer itself adds.
        resolved: the layout, if the change cannot be expressed as overrides.
        stored: what the affected layers store, if already known.
        words: description of a layer that the cfg lacks.
    """

    what: Option
    layer: int
    model: tuple[int, ...]
    file: tuple[int, ...]
    overrides: Overrides = field(repr=False)
    unlikeliness: float
    classes: int | None = None
    channels: int | None = None
    floats: int = 0
    resolved: tuple[_content.Run, ...] | None = field(default=None, repr=False)
    stored: Mapping[int, Counts] | None = field(default=None, repr=False)
    words: str = ""

    @property
    def of_the_whole(self) -> bool:
        """Whether the change affects the whole network rather than one layer."""
        return self.what in _OF_THE_WHOLE


_OF_THE_WHOLE = (
    Option.CLASSES,
    Option.CHANNELS,
    Option.HEADS,
    Option.FOLDED,
    Option.NORMALIZED,
)


class Graph:
    """Channels and stored floats of a network, and the floats that changes of it add.

    Rows and columns are ignored: what a convolution stores does not depend on them.
    """

    def __init__(self, network: cfg.Network) -> None:
        self.network = network
        runs = _content.runs_of(layout.segments(network))
        self.stored: dict[int, Counts] = {
            layer: tuple((run.role, run.floats) for run in group)
            for layer, group in itertools.groupby(runs, key=lambda run: run.layer)
        }
        self.floats = runs[-1].end if runs else 0
        self.heads = [
            (head.index - 1, head)
            for head in network.heads
            if not isinstance(head, cfg.Detection)
            and head.index - 1 in self.stored
            and isinstance(network.layers[head.index - 1], cfg.Convolutional)
        ]
        self._channels_of: dict[int, int] = {}
        """Number of channels -> index of the first layer that outputs as many."""
        for layer in network.layers:
            self._channels_of.setdefault(layer.output_shape.channels, layer.index)
        self._readers: dict[int, list[int]] = {}
        for layer in network.layers:
            for index in set(layer.inputs):
                self._readers.setdefault(index, []).append(layer.index)
        self.slopes = self._backwards()

    # Floats for each additional channel.

    def _backwards(self) -> list[float]:
        """Returns the floats that one more output channel of each layer adds.

        The last entry is that of the network's input (index -1).
        """
        slopes = [0.0] * (len(self.network.layers) + 1)
        for layer in reversed(self.network.layers):
            if not layer.inputs:
                continue
            first = layer.inputs[0]
            slopes[first] += self.per_channel(layer)
            if isinstance(layer, cfg.Route):
                for index in layer.inputs:
                    slopes[index] += slopes[layer.index] / layer.groups
            elif follows(layer) and layer.input_shape.channels:
                ratio = layer.output_shape.channels / layer.input_shape.channels
                slopes[first] += slopes[layer.index] * ratio
        return slopes

    def per_channel(self, layer: cfg.Layer) -> float:
        """Returns the floats that `layer` itself stores for one more input channel."""
        own = self.stored.get(layer.index)
        if own is None:
            return 0.0
        # The channels must be divisible by the groups, so add one to each group.
        groups = layer.groups if isinstance(layer, cfg.Convolutional) else 1
        more = counts_of(_entered(layer, layer.input_shape.channels + groups))
        return (total(more) - total(own)) / groups

    def per_filter(self, layer: cfg.Convolutional) -> float:
        """Returns the floats that one more filter of `layer` adds to the whole file."""
        return total(self.stored[layer.index]) / layer.filters + self.slopes[layer.index]

    # The layout after a change.

    def changed(
        self, overrides: Overrides, entering: Mapping[int, int] | None = None
    ) -> dict[int, Counts] | None:
        """Returns what the layers affected by a change store; None if the change is impossible.

        A change is impossible if groups do not divide channels or filters.

        Args:
            overrides: the options that change.
            entering: index of a layer -> its new number of input channels.
        """
        reads = entering or {}
        channels: dict[int, float] = {}
        found: dict[int, Counts] = {}
        waiting: list[int] = []
        seen: set[int] = set()

        def wait_for(index: int) -> None:
            if index not in seen:
                seen.add(index)
                heapq.heappush(waiting, index)

        for index in reads:
            wait_for(index)
        for what, index in overrides:
            if index == INPUT:
                channels[INPUT] = overrides[what, index]
                for reader in self._readers.get(INPUT, ()):
                    wait_for(reader)
            else:
                wait_for(index)
        while waiting:
            layer = self.network.layers[heapq.heappop(waiting)]
            first = channels.get(layer.inputs[0]) if layer.inputs else None
            before = reads.get(layer.index, first)
            if layer.index in self.stored:
                other = _overridden(layer, before, overrides)
                if other is None:
                    return None
                found[layer.index] = counts_of(other)
            seen_here: Mapping[int, float] = channels
            if layer.index in reads:
                seen_here = {**channels, layer.inputs[0]: reads[layer.index]}
            leaving = self._leaving(layer, seen_here, overrides)
            if leaving != layer.output_shape.channels:
                channels[layer.index] = leaving
                for reader in self._readers.get(layer.index, ()):
                    wait_for(reader)
        return {index: stored for index, stored in found.items() if stored != self.stored[index]}

    def _leaving(
        self, layer: cfg.Layer, channels: Mapping[int, float], overrides: Overrides
    ) -> float:
        """Returns the output channels of `layer`, given those of the layers that changed."""
        if ("channels", layer.index) in overrides:
            return overrides["channels", layer.index]
        if isinstance(layer, cfg.Convolutional):
            return overrides.get(("filters", layer.index), layer.filters)
        if isinstance(layer, cfg.Route):
            return sum(channels.get(i, self.channels(i)) for i in layer.inputs) / layer.groups
        if layer.inputs and layer.input_shape.channels and follows(layer):
            ratio = layer.output_shape.channels / layer.input_shape.channels
            return channels.get(layer.inputs[0], layer.input_shape.channels) * ratio
        return layer.output_shape.channels

    def channels(self, index: int) -> int:
        """Returns the output channels of a layer; of the image for `INPUT`."""
        if index == INPUT:
            return self.network.input_shape.channels
        return self.network.layers[index].output_shape.channels

    def readers(self, index: int) -> list[int]:
        """Returns the indices of the sections that read a layer, in order."""
        return self._readers.get(index, [])

    def layout(self, changed: Mapping[int, Counts]) -> list[_content.Run]:
        """Returns the runs of the network, where `changed` replaces what some layers store."""
        found: list[_content.Run] = []
        start = 0
        for index, own in self.stored.items():
            for role, count in changed.get(index, own):
                found.append(_content.Run(index, role, start, count))
                start += count
        return found

    # The changes.

    def edits(self, floats: int) -> Iterator[Edit]:
        """Yields every single change after which the network stores `floats` floats."""
        difference = floats - self.floats
        if not difference:
            return
        yield from self._classes(difference)
        yield from self._uneven(difference)
        yield from self._input(difference)
        for layer in self.network.layers:
            if isinstance(layer, cfg.Convolutional) and layer.index in self.stored:
                yield from self._convolution(layer, difference)
            elif isinstance(layer, cfg.Route):
                yield from self._route(layer, difference)
        yield from self._unread(floats)
        yield from self._dense(floats)

    def edits_and_classes(self, floats: int) -> Iterator[Edit]:
        """Yields every common single change combined with another number of classes."""
        model = self.network.classes
        per_class = self.per_class()
        if model is None or not per_class:
            return
        difference = floats - self.floats
        for edit, more in self._usual_changes():
            rest = difference - more
            if not more or rest % per_class:
                continue
            classes = model + int(rest // per_class)
            if classes == model or not 1 <= classes <= 1000:
                continue
            yield replace(
                edit,
                overrides={**self.with_classes(classes), **edit.overrides},
                unlikeliness=edit.unlikeliness + 4 + math.log(1 + classes / 20),
                classes=classes,
                floats=int(more),
            )

    def _usual_changes(self) -> Iterator[tuple[Edit, float]]:
        """Yields common changes, each with the number of floats it adds."""
        head_convolutions = {index for index, _ in self.heads}
        for layer in self.network.layers:
            index = layer.index
            if isinstance(layer, cfg.Route):
                channels, slope = layer.output_shape.channels, self.slopes[index]
                for value in self._reachable(layer) - {channels} if slope else ():
                    edit = _edit(Option.ROUTE, index, channels, value, "channels", 6.0)
                    yield edit, slope * (value - channels)
            elif isinstance(layer, cfg.Convolutional) and index in self.stored:
                kernel = self._kernel(index)
                for size in {1, 3, 5, 7} - {layer.size}:
                    edit = _edit(Option.SIZE, index, layer.size, size, "size", 9.0)
                    yield edit, kernel * size * size / layer.size**2 - kernel
                for groups in {1, layer.filters} - {layer.groups}:
                    edit = _edit(Option.GROUPS, index, layer.groups, groups, "groups", 9.0)
                    yield edit, kernel * layer.groups / groups - kernel
                if index not in head_convolutions:
                    for filters in {2 * layer.filters, layer.filters // 2} - {0}:
                        edit = _edit(Option.FILTERS, index, layer.filters, filters, "filters", 10.0)
                        yield edit, self.per_filter(layer) * (filters - layer.filters)

    def _kernel(self, index: int) -> int:
        return sum(count for role, count in self.stored[index] if role == Role.KERNEL)

    def with_classes(self, classes: int) -> dict[tuple[str, int], int]:
        """Returns overrides: the filters of all heads for another number of classes."""
        return {
            ("filters", index): len(head.anchors) * (head.coords + 1 + classes)
            for index, head in self.heads
        }

    def per_class(self) -> float:
        """Returns the floats that one more class adds; 0 if there are no heads."""
        found = 0.0
        for index, head in self.heads:
            layer = self.network.layers[index]
            assert isinstance(layer, cfg.Convolutional)
            found += len(head.anchors) * self.per_filter(layer)
        return found

    def _classes(self, difference: int) -> Iterator[Edit]:
        model = self.network.classes
        per_class, per_channel = self.per_class(), self.slopes[INPUT]
        if model is None or per_class <= 0:
            return
        channels = self.network.input_shape.channels
        for other in range(1, 17):
            rest = difference - per_channel * (other - channels)
            if rest % per_class:
                continue
            classes = model + int(rest // per_class)
            if classes == model or not 1 <= classes <= 10_000:
                continue
            overrides = self.with_classes(classes)
            unlikely = 1 + math.log(1 + classes / 20)
            edit = Edit(Option.CLASSES, self.heads[0][0], (model,), (classes,), overrides, unlikely)
            if other == channels:
                yield edit
            elif per_channel:
                yield replace(
                    edit,
                    overrides={**overrides, ("channels", INPUT): other},
                    unlikeliness=unlikely + (3 if other in (1, 3, 4) else 6),
                    channels=other,
                )

    def _input(self, difference: int) -> Iterator[Edit]:
        slope = self.slopes[INPUT]
        channels = self.network.input_shape.channels
        if slope and difference % slope == 0:
            other = channels + int(difference // slope)
            if 1 <= other <= 64:
                unlikely = 1.0 if other in (1, 3, 4) else 4.0 if other <= 16 else 12.0
                yield _edit(Option.CHANNELS, INPUT, channels, other, "channels", unlikely)

    def _uneven(self, difference: int) -> Iterator[Edit]:
        """Yields other distributions of the anchors among the heads, with any class count."""
        if not 2 <= len(self.heads) <= _MOST_HEADS:
            return
        convolutions = [self.network.layers[index] for index, _ in self.heads]
        masks = tuple(len(head.anchors) for _, head in self.heads)
        each = [
            self.per_filter(convolution)
            for convolution in convolutions
            if isinstance(convolution, cfg.Convolutional)
        ]
        coords = [head.coords + 1 for _, head in self.heads]
        model = tuple(convolution.output_shape.channels for convolution in convolutions)
        now = sum(slope * filters for slope, filters in zip(each, model, strict=True))
        for shared in itertools.product(range(1, 10), repeat=len(masks)):
            if sum(shared) != sum(masks) or shared == masks:
                continue
            per_class = sum(s * n for s, n in zip(each, shared, strict=True))
            fixed = sum(s * n * c for s, n, c in zip(each, shared, coords, strict=True))
            rest = now + difference - fixed
            if not per_class or rest % per_class:
                continue
            classes = int(rest // per_class)
            if not 1 <= classes <= 1000:
                continue
            filters = tuple(n * (c + classes) for n, c in zip(shared, coords, strict=True))
            yield Edit(
                Option.HEADS,
                self.heads[0][0],
                model,
                filters,
                {("filters", index): f for (index, _), f in zip(self.heads, filters, strict=True)},
                unlikeliness=7 + (0 if classes == self.network.classes else 3),
                classes=classes,
            )

    def _convolution(self, layer: cfg.Convolutional, difference: int) -> Iterator[Edit]:
        index, filters = layer.index, layer.filters
        more = difference / self.per_filter(layer)
        if more == int(more) and filters + more >= 1:
            value = filters + int(more)
            head = any(index == conv for conv, _ in self.heads)
            unlikely = (10.0 if value % 8 == 0 or head else 13.0) + abs(math.log2(value / filters))
            yield _edit(Option.FILTERS, index, filters, value, "filters", unlikely)
        kernel = self._kernel(index)
        for size in _SIZES:
            if kernel * size * size == (kernel + difference) * layer.size**2:
                unlikely = 9.0 if size % 2 else 12.0
                if layer.section.option("size") is None:
                    unlikely = 0.5  # the line is missing, for which Darknet uses 1
                yield _edit(Option.SIZE, index, layer.size, size, "size", unlikely)
        channels = layer.input_shape.channels
        common = math.gcd(channels, filters)
        if kernel + difference > 0 and kernel * layer.groups % (kernel + difference) == 0:
            groups = kernel * layer.groups // (kernel + difference)
            if groups != layer.groups and common % groups == 0:
                unlikely = 9.0 if groups in (1, filters) else 11.0
                if groups == 1 and layer.section.option("groups") is not None:
                    unlikely = 4.5  # the cfg sets the option explicitly
                yield _edit(Option.GROUPS, index, layer.groups, groups, "groups", unlikely)
        normal = int(layer.batch_normalize)
        if not layer.dontloadscales and difference == (-1 if normal else 1) * len(SCALES) * filters:
            yield _edit(Option.BATCH_NORMALIZE, index, normal, 1 - normal, "batch_normalize", 9.0)

    def _route(self, layer: cfg.Route, difference: int) -> Iterator[Edit]:
        index, channels = layer.index, layer.output_shape.channels
        slope = self.slopes[index]
        if not slope or difference % slope:
            return
        value = channels + int(difference // slope)
        if value < 1:
            return
        unlikely = 5.0 if value in self._reachable(layer) else 9.0
        # The usual change for small objects: a route that reads one earlier layer.
        unlikely += abs(math.log2(value / channels))
        unlikely += 0.0 if len(layer.inputs) == 1 and layer.groups == 1 else 1.0
        yield _edit(Option.ROUTE, index, channels, value, "channels", unlikely)

    def _reachable(self, layer: cfg.Route) -> set[int]:
        """Returns the channels a route can have after a change of one reference or of groups."""
        shapes = [self.channels(index) for index in layer.inputs]
        total = sum(shapes)
        others = {channels for channels, first in self._channels_of.items() if first < layer.index}
        found = {total // groups for groups in (1, 2, 4)}
        found |= {total + channels for channels in others}
        for channels in set(shapes):
            rest = total - channels
            found.add(rest)
            found |= {rest + other for other in others}
        return {channels // layer.groups for channels in found} | found

    # Changes for which the whole cfg is parsed again.

    def _unread(self, floats: int) -> Iterator[Edit]:
        """Yields removals of `dontload=1` or `dontloadscales=1`, of one section or of all."""
        for what in (Option.DONTLOAD, Option.DONTLOADSCALES):
            layers = [
                layer.index for layer in self.network.layers if getattr(layer, what.value, False)
            ]
            for chosen in [layers, *([layer] for layer in layers[:_MOST_REPARSED])]:
                changes = {(index, what.value): 0 for index in chosen}
                if chosen and (found := self._resolved(changes, floats)):
                    yield Edit(what, chosen[0], (1,), (0,), {}, 3.0, resolved=found)

    def _dense(self, floats: int) -> Iterator[Edit]:
        """Yields changes before a `[connected]` or `[local]`, whose size depends on the image."""
        layers = self.network.layers
        if len(layers) > _MOST_REPARSED or not any(
            isinstance(layer, (cfg.Connected, cfg.Local)) for layer in layers
        ):
            return
        for layer in layers:
            for what, model, values in _spatial_options(layer):
                for value in values:
                    change = {(layer.index, what.value): value}
                    if found := self._resolved(change, floats):
                        unlikely = 5.0 if what is Option.OUTPUT else 6.0
                        if what is Option.STRIDE and value > 2:
                            unlikely += 2.0
                        yield Edit(
                            what, layer.index, (model,), (value,), {}, unlikely, resolved=found
                        )

    def _resolved(
        self, changes: Mapping[tuple[int, str], int], floats: int
    ) -> tuple[_content.Run, ...] | None:
        """Returns the layout after a change of options; None if it has not `floats` floats."""
        sections = list(self.network.sections)
        for (index, key), value in changes.items():
            sections[index + 1] = sections[index + 1].with_option(key, value)
        try:
            network = cfg.resolve(sections, source=self.network.source)
            if layout.floats(network) != floats:
                return None
            return tuple(_content.runs_of(layout.segments(network)))
        except YolotfError:
            return None


def _spatial_options(layer: cfg.Layer) -> Iterator[tuple[Option, int, list[int]]]:
    """Yields (option, its value, values to try) of a layer that changes rows and columns."""
    match layer:
        case cfg.Connected():
            near = {2**power for power in range(3, 13)} | {10, 20, 84, 100, 120, 496, 1000, 1470}
            yield Option.OUTPUT, layer.output, sorted(near - {layer.output})
        case cfg.Convolutional():
            pad = int(bool(layer.padding))
            yield Option.PAD, pad, [1 - pad]
            yield Option.STRIDE, layer.stride_x, sorted({1, 2, 3, 4} - {layer.stride_x})
            yield Option.SIZE, layer.size, sorted({1, 3, 5, 7, 9, 11} - {layer.size})
            near = {layer.filters * 2, layer.filters // 2, 6, 8, 16, 20, 32, 50, 64} - {0}
            yield Option.FILTERS, layer.filters, sorted(near - {layer.filters})
        case cfg.Pool():
            yield Option.STRIDE, layer.stride_x, sorted({1, 2, 3} - {layer.stride_x})
            yield Option.SIZE, layer.size, sorted({2, 3} - {layer.size})
            yield Option.PADDING, layer.padding, sorted({0, 1} - {layer.padding})


def counts_of(layer: cfg.Layer) -> Counts:
    """Returns (role, floats) of the arrays that a section stores."""
    return tuple((role, math.prod(shape)) for _, role, shape in layer.stored())


def total(counts: Counts) -> int:
    """Returns the number of floats of a layer."""
    return sum(count for _, count in counts)


def _entered(layer: cfg.Layer, channels: int) -> cfg.Layer:
    """Returns the section with another number of input channels."""
    return replace(layer, input_shape=layer.input_shape._replace(channels=channels))


def _overridden(layer: cfg.Layer, entering: float | None, overrides: Overrides) -> cfg.Layer | None:
    """Returns the section with other options or input channels; None if that is impossible."""
    if entering is not None:
        if entering != int(entering) or entering < 1:
            return None
        layer = _entered(layer, int(entering))
    if not isinstance(layer, cfg.Convolutional):
        return layer
    index = layer.index
    layer = replace(
        layer,
        filters=overrides.get(("filters", index), layer.filters),
        size=overrides.get(("size", index), layer.size),
        groups=overrides.get(("groups", index), layer.groups),
        batch_normalize=bool(overrides.get(("batch_normalize", index), layer.batch_normalize)),
    )
    if layer.input_shape.channels % layer.groups or layer.filters % layer.groups:
        return None
    return layer


def follows(layer: cfg.Layer) -> bool:
    """Returns whether a layer's output channels are proportional to its input channels."""
    return not layer.sets_channels and not isinstance(layer, (cfg.Route, cfg.History))


def _edit(what: Option, layer: int, model: int, file: int, key: str, unlikeliness: float) -> Edit:
    return Edit(what, layer, (model,), (file,), {(key, layer): file}, unlikeliness)
