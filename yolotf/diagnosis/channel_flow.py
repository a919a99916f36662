"""`ChannelFlow`: how the floats that a network stores change with the channels of its layers.

A single backward pass (`ChannelFlow.slopes`) gives the number of floats that one more filter or
channel of each layer adds to the whole file, so that trying all layers costs no more than trying
one.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from yolotf.darknet import cfg
from yolotf.darknet.roles import Role
from yolotf.diagnosis.edit import INPUT, Counts, Overrides, total
from yolotf.weights import layout
from yolotf.weights.statistics import Run, runs_of


class ChannelFlow:
    """Channels and stored floats of a network, and the floats that changes of it add.

    Rows and columns are ignored: what a convolution stores does not depend on them.

    Attributes:
        network: the network.
        stored: what each layer stores, by index.
        floats: the floats of the whole file.
        heads: the heads whose classes set the filters of a convolution that is stored, and before
            each its convolution.
        first_with: number of channels -> index of the first layer that outputs as many.
        slopes: the floats that one more output channel of each layer adds; the last entry is that
            of the network's input (index -1).
    """

    def __init__(self, network: cfg.Network) -> None:
        self.network = network
        runs = runs_of(layout.segments(network))
        self.stored: dict[int, Counts] = {
            layer: tuple((run.role, run.floats) for run in group)
            for layer, group in itertools.groupby(runs, key=lambda run: run.layer)
        }
        self.floats = runs[-1].end if runs else 0
        self.heads = [
            (convolution, head)
            for convolution, head in network.convolutions_of_heads
            if convolution.index in self.stored
        ]
        self.first_with: dict[int, int] = {}
        self._readers: dict[int, list[int]] = {}
        for layer in network.layers:
            self.first_with.setdefault(layer.output_shape.channels, layer.index)
            for index in set(layer.inputs):
                self._readers.setdefault(index, []).append(layer.index)
        self.slopes = self._slopes()

    # Floats for each additional channel.

    def _slopes(self) -> list[float]:
        slopes = [0.0] * (len(self.network.layers) + 1)
        for layer in reversed(self.network.layers):
            if not layer.inputs:
                continue
            slopes[layer.inputs[0]] += self.per_channel(layer)
            for index in layer.channel_inputs:
                slopes[index] += layer.channels_from(slopes[layer.index])
        return slopes

    def per_channel(self, layer: cfg.Layer) -> float:
        """Returns the floats that `layer` itself stores for one more input channel."""
        own = self.stored.get(layer.index)
        if own is None:
            return 0.0
        # The channels must be divisible by the groups, so add one to each group.
        groups = layer.channel_groups
        more = counts_of(_entered(layer, layer.input_shape.channels + groups))
        return (total(more) - total(own)) / groups

    def per_filter(self, layer: cfg.Convolutional) -> float:
        """Returns the floats that one more filter of `layer` adds to the whole file."""
        return total(self.stored[layer.index]) / layer.filters + self.slopes[layer.index]

    def per_class(self) -> float:
        """Returns the floats that one more class adds; 0 if there are no heads."""
        added = (len(head.anchors) * self.per_filter(before) for before, head in self.heads)
        return sum(added, 0.0)

    def with_classes(self, classes: int) -> dict[tuple[str, int], int]:
        """Returns overrides: the filters of all heads for another number of classes."""
        return {
            ("filters", convolution.index): head.filters_for(classes)
            for convolution, head in self.heads
        }

    def kernel(self, index: int) -> int:
        """Returns the floats of a layer's kernel."""
        return sum(count for role, count in self.stored[index] if role == Role.KERNEL)

    def channels(self, index: int) -> int:
        """Returns the output channels of a layer; of the image for `INPUT`."""
        return self.network.shape(index).channels

    def readers(self, index: int) -> list[int]:
        """Returns the indices of the sections that read a layer, in order."""
        return self._readers.get(index, [])

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
        changed: dict[int, Counts] = {}
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
                changed[layer.index] = counts_of(other)
            seen_here: Mapping[int, float] = channels
            if layer.index in reads:
                seen_here = {**channels, layer.inputs[0]: reads[layer.index]}
            leaving = self._leaving(layer, seen_here, overrides)
            if leaving != layer.output_shape.channels:
                channels[layer.index] = leaving
                for reader in self._readers.get(layer.index, ()):
                    wait_for(reader)
        return {index: stored for index, stored in changed.items() if stored != self.stored[index]}

    def _leaving(
        self, layer: cfg.Layer, channels: Mapping[int, float], overrides: Overrides
    ) -> float:
        """Returns the output channels of `layer`, given those of the layers that changed."""
        for key in ("channels", "filters"):
            if (key, layer.index) in overrides:
                return overrides[key, layer.index]
        if not layer.channel_inputs:
            return layer.output_shape.channels
        entering = (channels.get(index, self.channels(index)) for index in layer.channel_inputs)
        return layer.channels_from(sum(entering))

    def layout(self, changed: Mapping[int, Counts]) -> list[Run]:
        """Returns the runs of the network, where `changed` replaces what some layers store."""
        runs: list[Run] = []
        start = 0
        for index, own in self.stored.items():
            for role, count in changed.get(index, own):
                runs.append(Run(index, role, start, count))
                start += count
        return runs


def counts_of(layer: cfg.Layer) -> Counts:
    """Returns (role, floats) of the arrays that a section stores."""
    return tuple((role, math.prod(shape)) for _, role, shape in layer.stored())


def _entered(layer: cfg.Layer, channels: int) -> cfg.Layer:
    """Returns the section with another number of input channels."""
    return replace(layer, input_shape=layer.input_shape._replace(channels=channels))


def _overridden(layer: cfg.Layer, entering: float | None, overrides: Overrides) -> cfg.Layer | None:
    """Returns the section with other options or input channels; None if that is impossible."""
    if entering is not None:
        if entering != int(entering) or entering < 1:
            return None
        layer = _entered(layer, int(entering))
    options: dict[str, Any] = {
        key: overrides[key, layer.index]
        for key in ("filters", "size", "groups", "batch_normalize")
        if (key, layer.index) in overrides
    }
    if options:
        layer = replace(layer, **options)
    return layer if layer.groups_divide else None
