"""Finds and reads label files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from yolotf._public import renamed
from yolotf.errors import YolotfError
from yolotf.files import opening
from yolotf.files.paths import StrPath

Fork = Literal["alexeyab", "hank-ai"]
"""The fork of Darknet that an evaluation follows."""


class Truths(NamedTuple):
    """The ground truth of an image."""

    classes: npt.NDArray[np.int64]
    """[N]."""
    boxes: npt.NDArray[np.float32]
    """[N, 4]: centre x, y, width, height relative to the image, as in Darknet's label files."""


NO_TRUTHS = Truths(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))

_REPLACED = (
    ("/images/train2017/", "/labels/train2017/"),
    ("/images/val2017/", "/labels/val2017/"),
    ("/JPEGImages/", "/labels/"),
    ("/images/train2014/", "/labels/train2014/"),
    ("/images/val2014/", "/labels/val2014/"),
)
"""Folder of images -> folder of labels (replace_image_to_label, utils.c).

Only the first match of each is replaced.
"""
_ENDINGS = (
    ".jpg",
    ".JPG",
    ".jpeg",
    ".JPEG",
    ".png",
    ".PNG",
    ".bmp",
    ".BMP",
    ".ppm",
    ".PPM",
    ".tiff",
    ".TIFF",
)


@renamed(picture="image")
def label_path(image: StrPath) -> Path:
    """Returns where Darknet looks for the labels of an image (AlexeyAB src/utils.c:275).

    Darknet replaces only the extensions that it knows, and reads any other image as if it were its
    own labels. Here every extension is replaced, as in hank-ai's Darknet.
    """
    text = os.fspath(image)
    for folder, labels in _REPLACED:
        text = text.replace(folder, labels, 1)
    text = text.strip(" \t")
    for ending in _ENDINGS:
        if text.endswith(ending):
            return Path(text[: -len(ending)] + ".txt")
    return Path(text).with_suffix(".txt")


@renamed(picture="image")
def label_places(image: StrPath, like: Fork = "alexeyab") -> tuple[Path, ...]:
    """Returns the paths where an image's labels may be, the most likely first.

    These are the path that Darknet reads; a file beside the image; for an image anywhere below
    `images/`, the same path below `labels/`, as in Ultralytics; `labels/` beside the image's folder
    and in it.

    Args:
        image: path of the image.
        like: with `hank-ai`, a file beside the image comes first, as in hank-ai's Darknet.
    """
    path = Path(image)
    name = label_path(path.name).name
    places = [label_path(image), path.with_name(name)]
    if like == "hank-ai":
        places.reverse()
    parts = path.parts[:-1]
    for depth in range(len(parts) - 1, -1, -1):
        if parts[depth].lower() == "images":
            places.append(Path(*parts[:depth], "labels", *parts[depth + 1 :], name))
            break
    places += [path.parent.parent / "labels" / name, path.parent / "labels" / name]
    return tuple(dict.fromkeys(places))


@renamed(picture="image")
def find_labels(image: StrPath, like: Fork = "alexeyab") -> Path | None:
    """Returns the label file of an image; None if there is none."""
    places = label_places(image, like)
    # A FIFO or a device is returned, too: opening it raises an error with its name.
    return next((place for place in places if place.exists() and not place.is_dir()), None)


MAX_LABELS_BYTES = 16 << 20
"""Maximum bytes of a label file."""
MAX_LABELS = 100_000
"""Maximum boxes of an image; data sets of crowds have up to 13,000. Scoring an image takes time in
proportion to their number times that of the detections."""
_PIXELS = 2.0
"""From here on a coordinate is in pixels: a box may exceed its image a little, but not twofold."""


class Labels(NamedTuple):
    """The content of a label file."""

    truths: Truths
    polygons: int
    """Number of outlines; `truths` has their bounding boxes."""


def read_labels(path: StrPath, classes: int | None = None) -> Labels:
    """Reads the labels in a file: any number of `class x y width height`.

    Darknet reads numbers, not lines (read_boxes, data.c:168), so a line may hold several boxes.
    A class followed by three or more points is an outline in Ultralytics' format; its bounding box
    is used, as Ultralytics does for a detector.

    Args:
        path: the file.
        classes: number of classes, which class numbers must be below; None: no limit.

    Raises:
        OSError: the file cannot be read.
        YolotfError: a line is not a label, or is in pixels.
    """
    rows: list[list[float]] = []
    polygons = 0
    lines = opening.read_lines(path, max_bytes=MAX_LABELS_BYTES, kind="a file of labels")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        parts = line.split()
        boxes = list(_boxes(parts))
        is_outline = not boxes and len(parts) >= 7 and len(parts) % 2 == 1
        if is_outline:
            boxes = list(_bounding_box(parts))
            polygons += 1
        if not boxes or not all(_is_label(box, classes) for box in boxes):
            raise YolotfError(
                f"{os.fspath(path)}: line {number} is not a label{_quoted(line)}; "
                f"{_expected(classes)}{_hint(parts)}",
                path=os.fspath(path),
                line=number,
            )
        if any(abs(value) >= _PIXELS for box in boxes for value in box[1:]):
            raise YolotfError(
                f"{os.fspath(path)}: line {number} is in pixels{_quoted(line)}; divide x and width "
                "by the image's width, y and height by its height",
                path=os.fspath(path),
                line=number,
            )
        rows += boxes
        if len(rows) > MAX_LABELS:
            raise YolotfError(
                f"{os.fspath(path)}: more than {MAX_LABELS:,} labels, at line {number}; an image "
                "has fewer, so this is not its label file",
                path=os.fspath(path),
                line=number,
            )
    table = np.array(rows, np.float64).reshape(-1, 5)
    truths = Truths(table[:, 0].astype(np.int64), table[:, 1:].astype(np.float32))
    return Labels(truths, polygons)


def _boxes(parts: Sequence[str]) -> Iterator[list[float]]:
    """Yields the boxes of a line, with their classes; nothing if it does not consist of boxes."""
    several = len(parts) > 5
    if not parts or len(parts) % 5:
        return
    if several and not all(re.fullmatch(r"\d+", part) for part in parts[::5]):
        return
    try:
        values = [float(part) for part in parts]
    except ValueError:
        return
    for start in range(0, len(values), 5):
        yield values[start : start + 5]


def _bounding_box(outline: Sequence[str]) -> Iterator[list[float]]:
    """Yields the class and bounding box of an outline: class, then x and y of each point."""
    try:
        class_id, *values = map(float, outline)
    except ValueError:
        return
    xs, ys = values[::2], values[1::2]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    yield [class_id, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def _is_label(row: Sequence[float], classes: int | None) -> bool:
    class_id, *box = row
    if not all(map(math.isfinite, row)) or class_id != int(class_id) or class_id < 0:
        return False
    return box[2] >= 0 and box[3] >= 0 and (classes is None or class_id < classes)


def _expected(classes: int | None) -> str:
    limit = "" if classes is None else f" below {classes}"
    return (
        f"a label has a class number{limit}, then centre x, y, width and height relative to the "
        "image"
    )


def _hint(parts: Sequence[str]) -> str:
    return "; a sixth number may be a score: leave it out" if len(parts) == 6 else ""


def _quoted(line: str) -> str:
    """Quotes a line of numbers; any other line may be from an unrelated, private file."""
    text = line.strip()[:60]
    return f": {text!r}" if re.fullmatch(r"[-+.\deE\s]+", text) else ""
