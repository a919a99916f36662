"""Images brought to a network's input, in TensorFlow operations.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from yolotf.darknet.detection_options import DetectionOptions, Resize
from yolotf.graphs import decode, operations

Tensor = Any


def to_float(images: Tensor) -> Tensor:
    """uint8 to float32 in 0..1; floats as they are."""
    if images.dtype == tf.uint8:
        return tf.cast(images, tf.float32) / 255.0
    return tf.cast(images, tf.float32)


def fit(
    images: Tensor, size: decode.Size, *, letter_box: bool, resize: Resize = DetectionOptions.resize
) -> Tensor:
    """Resizes pictures to the network's input as Darknet does (image.c:1006 and 1399).

    Bilinear, the corners of picture and input on each other; with `letter_box` the picture keeps
    its proportions on a ground of 0.5.

    Args:
        images: [batch, height, width, channels], uint8, or float32 in 0..1.
        size: (height, width) of the input.
        letter_box: as in `[net]`.
        resize: `darknet`, or `opencv`: the centres of pixels on each other, bytes rounded to bytes.

    Returns:
        [batch, *size, channels] float32 in 0..1.
    """
    integers = images.dtype == tf.uint8
    if not letter_box:
        whole = tf.stack(size)
        return operations.fit(tf.raw_ops, images, whole, integers=integers, resize=resize)
    inner = decode.letter_box_size(tf.shape(images)[1:3], size)
    before = (tf.stack(size) - inner) // 2
    after = tf.stack(size) - inner - before
    sides = tf.stack([[0, 0], [before[0], after[0]], [before[1], after[1]], [0, 0]])
    return operations.fit(tf.raw_ops, images, inner, sides, integers=integers, resize=resize)
