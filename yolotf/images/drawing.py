"""Draws boxes and their labels."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from yolotf.files.paths import StrPath
from yolotf.images.fonts import font_for

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

_Area = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


class LabelledBox(NamedTuple):
    """A box to draw."""

    xyxy: _Area
    class_id: int
    label: str | None
    """None draws the box alone."""


def draw_boxes(
    image: Image.Image,
    boxes: Sequence[LabelledBox],
    *,
    line_width: int | None = None,
    font: StrPath | None = None,
) -> None:
    """Draws boxes on an RGB image, the first on top; lines and letters grow with the image.

    Args:
        image: the image to draw on.
        boxes: the boxes and their labels.
        line_width: in pixels; None: by the image's size.
        font: see `font_for`.

    Raises:
        OSError: `font` cannot be read.
    """
    from PIL import ImageDraw  # kept out of `import yolotf`

    draw = ImageDraw.Draw(image)
    default_width = max(1, round(min(image.size) / 250))
    for box in reversed(boxes):
        draw.rectangle(
            _inside(box.xyxy, image.size),
            outline=class_colour(box.class_id),
            width=line_width or default_width,
        )
    taken: list[_Area] = []
    for box in boxes:
        if box.label is not None:
            _draw_label(draw, image.size, box, box.label, 2 * default_width, font, taken)


def _draw_label(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    box: LabelledBox,
    text: str,
    padding: int,
    font: StrPath | None,
    taken: list[_Area],
) -> None:
    """Draws the label of a box where there is room, and adds its area to `taken`."""
    letters = font_for(text, max(10.0, min(size) / 40), font)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=letters)
    extent = right - left + 2 * padding, bottom - top + 2 * padding
    area = _label_area(_inside(box.xyxy, size), extent, size, taken)
    taken.append(area)
    colour = class_colour(box.class_id)
    draw.rectangle(area, fill=colour)
    origin = area[0] + padding - left, area[1] + padding - top
    draw.text(origin, text, fill=_text_colour(colour), font=letters)


def image_format(path: StrPath) -> str:
    """Returns Pillow's name of the format that a path's extension stands for.

    Raises:
        ValueError: Pillow writes no such images.
    """
    from PIL import Image  # kept out of `import yolotf`

    extension = Path(path).suffix.lower()
    name = Image.registered_extensions().get(extension, "")
    if name not in Image.SAVE:
        raise ValueError(
            f"{os.fspath(path)}: no image can be written "
            f"{f'as {extension}' if extension else 'without an extension'}; use .jpg, .png or .webp"
        )
    return name


def class_colour(class_id: int) -> tuple[int, int, int]:
    """Returns the RGB colour of a class; colours repeat after 80 classes."""
    start = 3 * class_id % len(_COLOURS)
    return _COLOURS[start], _COLOURS[start + 1], _COLOURS[start + 2]


# Each is as far as possible from all others in CIELAB (at least 19.8); none is gray or dark.
_COLOURS = bytes.fromhex(
    "ff4a26 0000ff 00ff00 00d4ff 802671 768013 26ffb7 ffff00 ff00ea ffb5a6 0080ff ff0080 "
    "803713 005580 ffaa00 138064 ffffa6 000080 ffa6ff 00a61c 974dff a6ffe9 807153 a6bcff "
    "aaff80 a60037 cc853d aaff00 a66c84 ccbe1f cc0099 6c97a6 ff80aa 90cc85 5a53a6 26ff6f "
    "b580ff 26802e 8a00a6 ccba85 a61c00 00ccaa ff4d5b 0044cc ff8126 92cc1f cc6666 0011cc "
    "1f92cc 802644 a885cc bf00ff 805b13 cc66b3 3dcc6d 00ffff a60061 ff80ff 695380 a6e9ff "
    "00cc00 00a6a6 6ca632 804a40 132580 bbcc66 1f75cc ffd480 608040 cc613d 6232a6 a68a00 "
    "19a66b ffd400 cc3dcc e1ff4d cc8866 cbffa6 007580 6ca68e "
)


def _text_colour(colour: tuple[int, int, int]) -> str:
    """Returns black or white, whichever is easier to read on a colour."""
    red, green, blue = colour
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"


def _inside(xyxy: _Area, size: tuple[int, int]) -> _Area:
    """Returns the part of a box inside the image, with right >= left as Pillow requires."""
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
    """Returns the first free place for a label: above the box, at its top inside, or below it."""
    width, height = extent
    left = max(0.0, min(box[0], size[0] - width))
    places = [
        (left, top, left + width, top + height)
        for top in (box[1] - height, box[1], box[3])
        if top >= 0 and top + height <= size[1]
    ]
    for place in places:
        if not any(_overlap(place, other) for other in taken):
            return place
    top = max(0.0, min(box[1], size[1] - height))
    return places[0] if places else (left, top, left + width, top + height)


def _overlap(a: _Area, b: _Area) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
