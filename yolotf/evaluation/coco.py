"""COCO's files of instances, and its twelve numbers, by pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolotf.errors import MissingPackageError, YolotfError
from yolotf.evaluation.data_set import DataSet, LabelledPicture, Truths
from yolotf.files import opening
from yolotf.images.detections import Detections

_Path = str | os.PathLike[str]


COCO_SCORE = 0.001
"""The lowest score in what Darknet writes for COCO (detector.c:780)."""
COCO_NUMBERS = (
    "AP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    "AR1",
    "AR10",
    "AR100",
    "ARs",
    "ARm",
    "ARl",
)
"""As COCO's own table calls them, in its order."""


def read_coco(path: _Path, *, images: _Path | None = None, names: Sequence[str] = ()) -> DataSet:
    """The pictures of a COCO file of instances.

    Classes are its categories by number, as in coco.names, or those called `names` if all are.

    Args:
        path: such as instances_val2017.json.
        images: the folder of the pictures; None: beside the file, or where COCO has them.
        names: of the network's classes, in order.

    Raises:
        OSError: it cannot be read.
        YolotfError: it is no such file.
    """
    source = os.fspath(path)
    try:
        content = json.loads(opening.read(path, most=opening.JSON_MOST, what="a COCO file"))
        categories = sorted(content["categories"], key=lambda one: int(one["id"]))
        listed = content["images"]
        by_picture: dict[int, list[Any]] = {one["id"]: [] for one in listed}
        for one in content["annotations"]:
            by_picture.setdefault(one["image_id"], []).append(one)
        called = {one["name"]: one["id"] for one in categories}
        if names and all(name in called for name in names):
            numbers = tuple(int(called[name]) for name in names)
        else:
            numbers = tuple(int(one["id"]) for one in categories)
        class_of = {number: index for index, number in enumerate(numbers)}
        pictures = tuple(
            LabelledPicture(
                _image_path(Path(path), images, one["file_name"]),
                _coco_truths(by_picture[one["id"]], class_of, one, crowd=False),
                _coco_truths(by_picture[one["id"]], class_of, one, crowd=True),
                int(one["id"]),
            )
            for one in listed
        )
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise YolotfError(
            f"{source}: no COCO file of instances ({error!r:.80}); it has images, annotations and "
            "categories",
            path=source,
        ) from error
    if not pictures:
        raise YolotfError(f"{source}: lists no pictures", path=source)
    shown = tuple(names) or tuple(str(one["name"]) for one in categories)
    return DataSet(source, pictures, shown, len(numbers), (), content, numbers)


def _image_path(path: Path, images: _Path | None, name: str) -> Path:
    if images is not None:
        return Path(images) / name
    # instances_val2017.json in annotations/ stands beside val2017/ or images/val2017/.
    part = path.stem.rpartition("_")[2]
    above = path.parent.parent
    places = (path.parent, above / part, above / "images" / part, above / "images")
    return next((place / name for place in places if (place / name).exists()), path.parent / name)


def _coco_truths(
    annotations: Sequence[Any], class_of: Mapping[int, int], image: Any, *, crowd: bool
) -> Truths:
    mine = [
        one
        for one in annotations
        if bool(one.get("iscrowd", 0)) is crowd and one["category_id"] in class_of
    ]
    boxes = np.array([one["bbox"] for one in mine], np.float64).reshape(-1, 4)
    boxes[:, :2] += boxes[:, 2:] / 2
    scale = np.array([image["width"], image["height"]] * 2, np.float64)
    classes = np.array([class_of[one["category_id"]] for one in mine], np.int64)
    return Truths(classes, (boxes / scale).astype(np.float32))


def library() -> tuple[Any, Any]:
    """The optional dependency's two classes.

    Raises:
        MissingPackageError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO  # optional
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingPackageError(
            'COCO\'s numbers need pycocotools; pip install "yolotf[eval]"', package="pycocotools"
        ) from error
    return COCO, COCOeval


def coco_numbers(
    found: Sequence[tuple[Detections, tuple[int, int]]], data: DataSet
) -> dict[str, float]:
    """COCO's twelve numbers, by pycocotools; boxes are cut at the pictures, as Darknet writes them.

    Raises:
        MissingPackageError: pycocotools is not installed.
    """
    coco, evaluator = library()
    results = []
    for (detections, (width, height)), picture in zip(found, data.pictures, strict=True):
        boxes = np.clip(detections.xyxy, 0, [width, height, width, height]).astype(float)
        for box, value, class_id in zip(boxes, detections.scores, detections.classes, strict=True):
            left, top, right, bottom = box.tolist()
            results.append(
                {
                    "image_id": picture.coco_id,
                    "category_id": data.categories[int(class_id)],
                    "bbox": [left, top, right - left, bottom - top],
                    "score": float(value),
                }
            )
    if not results:
        return dict.fromkeys(COCO_NUMBERS, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        truth = coco()
        truth.dataset = {"info": {}, **dict(data.coco or {})}
        truth.createIndex()
        evaluation = evaluator(truth, truth.loadRes(results), "bbox")
        evaluation.params.catIds = list(data.categories)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(COCO_NUMBERS, evaluation.stats, strict=True)}
