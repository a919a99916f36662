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
        heads: (convolution, head) for each head behind a convolution that is stored; the number of
            classes sets the convolution's filters.
        first_with: number of channels -> index of the first layer that outputs that many.
        slopes: the floats that one more output channel of each layer adds to the file; the last
            entry is for the network's input (index -1).
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
        stored = self.stored.get(layer.index)
        if stored is None:
            return 0.0
        # The channels must be divisible by the groups, so add one to each group.
        groups = layer.channel_groups
        widened = counts_of(_with_input_channels(layer, layer.input_shape.channels + groups))
        return (total(widened) - total(stored)) / groups

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
        self, overrides: Overrides, input_channels: Mapping[int, int] | None = None
    ) -> dict[int, Counts] | None:
        """Returns what the layers affected by a change store; None if the change is impossible.

        A change is impossible if groups do not divide channels or filters.

        Args:
            overrides: the options that change.
            input_channels: index of a layer -> its new number of input channels.
        """
        new_inputs = input_channels or {}
        channels: dict[int, float] = {}  # by index, of the layers whose channels changed
        changed: dict[int, Counts] = {}
        queue: list[int] = []  # a heap: a layer comes after all that it reads
        queued: set[int] = set()

        def enqueue(index: int) -> None:
            if index not in queued:
                queued.add(index)
                heapq.heappush(queue, index)

        for index in new_inputs:
            enqueue(index)
        for key, index in overrides:
            if index == INPUT:
                channels[INPUT] = overrides[key, index]
                for reader in self._readers.get(INPUT, ()):
                    enqueue(reader)
            else:
                enqueue(index)
        while queue:
            layer = self.network.layers[heapq.heappop(queue)]
            first_input = channels.get(layer.inputs[0]) if layer.inputs else None
            if layer.index in self.stored:
                new_channels = new_inputs.get(layer.index, first_input)
                overridden = _overridden(layer, new_channels, overrides)
                if overridden is None:
                    return None
                changed[layer.index] = counts_of(overridden)
            channels_read: Mapping[int, float] = channels
            if layer.index in new_inputs:
                channels_read = {**channels, layer.inputs[0]: new_inputs[layer.index]}
            output_channels = self._output_channels(layer, channels_read, overrides)
            if output_channels != layer.output_shape.channels:
                channels[layer.index] = output_channels
                for reader in self._readers.get(layer.index, ()):
                    enqueue(reader)
        return {index: stored for index, stored in changed.items() if stored != self.stored[index]}

    def _output_channels(
        self, layer: cfg.Layer, channels: Mapping[int, float], overrides: Overrides
    ) -> float:
        """Returns the output channels of `layer`, given those of the layers that changed."""
        for key in ("channels", "filters"):
            if (key, layer.index) in overrides:
                return overrides[key, layer.index]
        if not layer.channel_inputs:
            return layer.output_shape.channels
        inputs = (channels.get(index, self.channels(index)) for index in layer.channel_inputs)
        return layer.channels_from(sum(inputs))

    def layout(self, changed: Mapping[int, Counts]) -> list[Run]:
        """Returns the runs of the network, where `changed` replaces what some layers store."""
        runs: list[Run] = []
        start = 0
        for index, stored in self.stored.items():
            for role, count in changed.get(index, stored):
                runs.append(Run(index, role, start, count))
                start += count
        return runs


def counts_of(layer: cfg.Layer) -> Counts:
    """Returns (role, floats) of the arrays that a section stores."""
    return tuple((role, math.prod(shape)) for _, role, shape in layer.stored())


def _with_input_channels(layer: cfg.Layer, channels: int) -> cfg.Layer:
    """Returns the section with another number of input channels."""
    return replace(layer, input_shape=layer.input_shape._replace(channels=channels))


def _overridden(
    layer: cfg.Layer, input_channels: float | None, overrides: Overrides
) -> cfg.Layer | None:
    """Returns the section with other options or input channels; None if that is impossible."""
    if input_channels is not None:
        if input_channels != int(input_channels) or input_channels < 1:
            return None
        layer = _with_input_channels(layer, int(input_channels))
    options: dict[str, Any] = {
        key: overrides[key, layer.index]
        for key in ("filters", "size", "groups", "batch_normalize")
        if (key, layer.index) in overrides
    }
    if options:
        layer = replace(layer, **options)
    return layer if layer.groups_divide else None
