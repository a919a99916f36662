"""Other networks the file may have been written by: this one with one thing changed.

The size difference between file and network leaves few single changes that explain it: for every
layer at most one filter count, one kernel size, ... Each is an `Edit` with the layout it leads
to; which one is right is for the content to say.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from yolotf.darknet import cfg
from yolotf.weights import content as _content
from yolotf.weights import layout

Overrides = Mapping[tuple[str, int], int]
"""(what, layer) -> value, where what is filters, size, groups, batch_normalize or channels."""

_SIZES = (1, 3, 5, 7, 2, 4, 9, 11, 6, 8, 10)
INPUT = cfg.NETWORK_INPUT
"""The layer that `channels` of `[net]` belongs to in overrides."""


@dataclass(frozen=True)
class Edit:
    """One change, or one that touches several heads at once.

    Attributes:
        what: filters, size, groups, batch_normalize, route, classes, channels, heads.
        layer: where it is made; the first of them for heads, -1 for `[net]`.
        model: the value in the network at hand; for heads one for each.
        file: the value in the file's network.
        overrides: the change, for `Graph.runs`.
        oddity: nats against it before the content is looked at.
        classes: where the class count changes too, the file's.
        floats: what the change of the layer itself adds.
    """

    what: str
    layer: int
    model: tuple[int, ...]
    file: tuple[int, ...]
    overrides: Overrides = field(repr=False)
    oddity: float
    classes: int | None = None
    floats: int = 0


class Graph:
    """Channel counts and stored floats of a network, recomputed fast after a change.

    Rows and columns are left out: what a convolution stores does not depend on them.
    """

    def __init__(self, network: cfg.Network, *, transposed: bool = False) -> None:
        self.network = network
        self.base = _content.runs_of(layout.segments(network, transposed=transposed))
        self._by_layer: dict[int, list[_content.Run]] = {}
        for run in self.base:
            self._by_layer.setdefault(run.layer, []).append(run)
        self.floats = self.base[-1].end if self.base else 0
        self.heads = [
            (head.index - 1, head)
            for head in network.heads
            if not isinstance(head, cfg.Detection)
            and head.index
            and isinstance(network.layers[head.index - 1], cfg.Convolutional)
        ]

    def _channels(self, overrides: Overrides) -> list[float]:
        """Output channels of every layer; the network's input is the last."""
        layers = self.network.layers
        found: list[float] = [0.0] * (len(layers) + 1)
        found[-1] = overrides.get(("channels", INPUT), self.network.input_shape.channels)
        for layer in layers:
            index = layer.index
            if ("channels", index) in overrides:
                found[index] = overrides["channels", index]
            elif isinstance(layer, cfg.Convolutional):
                found[index] = overrides.get(("filters", index), layer.filters)
            elif isinstance(layer, cfg.Route):
                found[index] = sum(found[i] for i in layer.inputs) / layer.groups
            elif layer.inputs and layer.input_shape.channels:
                ratio = layer.output_shape.channels / layer.input_shape.channels
                follows = not isinstance(layer, (cfg.Connected, cfg.Local, cfg.Recurrent))
                found[index] = (
                    found[layer.inputs[0]] * ratio if follows else layer.output_shape.channels
                )
            else:
                found[index] = layer.output_shape.channels
        return found

    def _counts(self, overrides: Overrides) -> Iterator[tuple[cfg.Layer, list[tuple[str, float]]]]:
        """(role, floats) of every layer that stores any; floats may be broken."""
        channels = self._channels(overrides)
        for index, runs in self._by_layer.items():
            layer = self.network.layers[index]
            entering = channels[layer.inputs[0]] if layer.inputs else 0
            own = [(run.role, float(run.floats)) for run in runs]
            if isinstance(layer, cfg.Convolutional):
                filters = overrides.get(("filters", index), layer.filters)
                size = overrides.get(("size", index), layer.size)
                groups = overrides.get(("groups", index), layer.groups)
                normal = overrides.get(("batch_normalize", index), int(layer.batch_normalize))
                # As in the network: with dontloadscales there is no gamma, mean and variance.
                scales = _SCALES if normal and not layer.dontloadscales else ()
                own = [("beta" if normal else "bias", float(filters))]
                own += [(role, float(filters)) for role in scales]
                own.append(("kernel", filters * entering / groups * size * size))
            elif entering != layer.input_shape.channels and layer.inputs:
                ratio = entering / layer.input_shape.channels
                if isinstance(layer, cfg.Batchnorm):
                    own = [(role, count * ratio) for role, count in own]
                elif isinstance(layer, (cfg.Connected, cfg.Local)):
                    own = [
                        (role, count * (ratio if role == "kernel" else 1)) for role, count in own
                    ]
            yield layer, own

    def total(self, overrides: Overrides) -> float:
        """Floats of the changed network."""
        return sum(count for _, own in self._counts(overrides) for _, count in own)

    def runs(self, overrides: Overrides) -> list[_content.Run] | None:
        """The changed network's layout; None where groups do not divide."""
        found: list[_content.Run] = []
        start = 0
        for layer, own in self._counts(overrides):
            for role, count in own:
                if count != int(count) or count < 1:
                    return None
                found.append(_content.Run(layer.index, role, start, int(count)))
                start += int(count)
        return found

    def edits(self, floats: int) -> Iterator[Edit]:
        """Every single change after which the network stores `floats` floats."""
        difference = floats - self.floats
        if not difference:
            return
        yield from self._classes(difference)
        yield from self._uneven(difference)
        yield from self._input(difference)
        for layer in self.network.layers:
            if isinstance(layer, cfg.Convolutional) and layer.index in self._by_layer:
                yield from self._convolution(layer, difference)
            elif isinstance(layer, cfg.Route):
                yield from self._route(layer, difference)

    def edits_and_classes(self, floats: int) -> Iterator[Edit]:
        """Every usual single change together with another class count."""
        model = self.network.classes
        if not self.heads or model is None:
            return
        difference = floats - self.floats
        per_class = self.total(self._with_classes(model + 1)) - self.floats
        for edit in self._usual_changes():
            more = self.total(edit.overrides) - self.floats
            rest = difference - more
            classes = model + int(rest // per_class)
            if not more or rest % per_class or classes == model or not 1 <= classes <= 1000:
                continue
            overrides = {**self._with_classes(classes), **edit.overrides}
            odd = edit.oddity + 4 + math.log(1 + classes / 20)
            yield replace(edit, overrides=overrides, oddity=odd, classes=classes, floats=int(more))

    def _usual_changes(self) -> Iterator[Edit]:
        """Changes people make: kernels of another size, more or fewer filters, other routes."""
        head_convolutions = {index for index, _ in self.heads}
        for layer in self.network.layers:
            index = layer.index
            if isinstance(layer, cfg.Route):
                channels = layer.output_shape.channels
                for value in self._reachable(layer) - {channels}:
                    yield _edit("route", index, channels, value, "channels", 6.0)
            elif isinstance(layer, cfg.Convolutional) and index in self._by_layer:
                for size in {1, 3, 5, 7} - {layer.size}:
                    yield _edit("size", index, layer.size, size, "size", 9.0)
                for groups in {1, layer.filters} - {layer.groups}:
                    yield _edit("groups", index, layer.groups, groups, "groups", 9.0)
                if index not in head_convolutions:
                    for filters in {2 * layer.filters, layer.filters // 2} - {0}:
                        yield _edit("filters", index, layer.filters, filters, "filters", 10.0)

    def _with_classes(self, classes: int) -> dict[tuple[str, int], int]:
        return {
            ("filters", index): len(head.anchors) * (head.coords + 1 + classes)
            for index, head in self.heads
        }

    def _classes(self, difference: int) -> Iterator[Edit]:
        model = self.network.classes
        if not self.heads or model is None:
            return
        per_class = self.total(self._with_classes(model + 1)) - self.floats
        per_channel = self._per_channel()
        channels = self.network.input_shape.channels
        for other in range(1, 17):
            rest = difference - per_channel * (other - channels)
            if per_class <= 0 or rest % per_class:
                continue
            classes = model + int(rest // per_class)
            if classes == model or not 1 <= classes <= 10_000:
                continue
            overrides = self._with_classes(classes)
            odd = 1 + math.log(1 + classes / 20)
            if other == channels:
                yield Edit("classes", self.heads[0][0], (model,), (classes,), overrides, odd)
            elif per_channel:
                overrides["channels", INPUT] = other
                odd += 3 if other in (1, 3, 4) else 6
                yield Edit("classes", self.heads[0][0], (model,), (classes,), overrides, odd)

    def _per_channel(self) -> int:
        channels = self.network.input_shape.channels
        return round(self.total({("channels", INPUT): channels + 1}) - self.floats)

    def _input(self, difference: int) -> Iterator[Edit]:
        slope = self._per_channel()
        channels = self.network.input_shape.channels
        if slope and difference % slope == 0:
            other = channels + difference // slope
            if 1 <= other <= 64:
                odd = 1.0 if other in (1, 3, 4) else 4.0
                yield Edit(
                    "channels", INPUT, (channels,), (other,), {("channels", INPUT): other}, odd
                )

    def _uneven(self, difference: int) -> Iterator[Edit]:
        """Masks that share the same anchors out in another way, with any class count."""
        if len(self.heads) < 2:
            return
        masks = tuple(len(head.anchors) for _, head in self.heads)
        each = [
            self.total({("filters", index): self.network.layers[index].output_shape.channels + 1})
            - self.floats
            for index, _ in self.heads
        ]
        coords = [head.coords + 1 for _, head in self.heads]
        now = sum(
            slope * self.network.layers[index].output_shape.channels
            for slope, (index, _) in zip(each, self.heads, strict=True)
        )
        for shared in itertools.product(range(1, 10), repeat=len(masks)):
            if sum(shared) != sum(masks) or shared == masks:
                continue
            per_class = sum(s * n for s, n in zip(each, shared, strict=True))
            fixed = sum(s * n * c for s, n, c in zip(each, shared, coords, strict=True))
            rest = now + difference - fixed
            classes = int(rest // per_class)
            if rest % per_class or not 1 <= classes <= 1000:
                continue
            filters = tuple(n * (c + classes) for n, c in zip(shared, coords, strict=True))
            yield Edit(
                "heads",
                self.heads[0][0],
                tuple(self.network.layers[index].output_shape.channels for index, _ in self.heads),
                filters,
                {("filters", index): f for (index, _), f in zip(self.heads, filters, strict=True)},
                oddity=7 + (0 if classes == self.network.classes else 3),
                classes=classes,
            )

    def _convolution(self, layer: cfg.Convolutional, difference: int) -> Iterator[Edit]:
        index, filters = layer.index, layer.filters
        slope = self.total({("filters", index): filters + 1}) - self.floats
        more = difference / slope
        if more == int(more) and filters + more >= 1:
            value = filters + int(more)
            head = any(index == conv for conv, _ in self.heads)
            odd = (10.0 if value % 8 == 0 or head else 13.0) + abs(math.log2(value / filters))
            yield Edit("filters", index, (filters,), (value,), {("filters", index): value}, odd)
        kernel = sum(run.floats for run in self._by_layer[index] if run.role == "kernel")
        for size in _SIZES:
            if kernel * size * size == (kernel + difference) * layer.size**2:
                odd = 9.0 if size % 2 else 12.0
                yield Edit("size", index, (layer.size,), (size,), {("size", index): size}, odd)
        channels = layer.input_shape.channels
        common = math.gcd(channels, filters)
        if kernel + difference > 0 and kernel * layer.groups % (kernel + difference) == 0:
            groups = kernel * layer.groups // (kernel + difference)
            if groups != layer.groups and common % groups == 0:
                odd = 9.0 if groups in (1, filters) else 11.0
                yield Edit(
                    "groups", index, (layer.groups,), (groups,), {("groups", index): groups}, odd
                )
        normal = int(layer.batch_normalize)
        if not layer.dontloadscales and difference == (-3 if normal else 3) * filters:
            yield Edit(
                "batch_normalize",
                index,
                (normal,),
                (1 - normal,),
                {("batch_normalize", index): 1 - normal},
                oddity=9.0,
            )

    def _route(self, layer: cfg.Route, difference: int) -> Iterator[Edit]:
        index, channels = layer.index, layer.output_shape.channels
        slope = self.total({("channels", index): channels + 1}) - self.floats
        if not slope or difference % slope:
            return
        value = channels + int(difference // slope)
        if value < 1:
            return
        odd = 5.0 if value in self._reachable(layer) else 9.0
        # What the small-object recipes change: a route that does nothing but point back.
        odd += abs(math.log2(value / channels))
        odd += 0.0 if len(layer.inputs) == 1 and layer.groups == 1 else 1.0
        yield Edit("route", index, (channels,), (value,), {("channels", index): value}, odd)

    def _reachable(self, layer: cfg.Route) -> set[int]:
        """Channels of the route after one of its references or its groups were changed."""
        shapes = [
            (self.network.input_shape if i == INPUT else self.network.layers[i].output_shape)
            for i in layer.inputs
        ]
        total = sum(shape.channels for shape in shapes)
        others = {other.output_shape.channels for other in self.network.layers[: layer.index]}
        found = {total // groups for groups in (1, 2, 4)}
        found |= {total + channels for channels in others}
        for shape in shapes:
            rest = total - shape.channels
            found.add(rest)
            found |= {rest + channels for channels in others}
        return {channels // layer.groups for channels in found} | found


def _edit(what: str, layer: int, model: int, file: int, key: str, oddity: float) -> Edit:
    return Edit(what, layer, (model,), (file,), {(key, layer): file}, oddity)


_SCALES = ("gamma", "moving_mean", "moving_variance")
