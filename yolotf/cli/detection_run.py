"""Runs a detector over the images and videos of `yolotf detect`; writes drawings and labels."""

from __future__ import annotations

import contextlib
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

_FRAMES_PER_SECOND = 25.0
"""Assumed for streams that do not say."""

Detect = Callable[[Sequence["Image.Image"]], Sequence[Detections]]


@dataclass(frozen=True)
class DetectionRun:
    """What a run does with every image.

    Attributes:
        detect: returns the detections of each image of a batch.
        reset: resets the recurrent state.
        stateful: whether the network has a recurrent state.
        output: the folder for drawings and labels; None if neither is written.
        drawn: whether to write drawings.
        labels: whether to write label files.
        scores: whether label lines end with the score.
        style: arguments of `Detections.draw`.
        overwrite: whether drawings and labels replace existing files.
        max_pixels: images with more pixels are not decoded.
        batch_size: images per call of `detect`.
        ahead: images to read ahead.
    """

    detect: Detect
    reset: Callable[[], None]
    stateful: bool
    output: OutputFolder | None
    drawn: bool
    labels: bool
    scores: bool
    style: dict[str, Any]
    overwrite: bool
    max_pixels: int
    batch_size: int
    ahead: int

    def detect_each(self, images: Sequence[Image.Image]) -> Sequence[Detections]:
        """Runs `detect` on unrelated images; a recurrent network is reset before each."""
        if not self.stateful:
            return self.detect(images)
        detections: list[Detections] = []
        for image in images:
            self.reset()
            detections += self.detect([image])
        return detections

    def drawing_for(self, source: str) -> Path | None:
        """Returns the path of an input's drawing; None if drawings are off."""
        return self.output.drawing_for(source) if self.output is not None and self.drawn else None

    def save_labels(self, result: Result) -> None:
        """Writes the label file of an image or frame, if wanted; stores its path in the result."""
        if self.labels and self.output is not None and result.detections is not None:
            suffix = "" if result.frame is None else f"-{result.frame:06d}"
            path = self.output.path_for(f"{inputs.output_stem(result.path)}{suffix}", ".txt")
            label_files.write_labels(
                path,
                result.detections,
                result.size,
                scores=self.scores,
                overwrite=self.output.overwrite,
            )
            result.labels = path


def results_of(names: Iterable[str], run: DetectionRun, bar: Counter) -> Iterator[Result]:
    """Yields the results of all inputs in order; images go through the network in batches."""
    pending: list[tuple[str, Image.Image]] = []
    for name, image, error in inputs.read_ahead(names, run.ahead, run.max_pixels):
        if image is not None:
            pending.append((name, image))
            if len(pending) < run.batch_size:
                continue
        for result in _image_results(pending, run):
            yield result
            bar.step()
        pending = []
        if image is not None:
            continue
        if error is not None:
            yield Result(name, error=error)
        else:
            yield from _video_results(name, run, bar)
        bar.step()
    for result in _image_results(pending, run):
        yield result
        bar.step()


def _image_results(named: Sequence[tuple[str, Image.Image]], run: DetectionRun) -> Iterator[Result]:
    """Yields the results of a batch of images."""
    if not named:
        return
    every = run.detect_each([image for _, image in named])
    for (name, image), detections in zip(named, every, strict=True):
        drawing = run.drawing_for(name)
        if drawing is not None:
            detections.draw(image, drawing, overwrite=run.overwrite, **run.style)
        result = Result(name, image.size, detections, drawing)
        run.save_labels(result)
        yield result


def _video_results(name: str, run: DetectionRun, bar: Counter) -> Iterator[Result]:
    """Yields a result for every frame, or the error if the video cannot be read."""
    try:
        import cv2  # optional, and slow to import
    except ImportError:
        yield Result(name, error=f'videos need OpenCV; pip install "yolotf[{EXTRA}]"')
        return
    is_stream = inputs.is_stream(name)
    if not is_stream and not Path(name).is_file():
        yield Result(name, error="no such file or directory")
        return
    frame = 0
    with contextlib.ExitStack() as stack:
        capture = cv2.VideoCapture(int(name) if name.isdecimal() and is_stream else name)
        stack.callback(capture.release)
        drawing = run.drawing_for(name)
        run.reset()
        width = capture.get(cv2.CAP_PROP_FRAME_WIDTH)
        height = capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if width * height > run.max_pixels:
            yield Result(
                name,
                error=f"frames of {width:.0f}x{height:.0f} have more pixels than "
                f"--max-pixels {run.max_pixels}",
            )
            return
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if math.isfinite(rate) and rate > 0 else _FRAMES_PER_SECOND
        drawn: DrawnVideo | None = None
        if drawing is not None:
            drawn = stack.enter_context(DrawnVideo(drawing, rate, overwrite=run.overwrite))
        bar.expect(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        for batch in _batches(_frames(capture), run.batch_size):
            every = run.detect([image for image, _ in batch])
            for (image, milliseconds), detections in zip(batch, every, strict=True):
                if drawn is not None:
                    drawn.add(detections.draw(image, **run.style))
                # Durations of frames may differ, so use their time stamps; cameras have none.
                seconds = milliseconds / 1000 if milliseconds > 0 else frame / rate
                result = Result(name, image.size, detections, drawing, frame=frame, seconds=seconds)
                run.save_labels(result)
                yield result
                frame += 1
                bar.step()
    if frame == 0:
        error = "OpenCV cannot open this stream" if is_stream else "OpenCV finds no frames in it"
        yield Result(name, error=error)


def _frames(capture: Any) -> Iterator[tuple[Image.Image, float]]:
    """Yields each frame and its time stamp in milliseconds, 0 if it has none."""
    import cv2  # optional, and slow to import
    from PIL import Image  # only needed for videos

    while True:
        is_read, pixels = capture.read()
        if not is_read:
            return
        milliseconds = capture.get(cv2.CAP_PROP_POS_MSEC)
        yield Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)), milliseconds


def _batches(
    frames: Iterator[tuple[Image.Image, float]], batch_size: int
) -> Iterator[list[tuple[Image.Image, float]]]:
    while batch := list(itertools.islice(frames, batch_size)):
        yield batch
