"""Labelled pictures, and Darknet's files of them: data file, list, labels."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yolotf._public import public
from yolotf.errors import YolotfError
from yolotf.files import opening

_Path = str | os.PathLike[str]
_Floats = npt.NDArray[np.float32]
_Integers = npt.NDArray[np.int64]


class Truths(NamedTuple):
    """What a person saw in a picture."""

    classes: _Integers
    """[N]."""
    boxes: _Floats
    """[N, 4]: centre x, y, width, height relative to the picture, as in Darknet's label files."""


@dataclass(frozen=True, eq=False)
class LabelledPicture:
    """One picture of a data set.

    Attributes:
        path: the picture.
        truths: its labels.
        difficult: labels that count neither as missed nor as found.
        coco_id: its number in a COCO file.
    """

    path: Path
    truths: Truths
    difficult: Truths
    coco_id: int | None = None


@public
@dataclass(frozen=True, eq=False)
class DataSet:
    """Labelled pictures.

    Attributes:
        source: the file that lists them.
        pictures: in its order.
        names: of the classes; empty if it says none.
        classes: how many classes it has; None if it does not say.
        unlabelled: pictures without a label file, which count as empty, as in Darknet.
        coco: the contents of a COCO file; None for Darknet's.
        categories: COCO's number of each class.
    """

    source: str
    pictures: tuple[LabelledPicture, ...]
    names: tuple[str, ...] = ()
    classes: int | None = None
    unlabelled: tuple[Path, ...] = ()
    coco: Mapping[str, Any] | None = None
    categories: tuple[int, ...] = ()


_REPLACED = (
    ("/images/train2017/", "/labels/train2017/"),
    ("/images/val2017/", "/labels/val2017/"),
    ("/JPEGImages/", "/labels/"),
    ("/images/train2014/", "/labels/train2014/"),
    ("/images/val2014/", "/labels/val2014/"),
)
"""replace_image_to_label, utils.c; the first of each is replaced."""
_PICTURES = (
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
    """Where Darknet looks for the labels of a picture."""
    text = os.fspath(picture)
    for folder, labels in _REPLACED:
        text = text.replace(folder, labels, 1)
    text = text.strip(" \t")
    for ending in _PICTURES:
        if text.endswith(ending):
            text = text[: -len(ending)] + ".txt"
            break
    return Path(text)


def read_data_file(path: _Path) -> dict[str, str]:
    """The lines `key = value` of a data file such as obj.data.

    Raises:
        OSError: it cannot be read.
        YolotfError: a line is of another form.
    """
    options: dict[str, str] = {}
    for number, line in enumerate(_lines(path), 1):
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        key, equals, value = text.partition("=")
        if not equals:
            raise YolotfError(
                f"{os.fspath(path)}: line {number} is no `key = value`: {text[:60]!r}; a data file "
                "has lines such as `valid = data/test.txt`",
                path=os.fspath(path),
                line=number,
            )
        options[key.strip()] = value.strip()
    return options


def read_darknet(path: _Path) -> DataSet:
    """The pictures of a data file: its `valid` list, their labels beside them, its `names`.

    Paths in it are looked for from the working directory, as Darknet does, then from the data
    file's folder and those above it.

    Raises:
        OSError: a file cannot be read.
        YolotfError: it names no list, a list is empty, or a label is none.
    """
    options = read_data_file(path)
    listed = options.get("valid") or options.get("train")
    if listed is None:
        raise YolotfError(
            f"{os.fspath(path)}: no `valid = FILE`; name the list of pictures to evaluate on",
            path=os.fspath(path),
        )
    base = Path(path).resolve().parent
    classes = int(options["classes"]) if options.get("classes", "").isdigit() else None
    names = _names(_found(options["names"], base)) if "names" in options else ()
    paths = _listed(_found(listed, base), base)
    hard = _listed(_found(options["difficult"], base), base) if "difficult" in options else []
    limit = classes if classes is not None else len(names) or None
    unlabelled: list[Path] = []
    pictures = []
    for index, picture in enumerate(paths):
        labels = label_path(picture)
        truths = _labels(labels, limit)
        if truths is None:
            unlabelled.append(picture)
        difficult = _labels(label_path(hard[index]), limit) if index < len(hard) else None
        pictures.append(LabelledPicture(picture, truths or _NO_TRUTHS, difficult or _NO_TRUTHS))
    return DataSet(os.fspath(path), tuple(pictures), names, classes, tuple(unlabelled))


_NO_TRUTHS = Truths(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))


def _lines(path: _Path) -> list[str]:
    return opening.read_lines(path, most=opening.LIST_MOST, what="a list or a file of labels")


def _names(path: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in "\n".join(_lines(path)).rstrip().splitlines())


def _found(name: str, base: Path) -> Path:
    """`name` from the working directory, else from `base` or above; as it is if nowhere."""
    path = Path(name)
    if path.is_absolute() or path.exists():
        return path
    places = (folder / path for folder in (base, *base.parents))
    return next((place for place in places if place.exists()), path)


def _listed(path: Path, base: Path) -> list[Path]:
    found = []
    for number, line in enumerate(_lines(path), 1):
        if name := line.strip():
            picture = _found(name, base)
            if "." not in picture.name and not picture.exists():
                # Not quoted: the data file may have named any file.
                raise YolotfError(
                    f"{path}: line {number} is no path of a picture; a list names one a line",
                    path=str(path),
                    line=number,
                )
            found.append(picture)
    if not found:
        raise YolotfError(f"{path}: an empty list; it names one picture a line", path=str(path))
    return found


def _labels(path: Path, classes: int | None) -> Truths | None:
    """`class x y width height` a line; None without a file."""
    try:
        lines = _lines(path)
    except FileNotFoundError:
        return None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        parts = line.split()
        try:
            class_id, box = int(parts[0]), [float(part) for part in parts[1:]]
        except ValueError:
            class_id, box = -1, []
        right = len(box) == 4 and all(map(math.isfinite, box))
        if not right or class_id < 0 or (classes is not None and class_id >= classes):
            limit = "" if classes is None else f" below {classes}"
            raise YolotfError(
                f"{path}: line {number} is no label{_quoted(line)}; it has a class number"
                f"{limit}, then centre x, y, width and height relative to the picture",
                path=str(path),
                line=number,
            )
        rows.append([class_id, *box])
    table = np.array(rows, np.float64).reshape(-1, 5)
    return Truths(table[:, 0].astype(np.int64), table[:, 1:].astype(np.float32))


def _quoted(line: str) -> str:
    """A line of numbers; any other could be of a file that is nobody's business."""
    text = line.strip()[:60]
    return f": {text!r}" if re.fullmatch(r"[-+.\deE\s]+", text) else ""
