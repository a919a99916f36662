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
from yolotf.files.paths import StrPath
from yolotf.images.read import open_picture
from yolotf.text import plural, whole_number

_Json = Mapping[str, Any]

_MOST_PIXELS = 1 << 31
"""Largest coordinate of a box; squares of larger coordinates overflow in an evaluation."""


def read_instances(path: StrPath) -> _Json:
    """Reads a COCO instances file and fills in what tools leave out.

    Annotations are renumbered from 1, since pycocotools never matches an annotation with id 0;
    images, too, if an id is text. A missing `iscrowd` is 0, a missing `area` is that of the box.

    Returns:
        `images`, each with the file's id as `given_id`; `annotations`; `categories`; and `notes`,
        remarks for the user.

    Raises:
        OSError: the file cannot be read.
        YolotfError: it is not a COCO instances file, or an entry is invalid.
    """
    source = os.fspath(path)
    try:
        content = json.loads(
            opening.read(path, max_bytes=opening.MAX_JSON_BYTES, kind="a COCO file")
        )
    except RecursionError:
        raise _not_instances(source, "it is nested too deeply") from None
    except UnicodeDecodeError:
        raise _not_instances(source, "it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _not_instances(source, f"it is not JSON: {error}") from None
    except ValueError:  # Python reads at most 4,300 digits
        raise _not_instances(source, "a number in it has thousands of digits") from None
    if not isinstance(content, dict):
        raise _not_instances(source, "it is not a JSON object")
    lists = []
    for key in ("images", "annotations", "categories"):
        entries = content.get(key)
        if not isinstance(entries, list):
            problem = "is not a list" if key in content else "is missing"
            raise _not_instances(source, f"{key!r} {problem}")
        if not all(isinstance(entry, dict) for entry in entries):
            raise _not_instances(source, f"an entry of {key!r} is not an object")
        lists.append(entries)
    if not lists[0]:
        raise YolotfError(f"{source}: lists no images", path=source)
    return _InstancesReader(source).read(*lists)


def _not_instances(source: str, why: str) -> YolotfError:
    return YolotfError(
        f"{source}: not a COCO instances file: {why}; pass a file with images, annotations and "
        "categories, such as instances_val2017.json",
        path=source,
    )


class _InstancesReader:
    """Validates and completes the entries of a file; collects notes."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._notes: list[str] = []

    def read(self, images: list[_Json], annotations: list[_Json], categories: list[_Json]) -> _Json:
        """Returns the contents for `read_instances`."""
        complete_categories = self._categories(categories)
        complete_images = self._images(images)
        return {
            "info": {},
            "images": complete_images,
            "annotations": self._annotations(annotations, complete_images, complete_categories),
            "categories": complete_categories,
            "notes": tuple(self._notes),
        }

    def _error(self, problem: str) -> YolotfError:
        return YolotfError(f"{self._source}: {problem}", path=self._source)

    def _categories(self, entries: list[_Json]) -> list[_Json]:
        by_id: dict[int, _Json] = {}
        for position, entry in enumerate(entries):
            category_id, name = _integer(entry.get("id")), entry.get("name")
            if not isinstance(name, str) or category_id is None:
                raise self._error(
                    f"category {position} has id {entry.get('id')!r} and name {name!r}; an id is a "
                    "whole number"
                )
            if category_id in by_id:
                raise self._error(
                    f"two categories have the id {category_id}; give them different ids"
                )
            by_id[category_id] = {"id": category_id, "name": name}
        return [by_id[category_id] for category_id in sorted(by_id)]

    def _images(self, entries: list[_Json]) -> list[dict[str, Any]]:
        by_id: dict[int | str, dict[str, Any]] = {}
        without_size = 0
        for number, entry in enumerate(entries, 1):
            given_id, name = entry.get("id"), entry.get("file_name")
            if not isinstance(name, str) or not isinstance(given_id, str | int):
                raise self._error(
                    f"image {number} has id {given_id!r} and file_name {name!r}; an id is a number "
                    "or text, a file_name is text"
                )
            if given_id in by_id:
                raise self._error(
                    f"{by_id[given_id]['file_name']} and {name} have the same image id "
                    f"{given_id!r}; give them different ids"
                )
            width, height = _integer(entry.get("width")), _integer(entry.get("height"))
            if not width or not height:
                width = height = None
                without_size += 1
            by_id[given_id] = {
                "id": number,
                "given_id": given_id,
                "file_name": name,
                "width": width,
                "height": height,
            }
        if all(isinstance(given_id, int) for given_id in by_id):
            for given_id, image in by_id.items():
                image["id"] = int(given_id)
        else:
            text = next(given_id for given_id in by_id if not isinstance(given_id, int))
            self._notes.append(
                f"{self._source}: image ids are not all numbers ({text!r}); COCO's are, so the "
                "images are numbered in order"
            )
        if without_size:
            self._notes.append(
                f"{self._source}: {plural(without_size, 'image')} without width and height; the "
                "sizes are read from the images"
            )
        return list(by_id.values())

    def _annotations(
        self, entries: list[_Json], images: Sequence[_Json], categories: list[_Json]
    ) -> list[_Json]:
        image_ids = {image["given_id"]: image["id"] for image in images}
        category_ids = {category["id"] for category in categories}
        annotations: list[_Json] = []
        unlisted: Counter[str] = Counter()
        empty = 0
        for position, entry in enumerate(entries):
            name = f"annotation {entry.get('id', position)!r}"
            given_id, category_id = entry.get("image_id"), _integer(entry.get("category_id"))
            if not isinstance(given_id, str | int) or given_id not in image_ids:
                unlisted[repr(given_id)] += 1
                continue
            if category_id is None or category_id not in category_ids:
                raise self._error(
                    f"{name} is of category {entry.get('category_id')!r}, which is not listed; add "
                    "it to categories"
                )
            left, top, width, height = self._box(name, entry.get("bbox"))
            empty += not (width and height)
            area = entry.get("area")
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_ids[given_id],
                    "category_id": category_id,
                    "bbox": [left, top, width, height],
                    "area": float(area) if is_number(area) else width * height,
                    "iscrowd": int(_integer(entry.get("iscrowd")) == 1),
                }
            )
        if unlisted:
            self._notes.append(
                f"{self._source}: {plural(unlisted.total(), 'annotation')} of images that are not "
                f"listed, such as {next(iter(unlisted))}, left out"
            )
        if empty:
            self._notes.append(
                f"{self._source}: {plural(empty, 'box', 'boxes')} without width or height, which "
                "no detection can match"
            )
        return annotations

    def _box(self, annotation: str, box: Any) -> tuple[float, float, float, float]:
        """Returns a valid box: left, top, width, height in pixels."""
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
            raise self._error(
                f"{annotation} has the bbox {str(box)[:60]}; a box is [left, top, width, height] "
                "in pixels"
            )
        if any(abs(value) > _MOST_PIXELS for value in box):
            raise self._error(
                f"{annotation} has a coordinate of more than {_MOST_PIXELS:,} pixels in its bbox; "
                "correct or remove it"
            )
        if box[2] < 0 or box[3] < 0:
            raise self._error(
                f"{annotation} has a bbox of negative size: {box}; correct or remove it"
            )
        left, top, width, height = map(float, box)
        return left, top, width, height


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of a JSON file is a finite number that fits a float."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer larger than any float
        return False


def _integer(value: Any) -> int | None:
    """Converts an integer, which may be text or a float; returns None for anything else."""
    if isinstance(value, str):
        return whole_number(value)
    if isinstance(value, bool):
        return int(value)
    return int(value) if is_number(value) and value == int(value) else None


@renamed(names="class_names")
def read_coco(
    path: StrPath, *, images: StrPath | None = None, class_names: Sequence[str] = ()
) -> DataSet:
    """Reads a COCO instances file as a data set.

    Categories are paired with the network's classes by name, never by number alone: here if
    `class_names` is given, otherwise in `evaluate`.

    Args:
        path: for example instances_val2017.json.
        images: the images' folder; None: images are looked for beside the file and in COCO's
            layout.
        class_names: names of the network's classes, in order.

    Raises:
        OSError: the file cannot be read.
        YolotfError: it is not a COCO instances file, or no category has the name of a class.
    """
    source = os.fspath(path)
    content = read_instances(path)
    categories = content["categories"]
    class_of = {category["id"]: number for number, category in enumerate(categories)}
    annotations: dict[int, list[_Json]] = {entry["id"]: [] for entry in content["images"]}
    for annotation in content["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    finder = _ImageFinder(Path(path), images)
    paths = [finder.find(entry["file_name"]) for entry in content["images"]]
    annotated = []
    for file, entry in zip(paths, content["images"], strict=True):
        if entry["width"] is None:
            entry["width"], entry["height"] = _size_of(file)
        in_image = annotations[entry["id"]]
        annotated.append(
            AnnotatedImage(
                file,
                _truths(in_image, class_of, entry, crowd=False),
                _truths(in_image, class_of, entry, crowd=True),
                entry["id"],
                (entry["width"], entry["height"]),
            )
        )
    data = DataSet(
        source,
        tuple(annotated),
        tuple(category["name"] for category in categories),
        None,
        (),
        {key: content[key] for key in ("info", "images", "annotations", "categories")},
        tuple(category["id"] for category in categories),
        (*content["notes"], *finder.notes()),
    )
    return paired(data, tuple(class_names), None) if class_names else data


def _size_of(file: Path) -> tuple[int, int]:
    """Returns an image's (width, height); (1, 1) if unreadable, which is reported later."""
    try:
        return open_picture(file).size
    except (OSError, ValueError):
        return 1, 1


class _ImageFinder:
    """Finds the images of a COCO file."""

    def __init__(self, path: Path, images: StrPath | None) -> None:
        self._lookup = Lookup(path)
        # For annotations/instances_val2017.json: val2017/ or images/val2017/ beside annotations/;
        # for val.json: val/ or images/val/; for FiftyOne's labels.json: data/.
        split = path.stem.rpartition("_")[2]
        above = path.parent.parent
        self._folders = (
            *([Path(images)] if images is not None else []),
            path.parent,
            path.parent / split,
            path.parent / "images" / split,
            path.parent / "images",
            path.parent / "data",
            above / split,
            above / "images" / split,
            above / "images",
        )

    def find(self, name: str) -> Path:
        """Returns the path of an image, or where it should be if it does not exist."""
        for folder in self._folders:
            if (folder / name).exists():
                return folder / name
        # Label Studio: /data/local-files/?d=folder/name.jpg
        file = self._lookup.find(name.rpartition("?d=")[2], *self._folders)
        return self._folders[0] / name if file is None else file

    def notes(self) -> Iterator[str]:
        """Yields remarks on where images were found."""
        return self._lookup.notes()


def _truths(
    annotations: Sequence[_Json], class_of: Mapping[int, int], image: _Json, *, crowd: bool
) -> Truths:
    """Returns the labels of an image: of its crowds, or of all else."""
    wanted = [annotation for annotation in annotations if bool(annotation["iscrowd"]) is crowd]
    if not wanted:
        return NO_TRUTHS
    boxes = np.array([annotation["bbox"] for annotation in wanted], np.float64).reshape(-1, 4)
    boxes[:, :2] += boxes[:, 2:] / 2
    scale = np.array([image["width"], image["height"]] * 2, np.float64)
    classes = np.array([class_of[annotation["category_id"]] for annotation in wanted], np.int64)
    return Truths(classes, (boxes / scale).astype(np.float32))
