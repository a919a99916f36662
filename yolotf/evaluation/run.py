"""Evaluates a network and its weights on a data set."""

from __future__ import annotations

import dataclasses
import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from yolotf._public import public, renamed, warn_caller
from yolotf.darknet import hank_ai
from yolotf.darknet.cfg import Network, Source
from yolotf.darknet.class_names import Names, class_names_for
from yolotf.darknet.decoding import check_heads
from yolotf.darknet.detection_options import DetectionOptions, Resize
from yolotf.darknet.dialects import Dialect
from yolotf.darknet.stock import as_network
from yolotf.errors import YolotfError
from yolotf.evaluation.coco_metrics import COCO_SCORE, coco_numbers, pycocotools_classes
from yolotf.evaluation.coco_sizes import fitted_to_images
from yolotf.evaluation.darknet_score import (
    MATCH_IOU,
    POINTS,
    SCORE,
    Score,
    check_options,
    score,
)
from yolotf.evaluation.data_set import AnnotatedImage, DataSet, read_data_set
from yolotf.evaluation.detecting import MAX_BOXES, EvaluationDetector, detect_all
from yolotf.evaluation.labels import Fork
from yolotf.evaluation.pairing import paired
from yolotf.files import sources
from yolotf.files.paths import StrPath
from yolotf.progress import Progress, as_progress
from yolotf.runtime.options import EngineName, Precision, ServingOptions
from yolotf.text import class_label, plural


@public
@renamed(batch="batch_size", iou_threshold="match_iou", names="class_names")
def evaluate(
    network: Network | Source,
    weights: StrPath,
    data: DataSet | StrPath,
    *,
    classes: int | None = None,
    dialect: Dialect | None = None,
    match_iou: float = MATCH_IOU,
    points: int = POINTS,
    score_threshold: float = DetectionOptions.score_threshold,
    class_names: Names = None,
    nms_kind: str | None = DetectionOptions.nms_kind,
    letter_box: bool | None = DetectionOptions.letter_box,
    batch_size: int = ServingOptions.batch_size,
    threads: int | None = ServingOptions.threads,
    resize: Resize | None = None,
    like: Fork = "alexeyab",
    max_pixels: int | None = ServingOptions.max_pixels,
    progress: Progress | None = None,
    timeout: float | None = ServingOptions.timeout,
    engine: EngineName = ServingOptions.engine,
    precision: Precision = ServingOptions.precision,
) -> Score:
    """Runs a detector over a data set and scores it.

    Missing images are reported before the network is built. A missing or unreadable image counts as
    an image without detections, as in Darknet; `Score.unread` lists it.

    Args:
        network: see `Detector`.
        weights: the `.weights` file.
        data: a path for `read_data_set`, or its result; or the result of `read_coco`, for which
            COCO's metrics are computed, too.
        classes: number of classes; None: the network's own.
        dialect: see `Detector`.
        match_iou: the IoU above which a detection matches a label, see `score`.
        points: see `score`.
        score_threshold: see `score`.
        class_names: names of the network's classes, to match the data set's; see `Detector`.
        nms_kind: see `Detector`.
        letter_box: see `Detector`.
        batch_size: images per batch of the network.
        threads: see `Detector`.
        resize: see `Detector`; None: as the Darknet of `like` does.
        like: the Darknet whose `darknet detector map` to follow. `hank-ai` resizes by OpenCV's
            INTER_LINEAR_EXACT (darknet_image.cpp:1662), stretches images whatever the cfg's
            `letter_box` (detector_map.cpp:209), and counts true and false positives in the order
            in which std::sort leaves the boxes (box.cpp:249).
        max_pixels: see `Detector`.
        progress: called as `progress("detecting", images_done, images_in_total)`.
        timeout: see `Detector`.
        engine: see `Detector`.
        precision: see `Detector`.

    Raises:
        OSError: the weights, or all of the images, cannot be read.
        YolotfError: the data set has other classes than the network, or no labels.
        UnsupportedSectionError: the network has no heads, or heads that are not supported.
        ValueError: see `score`.
        MissingPackageError: COCO's metrics need pycocotools.
    """
    # Checked before hours of detection.
    progress = as_progress(progress, "count")
    check_options(match_iou, points, score_threshold)
    if like not in get_args(Fork):
        raise ValueError(f"like={like!r} must be one of {', '.join(get_args(Fork))}")
    network = as_network(network, classes=classes, dialect=dialect)
    check_heads(network)
    if like == "hank-ai":
        letter_box = letter_box or False
        _warn_of_heads_without_detections(network)
    resize = resize or ("opencv_exact" if like == "hank-ai" else DetectionOptions.resize)
    options = DetectionOptions(letter_box=letter_box, nms_kind=nms_kind, resize=resize)
    network = options.applied_to(network)
    classes = network.classes or max(head.classes for head in network.heads)
    data = _checked_data(data, like, class_names_for(network, class_names), classes)
    detector = EvaluationDetector(
        network,
        weights,
        like=like,
        score_threshold=SCORE if data.coco is None else COCO_SCORE,
        max_boxes=MAX_BOXES,
        nms_kind=nms_kind,
        batch_size=batch_size,
        threads=threads,
        resize=resize,
        timeout=timeout,
        engine=engine,
        precision=precision,
    )
    started = time.perf_counter()
    unread: list[tuple[AnnotatedImage, Exception]] = []
    detections = detect_all(
        lambda arrays: detector(arrays),
        data,
        channels=network.input_shape.channels,
        batch_size=batch_size,
        max_pixels=max_pixels,
        progress=progress,
        unread=lambda image, error: unread.append((image, error)),
    )
    if len(unread) == len(data.images):
        raise unread[0][1]
    seconds = time.perf_counter() - started
    data, notes = fitted_to_images(data, [size for _, size in detections])
    for note in notes:
        warn_caller(note)
    about = {
        "network": network.source,
        "letter_box": network.letter_box,
        "nms_kind": options.suppression(network).kind,
        "resize": resize,
        "like": like,
        "size": [network.input_shape.width, network.input_shape.height],
        "weights": os.fspath(weights),
        "engine": engine,
        "precision": precision,
        "data": data.source,
        "unlabelled": len(data.unlabelled),
        "seconds": round(seconds, 3),
    }
    result = score(
        detections,
        data.images,
        data.class_names or tuple(map(class_label, range(classes))),
        match_iou=match_iou,
        points=points,
        score_threshold=score_threshold,
        about=about,
    )
    result = dataclasses.replace(
        result,
        unread=tuple(
            (sources.name_of(image.path), reason(image.path, error)) for image, error in unread
        ),
    )
    if data.coco is None:
        return result
    return dataclasses.replace(result, coco=coco_numbers(detections, data))


def _warn_of_heads_without_detections(network: Network) -> None:
    """Warns of each head for which hank-ai's Darknet finds no detections."""
    for line, fault in hank_ai.heads_without_detections(network.sections):
        place = network.source if network.name else f"{network.source}:{line}"
        warn_caller(
            f"{place}: hank-ai's Darknet {fault}; it would print 0 here, and this score is that "
            "of yolotf's detections"
        )


def _checked_data(
    data: DataSet | StrPath, like: Fork, names: Sequence[str], classes: int
) -> DataSet:
    """Returns the data set, checked and with the network's numbers of its classes.

    Warns of each note about the classes, and of missing images.

    Args:
        data: see `evaluate`.
        like: see `evaluate`.
        names: the network's class names, if known.
        classes: the network's number of classes.
    """
    if not isinstance(data, DataSet):
        data = read_data_set(data, like=like)
    if data.coco is not None:
        pycocotools_classes()  # raises if the package is missing
    _check_labels(data)
    result = paired(data, names, classes)
    for note in result.notes[len(data.notes) :]:
        warn_caller(note)
    _check_images(result)
    return result


def _check_labels(data: DataSet) -> None:
    """Raises YolotfError for a data set without labels: every score would be 0."""
    if not any(len(image.truths.classes) for image in data.images):
        raise YolotfError(
            f"{data.source}: none of its {plural(len(data.images), 'image')} has a label, so every "
            "score would be 0; pass labelled images",
            path=data.source,
            found=0,
        )


def _check_images(data: DataSet) -> None:
    """Warns of missing images, and raises if all are missing."""
    missing = [image.path for image in data.images if not image.path.is_file()]
    if not missing:
        return
    if len(missing) == len(data.images):
        raise FileNotFoundError(
            errno.ENOENT,
            f"no such file; none of the {plural(len(missing), 'image')} of {data.source} exists",
            str(missing[0]),
        )
    warn_caller(
        f"{data.source}: {len(missing)} of {plural(len(data.images), 'image')} do not exist and "
        f"count as images without detections; the first: {missing[0]}"
    )


def reason(path: Path, error: Exception) -> str:
    """Returns why the image at `path` cannot be read, without the path."""
    message = (isinstance(error, OSError) and error.strerror) or str(error)
    return message.removeprefix(f"{path}: ")
