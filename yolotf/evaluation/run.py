"""`evaluate`: a network and its weights over a data set."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

from yolotf._public import public
from yolotf.darknet.detection_options import DetectionOptions
from yolotf.errors import YolotfError
from yolotf.evaluation.coco import COCO_SCORE, coco_numbers, library
from yolotf.evaluation.darknet_score import SCORE, Score, check_options, score
from yolotf.evaluation.data_set import DataSet
from yolotf.evaluation.detecting import MAX_BOXES, EvaluationDetector, detect_all
from yolotf.inference.options import ServingOptions

_Path = str | os.PathLike[str]


@public
def evaluate(
    network: Any,
    weights: _Path,
    data: DataSet,
    *,
    iou_threshold: float = 0.5,
    points: int = 0,
    score_threshold: float = DetectionOptions.score_threshold,
    letter_box: bool | None = None,
    batch: int = ServingOptions.batch_size,
    max_pixels: int | None = ServingOptions.max_pixels,
    progress: Callable[[int], None] = lambda count: None,
    timeout: float | None = ServingOptions.timeout,
) -> Score:
    """Runs a detector over a data set and scores it.

    Args:
        network: as of `Detector`.
        weights: the `.weights` file.
        data: from `read_darknet` or `read_coco`; with the latter COCO's numbers are computed, too.
        iou_threshold: see `score`.
        points: see `score`.
        score_threshold: see `score`.
        letter_box: see `Detector`.
        batch: pictures that go through the network at once.
        max_pixels: see `Detector`.
        progress: told how many pictures more are done.
        timeout: see `Detector`.

    Raises:
        OSError: a file cannot be read.
        YolotfError: the data set is of other classes than the network.
        ValueError: see `score`.
        MissingPackageError: COCO's numbers need pycocotools.
    """
    # Before hours of detecting.
    check_options(iou_threshold, points, score_threshold)
    if data.coco is not None:
        library()
    detector = EvaluationDetector(
        network,
        weights,
        names=data.names or None,
        score=SCORE if data.coco is None else COCO_SCORE,
        max_boxes=MAX_BOXES,
        batch_size=batch,
        letter_box=letter_box,
        timeout=timeout,
    )
    net = detector.network
    classes = net.classes or max(head.classes for head in net.heads)
    if data.classes is not None and data.classes != classes:
        raise YolotfError(
            f"{data.source}: {data.classes} classes, {net.source} has {classes}; the data set "
            "belongs to another network",
            expected=classes,
            found=data.classes,
        )
    names = data.names or tuple(f"class {number}" for number in range(classes))
    started = time.perf_counter()
    found = detect_all(
        lambda arrays: detector(arrays),
        data,
        channels=net.input_shape.channels,
        batch=batch,
        max_pixels=max_pixels,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    about = {
        "network": net.source,
        "letter_box": net.letter_box,
        "size": [net.input_shape.width, net.input_shape.height],
        "weights": os.fspath(weights),
        "data": data.source,
        "unlabelled": len(data.unlabelled),
        "seconds": round(seconds, 3),
    }
    result = score(
        found,
        data.pictures,
        names,
        iou_threshold=iou_threshold,
        points=points,
        score_threshold=score_threshold,
        about=about,
    )
    if data.coco is None:
        return result
    return dataclasses.replace(result, coco=coco_numbers(found, data))
