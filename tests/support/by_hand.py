"""Keras models of networks, written by hand in the order of the cfg."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from yolotf.darknet import cfg
from yolotf.models.keras_module import keras

SLOPE = 0.1


def picture(size: int = 416) -> Any:
    """Returns the input layer of a model, for square images."""
    return keras().layers.Input((size, size, 3))


def heads_of(
    network: cfg.Network,
    values: Mapping[int, Any],
    start: int = 0,
    *,
    stop: int | None = None,
    skipped: Collection[int] = (),
    filters: Mapping[int, int] | None = None,
    activation: str | None = None,
    use_bias: bool = False,
    after: Callable[[cfg.Layer, Any], Any] = lambda layer, x: x,
    reorg: Callable[[Any, int], Any] | None = None,
) -> list[Any]:
    """The inputs of the heads: the sections from `start` on, applied to `values`.

    Args:
        network: the cfg.
        values: section -> its tensor, of those before `start` that are read; -1 is the input.
        start: the first section to build.
        stop: the section not to build any more; what comes out before it is the answer.
        skipped: sections that are left out; what reads them reads the section before.
        filters: other filter counts, by section.
        activation: in place of the cfg's.
        use_bias: give convolutions a bias before their batch normalization.
        after: adds something to what a convolution outputs.
        reorg: stands for `[reorg]`, given its stride.
    """
    values = dict(values)
    heads = []
    for layer in network.layers[start:stop]:
        inputs = [values[index] for index in layer.inputs]
        if layer.index in skipped:
            values[layer.index] = values[layer.index - 1]
        elif isinstance(layer, cfg.Head):
            heads.append(inputs[0])
            values[layer.index] = inputs[0]
        elif isinstance(layer, cfg.Convolutional):
            count = (filters or {}).get(layer.index, layer.filters)
            x = _convolution(layer, count, inputs[0], activation, use_bias)
            values[layer.index] = after(layer, x)
        elif isinstance(layer, cfg.Reorg) and reorg is not None:
            values[layer.index] = reorg(inputs[0], layer.stride)
        else:
            values[layer.index] = _other(layer, inputs)
    return heads or [values[(len(network.layers) if stop is None else stop) - 1]]


def model_of(network: cfg.Network, **options: Any) -> Any:
    """Returns a model of the whole network."""
    x = picture(network.input_shape.height)
    return keras().Model(x, heads_of(network, {cfg.NETWORK_INPUT: x}, **options))


def convolved(x: Any, filters: int, size: int, **options: Any) -> Any:
    """Returns a convolution with batch normalization and leaky activation."""
    layers = keras().layers
    x = layers.Conv2D(filters, size, padding="same", use_bias=False, **options)(x)
    return layers.LeakyReLU(SLOPE)(layers.BatchNormalization(epsilon=1e-5)(x))


def _convolution(
    layer: cfg.Convolutional, filters: int, x: Any, activation: str | None, use_bias: bool
) -> Any:
    layers = keras().layers
    x = layers.ZeroPadding2D(layer.padding)(x) if layer.padding else x
    normalized = layer.batch_normalize
    x = layers.Conv2D(
        filters, layer.size, strides=layer.stride_x, use_bias=use_bias or not normalized
    )(x)
    if normalized:
        x = layers.BatchNormalization(epsilon=1e-5)(x)
    name = layer.activation
    if name != "linear" and activation is not None:
        name = activation
    if name == "leaky":
        return layers.LeakyReLU(SLOPE)(x)
    return x if name == "linear" else layers.Activation(name)(x)


def _other(layer: cfg.Layer, inputs: list[Any]) -> Any:
    layers = keras().layers
    match layer:
        case cfg.Route() if layer.groups > 1:
            share = inputs[0].shape[-1] // layer.groups
            return inputs[0][..., layer.group_id * share : (layer.group_id + 1) * share]
        case cfg.Route():
            return layers.Concatenate()(inputs) if len(inputs) > 1 else inputs[0]
        case cfg.Upsample():
            return layers.UpSampling2D(layer.stride)(inputs[0])
        case cfg.Pool():
            return layers.MaxPooling2D(layer.size, layer.stride_x, padding="same")(inputs[0])
        case cfg.Shortcut():
            return layers.Add()(inputs)
    raise NotImplementedError(layer.type)
