"""Writes detections as Darknet's label files and COCO results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from yolotf.darknet.coco import COCO_IDS as COCO_IDS
from yolotf.darknet.coco import COCO_NAMES, classes_by_name
from yolotf.errors import YolotfError
from yolotf.files import atomic
from yolotf.files.json import to_json
from yolotf.files.sources import StrPath
from yolotf.images.detections import Detections
from yolotf.text import plural


def write_labels(
    path: Path,
    found: Detections,
    size: tuple[int, int],
    *,
    scores: bool = False,
    overwrite: bool = False,
) -> None:
    """Writes a label file as `darknet detector test -save_labels` does; see `to_yolo`.

    Args:
        path: the file.
        found: the detections.
        size: (width, height) of the image.
        scores: whether each line ends with the score.
        overwrite: whether to replace an existing file.

    Raises:
        OSError: the file cannot be written, or exists and `overwrite` is False.
    """
    text = found.to_yolo(size[::-1], scores=scores)
    atomic.write(path, text.encode("ascii"), overwrite=overwrite)


class _Answer(NamedTuple):
    """The detections of an image or a video frame."""

    path: str
    frame: int | None
    seconds: float | None
    found: Detections
    size: tuple[int, int]
    """(width, height)."""


def images_path(results: StrPath) -> Path:
    """Returns where the images of results are listed: `found.images.json` for `found.json`."""
    path = Path(results)
    return path.with_name(f"{path.stem}.images{path.suffix or '.json'}")


class CocoResults:
    """A list of COCO results, and the images they belong to.

    Each image and each frame gets an id. If all files are named like COCO's, for example
    COCO_val2014_000000000042.jpg, the id is the number in the name, as in Darknet
    (get_coco_image_id, detector.c); if not, ids count from 1.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Uses COCO's category ids if `names` are COCO's class names, and ids from 1 if not."""
        self._names = tuple(names)
        coco = self._names == COCO_NAMES
        self._categories = COCO_IDS if coco else None
        self._answers: list[_Answer] = []

    def add(
        self,
        path: str,
        frame: int | None,
        found: Detections,
        size: tuple[int, int],
        seconds: float | None = None,
    ) -> None:
        """Adds the detections of an image or a video frame; `size` is (width, height)."""
        self._answers.append(_Answer(path, frame, seconds, found, size))

    def write(
        self, path: StrPath, *, overwrite: bool = False, inputs: Iterable[StrPath] = ()
    ) -> None:
        """Writes the results, and a list of the images beside them; see `write_labels`.

        Never replaces a file of `inputs`.
        """
        inputs = tuple(inputs)
        ids = self._ids()
        images = [_image(number, one) for number, one in zip(ids, self._answers, strict=True)]
        results = [
            entry
            for number, one in zip(ids, self._answers, strict=True)
            for entry in one.found.to_coco(number, one.size[::-1], category_ids=self._categories)
        ]
        numbers = self._categories or range(1, len(self._names) + 1)
        categories = [
            {"id": number, "name": name} for number, name in zip(numbers, self._names, strict=True)
        ]
        listed = {"info": {}, "images": images, "annotations": [], "categories": categories}
        for file, content in ((images_path(path), listed), (Path(path), results)):
            text = to_json(content).encode("ascii")
            atomic.write(file, text, overwrite=overwrite, inputs=inputs)

    def _ids(self) -> list[int]:
        named = [
            re.search(r"(?:^|_)(\d{12})$", Path(one.path).stem) if one.frame is None else None
            for one in self._answers
        ]
        numbers = [int(match[1]) for match in named if match is not None]
        if len(set(numbers)) == len(self._answers):
            return numbers
        return list(range(1, len(self._answers) + 1))


def _image(number: int, answer: _Answer) -> dict[str, Any]:
    width, height = answer.size
    image = {"id": number, "file_name": answer.path, "width": width, "height": height}
    if answer.frame is not None:
        image.update(frame=answer.frame, seconds=answer.seconds)
    return image


class ResultsLike(CocoResults):
    """COCO results with the image and category ids of a COCO instances file."""

    def __init__(self, source: str) -> None:
        """Reads the instances file.

        Raises:
            OSError: the file cannot be read.
            YolotfError: it is not a COCO instances file.
        """
        from yolotf.evaluation import read_instances  # imports what detects

        super().__init__(())
        self._source = source
        content = read_instances(source)
        self._of_name: dict[str, list[Any]] = {}
        for image in content["images"]:
            self._of_name.setdefault(PurePath(image["file_name"]).name, []).append(image)
        self._listed: list[dict[str, Any]] = content["categories"]
        self._category: dict[int, int] = {}
        self.notes: list[str] = []

    def know(self, names: Sequence[str], classes: int) -> None:
        """Pairs the file's categories with the network's classes by name.

        Raises:
            YolotfError: no name matches; or there are no names, and the counts differ.
        """
        called = [category["name"] for category in self._listed]
        numbers: Sequence[int | None] = classes_by_name(called, names)
        if not names:
            if len(called) != classes:
                raise YolotfError(
                    f"{self._source}: {plural(len(called), 'category', 'categories')} for the "
                    f"{plural(classes, 'class', 'classes')} of the network; say --names, so that "
                    "they are paired by name",
                    expected=classes,
                    found=len(called),
                )
            numbers = range(classes)
            self.notes.append(
                f"{self._source}: the network's class names are not known; its categories are "
                "taken in the order of their ids; --names pairs them by name"
            )
        self._category = {
            number: category["id"]
            for number, category in zip(numbers, self._listed, strict=True)
            if number is not None
        }
        if not self._category:
            raise YolotfError(
                f"{self._source}: none of its categories ({', '.join(called[:5])}) is a class of "
                "the network",
                expected=classes,
                found=0,
            )

    def check(self, paths: Iterable[str]) -> None:
        """Checks that the images known so far are in the file, before anything is detected.

        Raises:
            YolotfError: two inputs would be the same image, or no input is in the file.
        """
        given: dict[Any, str] = {}
        number = 0
        for number, path in enumerate(paths, 1):  # noqa: B007 (how many there were)
            image = self._image(path)
            if image is None:
                continue
            other = given.setdefault(image["given_id"], path)
            if other != path:
                raise YolotfError(
                    f"{self._source}: {other} and {path} would both be its image "
                    f"{image['given_id']}, {image['file_name']}; detect in one of them"
                )
        if number and not given:
            raise YolotfError(
                f"{self._source}: lists none of the {plural(number, 'image')}; it has "
                f"{next(iter(self._of_name), 'none')}"
            )

    def write(
        self, path: StrPath, *, overwrite: bool = False, inputs: Iterable[StrPath] = ()
    ) -> None:
        """Writes the results; see `CocoResults.write`. The images stay those of the file."""
        given: dict[Any, str] = {}
        results: list[dict[str, Any]] = []
        unlisted: list[str] = []
        unknown = 0
        for one in self._answers:
            image = self._image(one.path) if one.frame is None else None
            if image is None or given.setdefault(image["given_id"], one.path) != one.path:
                unlisted.append(one.path)
                continue
            known = [number in self._category for number in one.found.classes.tolist()]
            unknown += known.count(False)
            found = one.found[[place for place, is_known in enumerate(known) if is_known]]
            results += found.to_coco(image["given_id"], one.size[::-1], category_ids=self._category)
        atomic.write(
            Path(path), to_json(results).encode("ascii"), overwrite=overwrite, inputs=tuple(inputs)
        )
        self.notes += self._about(unlisted, unknown)

    def _about(self, unlisted: Sequence[str], unknown: int) -> Iterator[str]:
        if unlisted:
            yield (
                f"{self._source}: lists no image for {plural(len(unlisted), 'image')}, which are "
                f"not in the results; the first: {unlisted[0]}"
            )
        if unknown:
            yield (
                f"{self._source}: has no category for {plural(unknown, 'detection')}, which are "
                "not in the results"
            )

    def _image(self, path: str) -> Any | None:
        """Returns the file's entry for an image, found by name and, if ambiguous, by folders."""
        called = self._of_name.get(PurePath(path).name, [])
        if len(called) < 2:
            return called[0] if called else None
        parts = PurePath(path).parts
        named = [(PurePath(image["file_name"]).parts, image) for image in called]
        ends = [(len(end), image) for end, image in named if parts[-len(end) :] == end]
        return max(ends, key=lambda pair: pair[0], default=(0, None))[1]
