"""The detections of an image: as arrays, in other formats, as a drawing. No TensorFlow."""

from __future__ import annotations

import dataclasses
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from yolotf import argument_numbers
from yolotf._public import public, warn_caller
from yolotf.errors import YolotfError, optional_package
from yolotf.files import atomic, output_target
from yolotf.files.json import shortest
from yolotf.files.paths import StrPath
from yolotf.images.drawing import LabelledBox, draw_boxes, image_format
from yolotf.images.read import MAX_PIXELS
from yolotf.images.read import ImageLike as ImageLike
from yolotf.images.read import open_picture as open_picture
from yolotf.text import class_label, names_hint, plural, printable

if TYPE_CHECKING:
    import supervision
    from PIL import Image


class Detection(NamedTuple):
    """A detection: an element of `Detections`."""

    xyxy: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels."""
    score: float
    class_id: int
    name: str


Found = Detection
"""The name in older pickles."""

_NUMBERED = re.compile(r"class \d+")
"""The label of a class whose name is not known."""


@public
@dataclass(frozen=True, eq=False)
class Detections:
    """The detections of an image, best first.

    `detections[0]` is one detection; a slice, a boolean mask or an array of indices selects
    several: `detections[detections.scores > 0.5]`.

    Attributes:
        xyxy: [N, 4] float32, left, top, right, bottom in pixels of the image. Boxes may reach
            beyond the image's edge, as in Darknet; `clip` cuts them.
        scores: [N] float32, 0 to 1.
        classes: [N] int64, class numbers from 0.
        labels: the N class names of the detections; `class 7` where the name is not known.
        class_names: the names of all classes, by number: `class_names[7]`; empty if not known.
    """

    xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    labels: tuple[str, ...]
    class_names: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        xyxy: npt.ArrayLike,
        scores: npt.ArrayLike,
        classes: npt.ArrayLike,
        class_names: Sequence[str] = (),
    ) -> Detections:
        """Returns detections from arrays or lists.

        Args:
            xyxy: [N, 4], left, top, right, bottom in pixels.
            scores: [N], 0 to 1.
            classes: [N], class numbers from 0.
            class_names: the names of all classes, by number.

        Raises:
            ValueError: the arrays have different lengths.
        """
        boxes = np.asarray(xyxy, np.float32).reshape(-1, 4)
        numbers = np.asarray(classes, np.int64).reshape(-1)
        values = np.asarray(scores, np.float32).reshape(-1)
        if not len(boxes) == len(values) == len(numbers):
            raise ValueError(
                f"{plural(len(boxes), 'box', 'boxes')}, {plural(len(values), 'score')} and "
                f"{plural(len(numbers), 'class', 'classes')}; give the same number of each"
            )
        names = tuple(class_label(number, class_names) for number in numbers.tolist())
        return cls(boxes, values, numbers, names, tuple(class_names))

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, index: int) -> Detection: ...

    @overload
    def __getitem__(self, index: slice | npt.ArrayLike) -> Detections: ...

    def __getitem__(self, index: int | slice | npt.ArrayLike) -> Detection | Detections:
        """Returns a detection for a number, `Detections` for a slice, a mask or indices.

        Raises:
            IndexError: there is no such detection, or the mask has another length.
        """
        if isinstance(index, int | np.integer) and not isinstance(index, bool | np.bool_):
            position = range(len(self))[int(index)]
            return Detection(
                tuple(self.xyxy[position].tolist()),
                float(self.scores[position]),
                int(self.classes[position]),
                self.labels[position],
            )
        positions = np.arange(len(self))[index if isinstance(index, slice) else np.asarray(index)]
        positions = positions.reshape(-1)
        return Detections(
            self.xyxy[positions],
            self.scores[positions],
            self.classes[positions],
            tuple(self.labels[position] for position in positions.tolist()),
            self.class_names,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Deprecated name of `labels`; the names of all classes are `Detector.class_names`."""
        warn_caller(
            "Detections.names is called labels now, with the name of each detection; the names of "
            "all classes are Detector.class_names",
            DeprecationWarning,
        )
        return self.labels

    def filter(
        self, *, score: float = 0.0, classes: Sequence[int | str] | int | str | None = None
    ) -> Detections:
        """Returns the detections with at least this score and, if given, of these classes.

        Args:
            score: the lowest score to keep, 0 to 1.
            classes: a class number or name, or several; None: all classes.

        Raises:
            YolotfError: there is no such class.
        """
        keep = self.scores >= score
        if classes is not None:
            wanted = {classes} if isinstance(classes, int | str) else set(classes)
            self._check_classes(wanted)
            keep &= np.array(
                [
                    number in wanted or name in wanted
                    for number, name in zip(self.classes.tolist(), self.labels, strict=True)
                ],
                bool,
            )
        return self[keep]

    def clip(self, size: tuple[int, int]) -> Detections:
        """Returns the detections with their boxes cut at the image's edge.

        hank-ai's `predict()` and the tools that use it cut boxes in this way (darknet.cpp:54). A
        box outside the image gets an area of 0.

        Args:
            size: (height, width) of the image.
        """
        height, width = size
        edges = np.array([width, height, width, height], np.float32)
        return dataclasses.replace(self, xyxy=np.clip(self.xyxy, 0, edges))

    def _check_classes(self, wanted: Iterable[int | str]) -> None:
        """Raises YolotfError for classes that the network does not have."""
        names = self.class_names
        nameless = bool(self.labels) and all(map(_NUMBERED.fullmatch, self.labels))
        for value in wanted:
            if value in self.labels or value in self.classes.tolist():
                continue
            if isinstance(value, str):
                if (names and value not in names) or nameless:
                    advice = (
                        names_hint(value, names)
                        if names
                        else "no names are known: pass class_names= to the Detector, or filter by "
                        "number"
                    )
                    raise YolotfError(f"no class is called {value!r}; {advice}", found=value)
            elif names and not 0 <= value < len(names):
                raise YolotfError(
                    f"there is no class {value}; the classes are 0 to {len(names) - 1}",
                    found=value,
                    expected=len(names),
                )

    def __iter__(self) -> Iterator[Detection]:
        for box, score, class_id, name in zip(
            self.xyxy.tolist(),
            self.scores.tolist(),
            self.classes.tolist(),
            self.labels,
            strict=True,
        ):
            yield Detection(tuple(box), score, class_id, name)

    def __str__(self) -> str:
        if not len(self):
            return "nothing found"
        width = max(map(len, self.labels))
        return printable(
            "\n".join(
                f"{detection.name:<{width}}  {detection.score:.2f}  "
                f"({detection.xyxy[0]:.0f}, {detection.xyxy[1]:.0f})-"
                f"({detection.xyxy[2]:.0f}, {detection.xyxy[3]:.0f})"
                for detection in self
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns `{"detections": [{"class", "name", "score", "xyxy"}]}`, ready for JSON.

        Numbers have only the digits that float32 has: 745.3728, not 745.372802734375.
        """
        return {
            "detections": [
                {"class": number, "name": name, "score": score, "xyxy": shortest(box)}
                for number, name, score, box in zip(
                    self.classes.tolist(),
                    self.labels,
                    shortest(self.scores),
                    self.xyxy,
                    strict=True,
                )
            ]
        }

    @argument_numbers.flags_checked("scores")
    def to_yolo(self, size: tuple[int, int], *, scores: bool = False) -> str:
        """Returns Darknet's labels: a line for each box, `class x y width height`.

        x and y are the box's centre; all four numbers are relative to the image. A box that was
        detected as several classes gets the class with the highest score, as in Darknet
        (`-save_labels`, detector.c:1729). Boxes are cut at the image's edge, since training needs
        numbers from 0 to 1; boxes outside the image are left out.

        Args:
            size: (height, width) of the image.
            scores: whether each line ends with the score.
        """
        extent = np.array([*size[::-1], *size[::-1]], np.float64)
        corners = np.clip(self.xyxy.astype(np.float64) / extent, 0, 1)
        lines = []
        best = {box.tobytes(): index for index, box in reversed([*enumerate(self.xyxy)])}
        for index in sorted(best.values()):
            left, top, right, bottom = corners[index]
            if right > left and bottom > top:
                box = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
                values = [*box, self.scores[index]] if scores else box
                text = " ".join(f"{value:.6f}" for value in values)
                lines.append(f"{self.classes[index]} {text}\n")
        return "".join(lines)

    def to_coco(
        self,
        image_id: int | str,
        size: tuple[int, int] | None = None,
        *,
        category_ids: Sequence[int] | Mapping[int, int] | None = None,
    ) -> list[dict[str, Any]]:
        """Returns COCO results: `{"image_id", "category_id", "bbox", "score"}` of each detection.

        `bbox` is left, top, width, height in pixels. Numbers are written as in `to_dict`.

        Args:
            image_id: the image's id in the data set.
            size: (height, width) of the image, to cut boxes at its edge; None: boxes are not cut.
            category_ids: the category id of each class; None: class number + 1.
        """
        corners = self.xyxy if size is None else self.clip(size).xyxy
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        return [
            {
                "image_id": image_id,
                "category_id": category_ids[number] if category_ids else number + 1,
                "bbox": shortest(box),
                "score": score,
            }
            for number, score, box in zip(
                self.classes.tolist(), shortest(self.scores), boxes, strict=True
            )
        ]

    def to_supervision(self) -> supervision.Detections:
        """Returns `supervision.Detections`, with the names in `data["class_name"]`.

        Raises:
            MissingPackageError: supervision is not installed.
        """
        with optional_package("supervision", "to_supervision needs supervision", "supervision"):
            import supervision  # optional; heavy
        return supervision.Detections(
            xyxy=self.xyxy.copy(),
            confidence=self.scores.copy(),
            class_id=self.classes.astype(int),
            data={"class_name": np.array(self.labels, dtype=str)},
        )

    @argument_numbers.flags_checked("labels")
    def draw(
        self,
        image: ImageLike,
        path: StrPath | None = None,
        *,
        font: StrPath | None = None,
        line_width: int | None = None,
        labels: bool = True,
        bgr: bool = False,
        overwrite: bool = True,
        max_pixels: int | None = MAX_PIXELS,
    ) -> Image.Image:
        """Draws boxes and labels on a copy of `image`.

        Lines and letters grow with the image. Each class has its colour, and the best detection is
        on top.

        Args:
            image: the image of the detections, as `open_picture` takes it.
            path: the file to write, which appears complete or not at all; its extension decides
                the format. None: nothing is written.
            font: a .ttf, .ttc or .otf file for the labels; None: an installed font that has their
                letters.
            line_width: width of the boxes' lines in pixels; None: by the image's size.
            labels: False draws the boxes alone.
            bgr: whether an array is in blue, green, red order.
            overwrite: whether to replace an existing file.
            max_pixels: larger images are refused before they are decoded; None: no limit.

        Returns:
            The drawing.

        Raises:
            OSError: `image` or `font` cannot be read; or `path` cannot be written, is `image`, or
                must not be replaced.
            ValueError: `line_width` is below 1, or the extension of `path` is not that of a format
                for images.
        """
        if path is not None:
            output_target.checked_target(path, overwrite=overwrite, inputs=_file_of(image))
            format_name = image_format(path)
        if line_width is not None:
            line_width = argument_numbers.count("line_width", line_width)
        drawing = open_picture(image, bgr=bgr, max_pixels=max_pixels).convert("RGB")
        boxes = []
        for detection in self:
            text = " ".join(f"{detection.name} {detection.score:.2f}".split())
            boxes.append(LabelledBox(detection.xyxy, detection.class_id, text if labels else None))
        draw_boxes(drawing, boxes, line_width=line_width, font=font)
        if path is not None:
            content = io.BytesIO()
            drawing.save(content, format=format_name)
            atomic.write(path, content.getvalue(), overwrite=overwrite)
        return drawing


def _file_of(image: ImageLike) -> list[StrPath]:
    """Returns the path of an image that comes from a file."""
    if isinstance(image, str | os.PathLike):
        return [image]
    name = getattr(image, "filename", "") or getattr(image, "name", "")
    return [name] if isinstance(name, str | os.PathLike) else []
