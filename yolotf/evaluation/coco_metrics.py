"""Computes COCO's twelve metrics with pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from yolotf._public import renamed
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
"""The metrics by COCO's names, in COCO's order."""


def pycocotools_classes() -> tuple[Any, Any]:
    """Returns the classes COCO and COCOeval of the optional pycocotools.

    Raises:
        MissingPackageError: pycocotools is not installed.
    """
    with optional_package("pycocotools", "COCO's numbers need pycocotools", "yolotf[eval]"):
        from pycocotools.coco import COCO  # optional
        from pycocotools.cocoeval import COCOeval
    return COCO, COCOeval


@renamed(found="detections")
def coco_numbers(
    detections: Sequence[tuple[Detections, tuple[int, int]]], data: DataSet
) -> dict[str, float]:
    """Computes COCO's twelve metrics.

    Boxes are clipped to the images, as Darknet writes them. Only categories that are classes of the
    network count.

    Args:
        detections: for each image, its detections in pixels and its (width, height).
        data: a COCO data set, paired with the network's classes.

    Raises:
        MissingPackageError: pycocotools is not installed.
    """
    coco, evaluator = pycocotools_classes()
    results = []
    for (in_image, (width, height)), image in zip(detections, data.images, strict=True):
        boxes = np.clip(in_image.xyxy, 0, [width, height, width, height]).astype(float)
        for box, score, class_id in zip(boxes, in_image.scores, in_image.classes, strict=True):
            category = data.categories[int(class_id)]
            if category < 0:
                continue
            left, top, right, bottom = box.tolist()
            results.append(
                {
                    "image_id": image.coco_id,
                    "category_id": category,
                    "bbox": [left, top, right - left, bottom - top],
                    "score": float(score),
                }
            )
    if not results:
        return dict.fromkeys(COCO_NUMBERS, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints progress
        truth = coco()
        truth.dataset = {"info": {}, **dict(data.coco or {})}
        truth.createIndex()
        evaluation = evaluator(truth, truth.loadRes(results), "bbox")
        evaluation.params.catIds = sorted(number for number in data.categories if number >= 0)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(COCO_NUMBERS, evaluation.stats, strict=True)}
