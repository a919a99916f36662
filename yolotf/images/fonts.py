"""Finds a font with the letters of a label; Pillow's default font only has Latin letters."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from yolotf._public import warn_caller
from yolotf.files.home import home

if TYPE_CHECKING:
    from PIL import ImageFont

    Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

_ENDINGS = frozenset({".ttf", ".ttc", ".otf", ".otc"})
_PREFERRED = (
    "dejavusans.",
    "notosans-regular",
    "liberationsans-regular",
    "arial.",
    "notosanscjk-r",
)
"""Prefixes of the file names of fonts to try first."""
_MISSING = "\U0010ffff"
"""A code point that no font has a glyph for."""


def folders() -> tuple[Path, ...]:
    """The folders of installed fonts on this system."""
    user = home()
    if sys.platform == "darwin":
        own = () if user is None else (user / "Library/Fonts",)
        return Path("/System/Library/Fonts"), Path("/Library/Fonts"), *own
    if sys.platform == "win32":
        return (Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts",)
    shared = Path("/usr/share/fonts"), Path("/usr/local/share/fonts")
    data = os.environ.get("XDG_DATA_HOME") or (user and user / ".local/share")
    own = () if user is None else (user / ".fonts",)
    return *shared, *((Path(data) / "fonts",) if data else ()), *own


def font_for(text: str, size: float, path: str | os.PathLike[str] | None = None) -> Font:
    """A font for `text`.

    Args:
        text: the label.
        size: font size in pixels.
        path: the font file to use, even if it lacks letters; None: the first of Pillow's default
            font and the installed fonts that has all letters.

    Returns:
        The font; if no font has all letters, the one with most of them, with a warning.

    Raises:
        OSError: `path` is not a font or cannot be read.
    """
    from PIL import ImageFont  # kept out of `import yolotf`

    if path is not None:
        return _truetype(path, size)
    # Any font has those of English: which score stands in a label makes no difference.
    letters = "".join(sorted({letter for letter in text if not letter.isascii()}))
    found = _path_for(letters, folders())
    return ImageFont.load_default(size=size) if found is None else _truetype(found, size)


def _truetype(path: str | os.PathLike[str], size: float) -> Font:
    from PIL import ImageFont  # kept out of `import yolotf`

    try:
        return ImageFont.truetype(os.fspath(path), size)
    except OSError as error:
        if not Path(path).exists():
            raise FileNotFoundError(2, os.strerror(2), os.fspath(path)) from error
        raise OSError(
            f"{os.fspath(path)}: not a font; a .ttf, .ttc or .otf file is needed"
        ) from error


@functools.lru_cache(maxsize=256)
def _path_for(letters: str, places: tuple[Path, ...]) -> Path | None:
    """The first font with all `letters`, else with most; None means Pillow's default font."""
    from PIL import ImageFont  # kept out of `import yolotf`

    size = 16.0
    best = None
    missing = _missing(ImageFont.load_default(size=size), letters)
    for path in _installed(places):
        if not missing:
            return best
        with contextlib.suppress(OSError):  # a file that only ends like a font
            here = _missing(ImageFont.truetype(str(path), size), letters)
            if len(here) < len(missing):
                best, missing = path, here
    if missing:
        warn_caller(
            f"no installed font has the letters {missing!r}; labels show boxes in their place: "
            "install one, or give its file with font="
        )
    return best


@functools.lru_cache(maxsize=8)
def _installed(places: tuple[Path, ...]) -> tuple[Path, ...]:
    def files() -> Iterator[Path]:
        for place in places:
            yield from (one for one in place.rglob("*") if one.suffix.lower() in _ENDINGS)

    def rank(path: Path) -> tuple[int, int, str]:
        name = path.name.lower()
        known = [i for i, start in enumerate(_PREFERRED) if name.startswith(start)]
        styled = any(word in name for word in ("bold", "italic", "oblique", "mono", "serif"))
        return known[0] if known else len(_PREFERRED), int(styled), str(path)

    return tuple(sorted(files(), key=rank))


def _missing(font: Font, letters: str) -> str:
    nothing = _shape(font, _MISSING)
    return "".join(x for x in letters if not x.isspace() and _shape(font, x) == nothing)


def _shape(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
