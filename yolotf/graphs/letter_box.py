"""Boxes relative to the input of a network and to the image, in TensorFlow operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf

from yolotf.interfaces import Tensor

Size: TypeAlias = Sequence[int] | Tensor
"""`(height, width)`: two ints, or two scalar int tensors."""


def letter_box_size(image_sizes: Tensor, input_size: Size) -> Tensor:
    """Returns the size of the image inside the letter box, [..., 2] int32 (image.c:1006).

    The side that is longer relative to the input fills it; the other is rounded down, but is at
    least 1. Sizes are (height, width).
    """
    sizes = tf.cast(image_sizes, tf.int32)
    height, width = sizes[..., 0], sizes[..., 1]
    box_height, box_width = _scalar(input_size[0]), _scalar(input_size[1])
    wide = tf.cast(box_width, tf.float32) / tf.cast(width, tf.float32) < tf.cast(
        box_height, tf.float32
    ) / tf.cast(height, tf.float32)
    return tf.stack(
        [
            tf.where(wide, tf.maximum(1, height * box_width // width), box_height),
            tf.where(wide, box_width, tf.maximum(1, width * box_height // height)),
        ],
        -1,
    )


def undo_letter_box(boxes: Tensor, image_sizes: Tensor, input_size: Size) -> Tensor:
    """Returns boxes relative to the image for boxes relative to the input (yolo_layer.c:939).

    Args:
        boxes: [..., 4].
        image_sizes: [..., 2] int, (height, width) of each box's image.
        input_size: (height, width) of the network's input.
    """
    # (width, height), the order of the boxes.
    full = tf.cast(tf.stack([_scalar(input_size[1]), _scalar(input_size[0])]), tf.float32)
    inner = tf.cast(tf.reverse(letter_box_size(image_sizes, input_size), [-1]), tf.float32)
    ratio = inner / full
    centre = (boxes[..., :2] - (full - inner) / 2.0 / full) / ratio
    return tf.concat([centre, boxes[..., 2:] / ratio], -1)


def to_corners(boxes: Tensor, image_sizes: Tensor) -> Tensor:
    """Converts relative center boxes to left, top, right, bottom in pixels, without clipping.

    A box whose width or height is infinite or NaN extends from edge to edge of the image.

    Args:
        boxes: [..., 4].
        image_sizes: [..., 2], (height, width), broadcast against the boxes.
    """
    scale = tf.cast(tf.reverse(tf.convert_to_tensor(image_sizes), [-1]), tf.float32)
    centre, half = boxes[..., :2] * scale, boxes[..., 2:] * scale / 2.0
    low, high = centre - half, centre + half
    return tf.concat(
        [
            tf.where(tf.math.is_finite(low), low, 0.0),
            tf.where(tf.math.is_finite(high), high, scale),
        ],
        -1,
    )


def _scalar(value: int | Tensor) -> Tensor:
    return tf.cast(value, tf.int32)
