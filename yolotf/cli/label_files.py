"""Writes detections as Darknet's label files and COCO results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np

from yolotf.cli.inputs import shown
from yolotf.darknet.coco import COCO_IDS as COCO_IDS
from yolotf.darknet.coco import COCO_NAMES, classes_by_name
from yolotf.errors import YolotfError
from yolotf.files import atomic, output_target
from yolotf.files.json import to_json
from yolotf.files.paths import StrPath
from yolotf.images.detections import Detections
from yolotf.text import plural


def write_labels(
    path: Path,
    detections: Detections,
    size: tuple[int, int],
    *,
    scores: bool = False,
    overwrite: bool = False,
) -> None:
    """Writes a label file as `darknet detector test -save_labels` does; see `to_yolo`.

    Args:
        path: the file.
        detections: of the image.
        size: (width, height) of the image.
        scores: whether each line ends with the score.
        overwrite: whether to replace an existing file.

    Raises:
        OSError: the file cannot be written, or exists and `overwrite` is False.
    """
    text = detections.to_yolo(size[::-1], scores=scores)
    atomic.write(path, text.encode("ascii"), overwrite=overwrite)


class _ImageResult(NamedTuple):
    """The detections of an image or a video frame."""

    path: str
    frame: int | None
    seconds: float | None
    detections: Detections
    size: tuple[int, int]
    """(width, height)."""


def images_path(results: StrPath) -> Path:
    """Returns the path of the list of images: `found.images.json` for `found.json`."""
    path = Path(results)
    return path.with_name(f"{path.stem}.images{path.suffix or '.json'}")


class CocoResults:
    """COCO results, and the list of their images.

    Each image and each video frame gets an id. If all files are named as in COCO, for example
    COCO_val2014_000000000042.jpg, the id is the number in the name, as in Darknet
    (get_coco_image_id, detector.c); otherwise ids count from 1.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Stores the class names; COCO's get COCO's category ids, others ids from 1."""
        self._names = tuple(names)
        is_coco = self._names == COCO_NAMES
        self._category_ids = COCO_IDS if is_coco else None
        self._image_results: list[_ImageResult] = []

    def add(
        self,
        path: str,
        frame: int | None,
        detections: Detections,
        size: tuple[int, int],
        seconds: float | None = None,
    ) -> None:
        """Adds the detections of an image or a video frame; `size` is (width, height)."""
        self._image_results.append(_ImageResult(path, frame, seconds, detections, size))

    def write(
        self, path: StrPath, *, overwrite: bool = False, inputs: Iterable[StrPath] = ()
    ) -> None:
        """Writes the results, and the list of the images beside them.

        Args:
            path: the file of results.
            overwrite: whether to replace existing files.
            inputs: files that are never replaced.

        Raises:
            OSError: a file cannot be written or must not be replaced.
        """
        inputs = tuple(inputs)
        ids = self._ids()
        images, results = [], []
        for image_id, image in zip(ids, self._image_results, strict=True):
            images.append(_image_entry(image_id, image))
            results += image.detections.to_coco(
                image_id, image.size[::-1], category_ids=self._category_ids
            )
        category_ids = self._category_ids or range(1, len(self._names) + 1)
        categories = [
            {"id": category_id, "name": name}
            for category_id, name in zip(category_ids, self._names, strict=True)
        ]
        listed = {"info": {}, "images": images, "annotations": [], "categories": categories}
        files = (images_path(path), listed), (Path(path), results)
        for file, _ in files:
            output_target.checked_target(file, overwrite=overwrite, inputs=inputs)
        for file, content in files:
            text = to_json(content).encode("ascii")
            atomic.write(file, text, overwrite=overwrite, inputs=inputs)

    def _ids(self) -> list[int]:
        """Returns the ids of the images: the numbers in COCO's file names, or 1, 2, 3."""
        matches = [
            re.search(r"(?:^|_)(\d{12})$", Path(image.path).stem) if image.frame is None else None
            for image in self._image_results
        ]
        numbers = [int(match[1]) for match in matches if match is not None]
        if len(set(numbers)) == len(self._image_results):
            return numbers
        return list(range(1, len(self._image_results) + 1))


def _image_entry(image_id: int, image: _ImageResult) -> dict[str, Any]:
    """Returns the entry of an image in COCO's list of images."""
    width, height = image.size
    entry = {"id": image_id, "file_name": image.path, "width": width, "height": height}
    if image.frame is not None:
        entry.update(frame=image.frame, seconds=image.seconds)
    return entry


class InstancesResults(CocoResults):
    """COCO results with the image and category ids of a COCO instances file."""

    def __init__(self, source: str) -> None:
        """Reads the instances file.

        Raises:
            OSError: the file cannot be read.
            YolotfError: it is not a COCO instances file.
        """
        from yolotf.evaluation import read_instances  # imports the detector

        super().__init__(())
        self._source = source
        content = read_instances(source)
        self._of_name: dict[str, list[Any]] = {}
        for image in content["images"]:
            self._of_name.setdefault(PurePath(image["file_name"]).name, []).append(image)
        self._categories: list[dict[str, Any]] = content["categories"]
        self._id_of_class: dict[int, int] = {}
        self.notes: list[str] = []

    def pair(self, names: Sequence[str], classes: int) -> None:
        """Pairs the file's categories with the network's classes by name.

        Args:
            names: the network's class names; empty if unknown, then categories are paired in order.
            classes: the number of the network's classes.

        Raises:
            YolotfError: no name matches; or there are no names, and the counts differ.
        """
        called = [category["name"] for category in self._categories]
        numbers: Sequence[int | None] = classes_by_name(called, names)
        if not names:
            if len(called) != classes:
                raise YolotfError(
                    f"{self._source}: {plural(len(called), 'category', 'categories')} for the "
                    f"{plural(classes, 'class', 'classes')} of the network; give --names to pair "
                    "them by name",
                    expected=classes,
                    found=len(called),
                )
            numbers = range(classes)
            self.notes.append(
                f"{self._source}: the network's class names are not known; its categories are "
                "paired with the classes in the order of their ids; give --names to pair by name"
            )
        self._id_of_class = {
            number: category["id"]
            for number, category in zip(numbers, self._categories, strict=True)
            if number is not None
        }
        if not self._id_of_class:
            raise YolotfError(
                f"{self._source}: none of its categories ({', '.join(called[:5])}) is a class of "
                "the network",
                expected=classes,
                found=0,
            )

    def check(self, paths: Iterable[str]) -> None:
        """Checks before anything is detected that the file lists the images of `paths`.

        Raises:
            YolotfError: two inputs match the same image of the file, or no input matches any.
        """
        path_of: dict[Any, str] = {}
        count = 0
        for count, path in enumerate(paths, 1):  # noqa: B007 (used after the loop)
            image = self._image(path)
            if image is None:
                continue
            other = path_of.setdefault(image["given_id"], path)
            if other != path:
                raise YolotfError(
                    f"{self._source}: {other} and {path} both match its image "
                    f"{image['given_id']}, {image['file_name']}; leave one of them out"
                )
        if count and not path_of:
            listed = next(iter(self._of_name.values()), None)
            first = "missing" if listed is None else shown(listed[0]["file_name"])
            raise YolotfError(
                f"{self._source}: none of its images is among the {plural(count, 'input')}; its "
                f"first image is {first}"
            )

    def write(
        self, path: StrPath, *, overwrite: bool = False, inputs: Iterable[StrPath] = ()
    ) -> None:
        """Writes the results; see `CocoResults.write`. No list of images is written."""
        path_of: dict[Any, str] = {}
        results: list[dict[str, Any]] = []
        unlisted: list[str] = []
        without_category = 0
        for result in self._image_results:
            image = self._image(result.path) if result.frame is None else None
            if image is None or path_of.setdefault(image["given_id"], result.path) != result.path:
                unlisted.append(result.path)
                continue
            has_category = np.array(
                [number in self._id_of_class for number in result.detections.classes.tolist()], bool
            )
            without_category += int((~has_category).sum())
            results += result.detections[has_category].to_coco(
                image["given_id"], result.size[::-1], category_ids=self._id_of_class
            )
        atomic.write(
            Path(path), to_json(results).encode("ascii"), overwrite=overwrite, inputs=tuple(inputs)
        )
        self.notes += self._about_missing(unlisted, without_category)

    def _about_missing(self, unlisted: Sequence[str], without_category: int) -> Iterator[str]:
        if unlisted:
            yield (
                f"{self._source}: does not list {plural(len(unlisted), 'image')}, left out of the "
                f"results; the first: {unlisted[0]}"
            )
        if without_category:
            yield (
                f"{self._source}: has no category for {plural(without_category, 'detection')}, "
                "left out of the results"
            )

    def _image(self, path: str) -> Any | None:
        """Returns the file's entry for an image: by file name, of several by the folders, too."""
        candidates = self._of_name.get(PurePath(path).name, [])
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        parts = PurePath(path).parts
        listed = [(PurePath(image["file_name"]).parts, image) for image in candidates]
        matches = [(len(end), image) for end, image in listed if parts[-len(end) :] == end]
        return max(matches, key=lambda match: match[0], default=(0, None))[1]
