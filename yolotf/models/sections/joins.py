"""Sections that join several inputs: `[route]`, `[shortcut]`, `[scale_channels]`, `[sam]`."""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from yolotf.darknet import cfg
from yolotf.graphs.sections import joins
from yolotf.models.builder import Builder, builds
from yolotf.models.registration import Layer, layers, register


@builds(cfg.Route)
def _route(builder: Builder, layer: cfg.Route, inputs: Sequence[Any]) -> Any:
    if layer.groups > 1:
        several = len(inputs) > 1
        inputs = [
            _group(builder, layer, x, f"_group_{number}" if several else "")
            for number, x in enumerate(inputs)
        ]
    if len(inputs) == 1:
        return inputs[0]
    return layers.Concatenate(**builder.named(layer))(list(inputs))


def _group(builder: Builder, layer: cfg.Route, x: Any, suffix: str) -> Any:
    """Returns group `group_id` of the channels, by a stock layer that every Keras can load.

    With `channels_first`, `Cropping2D` crops the last two axes, here columns and channels.
    """
    channels = x.shape[-1]
    count = channels // layer.groups
    before = count * layer.group_id
    sides = ((0, 0), (before, channels - before - count))
    named = builder.named(layer, suffix)
    return layers.Cropping2D(sides, data_format="channels_first", **named)(x)


@builds(cfg.Shortcut)
def _shortcut(builder: Builder, layer: cfg.Shortcut, inputs: Sequence[Any]) -> Any:
    if layer.is_plain_sum(builder.network):
        add = layers.Add(**builder.named(layer))
    else:
        add = Shortcut(layer.weights_type, layer.weights_normalization, **builder.named(layer))
    return builder.activated(layer, add(list(inputs)))


@builds(cfg.ScaleChannels, cfg.Sam)
def _product(builder: Builder, layer: cfg.ScaleChannels | cfg.Sam, inputs: Sequence[Any]) -> Any:
    product = layers.Multiply(**builder.named(layer))(list(inputs))
    return builder.activated(layer, product)


@register
class Shortcut(Layer):
    """A `[shortcut]` that is not a plain `Add`; see `joins.shortcut`.

    With `weights_type`, the variable `shortcut` (inputs, 1 or channels) has a factor for each
    input (`per_feature`), or for each channel of each input (`per_channel`).
    """

    def __init__(
        self, weights_type: str = "none", weights_normalization: str = "none", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.weights_type = weights_type
        self.weights_normalization = weights_normalization

    def build(self, input_shape: Sequence[Sequence[int]]) -> None:
        """Creates the factors."""
        if self.weights_type != "none":
            channels = input_shape[0][-1] if self.weights_type == "per_channel" else 1
            self.shortcut = self.add_weight(
                name="shortcut", shape=(len(input_shape), channels), initializer="ones"
            )
        self.built = True

    def call(self, inputs: Sequence[Any]) -> Any:
        """Adds all other `inputs` to the first, all NHWC."""
        factors = None
        if self.weights_type != "none":
            weights = tf.convert_to_tensor(self.shortcut)
            factors = joins.shortcut_factors(tf.raw_ops, weights, self.weights_normalization)
        shapes = [cfg.Shape(*x.shape[1:]) for x in inputs]
        columns = 0 if factors is None else factors.shape[1]
        return joins.shortcut(tf.raw_ops, inputs, shapes, factors, columns)

    def compute_output_shape(self, input_shape: Sequence[Sequence[int]]) -> tuple[int, ...]:
        """Returns the first input's shape."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "weights_type": self.weights_type,
            "weights_normalization": self.weights_normalization,
        }


@register
class ChannelSlice(Layer):
    """`[route]` with `groups`: one of `groups` equal parts of the channels (route_layer.c:91)."""

    def __init__(self, groups: int, group_id: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = groups
        self.group_id = group_id

    def call(self, inputs: Any) -> Any:
        """Returns the group of channels of NHWC `inputs`."""
        count = inputs.shape[-1] // self.groups
        return inputs[..., count * self.group_id : count * (self.group_id + 1)]

    def compute_output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the input's shape with a `groups`-th of the channels."""
        return (*input_shape[:-1], input_shape[-1] // self.groups)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "groups": self.groups, "group_id": self.group_id}
