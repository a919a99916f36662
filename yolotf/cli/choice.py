"""Which detections are shown: of some classes only, and one where classes overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolotf.errors import YolotfError
from yolotf.serving.detections import Detections


@dataclass(frozen=True)
class Choice:
    """What to keep of a picture's detections.

    Attributes:
        classes: their numbers; None keeps all.
        iou: a box that overlaps a better one by more goes, whatever its class; None: only
            boxes of one class have excluded each other.
    """

    classes: frozenset[int] | None = None
    iou: float | None = None

    def __call__(self, found: Detections) -> Detections:
        """The detections to keep, best first as before."""
        keep = np.arange(len(found))
        if self.classes is not None:
            keep = keep[np.isin(found.classes, list(self.classes))]
        if self.iou is not None:
            keep = keep[_suppress(found.xyxy[keep], self.iou)]
        if len(keep) == len(found):
            return found
        names = tuple(found.names[index] for index in keep)
        return Detections(found.xyxy[keep], found.scores[keep], found.classes[keep], names)


def _suppress(boxes: npt.NDArray[np.float32], iou: float) -> list[int]:
    """Indices of boxes, best first, that overlap no better one that is kept."""
    corners = boxes.astype(np.float64)
    areas = np.prod(np.maximum(corners[:, 2:] - corners[:, :2], 0), axis=1)
    kept: list[int] = []
    for index, box in enumerate(corners):
        low = np.maximum(corners[kept, :2], box[:2])
        high = np.minimum(corners[kept, 2:], box[2:])
        common = np.prod(np.maximum(high - low, 0), axis=1)
        union = areas[kept] + areas[index] - common
        if not np.any(common > iou * union):
            kept.append(index)
    return kept


def choice_of(
    wanted: str | None, names: Sequence[str], *, classes: int | None, iou: float | None
) -> Choice:
    """The choice that a list of class names and numbers, with commas between, says.

    Raises:
        YolotfError: a name or number that no class has.
    """
    if wanted is None:
        return Choice(iou=iou)
    numbers = {name: number for number, name in enumerate(names)}
    chosen: set[int] = set()
    for item in filter(None, (part.strip() for part in wanted.split(","))):
        number = numbers.get(item, int(item) if item.isdecimal() and len(item) < 10 else -1)
        if number < 0 or (classes is not None and number >= classes):
            known = f"names are {', '.join(names)}" if names else "without --names they are numbers"
            raise YolotfError(
                f"{item!r} is none of the {classes} classes; {known}", found=item, expected=classes
            )
        chosen.add(number)
    if not chosen:
        raise YolotfError(f"{wanted!r} names no class", found=wanted)
    return Choice(frozenset(chosen), iou)
