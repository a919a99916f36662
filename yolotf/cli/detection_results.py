"""The results of `yolotf detect`: for an image or frame, in all, as text and as JSON."""

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
    """The result for one image or video frame, or an input that could not be read.

    Attributes:
        path: as given, or in a folder; or a stream's URL or a camera's number.
        size: (width, height) in pixels.
        found: the detections.
        drawing: path of the drawing.
        labels: path of the label file in Darknet's format.
        frame: index in the video, from 0.
        seconds: position of the frame in the video.
        error: why there is no result.
    """

    path: str
    size: tuple[int, int] = (0, 0)
    found: Detections | None = None
    drawing: Path | None = None
    labels: Path | None = None
    frame: int | None = None
    seconds: float | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the object that `--json` prints."""
        about: dict[str, Any] = {"path": inputs.shown(self.path)}
        if self.found is None:
            return {**about, "error": self.error}
        if self.frame is not None:
            about.update(frame=self.frame, seconds=self.seconds)
        about.update(width=self.size[0], height=self.size[1], **self.found.to_dict())
        if self.drawing is not None:
            about["drawing"] = str(self.drawing)
        if self.labels is not None:
            about["labels"] = str(self.labels)
        return about


class Totals:
    """Counts for the summary line at the end."""

    def __init__(self) -> None:
        self.pictures = self.detections = self.unreadable = 0
        self.started = time.perf_counter()

    def add(self, item: Result) -> None:
        """Counts a result."""
        if item.found is None:
            self.unreadable += 1
        else:
            self.pictures += 1
            self.detections += len(item.found)

    def __str__(self) -> str:
        seconds = time.perf_counter() - self.started
        text = (
            f"{plural(self.pictures, 'image')}, "
            f"{plural(self.detections, 'detection')}, {seconds:.1f} s"
        )
        return f"{text}, {self.unreadable} not read" if self.unreadable else text


def print_text(item: Result) -> None:
    """Prints a result for people; an error goes to standard error."""
    if item.found is None:
        _complain(item)
        return
    where = _name(inputs.shown(item.path))
    if item.frame is not None:
        where += f" frame {item.frame}"
    # Each image has its drawing; a video's is printed once.
    drawn = f" -> {_name(item.drawing)}" if item.drawing and not item.frame else ""
    print(printable(f"{where}{drawn}\n{item.found}\n"), flush=True)


def print_json(item: Result) -> None:
    """Prints a result as a line of JSON; an error also goes to standard error."""
    if item.found is None:
        _complain(item)
    print(to_json(item.to_dict()), flush=True)


def _complain(item: Result) -> None:
    messages.say(f"yolotf: {_name(inputs.shown(item.path))}: {item.error}")


def _name(path: str | Path) -> str:
    """Returns a printable name, even if the file name is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
