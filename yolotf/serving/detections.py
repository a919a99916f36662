"""What was found in one picture: numbers, names, a dictionary, a drawing. No TensorFlow."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

Picture = Union[str, "os.PathLike[str]", npt.NDArray[Any], "Image.Image"]

_GOLDEN_RATIO = 0.618033988749895


class Found(NamedTuple):
    """One detection."""

    xyxy: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels."""
    score: float
    class_id: int
    name: str


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections of one picture, best first.

    Attributes:
        xyxy: [N, 4] float32, left, top, right, bottom in pixels of the picture. Boxes of
            things cut by the edge reach beyond it, as in Darknet.
        scores: [N] float32, 0 to 1.
        classes: [N] int64, class numbers from 0.
        names: N names, one a detection; `class 7` where no name is known.
    """

    xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    names: tuple[str, ...]

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
                f"{len(boxes)} boxes, {len(values)} scores and {len(numbers)} classes do not "
                "belong together"
            )
        names = tuple(
            class_names[number] if 0 <= number < len(class_names) else f"class {number}"
            for number in numbers.tolist()
        )
        return cls(boxes, values, numbers, names)

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Found]:
        for box, score, class_id, name in zip(
            self.xyxy.tolist(), self.scores.tolist(), self.classes.tolist(), self.names, strict=True
        ):
            yield Found(tuple(box), score, class_id, name)

    def __str__(self) -> str:
        if not len(self):
            return "nothing found"
        width = max(map(len, self.names))
        return "\n".join(
            f"{one.name:<{width}}  {one.score:.2f}  "
            f"{one.xyxy[0]:.0f},{one.xyxy[1]:.0f} .. {one.xyxy[2]:.0f},{one.xyxy[3]:.0f}"
            for one in self
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

    def draw(self, image: Picture, path: str | os.PathLike[str] | None = None) -> Image.Image:
        """Draws boxes and labels on a copy of `image`.

        Lines and letters grow with the picture, each class has its colour, the best
        detection is on top.

        Args:
            image: path, array (see `open_picture`) or Pillow image, the one that was detected in.
            path: where to write the drawing; its ending decides the format.

        Returns:
            The drawing.

        Raises:
            OSError: `image` cannot be read or `path` not be written.
        """
        from PIL import ImageDraw, ImageFont

        drawing = open_picture(image).convert("RGB")
        draw = ImageDraw.Draw(drawing)
        line = max(1, round(min(drawing.size) / 250))
        font = ImageFont.load_default(size=max(10.0, min(drawing.size) / 40))
        boxes = [_inside(one.xyxy, drawing.size) for one in self]
        worst_first = range(len(self) - 1, -1, -1)
        for index in worst_first:
            draw.rectangle(boxes[index], outline=class_colour(int(self.classes[index])), width=line)
        labels: list[_Area] = []
        for one, box in zip(self, boxes, strict=True):
            text, pad = f"{one.name} {one.score:.2f}", 2 * line
            left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
            area = _label_area(
                box, (right - left + 2 * pad, bottom - top + 2 * pad), drawing.size, labels
            )
            labels.append(area)
            colour = class_colour(one.class_id)
            draw.rectangle(area, fill=colour)
            draw.text(
                (area[0] + pad - left, area[1] + pad - top), text, fill=_ink(colour), font=font
            )
        if path is not None:
            drawing.save(Path(path))
        return drawing


_Area = tuple[float, float, float, float]


def open_picture(picture: Picture) -> Image.Image:
    """A Pillow image, turned upright as its camera says (EXIF).

    Args:
        picture: a path; an array [height, width], [height, width, 1 or 3], uint8 or float
            in 0..1, RGB; or a Pillow image.

    Raises:
        OSError: the file cannot be read or is no picture.
        ValueError: the array has another shape.
    """
    from PIL import Image, ImageOps

    if isinstance(picture, np.ndarray):
        array = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
            raise ValueError(
                f"a picture is [height, width] or [height, width, 1 or 3], not {picture.shape}"
            )
        if array.dtype != np.uint8:
            array = (array.clip(0, 1) * 255).round().astype(np.uint8)
        return Image.fromarray(array)
    if isinstance(picture, str | os.PathLike):
        with Image.open(picture) as image:
            return ImageOps.exif_transpose(image)
    return ImageOps.exif_transpose(picture)


def class_colour(class_id: int) -> tuple[int, int, int]:
    """RGB of a class: neighbouring numbers get hues far apart."""
    hue = (0.05 + class_id * _GOLDEN_RATIO) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _ink(colour: tuple[int, int, int]) -> str:
    red, green, blue = colour
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"


def _inside(xyxy: _Area, size: tuple[int, int]) -> _Area:
    """The part of a box that is in the picture; Pillow wants right >= left."""
    width, height = size
    left, right = (min(max(value, 0.0), width - 1.0) for value in (xyxy[0], xyxy[2]))
    top, bottom = (min(max(value, 0.0), height - 1.0) for value in (xyxy[1], xyxy[3]))
    return left, top, max(left, right), max(top, bottom)


def _label_area(
    box: _Area, extent: tuple[float, float], size: tuple[int, int], taken: Sequence[_Area]
) -> _Area:
    """Above the box, else inside its top, else below it: the first place that is free."""
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
