"""Darknet's mean average precision, as `darknet detector map` computes and prints it.

Step by step as AlexeyAB/darknet's src/detector.c:937 (validate_detector_map) has it, its oddities
included, so that its figures are met.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotf._public import public
from yolotf.darknet.detection_options import DetectionOptions, check_threshold
from yolotf.errors import YolotfError
from yolotf.evaluation.data_set import LabelledPicture
from yolotf.images.detections import Detections

_Floats = npt.NDArray[np.float32]


SCORE = 0.005
"""The lowest score Darknet's evaluation looks at (detector.c:1005)."""


@dataclass(frozen=True, eq=False)
class ClassScore:
    """One class.

    Attributes:
        class_id: its number.
        name: its name.
        truths: labels of it.
        ap: average precision, 0..1.
        tp: found above the score threshold.
        fp: detections above it that are none, or of what was found already.
        average_iou: overlap with the labels, summed over `tp` and divided by `tp + fp`.
        precisions: after each detection, by falling score.
        recalls: likewise.
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
        """Labels that were not found."""
        return self.truths - self.tp

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; None for what has no value."""
        return {
            "class": self.class_id,
            "name": self.name,
            "truths": self.truths,
            "ap": self.ap,
            "average_iou": self.average_iou,
            **_rates(self.tp, self.fp, self.fn),
        }


@public
@dataclass(frozen=True, eq=False)
class Score:
    """What `darknet detector map` prints.

    Attributes:
        classes: each class.
        iou_threshold: overlap above which a detection is of a label.
        points: recalls at which precision is read; 0 is the area under the curve.
        score_threshold: for `tp`, `fp` and what follows from them.
        pictures: how many.
        detections: above 0.005, of all classes.
        average_iou: as of a class.
        coco: COCO's twelve numbers by name, if they were computed.
        about: more for `to_dict`: what was evaluated.
        unread: pictures that could not be read, which count as ones in which nothing was found, and
            why.
    """

    classes: tuple[ClassScore, ...]
    iou_threshold: float
    points: int
    score_threshold: float
    pictures: int
    detections: int
    average_iou: float
    coco: Mapping[str, float] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    unread: tuple[tuple[str, str], ...] = ()

    @property
    def mean_ap(self) -> float:
        """The mean over all classes, those without a label as well."""
        return sum(one.ap for one in self.classes) / len(self.classes)

    @property
    def tp(self) -> int:
        """Of all classes."""
        return sum(one.tp for one in self.classes)

    @property
    def fp(self) -> int:
        """Of all classes."""
        return sum(one.fp for one in self.classes)

    @property
    def fn(self) -> int:
        """Of all classes."""
        return sum(one.fn for one in self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            **self.about,
            "pictures": self.pictures,
            "unread": [{"path": path, "error": error} for path, error in self.unread],
            "truths": sum(one.truths for one in self.classes),
            "detections": self.detections,
            "iou_threshold": self.iou_threshold,
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
        """Each class with its F1 and average overlap, as hank-ai's `map` shows them; the summary.

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
            f"IoU threshold = {100 * self.iou_threshold:2.0f} %, used "
            + (
                f"{self.points} Recall-points"
                if self.points
                else "Area-Under-Curve for each unique Recall"
            ),
            f"mean average precision (mAP@{self.iou_threshold:0.2f}) = {self.mean_ap:f}, or "
            f"{100 * self.mean_ap:2.2f} %",
        ]
        if self.coco is not None:
            lines += ["", "  ".join(f"{name} {value:.3f}" for name, value in self.coco.items())]
        return lines


def check_options(iou_threshold: float, points: int, score_threshold: float) -> None:
    """Raises ValueError where `score` would."""
    if points == 1 or points < 0:
        raise ValueError(f"points={points} must be 0, or at least 2")
    check_threshold("iou_threshold", iou_threshold)
    check_threshold("score_threshold", score_threshold)


def score(
    found: Sequence[tuple[Detections, tuple[int, int]]],
    pictures: Sequence[LabelledPicture],
    names: Sequence[str],
    *,
    iou_threshold: float = 0.5,
    points: int = 0,
    score_threshold: float = DetectionOptions.score_threshold,
    about: Mapping[str, Any] | None = None,
) -> Score:
    """The figures of `darknet detector map`.

    Args:
        found: detections of each picture in its pixels, and its (width, height). Their order says
            which of two of one label is right at the score threshold: the first.
        pictures: the labels.
        names: of all classes.
        iou_threshold: overlap above which a detection is of a label.
        points: recalls at which precision is read: 11 as in VOC 2007, 101 as in COCO; 0 is the
            area under the curve.
        score_threshold: for precision, recall, F1 and average overlap.
        about: what `Score.about` says.

    Raises:
        ValueError: `points` is 1 or negative, or a threshold out of range.
    """
    check_options(iou_threshold, points, score_threshold)
    tally = _Tally(len(names), np.float32(iou_threshold), np.float32(score_threshold))
    for (detections, size), picture in zip(found, pictures, strict=True):
        tally.add(detections, size, picture)
    ranked = _ranked(tally)
    classes = []
    for class_id, name in enumerate(names):
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
        iou_threshold,
        points,
        score_threshold,
        len(pictures),
        len(tally.scores),
        float(tally.iou.sum()) / counted,
        about=about or {},
    )


class _Tally:
    """What is counted picture by picture (detector.c:1060-1160)."""

    def __init__(self, classes: int, iou: np.float32, score: np.float32) -> None:
        self.iou_threshold, self.score_threshold = iou, score
        self.truths = np.zeros(classes, np.int64)
        self.tp = np.zeros(classes, np.int64)
        self.fp = np.zeros(classes, np.int64)
        self.iou = np.zeros(classes, np.float64)
        self.scores: list[float] = []
        self.classes: list[int] = []
        self.labels: list[int] = []  # number of the label found, in all pictures; -1 for none
        self._labels_before = 0

    def add(self, found: Detections, size: tuple[int, int], picture: LabelledPicture) -> None:
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
            # A weaker box before it takes a label away, too (detector.c:1136).
            seen.add(best)
        self._labels_before += len(truths.classes)


def relative(xyxy: _Floats, size: tuple[int, int]) -> _Floats:
    """Corners in pixels -> centre x, y, width, height relative to the picture."""
    left, top, right, bottom = np.asarray(xyxy, np.float64).reshape(-1, 4).T
    width, height = size
    columns = (left + right) / 2 / width, (top + bottom) / 2 / height
    boxes = np.stack([*columns, (right - left) / width, (bottom - top) / height], 1)
    return boxes.astype(np.float32)


def iou(a: _Floats, b: _Floats) -> _Floats:
    """[N, M] overlaps of relative boxes (box_iou, box.c)."""
    first, second = a[:, None], b[None]
    low = np.maximum(first[..., :2] - first[..., 2:] / 2, second[..., :2] - second[..., 2:] / 2)
    high = np.minimum(first[..., :2] + first[..., 2:] / 2, second[..., :2] + second[..., 2:] / 2)
    both = np.prod(np.maximum(high - low, 0), 2)
    either = np.prod(first[..., 2:], 2) + np.prod(second[..., 2:], 2) - both
    out: _Floats = np.divide(both, either, out=np.zeros_like(both), where=(both > 0) & (either > 0))
    return out


def _ranked(tally: _Tally) -> list[npt.NDArray[np.bool_]]:
    """For each class, by falling score, whether a detection is the first of its label."""
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
    """Precision and recall after each detection."""
    tp = np.cumsum(hits, dtype=np.float64)
    precisions = tp / np.arange(1, len(hits) + 1)
    return precisions, tp / truths if truths else np.zeros_like(tp)


def average_precision(
    precisions: npt.NDArray[np.float64], recalls: npt.NDArray[np.float64], points: int = 0
) -> float:
    """Darknet's average of precision over recall (detector.c:1240-1290).

    Its area under the curve takes for each step of recall the best precision from the step
    before on, not from the step itself.
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
