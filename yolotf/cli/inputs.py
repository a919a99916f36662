"""Inputs of the commands: images, folders, patterns, videos, cameras and streams."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from yolotf.errors import YolotfError
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
"""Most digits of a camera's number, which OpenCV takes as a C int."""
_LONGEST_NAME = 1 << 16
"""Most characters of a line on standard input; Linux' longest path has 4,096 bytes."""
STDIN = "-"
"""This input stands for names on standard input, one a line."""


def expanded(
    given: Iterable[str],
    *,
    recursive: bool = False,
    skipped: Counter[str] | None = None,
    videos: bool = True,
) -> Iterator[str]:
    """Yields input names; folders and patterns are replaced by the sorted files they contain.

    Args:
        given: names, folders and patterns.
        recursive: whether to descend into subfolders.
        skipped: counts the skipped files of folders by extension.
        videos: whether to include the videos of folders.
    """
    options: dict[str, Any] = {"recursive": recursive, "skipped": skipped, "videos": videos}
    wanted = _KNOWN if videos else IMAGES
    for name in given:
        path = Path(name)
        if name == STDIN:
            yield from expanded(_listed_names(), **options)
        elif _STREAM.match(name):
            yield name
        elif path.is_dir():
            entries = sorted(path.rglob("*") if recursive else path.iterdir())
            paths = [str(entry) for entry in entries if entry.suffix.lower() in wanted]
            if skipped is not None:
                skipped.update(_other_extensions(entries))
            # An empty folder yields itself, to be reported as an unreadable input.
            yield from paths or [str(path)]
        elif glob.has_magic(name) and not path.exists():
            matching = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (of any folder)
            if matching:
                yield from expanded(matching, **options)
            else:
                yield name
        else:
            yield str(path)


def _listed_names() -> Iterator[str]:
    """Yields the names on standard input.

    Raises:
        YolotfError: a line is too long for a path, as of a binary file.
    """
    while line := sys.stdin.readline(_LONGEST_NAME + 1):
        if len(line) > _LONGEST_NAME:
            raise YolotfError(
                f"standard input: a line has more than {_LONGEST_NAME:,} characters; it must list "
                "one path a line"
            )
        if name := line.rstrip("\r\n"):
            yield name


_KNOWN = IMAGES | VIDEOS
_LABELS = frozenset({".json", ".txt", ".xml"})
"""Extensions that are common beside images and are skipped silently."""


def _other_extensions(entries: Iterable[Path]) -> Iterator[str]:
    """Yields the extensions of files that are not images, videos or label files."""
    for entry in entries:
        extension = entry.suffix.lower()
        is_known = extension in _KNOWN | _LABELS or entry.name.startswith(".")
        if not is_known and entry.is_file():
            yield extension or "without extension"


def about_skipped(skipped: Counter[str]) -> str:
    """Returns a sentence about the files that `expanded` skipped."""
    counts = ", ".join(f"{count} {extension}" for extension, count in sorted(skipped.items()))
    return (
        f"skipped {plural(skipped.total(), 'file')} in folders, whose extensions are not those of "
        f"images or videos: {counts}"
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


def output_stem(name: str) -> str:
    """Returns the name of the drawing and labels of an input, without extension."""
    if _is_camera(name):
        return f"camera-{name}"
    if is_stream(name):
        return re.sub(r"[^\w.-]+", "_", shown(name).split("://", 1)[1])
    return Path(name).stem


def shown(name: str) -> str:
    """Returns the name for messages: a URL without its secrets."""
    return name if os.path.exists(name) else shown_url(name)  # noqa: PTH110 (Path's raises)


class Input(NamedTuple):
    """An input with its image, or with the reason why it has none; a video has neither."""

    name: str
    image: Image.Image | None
    error: str | None


def _read(name: str, max_pixels: int) -> Input:
    if is_video(name):
        return Input(name, None, None)
    if Path(name).is_dir():
        return Input(name, None, "no images or videos in this folder")
    try:
        return Input(name, open_picture(name, max_pixels=max_pixels), None)
    except Exception as error:  # Pillow's decoders raise arbitrary exceptions on damaged files
        return Input(name, None, _reason(name, error))


def _reason(name: str, error: Exception) -> str:
    """Returns the error's text without the path, which the caller prints."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error) or type(error).__name__
    return text.replace(f" {name!r}", "").removeprefix(f"{name}: ").rstrip(".")


def read_ahead(names: Iterable[str], ahead: int, max_pixels: int) -> Iterator[Input]:
    """Yields the inputs in order; another thread reads up to `ahead` images in advance."""
    with ThreadPoolExecutor(1, "yolotf-read") as pool:
        waiting: list[Future[Input]] = []
        try:
            for name in names:
                waiting.append(pool.submit(copy_context().run, _read, name, max_pixels))
                if len(waiting) > ahead:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
