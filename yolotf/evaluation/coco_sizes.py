"""Adapts a COCO data set to images of other sizes than its file states."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotf.evaluation.data_set import AnnotatedImage, DataSet
from yolotf.evaluation.labels import Truths
from yolotf.text import plural

_Json = Mapping[str, Any]


def fitted_to_images(
    data: DataSet, sizes: Sequence[tuple[int, int]]
) -> tuple[DataSet, tuple[str, ...]]:
    """Adapts a COCO data set to images whose sizes differ from those in the file.

    If boxes exceed the file's sizes but lie inside the images as read (only one of the tools
    applied the EXIF orientation), they are taken as pixels of the images as read. If not, they are
    scaled with the images.

    Args:
        data: from `read_coco`.
        sizes: (width, height) of each image as read; (0, 0) for an unreadable one.

    Returns:
        The data set in pixels of the images as read, and a note if a size differed.
    """
    wrong = {
        index: size
        for index, (picture, size) in enumerate(zip(data.images, sizes, strict=True))
        if picture.size is not None and size != (0, 0) and picture.size != size
    }
    if data.coco is None or not wrong:
        return data, ()
    is_read = _are_pixels_as_read(data.images, wrong)
    pictures = list(data.images)
    scales: dict[int | None, npt.NDArray[np.float64]] = {}
    for index, (width, height) in wrong.items():
        picture = pictures[index]
        scale = np.array([width, height]) / np.array(picture.size, np.float64)
        scales[picture.coco_id] = np.ones(2) if is_read else scale
        if is_read:
            # Until now relative to the size in the file.
            picture = dataclasses.replace(
                picture,
                truths=_scaled(picture.truths, 1 / scale),
                difficult=_scaled(picture.difficult, 1 / scale),
            )
        pictures[index] = dataclasses.replace(picture, size=(width, height))
    of_image = {picture.coco_id: picture.size for picture in pictures}
    content = dict(data.coco)
    content["images"] = [
        {**image, **dict(zip(("width", "height"), of_image[image["id"]] or (0, 0), strict=True))}
        for image in content["images"]
    ]
    content["annotations"] = [
        _resized(annotation, scales.get(annotation["image_id"]))
        for annotation in content["annotations"]
    ]
    index, (width, height) = next(iter(wrong.items()))
    first = data.images[index]
    said = first.size or (0, 0)
    turned = " (turned upright by one tool, not by the other?)" if said == (height, width) else ""
    taken = "pixels of the images" if is_read else "scaled with them"
    note = (
        f"{data.source}: {plural(len(wrong), 'image')} with another size than the file states: "
        f"{first.path} is {width}x{height}, the file states {said[0]}x{said[1]}{turned}; its boxes "
        f"are taken as {taken}"
    )
    return dataclasses.replace(data, images=tuple(pictures), coco=content), (note,)


def _are_pixels_as_read(
    pictures: Sequence[AnnotatedImage], sizes: Mapping[int, tuple[int, int]]
) -> bool:
    """Whether all boxes lie inside the images as read, and some exceed the file's sizes."""
    beyond = False
    for index, size in sizes.items():
        picture = pictures[index]
        said = np.array(picture.size, np.float64)
        boxes = np.concatenate([picture.truths.boxes, picture.difficult.boxes]).astype(np.float64)
        ends = (boxes[:, :2] + boxes[:, 2:] / 2) * said
        if np.any(ends > np.array(size) + 1):
            return False
        beyond |= bool(np.any(ends > said + 1))
    return beyond


def _resized(annotation: _Json, scale: npt.NDArray[np.float64] | None) -> _Json:
    if scale is None:
        return annotation
    box = (np.array(annotation["bbox"]) * np.tile(scale, 2)).tolist()
    return {**annotation, "bbox": box, "area": annotation["area"] * float(scale.prod())}


def _scaled(truths: Truths, scale: npt.NDArray[np.float64]) -> Truths:
    return Truths(truths.classes, (truths.boxes * np.tile(scale, 2)).astype(np.float32))
