"""Calibration images, from which a quantizer learns the range of each activation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolotf.errors import YolotfError
from yolotf.files.sources import StrPath
from yolotf.formats.request import Source
from yolotf.images.endings import IMAGES
from yolotf.images.read import read_picture


def pictures(given: StrPath | Iterable[StrPath]) -> tuple[Path, ...]:
    """Returns the image files that an `int8` argument names; folders contribute their images.

    Raises:
        OSError: a file or folder does not exist.
        YolotfError: a folder contains no image.
    """
    found: list[Path] = []
    for one in [given] if isinstance(given, str | os.PathLike) else given:
        path = Path(one)
        path.stat()
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(each for each in path.iterdir() if each.suffix.lower() in IMAGES)
        if not inside:
            raise YolotfError(
                f"{path}: no image in this folder; int8 needs some of what the network will see",
                path=os.fspath(path),
            )
        found += inside
    return tuple(found)


def batches(source: Source, paths: Sequence[StrPath], batch: int) -> Iterator[Any]:
    """Yields network inputs, [batch, height, width, channels]; the last batch is padded."""
    paths = [*paths, *(paths[index % len(paths)] for index in range(-len(paths) % batch))]
    for start in range(0, len(paths), batch):
        yield np.concatenate([_fitted(source, one) for one in paths[start : start + batch]])


def _fitted(source: Source, path: StrPath) -> Any:
    """Returns the image resized to the input, [1, height, width, channels] float32 in 0..1."""
    import tensorflow as tf  # imported lazily: needed only while converting

    from yolotf.inference.image_operations import fit  # imports TensorFlow

    network = source.network
    height, width, channels = network.input_shape
    pixels = np.asarray(read_picture(path, channels, max_pixels=source.options.max_pixels))[None]
    fitted = fit(tf.constant(pixels), (height, width), letter_box=network.letter_box)
    return np.asarray(fitted, np.float32)
