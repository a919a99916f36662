"""Reads COCO instances files."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from yolotf._public import renamed
from yolotf.errors import YolotfError
from yolotf.evaluation.data_set import AnnotatedImage, DataSet
from yolotf.evaluation.labels import NO_TRUTHS, Truths
from yolotf.evaluation.pairing import paired
from yolotf.files import opening
from yolotf.files.lookup import Lookup
from yolotf.images.read import open_picture
from yolotf.text import plural, whole_number

_Path = str | os.PathLike[str]
_Json = Mapping[str, Any]

_MOST_PIXELS = 1 << 31
"""Largest coordinate of a box; squares of larger ones overflow the floats of an evaluation."""


def read_instances(path: _Path) -> _Json:
    """Reads a COCO instances file and fills in what tools leave out.

    Annotation ids count from 1, since pycocotools never matches an annotation with id 0; image ids
    that are text are renumbered, too. Missing `iscrowd` is 0; missing `area` is the box's.

    Returns:
        `images`, each with the file's id as `given_id`; `annotations`; `categories`; and `notes`,
        remarks for the user.

    Raises:
        OSError: the file cannot be read.
        YolotfError: it is not a COCO instances file, or an entry is invalid.
    """
    source = os.fspath(path)
    try:
        content = json.loads(opening.read(path, most=opening.JSON_MOST, what="a COCO file"))
    except RecursionError:
        raise _no_coco(source, "it is nested too deeply") from None
    except UnicodeDecodeError:
        raise _no_coco(source, "it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _no_coco(source, f"it is not JSON: {error}") from None
    except ValueError:  # Python reads no more than 4,300
        raise _no_coco(source, "a number in it has thousands of digits") from None
    if not isinstance(content, dict):
        raise _no_coco(source, "it is not a JSON object")
    lists = []
    for key in ("images", "annotations", "categories"):
        entries = content.get(key)
        if not isinstance(entries, list):
            found = "is not a list" if key in content else "is missing"
            raise _no_coco(source, f"{key!r} {found}")
        if not all(isinstance(entry, dict) for entry in entries):
            raise _no_coco(source, f"an entry of {key!r} is not an object")
        lists.append(entries)
    if not lists[0]:
        raise YolotfError(f"{source}: lists no images", path=source)
    return _Reading(source).instances(*lists)


def _no_coco(source: str, why: str) -> YolotfError:
    return YolotfError(
        f"{source}: no COCO file of instances, which has images, annotations and categories: {why}",
        path=source,
    )


class _Reading:
    """Validates the entries of one file."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._notes: list[str] = []

    def instances(self, images: list[_Json], annotations: list[_Json], names: list[_Json]) -> _Json:
        categories = self._categories(names)
        listed = self._images(images)
        return {
            "info": {},
            "images": listed,
            "annotations": self._annotations(annotations, listed, categories),
            "categories": categories,
            "notes": tuple(self._notes),
        }

    def _refused(self, what: str) -> YolotfError:
        return YolotfError(f"{self._source}: {what}", path=self._source)

    def _categories(self, given: list[_Json]) -> list[_Json]:
        found: dict[int, _Json] = {}
        for place, entry in enumerate(given):
            number, name = _whole(entry.get("id")), entry.get("name")
            if not isinstance(name, str) or number is None:
                raise self._refused(
                    f"category {place} has id {entry.get('id')!r} and name {name!r}; an id is a "
                    "whole number"
                )
            if number in found:
                raise self._refused(f"two categories have the id {number}; number them apart")
            found[number] = {"id": number, "name": name}
        return [found[number] for number in sorted(found)]

    def _images(self, given: list[_Json]) -> list[dict[str, Any]]:
        found: dict[int | str, dict[str, Any]] = {}
        no_size = 0
        for number, entry in enumerate(given, 1):
            key, name = entry.get("id"), entry.get("file_name")
            if not isinstance(name, str) or not isinstance(key, str | int):
                raise self._refused(f"image {number} has id {key!r} and file_name {name!r}")
            if key in found:
                raise self._refused(
                    f"{found[key]['file_name']} and {name} have the same image id {key!r}; number "
                    "them apart"
                )
            width, height = _whole(entry.get("width")), _whole(entry.get("height"))
            if not width or not height:
                width = height = None
                no_size += 1
            found[key] = {
                "id": number,
                "given_id": key,
                "file_name": name,
                "width": width,
                "height": height,
            }
        if all(isinstance(key, int) for key in found):
            for key, image in found.items():
                image["id"] = int(key)
        else:
            text = next(key for key in found if not isinstance(key, int))
            self._notes.append(
                f"{self._source}: image ids are not all numbers ({text!r}); COCO's are numbers; "
                "they are numbered in order"
            )
        if no_size:
            self._notes.append(
                f"{self._source}: {plural(no_size, 'image')} without width and height; those of "
                "the image are taken"
            )
        return list(found.values())

    def _annotations(
        self, given: list[_Json], images: Sequence[_Json], categories: list[_Json]
    ) -> list[_Json]:
        numbers = {image["given_id"]: image["id"] for image in images}
        known = {category["id"] for category in categories}
        found: list[_Json] = []
        lost: Counter[Any] = Counter()
        empty = 0
        for place, entry in enumerate(given):
            where = f"annotation {entry.get('id', place)!r}"
            image, category = entry.get("image_id"), _whole(entry.get("category_id"))
            if not isinstance(image, str | int) or image not in numbers:
                lost[repr(image)] += 1
                continue
            if category is None or category not in known:
                raise self._refused(
                    f"{where} is of category {entry.get('category_id')!r}, which is not listed"
                )
            box = entry.get("bbox")
            if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
                raise self._refused(
                    f"{where} has the bbox {str(box)[:60]}; a box is [left, top, width, height] in "
                    "pixels"
                )
            if any(abs(value) > _MOST_PIXELS for value in box):
                raise self._refused(
                    f"{where} has a coordinate of more than {_MOST_PIXELS:,} pixels in its bbox"
                )
            if box[2] < 0 or box[3] < 0:
                raise self._refused(f"{where} has a bbox of negative size: {box}")
            empty += not (box[2] and box[3])
            area = entry.get("area")
            found.append(
                {
                    "id": len(found) + 1,
                    "image_id": numbers[image],
                    "category_id": category,
                    "bbox": [float(value) for value in box],
                    "area": float(area) if is_number(area) else float(box[2] * box[3]),
                    "iscrowd": int(_whole(entry.get("iscrowd")) == 1),
                }
            )
        if lost:
            self._notes.append(
                f"{self._source}: {plural(lost.total(), 'annotation')} of images that are not "
                f"listed, such as {next(iter(lost))}, left out"
            )
        if empty:
            self._notes.append(
                f"{self._source}: {plural(empty, 'box', 'boxes')} without width or height, which "
                "nothing can match"
            )
        return found


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of a JSON file is a finite number that fits a float."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer larger than any float
        return False


def _whole(value: Any) -> int | None:
    """Converts an integer, possibly given as text or float; returns None for all else."""
    if isinstance(value, str):
        return whole_number(value)
    if isinstance(value, bool):
        return int(value)
    return int(value) if is_number(value) and value == int(value) else None


@renamed(names="class_names")
def read_coco(
    path: _Path, *, images: _Path | None = None, class_names: Sequence[str] = ()
) -> DataSet:
    """Reads a COCO instances file as a data set.

    Categories are paired with the network's classes by name, never by number alone; `evaluate`
    does that unless `class_names` is given.

    Args:
        path: for example instances_val2017.json.
        images: the images' folder; None: beside the file, or in COCO's layout.
        class_names: names of the network's classes, in order.

    Raises:
        OSError: the file cannot be read.
        YolotfError: it is not a COCO instances file, or no category has the name of a class.
    """
    source = os.fspath(path)
    content = read_instances(path)
    categories = content["categories"]
    class_of = {category["id"]: number for number, category in enumerate(categories)}
    of_image: dict[int, list[_Json]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        of_image[annotation["image_id"]].append(annotation)
    places = _Places(Path(path), images)
    sized = [(places.find(image["file_name"]), image) for image in content["images"]]
    pictures = []
    for file, image in sized:
        if image["width"] is None:
            image["width"], image["height"] = _size_of(file)
        mine = of_image[image["id"]]
        pictures.append(
            AnnotatedImage(
                file,
                _truths(mine, class_of, image, crowd=False),
                _truths(mine, class_of, image, crowd=True),
                image["id"],
                (image["width"], image["height"]),
            )
        )
    data = DataSet(
        source,
        tuple(pictures),
        tuple(category["name"] for category in categories),
        None,
        (),
        {key: content[key] for key in ("info", "images", "annotations", "categories")},
        tuple(category["id"] for category in categories),
        (*content["notes"], *places.notes()),
    )
    return paired(data, tuple(class_names), None) if class_names else data


def _size_of(file: Path) -> tuple[int, int]:
    """Returns an image's (width, height); (1, 1) if unreadable, which is reported later."""
    try:
        return open_picture(file).size
    except (OSError, ValueError):
        return 1, 1


class _Places:
    """Finds the images of a COCO file."""

    def __init__(self, path: Path, images: _Path | None) -> None:
        self._lookup = Lookup(path)
        # For annotations/instances_val2017.json: val2017/ or images/val2017/ beside annotations/.
        part = path.stem.rpartition("_")[2]
        above = path.parent.parent
        given = [Path(images)] if images is not None else []
        self._folders = (
            *given,
            path.parent,
            path.parent / "images",
            above / part,
            above / "images" / part,
            above / "images",
        )
        self._first = self._folders[0]

    def find(self, name: str) -> Path:
        """Returns the path of an image, or where it should be if it does not exist."""
        for folder in self._folders:
            if (folder / name).exists():
                return folder / name
        # Label Studio: /data/local-files/?d=folder/name.jpg
        found = self._lookup.find(name.rpartition("?d=")[2], *self._folders)
        return self._first / name if found is None else found

    def notes(self) -> Iterator[str]:
        return self._lookup.notes()


def _truths(
    annotations: Sequence[_Json], class_of: Mapping[int, int], image: _Json, *, crowd: bool
) -> Truths:
    mine = [one for one in annotations if bool(one["iscrowd"]) is crowd]
    if not mine:
        return NO_TRUTHS
    boxes = np.array([one["bbox"] for one in mine], np.float64).reshape(-1, 4)
    boxes[:, :2] += boxes[:, 2:] / 2
    scale = np.array([image["width"], image["height"]] * 2, np.float64)
    classes = np.array([class_of[one["category_id"]] for one in mine], np.int64)
    return Truths(classes, (boxes / scale).astype(np.float32))
