"""Detections as others' files: Darknet's labels and COCO's results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from yolotf.darknet.coco import COCO_NAMES
from yolotf.files import atomic
from yolotf.files.json import to_json
from yolotf.files.sources import StrPath
from yolotf.images.detections import Detections

COCO_IDS = tuple(
    number
    for number in range(1, 91)
    if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # never used
)
"""COCO's category of each of the 80 classes (`coco_ids`, detector.c)."""


def write_labels(
    path: Path, found: Detections, size: tuple[int, int], *, overwrite: bool = False
) -> None:
    """Writes Darknet's labels, as `darknet detector test -save_labels` does; see `to_yolo`.

    Args:
        path: the file.
        found: the detections.
        size: (width, height) of the picture.
        overwrite: whether a file that is there is replaced.

    Raises:
        OSError: it cannot be written, or is not to be replaced.
    """
    atomic.write(path, found.to_yolo(size[::-1]).encode("ascii"), overwrite=overwrite)


class CocoResults:
    """A list of COCO results.

    `image_id` is the number at the end of a picture's name, as in COCO_val2014_000000000042.jpg,
    or the name where it has none.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """COCO's own `names` get COCO's categories, others are counted from 1."""
        coco = tuple(names) == COCO_NAMES
        self._ids = COCO_IDS if coco else None
        self._results: list[dict[str, Any]] = []

    def add(self, path: str, frame: int | None, found: Detections, size: tuple[int, int]) -> None:
        """The detections of a picture or of a video's frame."""
        stem = Path(path).stem
        digits = re.search(r"(\d{1,18})$", stem)
        image: int | str = int(digits[1]) if digits and frame is None else stem
        if frame is not None:
            image = f"{stem}-{frame}"
        self._results += found.to_coco(image, size[::-1], category_ids=self._ids)

    def write(
        self, path: StrPath, *, overwrite: bool = False, inputs: Iterable[StrPath] = ()
    ) -> None:
        """Writes them; see `write_labels`. No file of `inputs` is replaced."""
        content = to_json(self._results).encode("ascii")
        atomic.write(path, content, overwrite=overwrite, inputs=inputs)
