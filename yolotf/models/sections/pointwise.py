"""Sections that keep rows and columns: activations, softmax, normalization, constants."""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from yolotf.darknet import cfg
from yolotf.darknet.class_tree import tree_of
from yolotf.graphs.sections import pointwise
from yolotf.models import initial
from yolotf.models.builder import Builder, builds
from yolotf.models.registration import Layer, layers, register


@builds(cfg.Dropout)
def _dropout(builder: Builder, layer: cfg.Dropout, inputs: Sequence[Any]) -> Any:
    if layer.set_key("dropblock"):
        return inputs[0]
    return layers.Dropout(layer.probability, **builder.named(layer))(*inputs)


@builds(cfg.Passive)
def _nothing(builder: Builder, layer: cfg.Passive, inputs: Sequence[Any]) -> Any:
    return inputs[0]


@builds(cfg.Activation)
def _activation(builder: Builder, layer: cfg.Activation, inputs: Sequence[Any]) -> Any:
    return builder.activated(layer, *inputs, suffix="")  # named as the section itself


@builds(cfg.Softmax)
def _softmax(builder: Builder, layer: cfg.Softmax, inputs: Sequence[Any]) -> Any:
    (x,) = inputs
    height, width, channels = layer.input_shape
    if layer.tree:
        groups = tree_of(builder.network, layer.tree, layer.input_shape.floats).groups
        return TreeSoftmax(groups, layer.temperature, **builder.named(layer))(x)
    if layer.temperature != 1:
        x = builder.rescaled(layer, x, 1 / layer.temperature)
    if layer.groups == 1:
        axis = -1 if height == width == 1 else (1, 2, 3)
        return layers.Softmax(axis, **builder.named(layer))(x)
    split = (height, width, layer.groups, channels // layer.groups)
    x = layers.Reshape(split, **builder.named(layer, "_split"))(x)
    x = layers.Softmax((1, 2, 4), **builder.named(layer))(x)
    return layers.Reshape(tuple(layer.input_shape), **builder.named(layer, "_join"))(x)


@builds(cfg.Normalization)
def _normalization(builder: Builder, layer: cfg.Normalization, inputs: Sequence[Any]) -> Any:
    return LocalResponseNormalization(
        layer.size, layer.alpha, layer.beta, layer.kappa, **builder.named(layer)
    )(*inputs)


@builds(cfg.Implicit)
def _implicit(builder: Builder, layer: cfg.Implicit, inputs: Sequence[Any]) -> Any:
    return Implicit(layer.filters, layer.atoms, layer.mean, layer.std, **builder.named(layer))(
        builder.images
    )


@register
class Implicit(Layer):
    """`[implicit]`: a stored constant, repeated for each image (representation_layer.c:58-64).

    The variable `implicit` is (filters, atoms), as in the file. Only the batch size of the input
    matters.
    """

    def __init__(
        self, filters: int, atoms: int, mean: float = 0.0, std: float = 0.2, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.atoms = atoms
        self.mean = mean
        self.std = std

    def build(self, input_shape: Sequence[int]) -> None:
        """Creates the constant, initialized within `std` of `mean`."""
        self.implicit = self.add_weight(
            name="implicit",
            shape=(self.filters, self.atoms),
            initializer=initial.implicit(self.mean, self.std),
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Returns the constant as (batch, atoms, 1, filters)."""
        weights = tf.convert_to_tensor(self.implicit)
        return pointwise.implicit(tf.raw_ops, weights, inputs, self.filters, self.atoms)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "atoms": self.atoms,
            "mean": self.mean,
            "std": self.std,
        }


@register
class TreeSoftmax(Layer):
    """`[softmax] tree=`: a softmax over each group of consecutive classes with the same parent."""

    def __init__(self, groups: Sequence[int], temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = tuple(groups)
        self.temperature = temperature

    def call(self, inputs: Any) -> Any:
        """Applies the softmax to NHWC `inputs`."""
        return pointwise.tree_softmax(
            tf.raw_ops, inputs, inputs.shape[1:], self.groups, self.temperature
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "groups": self.groups,
            "temperature": self.temperature,
        }


@register
class LocalResponseNormalization(Layer):
    """`[normalization]`: local response normalization across channels."""

    def __init__(self, size: int, alpha: float, beta: float, kappa: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.kappa = kappa

    def call(self, inputs: Any) -> Any:
        """Normalizes NHWC `inputs`."""
        return pointwise.normalize(
            tf.raw_ops,
            inputs,
            inputs.shape[-1],
            size=self.size,
            alpha=self.alpha,
            beta=self.beta,
            kappa=self.kappa,
        )

    def compute_output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the input's shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "size": self.size,
            "alpha": self.alpha,
            "beta": self.beta,
            "kappa": self.kappa,
        }
