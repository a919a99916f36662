"""`yolotf detect`: pictures, folders and videos in; drawings, text or JSON out."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from yolotf.darknet import stock as networks
from yolotf.errors import YolotfError
from yolotf.serving.detections import Detections
from yolotf.serving.pictures import open_picture

if TYPE_CHECKING:
    from PIL import Image

_DRAWN = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Endings a drawing keeps; of other pictures it is a .png."""
PICTURES = _DRAWN | {".avif", ".gif", ".jfif", ".pgm", ".pnm", ".ppm"}
VIDEOS = frozenset(
    {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
)
EXTRA = "video"
"""What `pip install yolotf[...]` calls the optional dependency for videos."""

_AHEAD = 4
"""Pictures read while others are in the network."""

Detect = Callable[["Image.Image"], Detections]


def run(parsed: argparse.Namespace) -> int:
    """The command `yolotf detect`: 0, or 2 if there was something it could not read."""
    inputs = list(_inputs(parsed.inputs))
    folder = parsed.output
    if folder is None and not parsed.json:
        folder = "detections"
    out = _Out(Path(folder), inputs) if folder is not None else None
    network = networks.find(parsed.cfg, classes=parsed.classes)
    if parsed.size is not None:
        network = network.resized(parsed.size)
    channels = network.input_shape.channels
    if channels not in (1, 3, 4):
        raise YolotfError(
            f"{network.source}: takes {channels} channels, pictures have 1, 3 or 4",
            source=network.source,
            found=channels,
        )

    from yolotf.serving.inference import Detector

    detector = Detector(
        network, parsed.weights, names=parsed.names, score=parsed.score, iou=parsed.iou
    )
    if out is not None:
        out.folder.mkdir(parents=True, exist_ok=True)
    say = _say_json if parsed.json else _say_text
    count = _Count()
    with _shown(len(inputs)) as bar:
        for item in _results(inputs, detector, out, bar):
            say(item)
            count.add(item)
    print(count, file=sys.stderr)
    return 2 if count.unreadable else 0


@dataclass
class _Item:
    """One picture, one frame of a video, or what could not be read.

    Attributes:
        path: as given, or found in a folder.
        size: (width, height) in pixels.
        found: the detections.
        drawing: where they were drawn.
        frame: of a video, from 0.
        seconds: where in the video the frame is.
        error: why there is nothing.
    """

    path: Path
    size: tuple[int, int] = (0, 0)
    found: Detections | None = None
    drawing: Path | None = None
    frame: int | None = None
    seconds: float | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        about: dict[str, Any] = {"path": str(self.path)}
        if self.found is None:
            return {**about, "error": self.error}
        if self.frame is not None:
            about.update(frame=self.frame, seconds=self.seconds)
        about.update(width=self.size[0], height=self.size[1], **self.found.to_dict())
        if self.drawing is not None:
            about["drawing"] = str(self.drawing)
        return about


class _Count:
    """The line at the end."""

    def __init__(self) -> None:
        self.pictures = self.detections = self.unreadable = 0
        self.started = time.perf_counter()

    def add(self, item: _Item) -> None:
        if item.found is None:
            self.unreadable += 1
        else:
            self.pictures += 1
            self.detections += len(item.found)

    def __str__(self) -> str:
        seconds = time.perf_counter() - self.started
        text = (
            f"{self.pictures} picture{'s' * (self.pictures != 1)}, {self.detections} "
            f"detection{'s' * (self.detections != 1)}, {seconds:.1f} s"
        )
        return f"{text}, {self.unreadable} not read" if self.unreadable else text


# What goes in.


def _inputs(given: Iterable[str]) -> Iterator[Path]:
    """Files as given, of folders the pictures and videos in them, by name."""
    for name in given:
        path = Path(name)
        if path.is_dir():
            found = [one for one in sorted(path.iterdir()) if one.suffix.lower() in _KNOWN]
            # An empty folder is something that could not be read, and reported as such.
            yield from found or [path]
        else:
            yield path


_KNOWN = PICTURES | VIDEOS


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS


class _Read(NamedTuple):
    path: Path
    picture: Image.Image | None
    error: str | None


def _read(path: Path) -> _Read:
    if path.is_dir():
        return _Read(path, None, "no pictures or videos in this folder")
    if _is_video(path):
        return _Read(path, None, None)
    try:
        return _Read(path, open_picture(path), None)
    except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them to
        return _Read(path, None, _reason(path, error))


def _reason(path: Path, error: Exception) -> str:
    """The error without the path, which is named beside it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error) or type(error).__name__
    return text.removeprefix(f"{path}: ").replace(f" {str(path)!r}", "").rstrip(".")


def _read_ahead(paths: Iterable[Path]) -> Iterator[_Read]:
    """Reads pictures in another thread while the network runs, in order."""
    with ThreadPoolExecutor(1, "yolotf-read") as pool:
        waiting: list[Future[_Read]] = []
        try:
            for path in paths:
                waiting.append(pool.submit(_read, path))
                if len(waiting) > _AHEAD:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


# What comes out.


class _Out:
    """The folder of drawings, and names in it that hide no input and no other drawing."""

    def __init__(self, folder: Path, inputs: Iterable[Path]) -> None:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{folder}: is a file; drawings go into a folder")
        self.folder = folder
        self._taken = {path.resolve() for path in inputs}

    def path_for(self, source: Path) -> Path:
        ending = ".mp4" if _is_video(source) else source.suffix
        if not _is_video(source) and ending.lower() not in _DRAWN:
            ending = ".png"
        number = 1
        while True:
            name = f"{source.stem}-{number}{ending}" if number > 1 else f"{source.stem}{ending}"
            path = self.folder / name
            if path.resolve() not in self._taken:
                self._taken.add(path.resolve())
                return path
            number += 1


def _results(inputs: list[Path], detect: Detect, out: _Out | None, bar: _Bar) -> Iterator[_Item]:
    for path, picture, error in _read_ahead(inputs):
        if picture is not None:
            found = detect(picture)
            drawing = out.path_for(path) if out else None
            if drawing is not None:
                found.draw(picture, drawing)
            yield _Item(path, picture.size, found, drawing)
        elif error is not None:
            yield _Item(path, error=error)
        else:
            yield from _video(path, detect, out, bar)
        bar.step()


def _video(path: Path, detect: Detect, out: _Out | None, bar: _Bar) -> Iterator[_Item]:
    """Every frame; what could not be read as an item with the error."""
    try:
        import cv2
    except ImportError:
        yield _Item(path, error=f'videos need OpenCV; pip install "yolotf[{EXTRA}]"')
        return
    if not path.is_file():
        yield _Item(path, error="no such file or directory")
        return
    from PIL import Image

    capture = cv2.VideoCapture(str(path))
    writer: Any = None
    drawing = out.path_for(path) if out else None
    frame = 0
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if math.isfinite(rate) and rate > 0 else 25.0
        bar.expect(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        while True:
            read, pixels = capture.read()
            if not read:
                break
            picture = Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
            found = detect(picture)
            if drawing is not None:
                if writer is None:
                    codec = cv2.VideoWriter.fourcc(*"mp4v")
                    writer = cv2.VideoWriter(str(drawing), codec, rate, picture.size)
                    if not writer.isOpened():
                        raise OSError(f"{drawing}: OpenCV cannot write this video")
                writer.write(cv2.cvtColor(_array(found.draw(picture)), cv2.COLOR_RGB2BGR))
            yield _Item(path, picture.size, found, drawing, frame, frame / rate)
            frame += 1
            bar.step()
    finally:
        capture.release()
        if writer is not None:
            writer.release()
    if frame == 0:
        yield _Item(path, error="OpenCV finds no frame in it")


def _array(picture: Image.Image) -> Any:
    import numpy as np

    return np.asarray(picture)


def _say_text(item: _Item) -> None:
    if item.found is None:
        _complain(item)
        return
    where = _name(item.path) if item.frame is None else f"{_name(item.path)} frame {item.frame}"
    # One drawing a picture; that of a video is named once.
    drawn = f" -> {_name(item.drawing)}" if item.drawing and not item.frame else ""
    print(f"{where}{drawn}\n{item.found}\n", flush=True)


def _say_json(item: _Item) -> None:
    if item.found is None:
        _complain(item)
    try:
        line = json.dumps(item.to_dict(), allow_nan=False)
    except ValueError:
        # A box as long as float32 can be; JSON has no word for infinity.
        line = json.dumps(_finite(item.to_dict()), allow_nan=False)
    print(line, flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _complain(item: _Item) -> None:
    print(f"yolotf: {_name(item.path)}: {item.error}", file=sys.stderr, flush=True)


def _name(path: Path) -> str:
    """Printable, also where a file name is no UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class _Bar:
    """How far it is; says nothing until it has a bar."""

    def __init__(self) -> None:
        self.progress: Any = None
        self.task: Any = None

    def expect(self, more: float) -> None:
        """Of a video, the number of frames, if it is known."""
        if self.progress is not None and more > 0:
            total = self.progress.tasks[0].total
            self.progress.update(self.task, total=total + int(more))

    def step(self) -> None:
        if self.progress is not None:
            self.progress.advance(self.task)


@contextlib.contextmanager
def _shown(total: int) -> Iterator[_Bar]:
    """A progress bar on stderr, if that is a terminal."""
    from rich import progress
    from rich.console import Console

    bar = _Bar()
    console = Console(stderr=True)
    if not console.is_terminal:
        yield bar
        return
    with progress.Progress(
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        transient=True,
        # Rich would send to stderr what is meant for a file or a pipe.
        redirect_stdout=sys.stdout.isatty(),
    ) as bar.progress:
        bar.task = bar.progress.add_task("", total=total)
        yield bar
