"""What a detector finds in the pictures of a data set, in the order Darknet looks at it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotf.errors import MissingPackageError
from yolotf.evaluation.data_set import DataSet, LabelledPicture
from yolotf.images.detections import Detections
from yolotf.images.read import MAX_PIXELS, read_picture
from yolotf.inference.detector import Detector
from yolotf.runtime.decoding import Decoder, Found

MAX_BOXES = 2000
"""Of a picture: more than a network finds, but for one that finds nothing but noise."""
_NONE_EXCLUDED = float(np.nextafter(np.float32(1), np.float32(0)))
"""An overlap above which no two boxes of a network are."""
_ALL_BOXES = 1 << 40
_UNREADABLE = (OSError, ValueError, MissingPackageError)
"""What is wrong with one picture, and not with all of them."""


def detect_all(
    detector: Callable[[list[Any]], list[Detections]],
    data: DataSet,
    *,
    channels: int = 3,
    batch: int = 8,
    max_pixels: int | None = MAX_PIXELS,
    progress: Callable[[int], None] = lambda count: None,
    unread: Callable[[LabelledPicture, Exception], None] | None = None,
) -> list[tuple[Detections, tuple[int, int]]]:
    """What a detector finds in every picture, and its (width, height).

    Pictures are read in other threads while the network runs.

    Args:
        detector: from a list of images to the detections of each.
        data: the pictures.
        channels: of the network.
        batch: pictures that go through the network at once.
        max_pixels: a picture of more is not read.
        progress: told how many pictures more are done.
        unread: told of each picture that cannot be read, in which nothing is found then, and whose
            size is (0, 0); None: the error is raised.

    Raises:
        OSError: a picture cannot be read.
    """
    found: list[tuple[Detections, tuple[int, int]]] = []
    starts = range(0, len(data.pictures), batch)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), "yolotf-read") as pool:

        def submit(start: int) -> list[Future[npt.NDArray[Any]]]:
            wanted = data.pictures[start : start + batch]
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
                        unread(data.pictures[start + place], error)
                    else:
                        arrays[place] = future.result()
                count = len(waiting)
                waiting = submit(start + batch)
                answers = iter(detector([*arrays.values()]) if arrays else [])
                for place in range(count):
                    if place in arrays:
                        height, width = arrays[place].shape[:2]
                        found.append((next(answers), (width, height)))
                    else:
                        found.append((Detections.of([], [], []), (0, 0)))
                progress(count)
        finally:
            for future in waiting:
                future.cancel()
    return found


class DarknetOrder(Decoder):
    """A decoder that answers detections in the order Darknet goes through them."""

    def __call__(
        self,
        raws: Sequence[npt.NDArray[np.float32]],
        input_size: tuple[int, int],
        image_sizes: npt.ArrayLike,
        **options: Any,
    ) -> list[Found]:
        """See `Decoder`; another order of rows."""
        kept = super().__call__(raws, input_size, image_sizes, **options)
        everything = {**options, "iou": _NONE_EXCLUDED, "max_boxes": _ALL_BOXES}
        before = super().__call__(raws, input_size, image_sizes, **everything)
        orders = map(darknet_order, kept, before)
        return [
            Found(one.boxes[order], one.scores[order], one.classes[order])
            for one, order in zip(kept, orders, strict=True)
        ]


class EvaluationDetector(Detector):
    """A detector whose answers are in Darknet's order, not the best first."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """See `Detector`."""
        super().__init__(*arguments, **options)
        self._decoder = DarknetOrder(self.network, self._wanted.suppression(self.network))


def darknet_order(kept: Found, before: Found) -> list[int]:
    """Where in `kept` the detections are that Darknet looks at first, second, ...

    Its suppression sorts the boxes once a class by their scores, the last class last, so that it
    decides, then the one before (do_nms_sort, box.c:812, whose sort keeps the order of equals). The
    scores are those from before the suppression of that class. Of a box, classes come by number.

    Args:
        kept: what is left of a picture.
        before: all candidates.
    """
    scores: dict[bytes, list[tuple[int, float]]] = {}
    columns = (before.boxes, before.classes.tolist(), before.scores.tolist())
    for box, class_id, value in zip(*columns, strict=True):
        scores.setdefault(box.tobytes(), []).append((-class_id, -value))
    # Like vectors of all classes' scores, the last class first: what is absent is 0, the least.
    ranks = {box: [*sorted(pairs), (1, 0.0)] for box, pairs in scores.items()}
    classes = kept.classes.tolist()
    keys = [(ranks[box.tobytes()], classes[index]) for index, box in enumerate(kept.boxes)]
    return sorted(range(len(keys)), key=keys.__getitem__)
