"""Finds a font with the letters of a label; Pillow's default font only has Latin letters."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from yolotf._public import warn_caller
from yolotf.files import opening
from yolotf.files.home import home
from yolotf.files.paths import StrPath

if TYPE_CHECKING:
    from PIL import ImageFont

    Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

_EXTENSIONS = frozenset({".ttf", ".ttc", ".otf", ".otc"})
_PREFERRED = (
    "dejavusans.",
    "notosans-regular",
    "liberationsans-regular",
    "arial.",
    "notosanscjk-r",
)
"""Prefixes of the file names of fonts to try first."""
_MAX_BYTES = 1 << 28
"""Largest size of a font file in bytes; fonts of all Chinese characters have 20 to 120 MB."""
_MISSING = "\U0010ffff"
"""A code point that no font has a glyph for."""


def folders() -> tuple[Path, ...]:
    """Returns the folders of installed fonts on this system."""
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


def font_for(text: str, size: float, path: StrPath | None = None) -> Font:
    """Returns a font for `text`.

    Args:
        text: the label.
        size: font size in pixels.
        path: the font file to use, even if it lacks letters; None: Pillow's default font or the
            first installed font that has all letters. If no font has all letters, the font with
            most of them is used, with a warning.

    Raises:
        OSError: `path` is not a font or cannot be read.
    """
    from PIL import ImageFont  # kept out of `import yolotf`

    if path is not None:
        return _truetype(path, size)
    # Every font has ASCII. Without it, labels that differ in their scores share a cache entry.
    letters = "".join(sorted({letter for letter in text if not letter.isascii()}))
    installed = _path_for(letters, folders())
    return ImageFont.load_default(size=size) if installed is None else _truetype(installed, size)


def _truetype(path: StrPath, size: float) -> Font:
    from PIL import ImageFont  # kept out of `import yolotf`

    if Path(path).exists():
        opening.check_regular(path)  # FreeType would wait for a FIFO, and the process with it
        size_bytes = Path(path).stat().st_size
        if size_bytes > _MAX_BYTES:  # FreeType looks through a file of zeros for minutes
            raise OSError(
                errno.EFBIG,
                f"{size_bytes:,} bytes, a font has at most {_MAX_BYTES:,}",
                os.fspath(path),
            )
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
    """Returns the first font with all `letters`, or else with most; None: Pillow's default font."""
    from PIL import ImageFont  # kept out of `import yolotf`

    size = 16.0
    best = None
    missing = _missing(ImageFont.load_default(size=size), letters)
    for path in _installed(places):
        if not missing:
            return best
        with contextlib.suppress(OSError):  # not a font, despite its extension
            still_missing = _missing(ImageFont.truetype(str(path), size), letters)
            if len(still_missing) < len(missing):
                best, missing = path, still_missing
    if missing:
        warn_caller(
            f"no installed font has the letters {missing!r}; labels show boxes in their place: "
            "install a font that has them, or give its file with font="
        )
    return best


@functools.lru_cache(maxsize=8)
def _installed(places: tuple[Path, ...]) -> tuple[Path, ...]:
    """Returns the font files in these folders, the preferred fonts first."""

    def files() -> Iterator[Path]:
        for place in places:
            yield from (path for path in place.rglob("*") if path.suffix.lower() in _EXTENSIONS)

    def rank(path: Path) -> tuple[int, int, str]:
        name = path.name.lower()
        ranks = [rank for rank, prefix in enumerate(_PREFERRED) if name.startswith(prefix)]
        is_styled = any(word in name for word in ("bold", "italic", "oblique", "mono", "serif"))
        return ranks[0] if ranks else len(_PREFERRED), int(is_styled), str(path)

    return tuple(sorted(files(), key=rank))


def _missing(font: Font, letters: str) -> str:
    """Returns the letters that the font draws like a letter it does not have."""
    placeholder = _glyph(font, _MISSING)
    return "".join(
        letter for letter in letters if not letter.isspace() and _glyph(font, letter) == placeholder
    )


def _glyph(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
