"""Pictures that show a quantizer what numbers go through the network."""

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
    """The files of an `int8` argument: pictures, and folders with pictures in them.

    Raises:
        OSError: there is no such file or folder.
        YolotfError: a folder has no picture.
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
                f"{path}: no picture in this folder; int8 needs some of what the network will see",
                path=os.fspath(path),
            )
        found += inside
    return tuple(found)


def batches(source: Source, paths: Sequence[StrPath], batch: int) -> Iterator[Any]:
    """[batch, height, width, channels], as the network sees them; the last one is filled up."""
    paths = [*paths, *(paths[index % len(paths)] for index in range(-len(paths) % batch))]
    for start in range(0, len(paths), batch):
        yield np.concatenate([_fitted(source, one) for one in paths[start : start + batch]])


def _fitted(source: Source, path: StrPath) -> Any:
    """[1, height, width, channels] float32 in 0..1."""
    import tensorflow as tf  # not before a format is asked for

    from yolotf.inference.image_operations import fit  # imports TensorFlow

    network = source.network
    height, width, channels = network.input_shape
    pixels = np.asarray(read_picture(path, channels, max_pixels=source.options.max_pixels))[None]
    fitted = fit(tf.constant(pixels), (height, width), letter_box=network.letter_box)
    return np.asarray(fitted, np.float32)
