"""Adapts a COCO data set to images whose sizes differ from those in its file."""

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

    If boxes reach beyond the sizes in the file but lie inside the images as read (only one of the
    tools applied the EXIF orientation), they are taken as pixels of the images as read. Otherwise
    they are scaled with the images.

    Args:
        data: from `read_coco`.
        sizes: (width, height) of each image as read; (0, 0) for an unreadable one.

    Returns:
        The data set in pixels of the images as read, and a note if a size differed.
    """
    actual_sizes = {
        index: size
        for index, (image, size) in enumerate(zip(data.images, sizes, strict=True))
        if image.size is not None and size != (0, 0) and image.size != size
    }
    if data.coco is None or not actual_sizes:
        return data, ()
    are_pixels = _are_pixels_as_read(data.images, actual_sizes)
    images = list(data.images)
    scales: dict[int | None, npt.NDArray[np.float64]] = {}
    for index, (width, height) in actual_sizes.items():
        image = images[index]
        scale = np.array([width, height]) / np.array(image.size, np.float64)
        scales[image.coco_id] = np.ones(2) if are_pixels else scale
        if are_pixels:
            # Until now the labels were relative to the size in the file.
            image = dataclasses.replace(
                image,
                truths=_scaled(image.truths, 1 / scale),
                difficult=_scaled(image.difficult, 1 / scale),
            )
        images[index] = dataclasses.replace(image, size=(width, height))
    size_of = {image.coco_id: image.size for image in images}
    content = dict(data.coco)
    content["images"] = [
        {**entry, **dict(zip(("width", "height"), size_of[entry["id"]] or (0, 0), strict=True))}
        for entry in content["images"]
    ]
    content["annotations"] = [
        _resized(annotation, scales.get(annotation["image_id"]))
        for annotation in content["annotations"]
    ]
    note = _about_sizes(data, actual_sizes, are_pixels=are_pixels)
    return dataclasses.replace(data, images=tuple(images), coco=content), (note,)


def _about_sizes(
    data: DataSet, actual_sizes: Mapping[int, tuple[int, int]], *, are_pixels: bool
) -> str:
    """Returns a note on the sizes that differ and on what becomes of the boxes."""
    index, (width, height) = next(iter(actual_sizes.items()))
    first = data.images[index]
    stated = first.size or (0, 0)
    is_turned = stated == (height, width)
    turned = " (did only one tool apply the EXIF orientation?)" if is_turned else ""
    use = "taken as pixels of the images" if are_pixels else "scaled with the images"
    return (
        f"{data.source}: {plural(len(actual_sizes), 'image')} with another size than the file "
        f"states: {first.path} is {width}x{height}, the file states {stated[0]}x{stated[1]}"
        f"{turned}; the boxes are {use}"
    )


def _are_pixels_as_read(
    images: Sequence[AnnotatedImage], actual_sizes: Mapping[int, tuple[int, int]]
) -> bool:
    """Whether all boxes lie inside the images as read, and some exceed the sizes in the file."""
    exceed = False
    for index, size in actual_sizes.items():
        image = images[index]
        stated = np.array(image.size, np.float64)
        boxes = np.concatenate([image.truths.boxes, image.difficult.boxes]).astype(np.float64)
        ends = (boxes[:, :2] + boxes[:, 2:] / 2) * stated
        if np.any(ends > np.array(size) + 1):
            return False
        exceed |= bool(np.any(ends > stated + 1))
    return exceed


def _resized(annotation: _Json, scale: npt.NDArray[np.float64] | None) -> _Json:
    """Returns an annotation with its box scaled; `scale` is (width, height)."""
    if scale is None:
        return annotation
    box = (np.array(annotation["bbox"]) * np.tile(scale, 2)).tolist()
    return {**annotation, "bbox": box, "area": annotation["area"] * float(scale.prod())}


def _scaled(truths: Truths, scale: npt.NDArray[np.float64]) -> Truths:
    """Returns labels with their boxes scaled; `scale` is (width, height)."""
    return Truths(truths.classes, (truths.boxes * np.tile(scale, 2)).astype(np.float32))
