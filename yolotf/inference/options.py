"""Which detections are wanted: the arguments that all who detect have in common."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from yolotf.darknet.cfg import Network
from yolotf.darknet.decoding import NMS_KINDS, Suppression, check_heads, suppression_of
from yolotf.errors import YolotfError
from yolotf.text import plural

Only = str | Iterable[str | int] | None
"""Class names and numbers; in a string with commas between."""


class Thresholds(NamedTuple):
    """Checked arguments."""

    score: float
    """Lowest score of a detection."""
    iou: float
    """Boxes of one class that overlap more exclude each other."""
    max_boxes: int
    """Detections of a picture, the best ones."""
    suppression: Suppression
    """The cfg's, or the caller's."""
    agnostic: bool
    """Boxes of different classes exclude each other, too."""
    unwanted: tuple[int, ...]
    """Classes to leave out before anything is excluded."""


def thresholds(
    network: Network,
    score: float,
    iou: float,
    max_boxes: int,
    nms_kind: str | None,
    *,
    agnostic: bool = False,
    only: Only = None,
    names: Sequence[str] = (),
) -> Thresholds:
    """Checks what a caller asks for.

    Args:
        network: whose heads are decoded.
        score: lowest score of a detection.
        iou: boxes that overlap more exclude each other.
        max_boxes: detections of a picture.
        nms_kind: in place of the cfg's.
        agnostic: boxes of different classes exclude each other, too.
        only: the classes to detect; None for all.
        names: of the classes, as far as they are known.

    Raises:
        ValueError: a number that means nothing.
        UnsupportedSectionError: heads that cannot be decoded.
        YolotfError: `only` has a name or number that no class has.
    """
    for what, value in (("score", score), ("iou", iou)):
        if not 0 <= value < 1:
            raise ValueError(f"{what}={value} must be at least 0 and below 1")
    if max_boxes < 1:
        raise ValueError(f"max_boxes={max_boxes} must be at least 1")
    check_heads(network)
    suppression = suppression_of(network)
    if nms_kind is not None:
        if nms_kind not in NMS_KINDS:
            raise ValueError(f"nms_kind={nms_kind!r}; one of {', '.join(NMS_KINDS)}")
        suppression = suppression._replace(kind=nms_kind)
    unwanted = () if only is None else _unwanted(only, network, names)
    return Thresholds(score, iou, max_boxes, suppression, agnostic, unwanted)


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
