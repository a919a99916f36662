"""Runs a detector over a data set, with detections in Darknet's order."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy.typing as npt

from yolotf._public import renamed
from yolotf.errors import MissingPackageError
from yolotf.evaluation.data_set import AnnotatedImage, DataSet
from yolotf.evaluation.labels import Fork
from yolotf.images.detections import Detections
from yolotf.images.read import MAX_PIXELS, read_picture
from yolotf.inference.detector import Detector
from yolotf.progress import Progress, as_progress
from yolotf.runtime.decoding import Decoder

MAX_BOXES = 2000
"""Per image: more than a network detects, unless it outputs noise."""
_UNREADABLE = (OSError, ValueError, MissingPackageError)
"""Errors that concern a single image, not all of them."""


@renamed(batch="batch_size")
def detect_all(
    detector: Callable[[list[npt.NDArray[Any]]], list[Detections]],
    data: DataSet,
    *,
    channels: int = 3,
    batch_size: int = 8,
    max_pixels: int | None = MAX_PIXELS,
    progress: Progress | None = None,
    unread: Callable[[AnnotatedImage, Exception], None] | None = None,
) -> list[tuple[Detections, tuple[int, int]]]:
    """Returns the detections of every image, and its (width, height).

    Images are read in other threads while the network runs.

    Args:
        detector: returns the detections of each of a list of images.
        data: the images.
        channels: input channels of the network.
        batch_size: images per batch of the network.
        max_pixels: larger images are not decoded.
        progress: called as `progress("detecting", images_done, images_in_total)`.
        unread: called with each unreadable image, which then has no detections and the size
            (0, 0); None: the error is raised.

    Raises:
        OSError: an image cannot be read.
    """
    progress = as_progress(progress, "count")
    progress("detecting", 0, len(data.images))
    found: list[tuple[Detections, tuple[int, int]]] = []
    starts = range(0, len(data.images), batch_size)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), "yolotf-read") as pool:

        def submit(start: int) -> list[Future[npt.NDArray[Any]]]:
            wanted = data.images[start : start + batch_size]
            return [
                pool.submit(read_picture, one.path, channels, max_pixels=max_pixels)
                for one in wanted
            ]

        waiting = submit(0)
        try:
            for start in starts:
                arrays: dict[int, npt.NDArray[Any]] = {}
                for place, future in enumerate(waiting):
                    error = future.exception()
                    if unread is not None and isinstance(error, _UNREADABLE):
                        unread(data.images[start + place], error)
                    else:
                        arrays[place] = future.result()
                count = len(waiting)
                waiting = submit(start + batch_size)
                answers = iter(detector([*arrays.values()]) if arrays else [])
                for place in range(count):
                    if place in arrays:
                        height, width = arrays[place].shape[:2]
                        found.append((next(answers), (width, height)))
                    else:
                        found.append((Detections.of([], [], []), (0, 0)))
                progress("detecting", start + count, len(data.images))
        finally:
            for future in waiting:
                future.cancel()
    return found


class EvaluationDetector(Detector):
    """A detector that returns detections in the order in which a Darknet counts them."""

    def __init__(self, *arguments: Any, like: Fork, **options: Any) -> None:
        """See `Detector`; `like` is the Darknet."""
        super().__init__(*arguments, **options)
        suppression = self._detection_options.suppression(self.network)
        self._decoder = Decoder(self.network, suppression, order=like)
