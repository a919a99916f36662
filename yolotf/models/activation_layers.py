"""Darknet's activations as Keras layers. Importing this module imports TensorFlow."""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from yolotf.graphs import activations
from yolotf.models.keras_module import keras
from yolotf.models.registration import Layer, layers, register


def mish_of_small_numbers(x: Any) -> Any:
    """Computes Mish without large intermediate values, which int8 quantization rounds coarsely."""
    return x * tf.tanh(tf.nn.relu(x) + tf.math.log1p(tf.exp(tf.abs(x) * -1.0)))


def _tanh(x: Any) -> Any:
    return 2 * tf.sigmoid(2 * x) - 1


# TensorFlow fuses a convolution, the batch normalization of tf_keras and one of these into an
# operation that CPUs lack: "Fusion is not implemented: [FusedBatchNorm,Mish]". It does not
# recognize these formulas.
_NOT_FUSED = {"mish": mish_of_small_numbers, "tanh": _tanh}


def activated(x: Any, activation: str) -> Any:
    """Applies one of Darknet's activations to `x`, channels last."""
    formula = _NOT_FUSED.get(activation)
    return formula(x) if formula else activations.activate(tf.raw_ops, x, activation)


@register
class Activation(Layer):
    """Darknet's activations that Keras lacks or computes differently (activations.h:41-84).

    For example, Darknet's selu and gelu have constants of only five or six digits.
    """

    def __init__(self, activation: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activation

    def call(self, inputs: Any) -> Any:
        """Applies the activation to a tensor of any shape, channels last."""
        return activated(inputs, self.activation)

    def compute_output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the input's shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "activation": self.activation}


def activation_layer(activation: str, **kwargs: Any) -> Any:
    """Returns the layer for Darknet's `activation`, a stock layer if its formula is the same."""
    match activation:
        case "leaky" | "revleaky":
            return layers.LeakyReLU(0.1, **kwargs)
        case "relie":
            return layers.LeakyReLU(0.01, **kwargs)
        case "relu6":
            return layers.ReLU(6.0, **kwargs)
        case "logistic":
            return layers.Activation("sigmoid", **kwargs)
        case "mish" | "tanh" if keras().__name__ == "tf_keras":
            return Activation(activation, **kwargs)
        case "mish" | "swish" | "relu" | "tanh" | "elu":
            return layers.Activation(activation, **kwargs)
        case _:
            return Activation(activation, **kwargs)
