"""The results of `yolotf detect`, one for each image or video frame, as text and as JSON."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolotf.cli import inputs, messages
from yolotf.files.json import to_json
from yolotf.images.detections import Detections
from yolotf.text import plural, printable


@dataclass
class Result:
    """The result for an image, a video frame, or an input that could not be read.

    Attributes:
        path: the input: a file as given or as found in a folder, a stream's URL or a camera's
            number.
        size: (width, height) in pixels.
        detections: None if the input could not be read.
        drawing: path of the drawing.
        labels: path of the label file in Darknet's format.
        frame: index of the frame in the video, from 0; None for an image.
        seconds: position of the frame in the video.
        error: why there are no detections.
    """

    path: str
    size: tuple[int, int] = (0, 0)
    detections: Detections | None = None
    drawing: Path | None = None
    labels: Path | None = None
    frame: int | None = None
    seconds: float | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the object that `--json` prints."""
        about: dict[str, Any] = {"path": inputs.shown(self.path)}
        if self.detections is None:
            return {**about, "error": self.error}
        if self.frame is not None:
            about.update(frame=self.frame, seconds=self.seconds)
        about.update(width=self.size[0], height=self.size[1], **self.detections.to_dict())
        if self.drawing is not None:
            about["drawing"] = str(self.drawing)
        if self.labels is not None:
            about["labels"] = str(self.labels)
        return about


class Totals:
    """The numbers in the summary line at the end, and the time since the start."""

    def __init__(self) -> None:
        self.images = self.detections = self.unreadable = 0
        self.started = time.perf_counter()

    def add(self, result: Result) -> None:
        """Counts a result."""
        if result.detections is None:
            self.unreadable += 1
        else:
            self.images += 1
            self.detections += len(result.detections)

    def __str__(self) -> str:
        seconds = time.perf_counter() - self.started
        text = (
            f"{plural(self.images, 'image')}, "
            f"{plural(self.detections, 'detection')}, {seconds:.1f} s"
        )
        return f"{text}, {self.unreadable} not read" if self.unreadable else text


def print_text(result: Result) -> None:
    """Prints a result for people; an error goes to standard error."""
    if result.detections is None:
        _print_error(result)
        return
    title = _printable(inputs.shown(result.path))
    if result.frame is not None:
        title += f" frame {result.frame}"
    # Each image has its own drawing; a video has one, printed with the first frame.
    drawing = f" -> {_printable(result.drawing)}" if result.drawing and not result.frame else ""
    print(printable(f"{title}{drawing}\n{result.detections}\n"), flush=True)


def print_json(result: Result) -> None:
    """Prints a result as a line of JSON; an error also goes to standard error."""
    if result.detections is None:
        _print_error(result)
    print(to_json(result.to_dict()), flush=True)


def _print_error(result: Result) -> None:
    messages.say(f"yolotf: {_printable(inputs.shown(result.path))}: {result.error}")


def _printable(path: str | Path) -> str:
    """Returns a path as text that can be printed, even if the file's name is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
