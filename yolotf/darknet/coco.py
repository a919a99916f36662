"""The classes of the networks that Darknet's authors trained on COCO."""

from __future__ import annotations

from collections.abc import Sequence

COCO_NAMES = (
    "person",
    "bicycle",
    "car",
    "motorbike",
    "aeroplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "sofa",
    "pottedplant",
    "bed",
    "diningtable",
    "toilet",
    "tvmonitor",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
)
"""In the order of Darknet's data/coco.names, and as they are written there."""

COCO_IDS = tuple(
    number
    for number in range(1, 91)
    if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # never used
)
"""COCO's category of each of the 80 classes (`coco_ids`, detector.c)."""

_COCO_TODAY = {
    "airplane": "aeroplane",
    "couch": "sofa",
    "motorcycle": "motorbike",
    "tv": "tvmonitor",
}
"""Names in COCO's own files -> Darknet's, where they differ by more than blanks."""


def comparable(name: str) -> str:
    """A class name without case, blanks, hyphens and underscores, which differ between tools."""
    letters = "".join(part for part in name.casefold() if part not in " _-\t")
    return _COCO_TODAY.get(letters, letters)


def classes_by_name(given: Sequence[str], wanted: Sequence[str]) -> tuple[int | None, ...]:
    """Returns the number in `wanted` of each of the `given` names; None for a name without one.

    Names are compared as they are, then without case, blanks, hyphens and underscores and with
    COCO's new names as Darknet's, unless that makes two names equal.
    """
    exact = {name: number for number, name in enumerate(wanted)}
    loose = {comparable(name): number for number, name in enumerate(wanted)}
    ambiguous = len(loose) < len(exact) or len(set(map(comparable, given))) < len(set(given))
    if ambiguous:
        return tuple(exact.get(name) for name in given)
    return tuple(exact.get(name, loose.get(comparable(name))) for name in given)
