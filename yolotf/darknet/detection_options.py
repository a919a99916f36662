"""Which detections are wanted: the only place with the defaults and the checks."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from yolotf.darknet.cfg import Network
from yolotf.darknet.decoding import NMS_KINDS, Suppression, suppression_of
from yolotf.errors import YolotfError
from yolotf.text import plural

Resize = Literal["darknet", "opencv"]
"""`darknet`: `resize_image`, as `darknet detector test` and AlexeyAB's `map` have it, with the
corners of both images on each other. `opencv`: OpenCV's bilinear `cv::resize` of bytes, as both
Darknets train and hank-ai's library predicts."""

Only = str | Iterable[str | int] | None
"""Class names and numbers; in a string with commas between."""


def check_resize(resize: str) -> None:
    """Raises ValueError for what is no `Resize`."""
    if resize not in get_args(Resize):
        raise ValueError(f"resize={resize!r}; one of {', '.join(get_args(Resize))}")


def check_threshold(name: str, value: float) -> None:
    """Raises ValueError for a score or an overlap that nothing, or everything, could exceed."""
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value} must be at least 0 and below 1")


def check_count(name: str, value: int) -> None:
    """Raises ValueError for a number below 1."""
    if value < 1:
        raise ValueError(f"{name}={value} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class DetectionOptions:
    """Which detections are wanted.

    Attributes:
        score_threshold: lowest score of a detection; at least 0, below 1.
        iou_threshold: boxes of one class that overlap more exclude each other; likewise.
        max_boxes: detections of an image, the best ones.
        nms_kind: `default`, `greedynms` or `diounms` in place of the cfg's.
        agnostic: boxes of different classes exclude each other, too.
        only: the classes to detect, by name or number from 0, as a list or as text with commas
            between; boxes of others exclude none. None: all.
        letter_box: whether images keep their proportions, in place of the cfg's.
        resize: how images are brought to the network's size: `darknet` as `darknet detector test`
            does, or `opencv` as `cv2.resize` does.

    Raises:
        ValueError: a value out of range.
    """

    score_threshold: float = 0.25  # with the next, of Darknet's `detect` (detector.c:1625, 1679)
    iou_threshold: float = 0.45
    max_boxes: int = 300
    nms_kind: str | None = None
    agnostic: bool = False
    only: Only = None
    letter_box: bool | None = None
    resize: Resize = "darknet"

    def __post_init__(self) -> None:
        check_threshold("score_threshold", self.score_threshold)
        check_threshold("iou_threshold", self.iou_threshold)
        check_count("max_boxes", self.max_boxes)
        if self.nms_kind is not None and self.nms_kind not in NMS_KINDS:
            raise ValueError(f"nms_kind={self.nms_kind!r}; one of {', '.join(NMS_KINDS)}")
        check_resize(self.resize)
        if not (self.only is None or isinstance(self.only, str)):
            object.__setattr__(self, "only", tuple(self.only))  # an iterator is read only once

    def suppression(self, network: Network) -> Suppression:
        """The cfg's, with the kind that was asked for."""
        suppression = suppression_of(network)
        return suppression if self.nms_kind is None else suppression._replace(kind=self.nms_kind)

    def unwanted(self, network: Network, names: Sequence[str] = ()) -> tuple[int, ...]:
        """The classes that `only` leaves out.

        Args:
            network: whose heads are decoded.
            names: of the classes, as far as they are known.

        Raises:
            YolotfError: `only` has a name or number that no class has.
        """
        return () if self.only is None else _unwanted(self.only, network, names)

    def applied_to(self, network: Network) -> Network:
        """The network with the `letter_box` that was asked for."""
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
        raise YolotfError(f"{only!r} names no class", found=only, expected=classes)
    return tuple(sorted(set(range(classes)) - wanted))


def _number(item: str | int, numbers: dict[str, int], classes: int) -> int:
    if isinstance(item, str):
        number = numbers.get(item, int(item) if item.isdecimal() and len(item) < 10 else -1)
    else:
        number = operator.index(item)
    if not 0 <= number < classes:
        known = (
            f"names are {', '.join(numbers)}"
            if numbers
            else f"no names are given: say numbers, 0 to {classes - 1}"
        )
        raise YolotfError(
            f"{item!r} is none of the {plural(classes, 'class', 'classes')}; {known}",
            found=item,
            expected=classes,
        )
    return number
