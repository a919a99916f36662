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
from yolotf.images.read import read_picture
from yolotf.inference.detector import Detector
from yolotf.progress import Progress, as_progress
from yolotf.runtime.decoding import Decoder
from yolotf.runtime.options import ServingOptions

MAX_BOXES = 2000
"""Boxes per image; only a network that outputs noise detects more."""
_UNREADABLE = (OSError, ValueError, MissingPackageError)
"""Errors that concern a single image."""


@renamed(batch="batch_size")
def detect_all(
    detector: Callable[[list[npt.NDArray[Any]]], list[Detections]],
    data: DataSet,
    *,
    channels: int = 3,
    batch_size: int = ServingOptions.batch_size,
    max_pixels: int | None = ServingOptions.max_pixels,
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
    results: list[tuple[Detections, tuple[int, int]]] = []
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), "yolotf-read") as pool:

        def submit(start: int) -> list[Future[npt.NDArray[Any]]]:
            return [
                pool.submit(read_picture, image.path, channels, max_pixels=max_pixels)
                for image in data.images[start : start + batch_size]
            ]

        waiting = submit(0)
        try:
            for start in range(0, len(data.images), batch_size):
                images = data.images[start : start + batch_size]
                batch: list[npt.NDArray[Any] | None] = []
                for image, future in zip(images, waiting, strict=True):
                    error = future.exception()
                    if unread is not None and isinstance(error, _UNREADABLE):
                        unread(image, error)
                        batch.append(None)
                    else:
                        batch.append(future.result())
                waiting = submit(start + batch_size)
                arrays = [array for array in batch if array is not None]
                detections = iter(detector(arrays) if arrays else [])
                for array in batch:
                    if array is None:
                        results.append((Detections.of([], [], []), (0, 0)))
                    else:
                        height, width = array.shape[:2]
                        results.append((next(detections), (width, height)))
                progress("detecting", start + len(batch), len(data.images))
        finally:
            for future in waiting:
                future.cancel()
    return results


class EvaluationDetector(Detector):
    """A detector whose detections are in the order of `darknet detector map`."""

    def __init__(self, *arguments: Any, like: Fork, **options: Any) -> None:
        """See `Detector`; `like` is the fork of Darknet whose order to use."""
        super().__init__(*arguments, **options)
        suppression = self._detection_options.suppression(self.network)
        self._decoder = Decoder(self.network, suppression, order=like)
