"""Label files: where they are, and what is in them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from yolotf.errors import YolotfError
from yolotf.files import opening

_Path = str | os.PathLike[str]
Fork = Literal["alexeyab", "hank-ai"]
"""Whose Darknet an evaluation follows."""


class Truths(NamedTuple):
    """What a person saw in a picture."""

    classes: npt.NDArray[np.int64]
    """[N]."""
    boxes: npt.NDArray[np.float32]
    """[N, 4]: centre x, y, width, height relative to the picture, as in Darknet's label files."""


NO_TRUTHS = Truths(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))

_REPLACED = (
    ("/images/train2017/", "/labels/train2017/"),
    ("/images/val2017/", "/labels/val2017/"),
    ("/JPEGImages/", "/labels/"),
    ("/images/train2014/", "/labels/train2014/"),
    ("/images/val2014/", "/labels/val2014/"),
)
"""replace_image_to_label, utils.c; the first of each is replaced."""
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


def label_path(picture: _Path) -> Path:
    """Where Darknet looks for the labels of a picture (AlexeyAB src/utils.c:275).

    Darknet knows a few endings and reads a picture with any other as its own labels; here any
    ending is replaced, as in hank-ai's Darknet.
    """
    text = os.fspath(picture)
    for folder, labels in _REPLACED:
        text = text.replace(folder, labels, 1)
    text = text.strip(" \t")
    for ending in _ENDINGS:
        if text.endswith(ending):
            return Path(text[: -len(ending)] + ".txt")
    return Path(text).with_suffix(".txt")


def label_places(picture: _Path, like: Fork = "alexeyab") -> tuple[Path, ...]:
    """Where the labels of a picture may be, the likeliest first.

    Darknet's place; beside the picture; in `labels/` for a picture in `images/`, at any depth, as
    Ultralytics has it; in `labels/` beside the picture's folder or in it.

    Args:
        picture: its path.
        like: hank-ai's Darknet looks beside the picture first.
    """
    path = Path(picture)
    name = label_path(path.name).name
    places = [label_path(picture), path.with_name(name)]
    if like == "hank-ai":
        places.reverse()
    parts = path.parts[:-1]
    for at in range(len(parts) - 1, -1, -1):
        if parts[at].lower() == "images":
            places.append(Path(*parts[:at], "labels", *parts[at + 1 :], name))
            break
    places += [path.parent.parent / "labels" / name, path.parent / "labels" / name]
    return tuple(dict.fromkeys(places))


def find_labels(picture: _Path, like: Fork = "alexeyab") -> Path | None:
    """The label file of a picture; None if there is none."""
    places = label_places(picture, like)
    # A FIFO or a device is refused by whoever reads it, by name.
    return next((place for place in places if place.exists() and not place.is_dir()), None)


_PIXELS = 2.0
"""A relative number that no label has: boxes reach a little beyond a picture, not twice."""


class Labels(NamedTuple):
    """A label file."""

    truths: Truths
    polygons: int
    """Outlines, of which `truths` has the boxes around them."""


def read_labels(path: _Path, classes: int | None = None) -> Labels:
    """The labels in a file: `class x y width height`, as many times as it likes.

    Darknet reads numbers and no lines (read_boxes, data.c:168), so that a line may hold several
    boxes. A line of a class and three points or more is an outline as Ultralytics writes it, of
    which the box around it is taken, as Ultralytics does for a detector.

    Args:
        path: the file.
        classes: a class number from here on is no label; None: any will do.

    Raises:
        OSError: it cannot be read.
        YolotfError: a line is no label, or has pixels.
    """
    rows: list[list[float]] = []
    polygons = 0
    lines = opening.read_lines(path, most=opening.LIST_MOST, what="a file of labels")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        parts = line.split()
        found = list(_boxes(parts))
        is_outline = not found and len(parts) >= 7 and len(parts) % 2 == 1
        if is_outline:
            found = list(_around(parts))
            polygons += 1
        if not found or not all(_is_label(row, classes) for row in found):
            raise YolotfError(
                f"{os.fspath(path)}: line {number} is not a label{_quoted(line)}; "
                f"{_wanted(classes)}{_hint(parts)}",
                path=os.fspath(path),
                line=number,
            )
        if any(abs(value) >= _PIXELS for row in found for value in row[1:]):
            raise YolotfError(
                f"{os.fspath(path)}: line {number} is in pixels{_quoted(line)}; divide x and width "
                "by the picture's width, y and height by its height",
                path=os.fspath(path),
                line=number,
            )
        rows += found
    table = np.array(rows, np.float64).reshape(-1, 5)
    truths = Truths(table[:, 0].astype(np.int64), table[:, 1:].astype(np.float32))
    return Labels(truths, polygons)


def _boxes(parts: Sequence[str]) -> Iterator[list[float]]:
    """The boxes of a line; none where it is not made of boxes."""
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


def _around(parts: Sequence[str]) -> Iterator[list[float]]:
    """The box around an outline: class, then x and y of each point."""
    try:
        class_id, *values = map(float, parts)
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


def _wanted(classes: int | None) -> str:
    limit = "" if classes is None else f" below {classes}"
    return (
        f"it has a class number{limit}, then centre x, y, width and height relative to the picture"
    )


def _hint(parts: Sequence[str]) -> str:
    return "; a sixth number may be a score: leave it out" if len(parts) == 6 else ""


def _quoted(line: str) -> str:
    """A line of numbers; any other could be of a file that is nobody's business."""
    text = line.strip()[:60]
    return f": {text!r}" if re.fullmatch(r"[-+.\deE\s]+", text) else ""
