"""Calibration images, from which a quantizer learns the range of each activation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolotf.errors import YolotfError
from yolotf.files.paths import StrPath
from yolotf.formats.request import ConversionInput
from yolotf.images.endings import IMAGES
from yolotf.images.read import read_picture


def image_files(images: StrPath | Iterable[StrPath]) -> tuple[Path, ...]:
    """Returns the image files that an `int8` argument names, those in its folders included.

    Raises:
        OSError: a file or folder does not exist.
        YolotfError: a folder contains no image.
    """
    files: list[Path] = []
    for path in map(Path, [images] if isinstance(images, str | os.PathLike) else images):
        path.stat()
        if not path.is_dir():
            files.append(path)
            continue
        folder_files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES)
        if not folder_files:
            raise YolotfError(
                f"{path}: the folder contains no image; int8 needs images like those that the "
                "network will see",
                path=os.fspath(path),
            )
        files += folder_files
    return tuple(files)


def batches(
    conversion: ConversionInput, paths: Sequence[StrPath], batch_size: int
) -> Iterator[Any]:
    """Yields network inputs, [batch, height, width, channels]; the last batch is padded."""
    paths = [*paths, *(paths[index % len(paths)] for index in range(-len(paths) % batch_size))]
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        yield np.concatenate([_resized(conversion, path) for path in batch])


def _resized(conversion: ConversionInput, path: StrPath) -> Any:
    """Returns the image resized to the input, [1, height, width, channels] float32 in 0..1."""
    import tensorflow as tf  # imported lazily: needed only while converting

    from yolotf.inference.image_operations import fit  # imports TensorFlow

    network = conversion.network
    height, width, channels = network.input_shape
    pixels = np.asarray(read_picture(path, channels, max_pixels=conversion.options.max_pixels))[
        None
    ]
    resized = fit(tf.constant(pixels), (height, width), letter_box=network.letter_box)
    return np.asarray(resized, np.float32)
