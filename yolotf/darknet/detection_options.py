"""Options that select detections: their defaults and checks."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from yolotf import argument_numbers
from yolotf.darknet.cfg import Network
from yolotf.darknet.decoding import NMS_KINDS, Suppression, suppression_of
from yolotf.errors import YolotfError
from yolotf.text import names_hint, plural

Resize = Literal["darknet", "opencv", "opencv_exact"]
"""`darknet`: `resize_image`, as in `darknet detector test` and AlexeyAB's `map`, which aligns the
corner pixels. `opencv`: OpenCV's bilinear `cv::resize` of bytes, as in training with both forks and
in hank-ai's library. `opencv_exact`: the same with INTER_LINEAR_EXACT, as in hank-ai's `map`
(darknet_image.cpp:1662)."""

Only = str | Iterable[str | int] | None
"""Class names and numbers, as a list or as a comma-separated string."""


def check_resize(resize: str) -> None:
    """Raises ValueError unless `resize` is a `Resize`."""
    if resize not in get_args(Resize):
        raise ValueError(f"resize={resize!r} must be one of {', '.join(get_args(Resize))}")


def checked_threshold(name: str, value: float) -> float:
    """Returns a threshold.

    Raises:
        TypeError: it is not a number.
        ValueError: it is not in [0, 1).
    """
    number = argument_numbers.real(name, value)
    if not 0 <= number < 1:
        raise ValueError(f"{name}={value} must be at least 0 and below 1")
    return number


MOST_BOXES = 1_000_000
"""Largest `max_boxes`: functions in graphs return as many rows; yolov4 has 22,743 boxes."""


@dataclass(frozen=True, kw_only=True)
class DetectionOptions:
    """Which detections to return.

    Attributes:
        score_threshold: lowest score of a detection, in [0, 1).
        iou_threshold: of boxes of one class that overlap more (IoU), only the best is kept; in
            [0, 1).
        max_boxes: largest number of detections per image; the best are kept.
        nms_kind: `default`, `greedynms` or `diounms`; None: as in the cfg.
        agnostic: suppress overlapping boxes of different classes too.
        only: the classes to detect, by name or number from 0, as a list or a comma-separated
            string; boxes of other classes suppress nothing. None: all classes.
        letter_box: whether images keep their proportions; None: as in the cfg.
        resize: how images are resized to the network's size: `darknet` as `darknet detector test`
            does, `opencv` as `cv2.resize` does, or `opencv_exact` as with INTER_LINEAR_EXACT.

    Raises:
        TypeError: a value has another type.
        ValueError: a value is out of range.
    """

    score_threshold: float = 0.25  # these two as in Darknet's `detect` (detector.c:1625, 1679)
    iou_threshold: float = 0.45
    max_boxes: int = 300
    nms_kind: str | None = None
    agnostic: bool = False
    only: Only = None
    letter_box: bool | None = None
    resize: Resize = "darknet"

    def __post_init__(self) -> None:
        numbers: dict[str, Any] = {
            "score_threshold": checked_threshold("score_threshold", self.score_threshold),
            "iou_threshold": checked_threshold("iou_threshold", self.iou_threshold),
            "max_boxes": argument_numbers.count("max_boxes", self.max_boxes, most=MOST_BOXES),
            "agnostic": argument_numbers.flag("agnostic", self.agnostic),
        }
        if self.letter_box is not None:
            numbers["letter_box"] = argument_numbers.flag("letter_box", self.letter_box)
        for name, number in numbers.items():
            object.__setattr__(self, name, number)
        if self.nms_kind is not None and self.nms_kind not in NMS_KINDS:
            raise ValueError(f"nms_kind={self.nms_kind!r} must be one of {', '.join(NMS_KINDS)}")
        check_resize(self.resize)
        if not (self.only is None or isinstance(self.only, str)):
            if not isinstance(self.only, Iterable):
                raise TypeError(
                    f"only={self.only!r:.80} must be class names and numbers, as in only=[0]"
                )
            object.__setattr__(self, "only", tuple(self.only))  # an iterator is read only once

    def suppression(self, network: Network) -> Suppression:
        """The cfg's suppression, with `nms_kind` if given."""
        suppression = suppression_of(network)
        return suppression if self.nms_kind is None else suppression._replace(kind=self.nms_kind)

    def unwanted(self, network: Network, names: Sequence[str] = ()) -> tuple[int, ...]:
        """The classes that `only` leaves out.

        Args:
            network: the network whose heads are decoded.
            names: class names, if known.

        Raises:
            YolotfError: `only` has a name or number that is not a class.
        """
        return () if self.only is None else _unwanted(self.only, network, names)

    def applied_to(self, network: Network) -> Network:
        """The network, with `letter_box` if given."""
        if self.letter_box is None or network.letter_box == self.letter_box:
            return network
        return replace(network, net=network.net.with_option("letter_box", int(self.letter_box)))


def _unwanted(
    only: str | Iterable[str | int], network: Network, names: Sequence[str]
) -> tuple[int, ...]:
    """The classes that `only` does not name."""
    classes = max(head.classes for head in network.heads)
    items = [part.strip() for part in only.split(",")] if isinstance(only, str) else list(only)
    numbers = {name: number for number, name in enumerate(names)}
    wanted = {_number(item, numbers, classes) for item in items if item != ""}
    if not wanted:
        raise YolotfError(
            f"only={only!r} names no class; pass names or numbers, as in only='person,car'",
            found=only,
            expected=classes,
        )
    return tuple(sorted(set(range(classes)) - wanted))


def _number(item: str | int, numbers: dict[str, int], classes: int) -> int:
    if isinstance(item, str):
        number = numbers.get(item, int(item) if item.isdecimal() and len(item) < 10 else -1)
    else:
        number = operator.index(item)
    if not 0 <= number < classes:
        known = (
            names_hint(str(item), numbers)
            if numbers
            else f"there are no class names: use numbers, 0 to {classes - 1}"
        )
        raise YolotfError(
            f"{item!r} is not one of the {plural(classes, 'class', 'classes')}; {known}",
            found=item,
            expected=classes,
        )
    return number
