"""Resizing of images to a network's input, in TensorFlow operations.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from yolotf.darknet import cfg
from yolotf.darknet.detection_options import DetectionOptions, Resize
from yolotf.graphs import operations
from yolotf.graphs.letter_box import Size, letter_box_size
from yolotf.images import read
from yolotf.interfaces import Tensor as Tensor
from yolotf.text import first_line


def image_batch(images: Any, network: cfg.Network) -> Tensor:
    """Returns a batch of images as a uint8 or float32 tensor.

    Args:
        images: an array or tensor [batch, height, width, channels], or a list of images of one
            size; uint8, or floats in 0..1. The values of symbolic tensors are not checked.
        network: the network; its channels must be those of the images.

    Raises:
        TypeError: the argument is no batch, or its dtype is not that of images.
        ValueError: the images have another shape, several sizes, or values outside of 0..1.
    """
    if isinstance(images, list | tuple) and not images:
        images = np.zeros((0, *network.input_shape), np.uint8)
    images = _tensor(images, "images")
    _check_shape(images, "images", network)
    _check_dtype(images)
    if images.dtype == tf.uint8:
        return images
    images = tf.cast(images, tf.float32)
    if tf.executing_eagerly() and not tf.reduce_all(read.are_in_range(images)):
        values = images.numpy()
        read.check_range(float(values.min()), float(values.max()))
    return images


def input_batch(inputs: Any, network: cfg.Network, *, any_size: bool = False) -> Tensor:
    """Returns a batch of network inputs as a float32 tensor.

    Args:
        inputs: an array or tensor [batch, rows, columns, channels] of floats.
        network: the network, whose size and channels the inputs must have.
        any_size: the inputs may have another size.

    Raises:
        TypeError: the argument is no batch, or does not hold floats.
        ValueError: it has another shape.
    """
    inputs = _tensor(inputs, "inputs")
    size = (None, None) if any_size else network.input_shape[:2]
    _check_shape(inputs, "inputs", network, size)
    if not inputs.dtype.is_floating:
        raise TypeError(
            f"inputs must be float32 in 0..1, not {inputs.dtype.name}; "
            "function.fit(images) returns it for images of any size"
        )
    return tf.cast(inputs, tf.float32)


def _tensor(values: Any, name: str) -> Tensor:
    if isinstance(values, list | tuple) and all(isinstance(value, np.ndarray) for value in values):
        # TensorFlow converts a list of uint8 arrays to int32.
        values = _stacked(values, name)
    try:
        return tf.convert_to_tensor(values)
    except Exception as error:  # of TensorFlow, or of a tensor of another library
        reason = f": {first_line(error)}" if hasattr(values, "__array__") else ""
        raise TypeError(
            f"{name} is a {type(values).__name__} that TensorFlow cannot convert to a tensor"
            f"{reason}; give an array or tensor [batch, height, width, channels]"
        ) from error


def _stacked(arrays: Sequence[npt.NDArray[Any]], name: str) -> npt.NDArray[Any]:
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise ValueError(
            f"{name} have the shapes {shapes[0]} and {shapes[1]}, but those of a batch have one; "
            "resize them, or give them one by one"
        )
    return np.stack(arrays)


def _check_shape(
    batch: Tensor,
    name: str,
    network: cfg.Network,
    size: Sequence[int | None] = (None, None),
) -> None:
    """Checks [batch, height, width, channels]; unknown axes of symbolic tensors match.

    Raises:
        ValueError: the shape differs from the network's, or an image has no pixels.
    """
    shape, channels = batch.shape, network.input_shape.channels
    if not shape.is_compatible_with([None, *size, channels]):
        advice = ""
        if shape.rank == 3:
            advice = f"; add the batch axis to a single image: {name}[None]"
        elif shape.rank == 4 and shape[1] == channels != shape[3]:
            advice = f"; channels come last: tf.transpose({name}, [0, 2, 3, 1])"
        rows, columns = size if size[0] else ("height", "width")
        raise ValueError(
            f"{network.source}: {name} have the shape {tuple(shape)}, but the network takes "
            f"[batch, {rows}, {columns}, {channels}]{advice}"
        )
    if shape.rank and shape[0] != 0 and 0 in shape[1:3]:
        raise ValueError(
            f"{network.source}: {name} of shape {tuple(shape)} are empty; check how they were cut "
            "out"
        )


def _check_dtype(images: Tensor) -> None:
    dtype = images.dtype
    if dtype == tf.string:
        raise TypeError(
            "images must be pixels, not strings; decode files with tf.io.decode_image, "
            "or use a Detector"
        )
    kind = "f" if dtype.is_floating else np.dtype(dtype.as_numpy_dtype).kind
    read.check_dtype(dtype.name, kind)


def to_float(images: Tensor) -> Tensor:
    """Returns images as float32; uint8 is scaled to 0..1."""
    if images.dtype == tf.uint8:
        return tf.cast(images, tf.float32) / 255.0
    return tf.cast(images, tf.float32)


def fit(
    images: Tensor, size: Size, *, letter_box: bool, resize: Resize = DetectionOptions.resize
) -> Tensor:
    """Resizes images to the network's input as Darknet does (image.c:1006 and 1399).

    Bilinear with aligned corner pixels; with `letter_box` the image keeps its proportions and is
    padded with 0.5.

    Args:
        images: [batch, height, width, channels], uint8, or float32 in 0..1.
        size: (height, width) of the input.
        letter_box: as in `[net]`.
        resize: `darknet`, or `opencv`: with half-pixel centers, uint8 rounded to uint8.

    Returns:
        [batch, *size, channels] float32 in 0..1.
    """
    integers = images.dtype == tf.uint8
    if not letter_box:
        whole = tf.stack(size)
        return operations.fit(tf.raw_ops, images, whole, integers=integers, resize=resize)
    inner = letter_box_size(tf.shape(images)[1:3], size)
    before = (tf.stack(size) - inner) // 2
    after = tf.stack(size) - inner - before
    sides = tf.stack([[0, 0], [before[0], after[0]], [before[1], after[1]], [0, 0]])
    return operations.fit(tf.raw_ops, images, inner, sides, integers=integers, resize=resize)
