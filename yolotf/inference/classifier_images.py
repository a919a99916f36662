"""Preparation of images for classifiers: center crop, letter box or stretch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from yolotf.darknet import cfg
from yolotf.runtime import resize as runtime_resize

Resize = Literal["crop", "letter_box", "stretch", "darknet", "opencv"]
"""How an image becomes a classifier's input.

* `crop`: scales the shorter side to the network's width and crops the center: `darknet classifier
  predict` and `valid` of AlexeyAB (classifier.c, `resize_min` and `crop_image`).
* `letter_box`: scales the whole image, keeping its proportions, and pads it with 0.5: pjreddie's
  `darknet classifier predict` and `darknet classify` (examples/classifier.c, `letterbox_image`).
* `stretch`: scales the whole image without keeping its proportions: AlexeyAB's
  `network_predict_image` (network.c, `resize_image`), which darknet.py calls, and most programs in
  other frameworks.
* `darknet`: a synonym of `crop`, as in `Detector`; `opencv`: the same crop, scaled as `cv2.resize`
  does, which both forks use in training.
"""

_Floats = npt.NDArray[np.float32]


def check_resize(resize: object) -> None:
    """Checks the name of a preparation.

    Raises:
        ValueError: it is not a `Resize`.
    """
    choices = get_args(Resize)
    if resize not in choices:
        raise ValueError(f"resize={resize!r} must be one of {', '.join(map(repr, choices))}")


def prepare_all(
    images: Sequence[npt.NDArray[Any]], shape: cfg.Shape, resize: Resize, *, threads: int = 1
) -> _Floats:
    """Prepares images of any sizes as a network's input.

    Args:
        images: [height, width, channels], uint8, or float32 in 0..1.
        shape: of the input.
        resize: the kind of preparation.
        threads: number of threads.

    Returns:
        [images, height, width, channels] float32 in 0..1.
    """
    if resize in ("crop", "darknet"):
        return np.stack([prepare(image, shape.height, shape.width) for image in images])
    if resize == "opencv":
        return np.stack([_prepared_as_opencv(image, shape, threads) for image in images])
    return runtime_resize.fit(images, shape, letter_box=resize == "letter_box", threads=threads)


def prepare(pixels: npt.NDArray[Any], height: int, width: int) -> _Floats:
    """Prepares an image as AlexeyAB's Darknet does (classifier.c, predict_classifier).

    Scales the shorter side to the network's width, bilinear with aligned corner pixels, and crops
    the center. Only the cropped pixels are computed.

    Args:
        pixels: [rows, columns, channels], uint8, or float32 in 0..1.
        height: of the network's input.
        width: of the network's input.

    Returns:
        [height, width, channels] float32 in 0..1.
    """
    scale = np.float32(255 if pixels.dtype == np.uint8 else 1)
    rows, columns = pixels.shape[:2]
    new_rows, new_columns = _shorter_side_to(width, rows, columns)
    cropped = _scaled_and_cropped(pixels.astype(np.float32) / scale, 1, new_columns, width)
    return _scaled_and_cropped(cropped, 0, new_rows, height)


def _prepared_as_opencv(image: npt.NDArray[Any], shape: cfg.Shape, threads: int) -> _Floats:
    """`prepare` with OpenCV's bilinear interpolation."""
    rows, columns = _shorter_side_to(shape.width, *image.shape[:2])
    uncropped = cfg.Shape(rows, columns, shape.channels)
    values: _Floats = runtime_resize.fit(
        [image], uncropped, letter_box=False, threads=threads, resize="opencv"
    )[0]
    values = values.take(_center_pixels(rows, shape.height), 0)
    return values.take(_center_pixels(columns, shape.width), 1)


def _shorter_side_to(side: int, rows: int, columns: int) -> tuple[int, int]:
    """Returns the scaled (rows, columns), as resize_min of image.c."""
    if columns < rows:
        return rows * side // columns, side
    return side, columns * side // rows


def _center_pixels(resized: int, wanted: int) -> npt.NDArray[np.int64]:
    """Returns the indices of the center `wanted` of `resized` pixels, clamped to the edges."""
    start = int((resized - wanted) / 2)  # towards zero, as in C
    return np.clip(np.arange(start, start + wanted), 0, resized - 1)


def _scaled_and_cropped(values: _Floats, axis: int, resized: int, wanted: int) -> _Floats:
    """Scales an axis to `resized` and returns its center `wanted`, clamped to the edges."""
    original = values.shape[axis]
    pixels = _center_pixels(resized, wanted)
    if resized == original:
        return values.take(pixels, axis)
    step = np.float32((original - 1) / (resized - 1)) if resized > 1 else np.float32(0)
    positions = pixels.astype(np.float32) * step
    low = np.minimum(positions.astype(np.int64), original - 1)
    weight = (positions - low).astype(np.float32)
    low = np.where(pixels == resized - 1, original - 1, low)
    weight = np.where(pixels == resized - 1, np.float32(0), weight)
    high = np.minimum(low + 1, original - 1)
    shape = [1] * values.ndim
    shape[axis] = wanted
    weight = weight.reshape(shape)
    blended: _Floats = (1 - weight) * values.take(low, axis) + weight * values.take(high, axis)
    return blended
