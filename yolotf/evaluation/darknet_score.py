"""Darknet's mean average precision, as `darknet detector map` computes and prints it.

Follows AlexeyAB/darknet's src/detector.c:937 (validate_detector_map) step by step, including its
quirks, so that the figures agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotf._public import public, renamed, renamed_attributes
from yolotf.darknet.detection_options import DetectionOptions, check_threshold
from yolotf.errors import YolotfError
from yolotf.evaluation.data_set import AnnotatedImage
from yolotf.images.detections import Detections

_Floats = npt.NDArray[np.float32]


SCORE = 0.005
"""The lowest score that Darknet's evaluation considers (detector.c:1005)."""


@dataclass(frozen=True, eq=False)
class ClassScore:
    """The score of one class.

    Attributes:
        class_id: class number.
        name: class name.
        truths: number of its labels.
        ap: average precision, 0..1.
        tp: labels detected above the score threshold.
        fp: detections above it without a label, or of a label already detected.
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
    """The figures of `darknet detector map`.

    Attributes:
        classes: the score of each class.
        match_iou: the IoU above which a detection matches a label.
        points: number of recalls at which precision is sampled; 0 is the area under the curve.
        score_threshold: for `tp`, `fp` and what is derived from them.
        images: number of images.
        detections: number of detections above 0.005, of all classes.
        average_iou: over all classes, see `ClassScore`.
        coco: COCO's twelve metrics by name, if computed.
        about: what was evaluated; added to `to_dict`.
        unread: unreadable images, with the reason; they count as images without detections.
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
        return sum(one.ap for one in self.classes) / len(self.classes)

    @property
    def tp(self) -> int:
        """The sum over all classes."""
        return sum(one.tp for one in self.classes)

    @property
    def fp(self) -> int:
        """The sum over all classes."""
        return sum(one.fp for one in self.classes)

    @property
    def fn(self) -> int:
        """The sum over all classes."""
        return sum(one.fn for one in self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Returns a dictionary for JSON."""
        return {
            **self.about,
            "pictures": self.images,
            "unread": [{"path": path, "error": error} for path, error in self.unread],
            "truths": sum(one.truths for one in self.classes),
            "detections": self.detections,
            "iou_threshold": self.match_iou,
            "points": self.points,
            "score_threshold": self.score_threshold,
            "map": self.mean_ap,
            "average_iou": self.average_iou,
            **_rates(self.tp, self.fp, self.fn),
            "classes": [one.to_dict() for one in self.classes],
            "coco": None if self.coco is None else dict(self.coco),
        }

    def __str__(self) -> str:
        lines = [
            f"class_id = {one.class_id}, name = {one.name}, ap = {100 * one.ap:2.2f}%   \t "
            f"(TP = {one.tp}, FP = {one.fp})"
            for one in self.classes
        ]
        return "\n".join([*lines, "", *self._summary()])

    def table(self) -> str:
        """Returns a table of the classes, as hank-ai's `map` prints it, and the summary.

        The columns are AP, labels, TP, FP, FN, precision, recall, F1 and average IoU.
        """
        width = max([4, *(len(one.name) for one in self.classes)])
        titles = "    AP % labels     TP     FP     FN precision recall   F1  avg IoU %"
        lines = [f"  id {'name':<{width}} {titles}"]
        for one in self.classes:
            rates = _rates(one.tp, one.fp, one.fn)
            shares = (f"{_shown(rates[key]):>4}" for key in ("precision", "recall", "f1"))
            precision, recall, f1 = shares
            lines.append(
                f"{one.class_id:>4} {one.name:<{width}} {100 * one.ap:>8.2f} {one.truths:>6} "
                f"{one.tp:>6} {one.fp:>6} {one.fn:>6} {precision:>9} {recall:>6} {f1} "
                f"{100 * one.average_iou:>10.2f}"
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


def check_options(match_iou: float, points: int, score_threshold: float) -> None:
    """Raises ValueError for options that `score` refuses."""
    if points == 1 or points < 0:
        raise ValueError(f"points={points} must be 0, or at least 2")
    check_threshold("match_iou", match_iou)
    check_threshold("score_threshold", score_threshold)


@renamed(found="detections", pictures="images", names="class_names", iou_threshold="match_iou")
def score(
    detections: Sequence[tuple[Detections, tuple[int, int]]],
    images: Sequence[AnnotatedImage],
    class_names: Sequence[str],
    *,
    match_iou: float = 0.5,
    points: int = 0,
    score_threshold: float = DetectionOptions.score_threshold,
    about: Mapping[str, Any] | None = None,
) -> Score:
    """Computes the figures of `darknet detector map`.

    Args:
        detections: for each image, its detections in pixels and its (width, height). Of two
            detections of one label above the score threshold, the first counts as right.
        images: the labelled images.
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
    for (found, size), image in zip(detections, images, strict=True):
        tally.add(found, size, image)
    ranked = _ranked(tally)
    classes = []
    for class_id, name in enumerate(class_names):
        truths = int(tally.truths[class_id])
        precisions, recalls = _curve(ranked[class_id], truths)
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
        self.labels: list[int] = []  # index of the matched label over all images; -1 for none
        self._labels_before = 0

    def add(self, found: Detections, size: tuple[int, int], picture: AnnotatedImage) -> None:
        truths, difficult = picture.truths, picture.difficult
        wrong = truths.classes[truths.classes >= len(self.truths)]
        if len(wrong):
            raise YolotfError(
                f"{picture.path}: a label of class {wrong[0]}, the network has "
                f"{len(self.truths)} classes; labels and network do not belong together",
                path=str(picture.path),
                expected=len(self.truths),
                found=int(wrong[0]),
            )
        np.add.at(self.truths, truths.classes, 1)
        boxes = relative(found.xyxy, size)
        overlaps = iou(boxes, truths.boxes)
        hard = iou(boxes, difficult.boxes)
        seen: set[int] = set()
        for index, (class_id, value) in enumerate(zip(found.classes, found.scores, strict=True)):
            if not value > SCORE:
                continue
            mine = np.where(truths.classes == class_id, overlaps[index], np.float32(-1))
            best = int(mine.argmax()) if len(mine) else -1
            if best >= 0 and not mine[best] > self.iou_threshold:
                best = -1
            spared = best < 0 and bool(
                np.any((difficult.classes == class_id) & (hard[index] > self.iou_threshold))
            )
            if not spared:
                self.scores.append(float(value))
                self.classes.append(class_id)
                self.labels.append(-1 if best < 0 else self._labels_before + best)
            if value > self.score_threshold:
                if best >= 0 and best not in seen:
                    self.tp[class_id] += 1
                    self.iou[class_id] += float(mine[best])
                else:
                    self.fp[class_id] += 1
            # A lower-scored box before it claims a label, too (detector.c:1136).
            seen.add(best)
        self._labels_before += len(truths.classes)


def relative(xyxy: _Floats, size: tuple[int, int]) -> _Floats:
    """Converts corners in pixels to centre x, y, width, height relative to the image."""
    left, top, right, bottom = np.asarray(xyxy, np.float64).reshape(-1, 4).T
    width, height = size
    columns = (left + right) / 2 / width, (top + bottom) / 2 / height
    boxes = np.stack([*columns, (right - left) / width, (bottom - top) / height], 1)
    return boxes.astype(np.float32)


def iou(a: _Floats, b: _Floats) -> _Floats:
    """Returns the [N, M] IoUs of relative boxes (box_iou, box.c)."""
    first, second = a[:, None], b[None]
    low = np.maximum(first[..., :2] - first[..., 2:] / 2, second[..., :2] - second[..., 2:] / 2)
    high = np.minimum(first[..., :2] + first[..., 2:] / 2, second[..., :2] + second[..., 2:] / 2)
    both = np.prod(np.maximum(high - low, 0), 2)
    either = np.prod(first[..., 2:], 2) + np.prod(second[..., 2:], 2) - both
    out: _Floats = np.divide(both, either, out=np.zeros_like(both), where=(both > 0) & (either > 0))
    return out


def _ranked(tally: _Tally) -> list[npt.NDArray[np.bool_]]:
    """Returns for each class, by descending score, whether a detection is its label's first."""
    order = np.argsort(-np.array(tally.scores, np.float32), kind="stable")
    taken: set[int] = set()
    out: list[list[bool]] = [[] for _ in tally.truths]
    for index in order:
        label = tally.labels[index]
        out[tally.classes[index]].append(label >= 0 and label not in taken)
        taken.add(label)
    return [np.array(one, bool) for one in out]


def _curve(
    hits: npt.NDArray[np.bool_], truths: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns precision and recall after each detection."""
    tp = np.cumsum(hits, dtype=np.float64)
    precisions = tp / np.arange(1, len(hits) + 1)
    return precisions, tp / truths if truths else np.zeros_like(tp)


def average_precision(
    precisions: npt.NDArray[np.float64], recalls: npt.NDArray[np.float64], points: int = 0
) -> float:
    """Returns Darknet's average of precision over recall (detector.c:1240-1290).

    For the area under the curve, Darknet takes for each recall step the best precision from the
    previous step on, not from the step itself.
    """
    if not len(precisions):
        return 0.0
    best = np.maximum.accumulate(precisions[::-1])[::-1]
    if points:
        wanted = np.arange(points) / (points - 1)
        at = np.searchsorted(recalls, wanted, side="left")
        return float(np.where(at < len(best), best[np.minimum(at, len(best) - 1)], 0).mean())
    steps = np.diff(recalls, prepend=0)
    return float((steps * np.concatenate([best[:1], best[:-1]])).sum())


def _rates(tp: int, fp: int, fn: int) -> dict[str, Any]:
    precision = tp / (tp + fp) if tp + fp else None
    recall = tp / (tp + fn) if tp + fn else None
    f1 = 2 * tp / (2 * tp + fp + fn) if tp else None
    return {"tp": tp, "fp": fp, "fn": fn, "precision": precision, "recall": recall, "f1": f1}


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:1.2f}"
