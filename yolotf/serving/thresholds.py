"""Which detections are wanted: the arguments that all who detect have in common."""

from __future__ import annotations

from typing import NamedTuple

from yolotf.darknet.cfg import Network
from yolotf.darknet.head_rules import NMS_KINDS, Suppression, check_heads, suppression_of


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


def thresholds(
    network: Network, score: float, iou: float, max_boxes: int, nms_kind: str | None
) -> Thresholds:
    """Checks what a caller asks for.

    Raises:
        ValueError: a number that means nothing.
        UnsupportedSectionError: heads that cannot be decoded.
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
    return Thresholds(score, iou, max_boxes, suppression)
