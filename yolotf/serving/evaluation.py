"""How good a detector is on labelled pictures: Darknet's mean average precision, and COCO's.

`score` follows `darknet detector map` step by step, its oddities included (AlexeyAB/darknet
src/detector.c:937, validate_detector_map), so that its figures are met; the twelve numbers of COCO
come from pycocotools. No TensorFlow but in the detector.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yolotf.errors import MissingPackageError, YolotfError
from yolotf.serving.detections import Detections
from yolotf.serving.pictures import read_picture

_Path = str | os.PathLike[str]
_Floats = npt.NDArray[np.float32]
_Integers = npt.NDArray[np.int64]

SCORE = 0.005
"""The lowest score Darknet's evaluation looks at (detector.c:1005)."""
COCO_SCORE = 0.001
"""The lowest one in what Darknet writes for COCO (detector.c:780)."""
MAX_BOXES = 2000

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


class Truths(NamedTuple):
    """What a person saw in a picture."""

    classes: _Integers
    """[N]."""
    boxes: _Floats
    """[N, 4]: centre x, y, width, height relative to the picture, as in Darknet's label files."""


@dataclass(frozen=True, eq=False)
class LabelledPicture:
    """One picture of a data set.

    Attributes:
        path: the picture.
        truths: its labels.
        difficult: labels that count neither as missed nor as found.
        coco_id: its number in a COCO file.
    """

    path: Path
    truths: Truths
    difficult: Truths
    coco_id: int | None = None


@dataclass(frozen=True, eq=False)
class DataSet:
    """Labelled pictures.

    Attributes:
        source: the file that lists them.
        pictures: in its order.
        names: of the classes; empty if it says none.
        classes: how many classes it has; None if it does not say.
        unlabelled: pictures without a label file, which count as empty, as in Darknet.
        coco: the contents of a COCO file; None for Darknet's.
        categories: COCO's number of each class.
    """

    source: str
    pictures: tuple[LabelledPicture, ...]
    names: tuple[str, ...] = ()
    classes: int | None = None
    unlabelled: tuple[Path, ...] = ()
    coco: Mapping[str, Any] | None = None
    categories: tuple[int, ...] = ()


# Darknet's data files.

_REPLACED = (
    ("/images/train2017/", "/labels/train2017/"),
    ("/images/val2017/", "/labels/val2017/"),
    ("/JPEGImages/", "/labels/"),
    ("/images/train2014/", "/labels/train2014/"),
    ("/images/val2014/", "/labels/val2014/"),
)
"""replace_image_to_label, utils.c; the first of each is replaced."""
_PICTURES = (
    ".jpg",
    ".JPG",
    ".jpeg",
    ".JPEG",
    ".png",
    ".PNG",
    ".bmp",
    ".BMP",
    ".ppm",
    ".PPM",
    ".tiff",
    ".TIFF",
)


def label_path(picture: _Path) -> Path:
    """Where Darknet looks for the labels of a picture."""
    text = os.fspath(picture)
    for folder, labels in _REPLACED:
        text = text.replace(folder, labels, 1)
    text = text.strip(" \t")
    for ending in _PICTURES:
        if text.endswith(ending):
            text = text[: -len(ending)] + ".txt"
            break
    return Path(text)


def read_data_file(path: _Path) -> dict[str, str]:
    """The lines `key = value` of a data file such as obj.data.

    Raises:
        OSError: it cannot be read.
        YolotfError: a line is of another form.
    """
    options: dict[str, str] = {}
    for number, line in enumerate(_lines(path), 1):
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        key, equals, value = text.partition("=")
        if not equals:
            raise YolotfError(
                f"{os.fspath(path)}: line {number} is no `key = value`: {text[:60]!r}; a data file "
                "has lines such as `valid = data/test.txt`",
                path=os.fspath(path),
                line=number,
            )
        options[key.strip()] = value.strip()
    return options


def read_darknet(path: _Path) -> DataSet:
    """The pictures of a data file: its `valid` list, their labels beside them, its `names`.

    Paths in it are looked for from the working directory, as Darknet does, then from the data
    file's folder and those above it.

    Raises:
        OSError: a file cannot be read.
        YolotfError: it names no list, a list is empty, or a label is none.
    """
    options = read_data_file(path)
    listed = options.get("valid") or options.get("train")
    if listed is None:
        raise YolotfError(
            f"{os.fspath(path)}: no `valid = FILE`; name the list of pictures to evaluate on",
            path=os.fspath(path),
        )
    base = Path(path).resolve().parent
    classes = int(options["classes"]) if options.get("classes", "").isdigit() else None
    names = _names(_found(options["names"], base)) if "names" in options else ()
    paths = _listed(_found(listed, base), base)
    hard = _listed(_found(options["difficult"], base), base) if "difficult" in options else []
    limit = classes if classes is not None else len(names) or None
    unlabelled: list[Path] = []
    pictures = []
    for index, picture in enumerate(paths):
        labels = label_path(picture)
        truths = _labels(labels, limit)
        if truths is None:
            unlabelled.append(picture)
        difficult = _labels(label_path(hard[index]), limit) if index < len(hard) else None
        pictures.append(LabelledPicture(picture, truths or _NO_TRUTHS, difficult or _NO_TRUTHS))
    return DataSet(os.fspath(path), tuple(pictures), names, classes, tuple(unlabelled))


_NO_TRUTHS = Truths(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))


def _lines(path: _Path) -> list[str]:
    return Path(path).read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()


def _names(path: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in "\n".join(_lines(path)).rstrip().splitlines())


def _found(name: str, base: Path) -> Path:
    """`name` from the working directory, else from `base` or above; as it is if nowhere."""
    path = Path(name)
    if path.is_absolute() or path.exists():
        return path
    places = (folder / path for folder in (base, *base.parents))
    return next((place for place in places if place.exists()), path)


def _listed(path: Path, base: Path) -> list[Path]:
    names = [line.strip() for line in _lines(path)]
    found = [_found(name, base) for name in names if name]
    if not found:
        raise YolotfError(f"{path}: an empty list; it names one picture a line", path=str(path))
    return found


def _labels(path: Path, classes: int | None) -> Truths | None:
    """`class x y width height` a line; None without a file."""
    try:
        lines = _lines(path)
    except FileNotFoundError:
        return None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        parts = line.split()
        try:
            class_id, box = int(parts[0]), [float(part) for part in parts[1:]]
        except ValueError:
            class_id, box = -1, []
        right = len(box) == 4 and all(map(math.isfinite, box))
        if not right or class_id < 0 or (classes is not None and class_id >= classes):
            limit = "" if classes is None else f" below {classes}"
            raise YolotfError(
                f"{path}: line {number} is no label: {line.strip()[:60]!r}; it has a class number"
                f"{limit}, then centre x, y, width and height relative to the picture",
                path=str(path),
                line=number,
            )
        rows.append([class_id, *box])
    table = np.array(rows, np.float64).reshape(-1, 5)
    return Truths(table[:, 0].astype(np.int64), table[:, 1:].astype(np.float32))


# COCO's.


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
        content = json.loads(Path(path).read_text(encoding="utf-8"))
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


# Detecting.


def detect_all(
    detector: Callable[[list[Any]], list[Detections]],
    data: DataSet,
    *,
    channels: int = 3,
    batch: int = 8,
    progress: Callable[[int], None] = lambda count: None,
) -> list[tuple[Detections, tuple[int, int]]]:
    """What a detector finds in every picture, and its (width, height).

    Pictures are read in other threads while the network runs.

    Raises:
        OSError: a picture cannot be read.
    """
    found: list[tuple[Detections, tuple[int, int]]] = []
    starts = range(0, len(data.pictures), batch)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), "yolotf-read") as pool:

        def submit(start: int) -> list[Future[npt.NDArray[Any]]]:
            wanted = data.pictures[start : start + batch]
            return [pool.submit(read_picture, one.path, channels) for one in wanted]

        waiting = submit(0)
        try:
            for start in starts:
                arrays = [future.result() for future in waiting]
                waiting = submit(start + batch)
                answers = detector(arrays)
                sizes = [(array.shape[1], array.shape[0]) for array in arrays]
                found += zip(answers, sizes, strict=True)
                progress(len(arrays))
        finally:
            for future in waiting:
                future.cancel()
    return found


# Darknet's score.


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
        rates = _rates(self.tp, self.fp, self.fn)
        lines = [
            f"class_id = {one.class_id}, name = {one.name}, ap = {100 * one.ap:2.2f}%   \t "
            f"(TP = {one.tp}, FP = {one.fp})"
            for one in self.classes
        ]
        threshold = f"for conf_thresh = {self.score_threshold:1.2f}"
        lines += [
            "",
            f"{threshold}, precision = {_shown(rates['precision'])}, "
            f"recall = {_shown(rates['recall'])}, F1-score = {_shown(rates['f1'])}",
            f"{threshold}, TP = {self.tp}, FP = {self.fp}, FN = {self.fn}, "
            f"average IoU = {100 * self.average_iou:2.2f} %",
            "",
            f"IoU threshold = {100 * self.iou_threshold:2.0f} %, used "
            + (f"{self.points} Recall-points" if self.points else "Area-Under-Curve"),
            f"mean average precision (mAP@{self.iou_threshold:0.2f}) = {self.mean_ap:f}, or "
            f"{100 * self.mean_ap:2.2f} %",
        ]
        if self.coco is not None:
            lines += ["", "  ".join(f"{name} {value:.3f}" for name, value in self.coco.items())]
        return "\n".join(lines)


def score(
    found: Sequence[tuple[Detections, tuple[int, int]]],
    pictures: Sequence[LabelledPicture],
    names: Sequence[str],
    *,
    iou_threshold: float = 0.5,
    points: int = 0,
    score_threshold: float = 0.25,
    about: Mapping[str, Any] | None = None,
) -> Score:
    """The figures of `darknet detector map`.

    Args:
        found: detections of each picture in its pixels, and its (width, height).
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
    if points == 1 or points < 0:
        raise ValueError(f"points={points} must be 0, or at least 2")
    for what, value in (("iou_threshold", iou_threshold), ("score_threshold", score_threshold)):
        if not 0 <= value < 1:
            raise ValueError(f"{what}={value} must be at least 0 and below 1")
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
        for index in darknet_order(found):
            class_id, value = int(found.classes[index]), np.float32(found.scores[index])
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


def darknet_order(found: Detections) -> list[int]:
    """Detections in the order Darknet goes through them.

    Its suppression sorts the boxes once a class, so that the last class decides, then the one
    before; of a box, classes come by number (do_nms_sort, box.c:812).
    """
    places: dict[bytes, list[int]] = {}
    for index, box in enumerate(found.xyxy):
        places.setdefault(box.tobytes(), []).append(index)

    def rank(indices: list[int]) -> list[tuple[int, float]]:
        # Sorted like vectors of all classes' scores, the last class first: what is absent is 0.
        pairs = ((-int(found.classes[i]), -float(found.scores[i])) for i in indices)
        return [*sorted(pairs), (1, 0.0)]

    ordered = sorted(places.values(), key=rank)
    return [i for box in ordered for i in sorted(box, key=lambda i: int(found.classes[i]))]


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


# COCO's score.


def coco_numbers(
    found: Sequence[tuple[Detections, tuple[int, int]]], data: DataSet
) -> dict[str, float]:
    """COCO's twelve numbers, by pycocotools; boxes are cut at the pictures, as Darknet writes them.

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
        truth = COCO()
        truth.dataset = {"info": {}, **dict(data.coco or {})}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.catIds = list(data.categories)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(COCO_NUMBERS, evaluation.stats, strict=True)}


# All of it.


def evaluate(
    network: Any,
    weights: _Path,
    data: DataSet,
    *,
    iou_threshold: float = 0.5,
    points: int = 0,
    score_threshold: float = 0.25,
    batch: int = 8,
    progress: Callable[[int], None] = lambda count: None,
) -> Score:
    """Runs a detector over a data set and scores it.

    Args:
        network: as of `Detector`.
        weights: the `.weights` file.
        data: from `read_darknet` or `read_coco`; with the latter COCO's numbers are computed, too.
        iou_threshold: see `score`.
        points: see `score`.
        score_threshold: see `score`.
        batch: pictures that go through the network at once.
        progress: told how many pictures more are done.

    Raises:
        OSError: a file cannot be read.
        YolotfError: the data set is of other classes than the network.
    """
    from yolotf.serving.inference import Detector  # which may import TensorFlow

    detector = Detector(
        network,
        weights,
        names=data.names or None,
        score=SCORE if data.coco is None else COCO_SCORE,
        max_boxes=MAX_BOXES,
        batch_size=batch,
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
        progress=progress,
    )
    seconds = time.perf_counter() - started
    about = {
        "network": net.source,
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
    return _with_coco(result, coco_numbers(found, data))


def _with_coco(result: Score, numbers: Mapping[str, float]) -> Score:
    return dataclasses.replace(result, coco=numbers)


def plot(result: Score, path: _Path) -> None:
    """Writes precision over recall of every class; the ending of `path` decides the format.

    Raises:
        MissingPackageError: matplotlib is not installed.
        OSError: it cannot be written.
    """
    try:
        from matplotlib.figure import Figure  # optional
    except ImportError as error:
        raise MissingPackageError(
            'a plot needs matplotlib; pip install "yolotf[eval]"', package="matplotlib"
        ) from error
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    labelled = [one for one in result.classes if one.truths]
    for one in labelled:
        label = f"{one.name} {100 * one.ap:.1f} %" if len(labelled) <= 20 else None
        recalls = np.concatenate([[0.0], one.recalls])
        precisions = np.concatenate([one.precisions[:1], one.precisions])
        if len(one.precisions):
            axes.plot(recalls, precisions, label=label, linewidth=1)
    axes.set(
        xlabel="recall",
        ylabel="precision",
        xlim=(0, 1.01),
        ylim=(0, 1.01),
        title=f"mAP@{result.iou_threshold:.2f} = {100 * result.mean_ap:.2f} %",
    )
    axes.grid(alpha=0.3)
    if 0 < len(labelled) <= 20:
        axes.legend(fontsize="small")
    try:
        figure.savefig(os.fspath(path), dpi=150)
    except ValueError as error:  # an ending matplotlib has no format for
        raise ValueError(f"{os.fspath(path)}: {error}") from error


# Two results against each other.

_SETTINGS = (
    "network",
    "size",
    "data",
    "pictures",
    "truths",
    "iou_threshold",
    "points",
    "score_threshold",
)


def read_result(path: _Path) -> dict[str, Any]:
    """What `yolotf eval --json` printed.

    Raises:
        OSError: it cannot be read.
        YolotfError: it is something else.
    """
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise YolotfError(
            f"{os.fspath(path)}: not JSON: {error}; give what `yolotf eval --json` printed",
            path=os.fspath(path),
        ) from error
    if not isinstance(result, dict) or "map" not in result or "classes" not in result:
        raise YolotfError(
            f"{os.fspath(path)}: no result of `yolotf eval --json`: map or classes are missing",
            path=os.fspath(path),
        )
    return result


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """What differs between two results, in points of their numbers (`b` less `a`).

    Returns:
        `settings`: those that differ, as [a, b]; `numbers`: name -> {"a", "b", "difference"};
        `classes`: likewise for each class' average precision, the largest change first.
    """
    settings = {key: [a.get(key), b.get(key)] for key in _SETTINGS if a.get(key) != b.get(key)}
    keys = ("map", "precision", "recall", "f1", "average_iou", "tp", "fp", "fn", "detections")
    numbers = {key: _difference(a.get(key), b.get(key)) for key in keys}
    coco_a, coco_b = a.get("coco") or {}, b.get("coco") or {}
    numbers.update(
        (key, _difference(coco_a[key], coco_b[key]))
        for key in COCO_NUMBERS
        if key in coco_a and key in coco_b
    )
    ap_a = {one["name"]: one["ap"] for one in a["classes"]}
    ap_b = {one["name"]: one["ap"] for one in b["classes"]}
    classes = {name: _difference(ap_a.get(name), ap_b.get(name)) for name in (*ap_a, *ap_b)}
    ranked = sorted(classes.items(), key=lambda pair: -abs(pair[1]["difference"] or 0.0))
    return {"settings": settings, "numbers": numbers, "classes": dict(ranked)}


def _difference(a: float | None, b: float | None) -> dict[str, Any]:
    both = a is not None and b is not None
    return {"a": a, "b": b, "difference": b - a if both else None}  # type: ignore[operator]


def comparison_lines(found: Mapping[str, Any], *, most: int = 20) -> Iterator[str]:
    """`compare` as text, `most` classes of it."""
    for key, (first, second) in found["settings"].items():
        yield f"{key} differs: {first} and {second}"
    if found["settings"]:
        yield ""
    for key, one in found["numbers"].items():
        yield _comparison(key, one)
    changed = [(key, one) for key, one in found["classes"].items() if one["difference"]]
    if changed:
        yield ""
    yield from (_comparison(f"ap {key}", one) for key, one in changed[:most])
    if len(changed) > most:
        yield f"and {len(changed) - most} classes more, which changed less"


def _comparison(key: str, one: Mapping[str, Any]) -> str:
    def shown(value: float | None, sign: str = "") -> str:
        if value is None:
            return "-"
        return format(value, f"{sign}d" if isinstance(value, int) else f"{sign}.4f")

    values = f"{shown(one['a']):>9} {shown(one['b']):>9} {shown(one['difference'], '+'):>9}"
    return f"{key:<24.24} {values}"
