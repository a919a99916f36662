"""Inputs of the commands: images, folders, patterns, videos, cameras and streams."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from yolotf.files.sources import shown_url
from yolotf.images.endings import DRAWN as DRAWN
from yolotf.images.endings import IMAGES
from yolotf.images.endings import VIDEOS as VIDEOS
from yolotf.images.read import open_picture
from yolotf.text import plural

if TYPE_CHECKING:
    from PIL import Image

_STREAM = re.compile(r"(?:rtsps?|rtmp|https?|udp|tcp)://", re.IGNORECASE)
_CAMERA_DIGITS = 9
"""OpenCV takes a C int."""
STDIN = "-"
"""The input that means: names on standard input, one a line."""


def expanded(
    given: Iterable[str],
    *,
    recursive: bool = False,
    passed_over: Counter[str] | None = None,
    videos: bool = True,
) -> Iterator[str]:
    """Yields input names; folders and patterns are replaced by the sorted files they contain.

    Args:
        given: names, folders and patterns.
        recursive: whether to descend into subfolders.
        passed_over: counts the skipped files of folders by extension.
        videos: whether to include the videos of folders.
    """
    options: dict[str, Any] = {"recursive": recursive, "passed_over": passed_over, "videos": videos}
    endings = _KNOWN if videos else IMAGES
    for name in given:
        path = Path(name)
        if name == STDIN:
            lines = (line.rstrip("\r\n") for line in sys.stdin)
            inner = (line for line in lines if line)
            yield from expanded(inner, **options)
        elif _STREAM.match(name):
            yield name
        elif path.is_dir():
            entries = sorted(path.rglob("*") if recursive else path.iterdir())
            known = [str(one) for one in entries if one.suffix.lower() in endings]
            if passed_over is not None:
                passed_over.update(others(entries))
            # An empty folder yields itself, to be reported as an unreadable input.
            yield from known or [str(path)]
        elif glob.has_magic(name) and not path.exists():
            matching = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (of any folder)
            if matching:
                yield from expanded(matching, **options)
            else:
                yield name
        else:
            yield str(path)


_KNOWN = IMAGES | VIDEOS
_LABELS = frozenset({".json", ".txt", ".xml"})
"""Extensions that are common beside images and are skipped silently."""


def others(entries: Iterable[Path]) -> Iterator[str]:
    """Yields the extensions of files that are not images, videos or label files."""
    for entry in entries:
        ending = entry.suffix.lower()
        if ending not in _KNOWN | _LABELS and not entry.name.startswith(".") and entry.is_file():
            yield ending or "without ending"


def about_passed_over(passed_over: Counter[str]) -> str:
    """Returns a sentence about the files that `expanded` skipped."""
    counts = ", ".join(f"{count} {ending}" for ending, count in sorted(passed_over.items()))
    return (
        f"{plural(passed_over.total(), 'file')} in folders passed over, neither images nor "
        f"videos by the ending: {counts}"
    )


def is_stream(name: str) -> bool:
    """Whether the name is a URL or the number of a camera."""
    return bool(_STREAM.match(name)) or _is_camera(name)


def _is_camera(name: str) -> bool:
    return name.isdecimal() and len(name) <= _CAMERA_DIGITS and not Path(name).exists()


def is_video(name: str) -> bool:
    """Whether the input has frames."""
    return is_stream(name) or Path(name).suffix.lower() in VIDEOS


def is_missing(name: str) -> bool:
    """Whether the name is a file or folder that does not exist."""
    return not is_stream(name) and not Path(name).exists()


def stem(name: str) -> str:
    """Returns the stem of the drawing's file name."""
    if _is_camera(name):
        return f"camera-{name}"
    if is_stream(name):
        return re.sub(r"[^\w.-]+", "_", shown(name).split("://", 1)[1])
    return Path(name).stem


def shown(name: str) -> str:
    """Returns the name for messages: a URL without its secrets."""
    return name if os.path.exists(name) else shown_url(name)  # noqa: PTH110 (Path's raises)


class Read(NamedTuple):
    """An input with its image, or with the reason why it has none; a video has neither."""

    name: str
    picture: Image.Image | None
    error: str | None


def _read(name: str, max_pixels: int) -> Read:
    if is_video(name):
        return Read(name, None, None)
    if Path(name).is_dir():
        return Read(name, None, "no images or videos in this folder")
    try:
        return Read(name, open_picture(name, max_pixels=max_pixels), None)
    except Exception as error:  # Pillow's decoders raise arbitrary exceptions on damaged files
        return Read(name, None, _reason(name, error))


def _reason(name: str, error: Exception) -> str:
    """Returns the error's text without the path, which the caller prints."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error) or type(error).__name__
    return text.replace(f" {name!r}", "").removeprefix(f"{name}: ").rstrip(".")


def read_ahead(names: Iterable[str], ahead: int, max_pixels: int) -> Iterator[Read]:
    """Yields the inputs in order and reads up to `ahead` images in another thread meanwhile."""
    with ThreadPoolExecutor(1, "yolotf-read") as pool:
        waiting: list[Future[Read]] = []
        try:
            for name in names:
                waiting.append(pool.submit(_read, name, max_pixels))
                if len(waiting) > ahead:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
