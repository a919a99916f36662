"""COCO's twelve metrics, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from yolotf.errors import optional_package
from yolotf.evaluation.data_set import DataSet
from yolotf.images.detections import Detections

COCO_SCORE = 0.001
"""The lowest score that Darknet writes for COCO (detector.c:780)."""
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
"""COCO's names of its metrics, in its order."""


def library() -> tuple[Any, Any]:
    """Returns the classes COCO and COCOeval of the optional library.

    Raises:
        MissingPackageError: pycocotools is not installed.
    """
    with optional_package("pycocotools", "COCO's numbers need pycocotools", "yolotf[eval]"):
        from pycocotools.coco import COCO  # optional
        from pycocotools.cocoeval import COCOeval
    return COCO, COCOeval


def coco_numbers(
    found: Sequence[tuple[Detections, tuple[int, int]]], data: DataSet
) -> dict[str, float]:
    """Computes COCO's twelve metrics; boxes are clipped to the images, as Darknet writes them.

    Only categories that are classes of the network count.

    Args:
        found: for each image, its detections in pixels and its (width, height).
        data: a COCO data set, paired with the network's classes.

    Raises:
        MissingPackageError: pycocotools is not installed.
    """
    coco, evaluator = library()
    results = []
    for (detections, (width, height)), picture in zip(found, data.images, strict=True):
        boxes = np.clip(detections.xyxy, 0, [width, height, width, height]).astype(float)
        for box, value, class_id in zip(boxes, detections.scores, detections.classes, strict=True):
            category = data.categories[int(class_id)]
            if category < 0:
                continue
            left, top, right, bottom = box.tolist()
            results.append(
                {
                    "image_id": picture.coco_id,
                    "category_id": category,
                    "bbox": [left, top, right - left, bottom - top],
                    "score": float(value),
                }
            )
    if not results:
        return dict.fromkeys(COCO_NUMBERS, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints progress
        truth = coco()
        truth.dataset = {"info": {}, **dict(data.coco or {})}
        truth.createIndex()
        evaluation = evaluator(truth, truth.loadRes(results), "bbox")
        evaluation.params.catIds = sorted(one for one in data.categories if one >= 0)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(COCO_NUMBERS, evaluation.stats, strict=True)}
