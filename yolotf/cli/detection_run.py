"""Detects in the images and videos of `yolotf detect`, and writes drawings and labels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolotf.cli import inputs, label_files
from yolotf.cli.detection_results import Result
from yolotf.cli.output_folder import OutputFolder
from yolotf.cli.video import DrawnVideo
from yolotf.images.detections import Detections

if TYPE_CHECKING:
    from PIL import Image

    from yolotf.cli.progress import Counter

EXTRA = "video"
"""The extra in `pip install yolotf[...]` that installs the library for videos."""

Detect = Callable[[Sequence["Image.Image"]], Sequence[Detections]]


@dataclass(frozen=True)
class DetectionRun:
    """Processes each image.

    Attributes:
        detect: returns the detections of each image of a batch.
        reset: resets the recurrent state.
        stateful: whether the network has a recurrent state.
        out: the output folder for drawings and labels.
        drawn: whether to write drawings.
        labels: whether to write label files.
        scores: whether label lines end with the score.
        style: arguments of `Detections.draw`.
        overwrite: whether drawings and labels replace existing files.
        max_pixels: larger images are not decoded.
        batch: images per call of `detect`.
        ahead: images to read ahead.
    """

    detect: Detect
    reset: Callable[[], None]
    stateful: bool
    out: OutputFolder | None
    drawn: bool
    labels: bool
    scores: bool
    style: dict[str, Any]
    overwrite: bool
    max_pixels: int
    batch: int
    ahead: int

    def detect_each(self, pictures: Sequence[Image.Image]) -> Sequence[Detections]:
        """Runs `detect` on unrelated images; a recurrent network is reset before each."""
        if not self.stateful:
            return self.detect(pictures)
        found: list[Detections] = []
        for picture in pictures:
            self.reset()
            found += self.detect([picture])
        return found

    def drawing_for(self, source: str) -> Path | None:
        """Returns the path of an input's drawing; None if drawings are off."""
        return self.out.drawing_for(source) if self.out is not None and self.drawn else None

    def save_labels(self, item: Result) -> None:
        """Writes the label file of an image or frame."""
        if self.labels and self.out is not None and item.found is not None:
            number = "" if item.frame is None else f"-{item.frame:06d}"
            path = self.out.path_for(f"{inputs.stem(item.path)}{number}", ".txt")
            label_files.write_labels(
                path, item.found, item.size, scores=self.scores, overwrite=self.out.overwrite
            )
            item.labels = path


def results_of(names: Iterable[str], work: DetectionRun, bar: Counter) -> Iterator[Result]:
    """Yields the results of all inputs in order; images go through the network in batches."""
    pending: list[tuple[str, Image.Image]] = []
    for name, picture, error in inputs.read_ahead(names, work.ahead, work.max_pixels):
        if picture is not None:
            pending.append((name, picture))
            if len(pending) < work.batch:
                continue
        for item in _pictures(pending, work):
            yield item
            bar.step()
        pending = []
        if picture is not None:
            continue
        if error is not None:
            yield Result(name, error=error)
        else:
            yield from _video(name, work, bar)
        bar.step()
    for item in _pictures(pending, work):
        yield item
        bar.step()


def _pictures(named: Sequence[tuple[str, Image.Image]], work: DetectionRun) -> Iterator[Result]:
    """Yields the results of a batch of images."""
    if not named:
        return
    detections = work.detect_each([picture for _, picture in named])
    for (name, picture), found in zip(named, detections, strict=True):
        drawing = work.drawing_for(name)
        if drawing is not None:
            found.draw(picture, drawing, overwrite=work.overwrite, **work.style)
        item = Result(name, picture.size, found, drawing)
        work.save_labels(item)
        yield item


def _video(name: str, work: DetectionRun, bar: Counter) -> Iterator[Result]:
    """Yields a result for every frame, or the error if the video cannot be read."""
    try:
        import cv2  # optional, and slow to import
    except ImportError:
        yield Result(name, error=f'videos need OpenCV; pip install "yolotf[{EXTRA}]"')
        return
    stream = inputs.is_stream(name)
    if not stream and not Path(name).is_file():
        yield Result(name, error="no such file or directory")
        return
    from PIL import Image  # only needed for videos

    capture = cv2.VideoCapture(int(name) if name.isdecimal() and stream else name)
    drawing = work.drawing_for(name)
    drawn: DrawnVideo | None = None
    frame = 0
    work.reset()
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if math.isfinite(rate) and rate > 0 else 25.0
        size = [
            capture.get(which) for which in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        ]
        if size[0] * size[1] > work.max_pixels:
            yield Result(
                name,
                error=f"frames of {size[0]:.0f}x{size[1]:.0f}, more pixels than "
                f"--max-pixels {work.max_pixels}",
            )
            return
        bar.expect(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        for batch in _batches(_frames(capture), work.batch):
            pictures = [
                Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)) for pixels, _ in batch
            ]
            times = [milliseconds for _, milliseconds in batch]
            answers = work.detect(pictures)
            for picture, found, milliseconds in zip(pictures, answers, times, strict=True):
                if drawing is not None:
                    if drawn is None:
                        drawn = DrawnVideo(drawing, rate, picture.size, overwrite=work.overwrite)
                    drawn.add(found.draw(picture, **work.style))
                # The frame's own time stamp: frame durations vary. Cameras have no time stamps.
                seconds = milliseconds / 1000 if milliseconds > 0 else frame / rate
                item = Result(name, picture.size, found, drawing, frame=frame, seconds=seconds)
                work.save_labels(item)
                yield item
                frame += 1
                bar.step()
    except (GeneratorExit, KeyboardInterrupt):
        # The usual way to stop a camera: keep what has been drawn.
        if drawn is not None:
            drawn.publish()
        raise
    except BaseException:
        if drawn is not None:
            drawn.discard()
        raise
    finally:
        capture.release()
    if drawn is not None:
        drawn.publish()
    if frame == 0:
        what = "OpenCV cannot open it" if stream else "OpenCV finds no frame in it"
        yield Result(name, error=what)


def _frames(capture: Any) -> Iterator[tuple[Any, float]]:
    """Yields each frame and its time stamp in milliseconds, 0 if it has none."""
    import cv2  # optional, and slow to import

    while True:
        read, pixels = capture.read()
        if not read:
            return
        yield pixels, capture.get(cv2.CAP_PROP_POS_MSEC)


def _batches(frames: Iterator[tuple[Any, float]], size: int) -> Iterator[list[tuple[Any, float]]]:
    while batch := list(itertools.islice(frames, size)):
        yield batch
