"""The detections of one image: arrays, names, other formats, a drawing. No TensorFlow."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from yolotf._public import public, warn_caller
from yolotf.errors import YolotfError, optional_package
from yolotf.files import atomic, output_target
from yolotf.images.fonts import font_for
from yolotf.images.read import MAX_PIXELS
from yolotf.images.read import ImageLike as ImageLike
from yolotf.images.read import open_picture as open_picture
from yolotf.text import listed, plural, printable

if TYPE_CHECKING:
    import supervision
    from PIL import Image


class Found(NamedTuple):
    """One detection."""

    xyxy: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels."""
    score: float
    class_id: int
    name: str


_NUMBERED = re.compile(r"class \d+")
"""The label of a class without a name."""


@public
@dataclass(frozen=True, eq=False)
class Detections:
    """The detections of one image, best first.

    `detections[0]` is one detection; a slice, a boolean mask or an array of indices selects
    several: `detections[detections.scores > 0.5]`.

    Attributes:
        xyxy: [N, 4] float32, left, top, right, bottom in pixels of the image. Boxes of objects that
            the edge cuts off reach beyond it, as in Darknet; `clip` cuts them.
        scores: [N] float32, 0 to 1.
        classes: [N] int64, class numbers from 0.
        labels: the N class names of the detections; `class 7` where the name is not known.
        class_names: of all classes, by number: `class_names[7]`; empty if none are known.
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
        """Converts and checks the arrays; `class_names[c]` is the name of class `c`.

        Raises:
            ValueError: the arrays are not as long as each other.
        """
        boxes = np.asarray(xyxy, np.float32).reshape(-1, 4)
        numbers = np.asarray(classes, np.int64).reshape(-1)
        values = np.asarray(scores, np.float32).reshape(-1)
        if not len(boxes) == len(values) == len(numbers):
            raise ValueError(
                f"{plural(len(boxes), 'box', 'boxes')}, {plural(len(values), 'score')} and "
                f"{plural(len(numbers), 'class', 'classes')} do not belong together"
            )
        names = tuple(
            class_names[number] if 0 <= number < len(class_names) else f"class {number}"
            for number in numbers.tolist()
        )
        return cls(boxes, values, numbers, names, tuple(class_names))

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, index: int) -> Found: ...

    @overload
    def __getitem__(self, index: slice | npt.ArrayLike) -> Detections: ...

    def __getitem__(self, index: int | slice | npt.ArrayLike) -> Found | Detections:
        """One detection for a number, the selected ones for a slice, a mask or indices.

        Raises:
            IndexError: there is no such detection, or a mask has another length.
        """
        if isinstance(index, int | np.integer) and not isinstance(index, bool | np.bool_):
            position = range(len(self))[int(index)]
            return Found(
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
        """What `labels` was called; the table of all classes is `Detector.class_names`."""
        warn_caller(
            "Detections.names is called labels now: one name a detection; the table of all "
            "classes is Detector.class_names",
            DeprecationWarning,
        )
        return self.labels

    def filter(
        self, *, score: float = 0.0, classes: Sequence[int | str] | int | str | None = None
    ) -> Detections:
        """The detections with at least this score and, if given, of these classes.

        Args:
            score: 0 to 1.
            classes: class numbers or names, one or several; None for all.

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
        """The detections with their boxes cut at the image's edge.

        hank-ai's `predict()` and the tools that use it cut boxes so (darknet.cpp:54). A box that
        lies outside of the image becomes one without an area.

        Args:
            size: (height, width) of the image.
        """
        height, width = size
        edges = np.array([width, height, width, height], np.float32)
        return dataclasses.replace(self, xyxy=np.clip(self.xyxy, 0, edges))

    def _check_classes(self, wanted: Iterable[int | str]) -> None:
        """Refuses classes that the network cannot have, which would never be found."""
        names = self.class_names
        nameless = bool(self.labels) and all(map(_NUMBERED.fullmatch, self.labels))
        for value in wanted:
            if value in self.labels or value in self.classes.tolist():
                continue
            if isinstance(value, str):
                if (names and value not in names) or nameless:
                    advice = (
                        f"names are {listed(names, 8)}"
                        if names
                        else "no names are known: pass class_names= to the Detector, or numbers"
                    )
                    raise YolotfError(f"no class is called {value!r}; {advice}", found=value)
            elif names and not 0 <= value < len(names):
                raise YolotfError(
                    f"there is no class {value}; the classes are 0 to {len(names) - 1}",
                    found=value,
                    expected=len(names),
                )

    def __iter__(self) -> Iterator[Found]:
        for box, score, class_id, name in zip(
            self.xyxy.tolist(),
            self.scores.tolist(),
            self.classes.tolist(),
            self.labels,
            strict=True,
        ):
            yield Found(tuple(box), score, class_id, name)

    def __str__(self) -> str:
        if not len(self):
            return "nothing found"
        width = max(map(len, self.labels))
        return printable(
            "\n".join(
                f"{found.name:<{width}}  {found.score:.2f}  "
                f"({found.xyxy[0]:.0f}, {found.xyxy[1]:.0f})-"
                f"({found.xyxy[2]:.0f}, {found.xyxy[3]:.0f})"
                for found in self
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """`{"detections": [{"class", "name", "score", "xyxy"}]}`, ready for JSON."""
        return {
            "detections": [
                {
                    "class": one.class_id,
                    "name": one.name,
                    "score": one.score,
                    "xyxy": list(one.xyxy),
                }
                for one in self
            ]
        }

    def to_yolo(self, size: tuple[int, int], *, scores: bool = False) -> str:
        """Darknet's labels: a line for each box, `class x y width height`.

        A box that several classes passed for has the class with the highest score, as in Darknet
        (`-save_labels`, detector.c:1729).

        The center and extent are relative to the image. Boxes are cut at the image's edge, since
        training on them needs numbers from 0 to 1; boxes outside the image are left out.

        Args:
            size: (height, width) of the image.
            scores: whether each line ends with the score.
        """
        extent = np.array([*size[::-1], *size[::-1]], np.float64)
        corners = np.clip(self.xyxy.astype(np.float64) / extent, 0, 1)
        lines = []
        best = {box.tobytes(): place for place, box in reversed([*enumerate(self.xyxy)])}
        for place in sorted(best.values()):
            left, top, right, bottom = corners[place]
            if right > left and bottom > top:
                box = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
                values = [*box, self.scores[place]] if scores else box
                text = " ".join(f"{value:.6f}" for value in values)
                lines.append(f"{self.classes[place]} {text}\n")
        return "".join(lines)

    def to_coco(
        self,
        image_id: int | str,
        size: tuple[int, int] | None = None,
        *,
        category_ids: Sequence[int] | Mapping[int, int] | None = None,
    ) -> list[dict[str, Any]]:
        """COCO results: `{"image_id", "category_id", "bbox", "score"}` for each detection.

        `bbox` is left, top, width, height in pixels.

        Args:
            image_id: the image's id in the data set.
            size: (height, width) of the image, to cut boxes at its edge.
            category_ids: the category id of each class; by default class number + 1.
        """
        corners = self.xyxy.astype(np.float64)
        if size is not None:
            corners = np.clip(corners, 0, np.array([*size[::-1], *size[::-1]], np.float64))
        return [
            {
                "image_id": image_id,
                "category_id": category_ids[number] if category_ids else number + 1,
                "bbox": [left, top, right - left, bottom - top],
                "score": score,
            }
            for number, score, (left, top, right, bottom) in zip(
                self.classes.tolist(), self.scores.tolist(), corners.tolist(), strict=True
            )
        ]

    def to_supervision(self) -> supervision.Detections:
        """`supervision.Detections`, names in `data["class_name"]`.

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

    def draw(
        self,
        image: ImageLike,
        path: str | os.PathLike[str] | None = None,
        *,
        font: str | os.PathLike[str] | None = None,
        line_width: int | None = None,
        labels: bool = True,
        bgr: bool = False,
        overwrite: bool = True,
        max_pixels: int | None = MAX_PIXELS,
    ) -> Image.Image:
        """Draws boxes and labels on a copy of `image`.

        Lines and letters grow with the image, each class has its colour, the best
        detection is on top.

        Args:
            image: the image that was detected in, as `open_picture` takes it.
            path: where to write the drawing, all of it or nothing; its ending decides the format.
            font: a .ttf, .ttc or .otf file for the labels; None takes one that has their letters.
            line_width: of the boxes, in pixels; None: by the image's size.
            labels: False draws the boxes alone.
            bgr: an array holds blue, green, red.
            overwrite: False refuses to replace a file.
            max_pixels: an `image` of more is refused before it is decoded; None: none is.

        Returns:
            The drawing.

        Raises:
            OSError: `image` or `font` cannot be read or `path` not be written; or `path` is
                `image`, or not to be replaced.
            ValueError: `line_width` is below 1, or no format of images ends as `path` does.
        """
        from PIL import ImageDraw  # kept out of `import yolotf`

        if path is not None:
            drawn = image if isinstance(image, str | os.PathLike) else ""
            drawn = drawn or getattr(image, "filename", "") or getattr(image, "name", "")
            source = [drawn] if isinstance(drawn, str | os.PathLike) else []
            output_target.checked_target(path, overwrite=overwrite, inputs=source)
            picture_format = _format_of(path)
        if line_width is not None and line_width < 1:
            raise ValueError(f"line_width={line_width} must be at least 1")
        drawing = open_picture(image, bgr=bgr, max_pixels=max_pixels).convert("RGB")
        draw = ImageDraw.Draw(drawing)
        line = line_width or max(1, round(min(drawing.size) / 250))
        boxes = [_inside(one.xyxy, drawing.size) for one in self]
        worst_first = range(len(self) - 1, -1, -1)
        for index in worst_first:
            draw.rectangle(boxes[index], outline=class_colour(int(self.classes[index])), width=line)
        taken: list[_Area] = []
        pad = 2 * max(1, round(min(drawing.size) / 250))
        for one, box in zip(self, boxes, strict=True) if labels else ():
            text = " ".join(f"{one.name} {one.score:.2f}".split())
            letters = font_for(text, max(10.0, min(drawing.size) / 40), font)
            left, top, right, bottom = draw.textbbox((0, 0), text, font=letters)
            area = _label_area(
                box, (right - left + 2 * pad, bottom - top + 2 * pad), drawing.size, taken
            )
            taken.append(area)
            colour = class_colour(one.class_id)
            draw.rectangle(area, fill=colour)
            draw.text(
                (area[0] + pad - left, area[1] + pad - top), text, fill=_ink(colour), font=letters
            )
        if path is not None:
            content = io.BytesIO()
            drawing.save(content, format=picture_format)
            atomic.write(path, content.getvalue(), overwrite=overwrite)
        return drawing


def _format_of(path: str | os.PathLike[str]) -> str:
    """Pillow's name of the format that an image of this name is written in."""
    from PIL import Image  # kept out of `import yolotf`

    ending = Path(path).suffix.lower()
    found = Image.registered_extensions().get(ending, "")
    if found not in Image.SAVE:
        raise ValueError(
            f"{os.fspath(path)}: no image can be written as {ending or 'a file without ending'}; "
            "use .jpg, .png or .webp"
        )
    return found


_Area = tuple[float, float, float, float]


def class_colour(class_id: int) -> tuple[int, int, int]:
    """RGB color of a class; colors repeat after 80 classes."""
    start = 3 * class_id % len(_COLOURS)
    return _COLOURS[start], _COLOURS[start + 1], _COLOURS[start + 2]


# Each as far as it can be from all others in CIELAB (at least 19.8), none grey or dark.
_COLOURS = bytes.fromhex(
    "ff4a26 0000ff 00ff00 00d4ff 802671 768013 26ffb7 ffff00 ff00ea ffb5a6 0080ff ff0080 "
    "803713 005580 ffaa00 138064 ffffa6 000080 ffa6ff 00a61c 974dff a6ffe9 807153 a6bcff "
    "aaff80 a60037 cc853d aaff00 a66c84 ccbe1f cc0099 6c97a6 ff80aa 90cc85 5a53a6 26ff6f "
    "b580ff 26802e 8a00a6 ccba85 a61c00 00ccaa ff4d5b 0044cc ff8126 92cc1f cc6666 0011cc "
    "1f92cc 802644 a885cc bf00ff 805b13 cc66b3 3dcc6d 00ffff a60061 ff80ff 695380 a6e9ff "
    "00cc00 00a6a6 6ca632 804a40 132580 bbcc66 1f75cc ffd480 608040 cc613d 6232a6 a68a00 "
    "19a66b ffd400 cc3dcc e1ff4d cc8866 cbffa6 007580 6ca68e "
)


def _ink(colour: tuple[int, int, int]) -> str:
    red, green, blue = colour
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"


def _inside(xyxy: _Area, size: tuple[int, int]) -> _Area:
    """The part of a box inside the image, with right >= left as Pillow requires."""
    width, height = size
    # NaN becomes the image's edge: comparisons with NaN are false.
    left, top = (max(value, 0.0) if value < math.inf else 0.0 for value in xyxy[:2])
    right, bottom = (value if value > -math.inf else math.inf for value in xyxy[2:])
    left, right = (min(max(value, 0.0), width - 1.0) for value in (left, right))
    top, bottom = (min(max(value, 0.0), height - 1.0) for value in (top, bottom))
    return left, top, max(left, right), max(top, bottom)


def _label_area(
    box: _Area, extent: tuple[float, float], size: tuple[int, int], taken: Sequence[_Area]
) -> _Area:
    """The first free place for a label: above the box, inside its top, or below it."""
    width, height = extent
    left = max(0.0, min(box[0], size[0] - width))
    places = [
        (left, top, left + width, top + height)
        for top in (box[1] - height, box[1], box[3])
        if top >= 0 and top + height <= size[1]
    ]
    for place in places:
        if not any(_touch(place, other) for other in taken):
            return place
    top = max(0.0, min(box[1], size[1] - height))
    return places[0] if places else (left, top, left + width, top + height)


def _touch(a: _Area, b: _Area) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
