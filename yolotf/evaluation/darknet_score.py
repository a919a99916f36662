"""Darknet's mean average precision, as `darknet detector map` computes and prints it.

Follows AlexeyAB/darknet's validate_detector_map (src/detector.c:937) step by step, including its
quirks, so that the numbers agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotf import argument_numbers
from yolotf._public import public, renamed, renamed_attributes
from yolotf.darknet.detection_options import DetectionOptions, checked_threshold
from yolotf.errors import YolotfError
from yolotf.evaluation.data_set import AnnotatedImage
from yolotf.images.detections import Detections

_Floats = npt.NDArray[np.float32]

SCORE = 0.005
"""The lowest score that Darknet's evaluation considers (detector.c:1005)."""
_MOST_POINTS = 1_000_000
_IOUS_AT_ONCE = 1 << 20
"""IoUs to compute at once: some 50 MB of memory."""


@dataclass(frozen=True, eq=False)
class ClassScore:
    """The score of one class.

    Attributes:
        class_id: class number.
        name: class name.
        truths: number of labels of the class.
        ap: average precision, 0..1.
        tp: labels detected above the score threshold.
        fp: detections above the threshold that match no label, or a label already detected.
        average_iou: IoU with the labels, summed over `tp` and divided by `tp + fp`.
        precisions: precision after each detection, by descending score.
        recalls: recall after each detection, by descending score.
    """

    class_id: int
    name: str
    truths: int
    ap: float
    tp: int
    fp: int
    average_iou: float
    precisions: npt.NDArray[np.float64] = field(repr=False)
    recalls: npt.NDArray[np.float64] = field(repr=False)

    @property
    def fn(self) -> int:
        """Labels that were not detected."""
        return self.truths - self.tp

    def to_dict(self) -> dict[str, Any]:
        """Returns a dictionary for JSON; undefined values are None."""
        return {
            "class": self.class_id,
            "name": self.name,
            "truths": self.truths,
            "ap": self.ap,
            "average_iou": self.average_iou,
            **_rates(self.tp, self.fp, self.fn),
        }


@public
@renamed_attributes(iou_threshold="match_iou", pictures="images")
@dataclass(frozen=True, eq=False)
class Score:
    """The numbers of `darknet detector map`.

    Attributes:
        classes: the score of each class.
        match_iou: the IoU above which a detection matches a label.
        points: number of recalls at which precision is sampled; 0 is the area under the curve.
        score_threshold: the score above which detections count for `tp`, `fp` and all that is
            derived from them.
        images: number of images.
        detections: number of detections above 0.005, of all classes.
        average_iou: over all classes, see `ClassScore`.
        coco: COCO's twelve metrics by name, if computed.
        about: what was evaluated; added to `to_dict`.
        unread: (path, reason) of each unreadable image, which counts as an image without
            detections.
    """

    classes: tuple[ClassScore, ...]
    match_iou: float
    points: int
    score_threshold: float
    images: int
    detections: int
    average_iou: float
    coco: Mapping[str, float] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    unread: tuple[tuple[str, str], ...] = ()

    @property
    def mean_ap(self) -> float:
        """The mean over all classes, including those without labels."""
        return sum(score.ap for score in self.classes) / len(self.classes)

    @property
    def tp(self) -> int:
        """The sum over all classes."""
        return sum(score.tp for score in self.classes)

    @property
    def fp(self) -> int:
        """The sum over all classes."""
        return sum(score.fp for score in self.classes)

    @property
    def fn(self) -> int:
        """The sum over all classes."""
        return sum(score.fn for score in self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Returns a dictionary for JSON."""
        return {
            **self.about,
            "pictures": self.images,
            "unread": [{"path": path, "error": error} for path, error in self.unread],
            "truths": sum(score.truths for score in self.classes),
            "detections": self.detections,
            "iou_threshold": self.match_iou,
            "points": self.points,
            "score_threshold": self.score_threshold,
            "map": self.mean_ap,
            "average_iou": self.average_iou,
            **_rates(self.tp, self.fp, self.fn),
            "classes": [score.to_dict() for score in self.classes],
            "coco": None if self.coco is None else dict(self.coco),
        }

    def __str__(self) -> str:
        lines = [
            f"class_id = {score.class_id}, name = {score.name}, ap = {100 * score.ap:2.2f}%   \t "
            f"(TP = {score.tp}, FP = {score.fp})"
            for score in self.classes
        ]
        return "\n".join([*lines, "", *self._summary()])

    def table(self) -> str:
        """Returns a table of the classes, as hank-ai's `map` prints it, and the summary.

        The columns are AP, labels, TP, FP, FN, precision, recall, F1 and average IoU.
        """
        width = max([4, *(len(score.name) for score in self.classes)])
        titles = "    AP % labels     TP     FP     FN precision recall   F1  avg IoU %"
        lines = [f"  id {'name':<{width}} {titles}"]
        for score in self.classes:
            rates = _rates(score.tp, score.fp, score.fn)
            lines.append(
                f"{score.class_id:>4} {score.name:<{width}} {100 * score.ap:>8.2f} "
                f"{score.truths:>6} {score.tp:>6} {score.fp:>6} {score.fn:>6} "
                f"{_shown(rates['precision']):>9} {_shown(rates['recall']):>6} "
                f"{_shown(rates['f1']):>4} {100 * score.average_iou:>10.2f}"
            )
        return "\n".join([*lines, "", *self._summary()])

    def _summary(self) -> list[str]:
        rates = _rates(self.tp, self.fp, self.fn)
        threshold = f"for conf_thresh = {self.score_threshold:1.2f}"
        lines = [
            f"{threshold}, precision = {_shown(rates['precision'])}, "
            f"recall = {_shown(rates['recall'])}, F1-score = {_shown(rates['f1'])}",
            f"{threshold}, TP = {self.tp}, FP = {self.fp}, FN = {self.fn}, "
            f"average IoU = {100 * self.average_iou:2.2f} %",
            "",
            f"IoU threshold = {100 * self.match_iou:2.0f} %, used "
            + (
                f"{self.points} Recall-points"
                if self.points
                else "Area-Under-Curve for each unique Recall"
            ),
            f"mean average precision (mAP@{self.match_iou:0.2f}) = {self.mean_ap:f}, or "
            f"{100 * self.mean_ap:2.2f} %",
        ]
        if self.coco is not None:
            lines += ["", "  ".join(f"{name} {value:.3f}" for name, value in self.coco.items())]
        return lines


MATCH_IOU = 0.5
"""IoU above which a detection matches a label, as in `darknet detector map`."""
POINTS = 0
"""Recalls at which the precision is sampled; 0: the area under the curve."""


def check_options(match_iou: float, points: int, score_threshold: float) -> None:
    """Raises ValueError for options that `score` refuses."""
    points = argument_numbers.integer("points", points)
    if points == 1 or points < 0:
        raise ValueError(f"points={points} must be 0, or at least 2")
    if points > _MOST_POINTS:
        raise ValueError(f"points={points} must be at most {_MOST_POINTS}")
    checked_threshold("match_iou", match_iou)
    checked_threshold("score_threshold", score_threshold)


@renamed(found="detections", pictures="images", names="class_names", iou_threshold="match_iou")
def score(
    detections: Sequence[tuple[Detections, tuple[int, int]]],
    images: Sequence[AnnotatedImage],
    class_names: Sequence[str],
    *,
    match_iou: float = MATCH_IOU,
    points: int = POINTS,
    score_threshold: float = DetectionOptions.score_threshold,
    about: Mapping[str, Any] | None = None,
) -> Score:
    """Computes the numbers of `darknet detector map`.

    Args:
        detections: for each image, its detections in pixels and its (width, height). If several
            detections above the score threshold match the same label, the first counts as right.
        images: the labelled images, in the same order.
        class_names: names of all classes.
        match_iou: the IoU above which a detection matches a label.
        points: number of recalls at which precision is sampled: 11 as in VOC 2007, 101 as in COCO;
            0 is the area under the curve.
        score_threshold: for precision, recall, F1 and average IoU.
        about: the value of `Score.about`.

    Raises:
        ValueError: `points` is 1 or negative, or a threshold is out of range.
    """
    check_options(match_iou, points, score_threshold)
    tally = _Tally(len(class_names), np.float32(match_iou), np.float32(score_threshold))
    for (in_image, size), image in zip(detections, images, strict=True):
        tally.add(in_image, size, image)
    hits = _ranked_hits(tally)
    classes = []
    for class_id, name in enumerate(class_names):
        truths = int(tally.truths[class_id])
        precisions, recalls = _curve(hits[class_id], truths)
        tp, fp = int(tally.tp[class_id]), int(tally.fp[class_id])
        classes.append(
            ClassScore(
                class_id,
                name,
                truths,
                average_precision(precisions, recalls, points),
                tp,
                fp,
                float(tally.iou[class_id]) / max(tp + fp, 1),
                precisions,
                recalls,
            )
        )
    counted = max(int(tally.tp.sum() + tally.fp.sum()), 1)
    return Score(
        tuple(classes),
        match_iou,
        points,
        score_threshold,
        len(images),
        len(tally.scores),
        float(tally.iou.sum()) / counted,
        about=about or {},
    )


class _Tally:
    """Accumulates counts image by image (detector.c:1060-1160)."""

    def __init__(self, classes: int, iou: np.float32, score: np.float32) -> None:
        self.iou_threshold, self.score_threshold = iou, score
        self.truths = np.zeros(classes, np.int64)
        self.tp = np.zeros(classes, np.int64)
        self.fp = np.zeros(classes, np.int64)
        self.iou = np.zeros(classes, np.float64)
        self.scores: list[float] = []
        self.classes: list[int] = []
        self.labels: list[int] = []  # index of the matched label among all images'; -1 for none
        self._labels_before = 0

    def add(self, detections: Detections, size: tuple[int, int], image: AnnotatedImage) -> None:
        truths, difficult = image.truths, image.difficult
        too_large = truths.classes[truths.classes >= len(self.truths)]
        if len(too_large):
            raise YolotfError(
                f"{image.path}: a label of class {too_large[0]}, the network has "
                f"{len(self.truths)} classes; the labels are for another network",
                path=str(image.path),
                expected=len(self.truths),
                found=int(too_large[0]),
            )
        np.add.at(self.truths, truths.classes, 1)
        boxes = relative(detections.xyxy, size)
        claimed: set[int] = set()
        for class_id, value, overlaps, difficult_overlaps in zip(
            detections.classes,
            detections.scores,
            _rows_of_ious(boxes, truths.boxes),
            _rows_of_ious(boxes, difficult.boxes),
            strict=True,
        ):
            if not value > SCORE:
                continue
            ious = np.where(truths.classes == class_id, overlaps, np.float32(-1))
            best = int(ious.argmax()) if len(ious) else -1
            if best >= 0 and not ious[best] > self.iou_threshold:
                best = -1
            is_difficult = (difficult.classes == class_id) & (
                difficult_overlaps > self.iou_threshold
            )
            if best >= 0 or not is_difficult.any():
                self.scores.append(float(value))
                self.classes.append(class_id)
                self.labels.append(-1 if best < 0 else self._labels_before + best)
            if value > self.score_threshold:
                if best >= 0 and best not in claimed:
                    self.tp[class_id] += 1
                    self.iou[class_id] += float(ious[best])
                else:
                    self.fp[class_id] += 1
            # A box below the score threshold claims its label, too (detector.c:1136).
            claimed.add(best)
        self._labels_before += len(truths.classes)


def relative(xyxy: _Floats, size: tuple[int, int]) -> _Floats:
    """Converts corners in pixels to centre x, y, width, height relative to the image.

    Args:
        xyxy: [N, 4], left, top, right, bottom in pixels.
        size: (width, height) of the image.
    """
    left, top, right, bottom = np.asarray(xyxy, np.float64).reshape(-1, 4).T
    width, height = size
    columns = (left + right) / 2 / width, (top + bottom) / 2 / height
    boxes = np.stack([*columns, (right - left) / width, (bottom - top) / height], 1)
    return boxes.astype(np.float32)


def _rows_of_ious(boxes: _Floats, labels: _Floats) -> Iterator[_Floats]:
    """Yields the IoUs of each box with all labels; keeps those of a few boxes in memory."""
    step = max(1, _IOUS_AT_ONCE // max(1, len(labels)))
    for start in range(0, len(boxes), step):
        yield from iou(boxes[start : start + step], labels)


def iou(a: _Floats, b: _Floats) -> _Floats:
    """Returns the [N, M] IoUs of relative boxes (box_iou, box.c)."""
    first, second = a[:, None], b[None]
    low = np.maximum(first[..., :2] - first[..., 2:] / 2, second[..., :2] - second[..., 2:] / 2)
    high = np.minimum(first[..., :2] + first[..., 2:] / 2, second[..., :2] + second[..., 2:] / 2)
    intersection = np.prod(np.maximum(high - low, 0), 2)
    union = np.prod(first[..., 2:], 2) + np.prod(second[..., 2:], 2) - intersection
    overlapping = (intersection > 0) & (union > 0)
    ious: _Floats = np.divide(
        intersection, union, out=np.zeros_like(intersection), where=overlapping
    )
    return ious


def _ranked_hits(tally: _Tally) -> list[npt.NDArray[np.bool_]]:
    """Returns for each class which detections are the first of a label, by descending score."""
    order = np.argsort(-np.array(tally.scores, np.float32), kind="stable")
    claimed: set[int] = set()
    hits: list[list[bool]] = [[] for _ in tally.truths]
    for detection in order:
        label = tally.labels[detection]
        hits[tally.classes[detection]].append(label >= 0 and label not in claimed)
        claimed.add(label)
    return [np.array(of_class, bool) for of_class in hits]


def _curve(
    hits: npt.NDArray[np.bool_], truths: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns precision and recall after each detection."""
    tp = np.cumsum(hits, dtype=np.float64)
    precisions = tp / np.arange(1, len(hits) + 1)
    return precisions, tp / truths if truths else np.zeros_like(tp)


def average_precision(
    precisions: npt.NDArray[np.float64], recalls: npt.NDArray[np.float64], points: int = POINTS
) -> float:
    """Returns Darknet's average of precision over recall (detector.c:1240-1290).

    For the area under the curve, Darknet multiplies each step of recall by the best precision from
    the previous step on, not from the step itself.

    Args:
        precisions: precision after each detection, by descending score.
        recalls: recall after each detection.
        points: number of recalls at which precision is sampled; 0: the area under the curve.
    """
    if not len(precisions):
        return 0.0
    best = np.maximum.accumulate(precisions[::-1])[::-1]
    if points:
        sampled = np.arange(points) / (points - 1)
        steps = np.searchsorted(recalls, sampled, side="left")
        is_reached = steps < len(best)
        return float(np.where(is_reached, best[np.minimum(steps, len(best) - 1)], 0).mean())
    widths = np.diff(recalls, prepend=0)
    return float((widths * np.concatenate([best[:1], best[:-1]])).sum())


def _rates(tp: int, fp: int, fn: int) -> dict[str, Any]:
    """Returns the counts and the rates computed from them; undefined rates are None."""
    precision = tp / (tp + fp) if tp + fp else None
    recall = tp / (tp + fn) if tp + fn else None
    f1 = 2 * tp / (2 * tp + fp + fn) if tp else None
    return {"tp": tp, "fp": fp, "fn": fn, "precision": precision, "recall": recall, "f1": f1}


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:1.2f}"
