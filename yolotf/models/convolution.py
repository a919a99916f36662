"""Convolutions with gradients on every processor, for the layers of models."""

# mypy: disallow-untyped-decorators=False

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from yolotf.graphs import convolution as graph_convolution
from yolotf.graphs import operations
from yolotf.models.keras_module import keras


def convolve(
    inputs: Any,
    kernel: Any,
    strides: Sequence[int],
    padding: str | list[list[int]],
    dilations: Sequence[int],
    bias: Any = None,
) -> Any:
    """Computes a convolution; the shape of the kernel determines the number of groups.

    TensorFlow's CPU kernels support groups and dilations, but only oneDNN's have gradients for
    them. Here the gradient is computed group by group, and for dilations by space-to-batch as in
    `tf.nn.convolution`.

    Args:
        inputs: NHWC.
        kernel: HWIO, with `I` the channels of a group.
        strides: rows, columns.
        padding: `SAME`, `VALID`, or an explicit list as for `tf.nn.conv2d`.
        dilations: rows, columns.
        bias: (filters,), or None.

    Returns:
        (batch, rows, columns, filters).
    """
    inputs, kernel = tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel)
    groups = inputs.shape[-1] // kernel.shape[2]
    geometry = {"strides": list(strides), "padding": padding, "dilations": list(dilations)}
    if groups > 1 or max(dilations) > 1:
        outputs = _convolve_with_gradient(inputs, kernel, groups, geometry)
    else:
        outputs = tf.nn.conv2d(inputs, kernel, **geometry)
    if bias is not None:
        bias = tf.convert_to_tensor(bias)
        return operations.add_bias(tf.raw_ops, outputs, bias, groups=groups)
    if groups > 1 and keras().__name__ == "tf_keras":
        # TensorFlow would fuse this convolution and tf_keras' batch normalization into an
        # operation that ignores groups (see `operations.add_bias`). This operation prevents it,
        # and copies nothing.
        return tf.ensure_shape(outputs, outputs.shape)
    return outputs


def _convolve_with_gradient(
    inputs: Any, kernel: Any, groups: int, geometry: Mapping[str, Any]
) -> Any:
    """Computes `tf.nn.conv2d`, with the gradient of `_convolve_one_group` for each group."""

    @tf.custom_gradient
    def convolve(x: Any, weights: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
        def gradient(upstream: Any) -> tuple[Any, Any]:
            with tf.GradientTape() as tape:
                tape.watch([x, weights])
                parts = zip(
                    tf.split(x, groups, axis=-1), tf.split(weights, groups, axis=-1), strict=True
                )
                outputs = tf.concat([_convolve_one_group(*part, **geometry) for part in parts], -1)
            of_x, of_weights = tape.gradient(outputs, [x, weights], output_gradients=upstream)
            return of_x, of_weights

        return tf.nn.conv2d(x, weights, **geometry), gradient

    return convolve(inputs, kernel)


def _convolve_one_group(
    inputs: Any,
    kernel: Any,
    strides: list[int],
    padding: str | list[list[int]],
    dilations: list[int],
) -> Any:
    """Computes `tf.nn.conv2d` by operations that have gradients on every CPU."""
    if max(dilations) == 1:
        return tf.nn.conv2d(inputs, kernel, strides, padding)
    if padding == "SAME":  # `tf.nn.convolution` has no strides with dilations
        reach = [(size - 1) * rate + 1 for size, rate in zip(kernel.shape, dilations, strict=False)]
        extents = tf.shape(inputs)[1:3]
        missing = tf.maximum((-(-extents // strides) - 1) * strides + reach - extents, 0)
        sides = tf.stack([missing // 2, missing - missing // 2], axis=1)
        inputs = tf.pad(inputs, tf.pad(sides, [[1, 1], [0, 0]]))
    elif padding != "VALID":
        inputs = tf.pad(inputs, padding)
    outputs = tf.nn.convolution(inputs, kernel, padding="VALID", dilations=dilations)
    return outputs[:, :: strides[0], :: strides[1]]


@tf.custom_gradient
def signs(x: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Returns 1 for x > 0, otherwise -1; its gradient is 1 between -1 and 1, otherwise 0.

    The gradient is Darknet's (convolutional_kernels.cu:808; `hardtan_gradient`, activations.h:97).
    """
    inside = tf.cast(tf.abs(x) < 1, x.dtype)
    return graph_convolution.signs(tf.raw_ops, x), lambda upstream: upstream * inside


def binarized(kernel: Any) -> Any:
    """Binarizes a kernel; the gradient is 1, as Darknet updates the kernel itself."""

    @tf.custom_gradient
    def binarize(weights: Any) -> tuple[Any, Callable[[Any], Any]]:
        return graph_convolution.binarize(tf.raw_ops, weights), lambda upstream: upstream

    return binarize(tf.convert_to_tensor(kernel))


def explicit_padding(padding: Sequence[Sequence[int]]) -> list[list[int]]:
    """Returns the padding of rows and columns as `tf.nn.conv2d` takes it, for NHWC inputs."""
    return [[0, 0], *(list(side) for side in padding), [0, 0]]
