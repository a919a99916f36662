"""Resizing of images to a network's input, in TensorFlow operations.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

import tensorflow as tf

from yolotf.darknet.detection_options import DetectionOptions, Resize
from yolotf.graphs import operations
from yolotf.graphs.letter_box import Size, letter_box_size
from yolotf.interfaces import Tensor as Tensor


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
