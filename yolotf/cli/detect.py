"""`yolotf detect`: detects in images and videos; writes drawings, text, JSON or labels."""

from __future__ import annotations

import argparse
import collections
import itertools
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolotf.cli import arguments, inputs, label_files, messages, network_files
from yolotf.cli.video import DrawnVideo
from yolotf.darknet.detection_options import DetectionOptions
from yolotf.errors import YolotfError
from yolotf.files import atomic
from yolotf.files.json import to_json
from yolotf.images.detections import Detections
from yolotf.text import plural, printable

if TYPE_CHECKING:
    from PIL import Image

    from yolotf.cli.progress import Counter

EXTRA = "video"
"""The extra in `pip install yolotf[...]` that installs the library for videos."""

_AHEAD = 4
"""Images to read ahead while the network runs."""

Detect = Callable[[Sequence["Image.Image"]], Sequence[Detections]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Inputs are images, folders, videos, patterns (a/*.jpg), the number of a camera, the URL "
        "of a stream (rtsp://, http://), or - for paths on standard input, one a line. A .cfg, "
        ".weights or .names file among them describes the network. Exit code 0: everything was "
        "read; 2: an input could not be read, or the command line is invalid."
    )
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        metavar="IMAGE|FOLDER|VIDEO",
        help="images, folders, patterns, videos, cameras, streams, or - for standard input",
    )
    parser.set_defaults(parser=parser)
    arguments.add_cfg(parser)
    add(
        "--classes",
        metavar="N|NAMES",
        help="a number: number of classes, in place of the cfg's; a list of names or numbers "
        "(person,car or 0,): the same as --only",
    )
    add("--only", metavar="NAMES", help="detect only these classes, by name or number from 0")
    arguments.add_size(parser)
    arguments.add_tree(parser)
    arguments.add_max_pixels(parser)
    arguments.add_timeout(parser)
    arguments.add_engine(parser)
    add(
        "--weights",
        metavar="FILE",
        help="the .weights file (default: animals_best.weights or animals.weights beside "
        "animals.cfg)",
    )
    arguments.add_names(
        parser,
        "class names, one a line, or a data file that contains or names them; stock networks know "
        "COCO's (default: animals.names beside animals.cfg)",
    )
    add(
        "-o",
        "--output",
        metavar="FOLDER",
        help="folder for images with their boxes (default: detections; none with --json)",
    )
    arguments.add_detection_options(parser)
    arguments.add_agnostic(parser)
    arguments.add_batch_size(parser, 1)
    arguments.add_letter_box(parser)
    arguments.add_resize(parser, classifiers=False)
    add("--recursive", action="store_true", help="include subfolders")
    add(
        "--line-width",
        type=arguments.positive,
        metavar="N",
        help="width of the boxes' lines in pixels",
    )
    add("--no-labels", action="store_true", help="draw boxes without names and scores")
    add(
        "--save-txt",
        action="store_true",
        help="write Darknet's labels (class x y width height, relative to the image) into the "
        "output folder",
    )
    add(
        "--save-conf", action="store_true", help="--save-txt with the score at the end of each line"
    )
    add(
        "--coco-json",
        metavar="FILE",
        help="write all detections as COCO results, and the list of images into FILE.images.json",
    )
    add(
        "--coco-like",
        metavar="INSTANCES.JSON",
        help="take the image and category ids for --coco-json from this COCO file",
    )
    arguments.add_overwrite(parser)
    add(
        "--json",
        action="store_true",
        help="print a JSON object for each image or frame, one a line",
    )


def main(parsed: argparse.Namespace) -> int:
    """Runs the command; returns 0, or 2 if an input could not be read."""
    network_files.complete(parsed)
    classes, only = parsed.classes, parsed.only
    if classes is not None and not re.fullmatch(r"[+-]?\d+", classes):
        classes, only = None, ",".join(filter(None, (only, classes)))
    network = arguments.network_of(
        parsed.cfg,
        int(classes) if classes is not None else None,
        parsed.size,
        parsed.dialect,
        parsed.tree,
    )
    channels = network.input_shape.channels
    if channels not in (1, 3, 4):
        raise YolotfError(
            f"{network.source}: takes {channels} channels, images have 1, 3 or 4",
            source=network.source,
            found=channels,
        )
    for path in (parsed.names, parsed.weights):
        arguments.require_file(path)
    names = network_files.names_of(parsed, network)
    parsed.save_txt |= parsed.save_conf
    if parsed.coco_like and not parsed.coco_json:
        raise YolotfError("--coco-like says which ids --coco-json writes; name its file, too")
    streaming = inputs.STDIN in parsed.inputs
    passed_over: collections.Counter[str] = collections.Counter()
    given = inputs.expanded(parsed.inputs, recursive=parsed.recursive, passed_over=passed_over)
    known: list[str] | None = None if streaming else list(given)
    folder = parsed.output
    if folder is None and (parsed.save_txt or not parsed.json):
        folder = "detections"
    drawn = parsed.output is not None or not parsed.json
    named = [parsed.weights, parsed.names, parsed.cfg, parsed.tree, parsed.coco_like]
    read = [path for path in (*named, *(known or ())) if path is not None]
    written = [Path(parsed.coco_json)] if parsed.coco_json else []
    if parsed.coco_json and not parsed.coco_like:
        written.append(label_files.images_path(parsed.coco_json))
    for path in written:
        target = atomic.checked_target(path, overwrite=parsed.overwrite, inputs=read)
        if target.parent != Path(folder or ".").resolve() and not target.parent.is_dir():
            raise FileNotFoundError(f"{path.parent}: no such folder; make it first")
    out: _Out | None = None
    if folder is not None:
        atomic.check_no_url(folder)
        out = _Out(Path(folder), read, written, overwrite=parsed.overwrite)
    say = _say_json if parsed.json else _say_text
    count = _Count()
    if known is not None and all(map(inputs.is_missing, known)):
        # All inputs are missing: do not spend a second on building the network.
        for name in known:
            item = _Item(name, error="no such file or directory")
            say(item)
            count.add(item)
        print(count, file=sys.stderr)
        return 2
    if missing := [name for name in known or () if inputs.is_missing(name)]:
        arguments.note(
            f"{len(missing)} of {plural(len(known or ()), 'input')} are not there; the first: "
            f"{missing[0]}"
        )
    like: label_files.ResultsLike | None = None
    if parsed.coco_like:
        like = label_files.ResultsLike(parsed.coco_like)
        like.check(name for name in known or () if not inputs.is_video(name))

    with arguments.quiet():
        # Imported late, after arguments and paths were checked.
        from yolotf.inference.detector import Detector

        detector = Detector(
            network,
            parsed.weights,
            class_names=names,
            score_threshold=parsed.score_threshold,
            iou_threshold=parsed.iou_threshold,
            max_boxes=parsed.max_boxes,
            agnostic=parsed.agnostic,
            letter_box=parsed.letter_box,
            resize=parsed.resize or DetectionOptions.resize,
            only=only,
            batch_size=parsed.batch_size,
            max_pixels=parsed.max_pixels,
            timeout=parsed.timeout,
            engine=parsed.engine,
            precision=parsed.precision,
        )
    if out is not None:
        out.folder.mkdir(parents=True, exist_ok=True)
    work = _Work(
        detect=lambda pictures: detector(list(pictures)),
        reset=detector.reset,
        stateful=detector.stateful,
        out=out,
        drawn=drawn,
        labels=parsed.save_txt,
        scores=parsed.save_conf,
        style=_style(parsed),
        overwrite=parsed.overwrite,
        max_pixels=parsed.max_pixels,
        batch=parsed.batch_size,
        # Answer an image from a pipe before reading the next.
        ahead=0 if streaming else max(_AHEAD, parsed.batch_size),
    )
    coco: label_files.CocoResults | None = like
    if like is not None:
        like.know(detector.class_names, max(head.classes for head in detector.network.heads))
    elif parsed.coco_json:
        coco = label_files.CocoResults(detector.class_names)
    from yolotf.cli import progress  # imports rich

    bar_of = progress.counted(None if known is None else len(known))
    with arguments.warnings_as_notes(), bar_of as bar:
        for item in _results(given if known is None else known, work, bar):
            say(item)
            count.add(item)
            if coco is not None and item.found is not None:
                name = inputs.shown(item.path)
                coco.add(name, item.frame, item.found, item.size, item.seconds)
    if coco is not None:
        coco.write(parsed.coco_json, overwrite=parsed.overwrite, inputs=read)
    for text in like.notes if like is not None else ():
        arguments.note(text)
    if out is not None and out.renamed:
        arguments.note(out.about_renamed())
    if passed_over:
        arguments.note(inputs.about_passed_over(passed_over))
    print(count, file=sys.stderr)
    return 2 if count.unreadable else 0


def _style(parsed: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `Detections.draw`."""
    return {"line_width": parsed.line_width, "labels": not parsed.no_labels}


@dataclass(frozen=True)
class _Work:
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
    out: _Out | None
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

    def save_labels(self, item: _Item) -> None:
        """Writes the label file of an image or frame."""
        if self.labels and self.out is not None and item.found is not None:
            number = "" if item.frame is None else f"-{item.frame:06d}"
            path = self.out.path_for(f"{inputs.stem(item.path)}{number}", ".txt")
            label_files.write_labels(
                path, item.found, item.size, scores=self.scores, overwrite=self.out.overwrite
            )
            item.labels = path


@dataclass
class _Item:
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


class _Count:
    """Counts for the summary line at the end."""

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
            f"{plural(self.pictures, 'image')}, "
            f"{plural(self.detections, 'detection')}, {seconds:.1f} s"
        )
        return f"{text}, {self.unreadable} not read" if self.unreadable else text


# Output.


class _Out:
    """The output folder for drawings and labels; picks names that are free.

    A name is taken if it is an input's, another output's of this run or, unless `overwrite`, an
    existing file's.

    Attributes:
        folder: the folder.
        overwrite: whether to replace existing files.
        renamed: existing files, and the names used instead.
    """

    def __init__(
        self, folder: Path, read: Iterable[str], written: Iterable[Path], *, overwrite: bool
    ) -> None:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{folder}: is a file; drawings go into a folder")
        self.folder = folder
        self.overwrite = overwrite
        self.renamed: list[tuple[Path, Path]] = []
        self._taken = {Path(name).resolve() for name in read}
        self._taken |= {path.resolve() for path in written}
        self._inputs = {file for name in read if (file := _identity(name)) is not None}

    def drawing_for(self, source: str) -> Path:
        """Returns the path for the drawing of an image or video."""
        video = inputs.is_video(source)
        ending = ".mp4" if video else Path(source).suffix
        if not video:
            # Inputs from stdin are not all known in advance.
            self._taken.add(Path(source).resolve())
            self._inputs |= {file for file in (_identity(source),) if file is not None}
        kept = video or ending.lower() in inputs.DRAWN
        return self.path_for(inputs.stem(source), ending if kept else ".png")

    def path_for(self, stem: str, ending: str) -> Path:
        """Returns a free path with this stem and extension, numbered if the plain name is taken."""
        first = self.folder / f"{stem}{ending}"
        for number in itertools.count(1):
            path = self.folder / f"{stem}-{number}{ending}" if number > 1 else first
            if not self._is_taken(path):
                if number > 1 and first.resolve() not in self._taken:
                    self.renamed.append((first, path))
                self._taken.add(path.resolve())
                return path
        raise AssertionError  # unreachable: count() is infinite

    def _is_taken(self, path: Path) -> bool:
        if path.resolve() in self._taken:
            return True
        if self.overwrite:
            return path.is_dir() or _identity(path) in self._inputs
        return os.path.lexists(path)

    def about_renamed(self) -> str:
        """Returns a sentence about `renamed`."""
        old, new = self.renamed[0]
        more = len(self.renamed) - 1
        others = f", and {plural(more, 'other file')} likewise" if more else ""
        return (
            f"{old} was there already and stays; this run wrote {new.name}{others}; "
            "--overwrite replaces what is there"
        )


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Identifies a file by (device, inode); None if it does not exist."""
    try:
        status = os.stat(path)  # noqa: PTH116 (of text that pathlib would change)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _results(names: Iterable[str], work: _Work, bar: Counter) -> Iterator[_Item]:
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
            yield _Item(name, error=error)
        else:
            yield from _video(name, work, bar)
        bar.step()
    for item in _pictures(pending, work):
        yield item
        bar.step()


def _pictures(named: Sequence[tuple[str, Image.Image]], work: _Work) -> Iterator[_Item]:
    """Yields the results of a batch of images."""
    if not named:
        return
    detections = work.detect_each([picture for _, picture in named])
    for (name, picture), found in zip(named, detections, strict=True):
        drawing = work.drawing_for(name)
        if drawing is not None:
            found.draw(picture, drawing, overwrite=work.overwrite, **work.style)
        item = _Item(name, picture.size, found, drawing)
        work.save_labels(item)
        yield item


def _video(name: str, work: _Work, bar: Counter) -> Iterator[_Item]:
    """Yields a result for every frame, or the error if the video cannot be read."""
    try:
        import cv2  # optional, and slow to import
    except ImportError:
        yield _Item(name, error=f'videos need OpenCV; pip install "yolotf[{EXTRA}]"')
        return
    stream = inputs.is_stream(name)
    if not stream and not Path(name).is_file():
        yield _Item(name, error="no such file or directory")
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
            yield _Item(
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
                item = _Item(name, picture.size, found, drawing, frame=frame, seconds=seconds)
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
        yield _Item(name, error=what)


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


def _say_text(item: _Item) -> None:
    if item.found is None:
        _complain(item)
        return
    where = _name(inputs.shown(item.path))
    if item.frame is not None:
        where += f" frame {item.frame}"
    # Each image has its drawing; a video's is printed once.
    drawn = f" -> {_name(item.drawing)}" if item.drawing and not item.frame else ""
    print(printable(f"{where}{drawn}\n{item.found}\n"), flush=True)


def _say_json(item: _Item) -> None:
    if item.found is None:
        _complain(item)
    print(to_json(item.to_dict()), flush=True)


def _complain(item: _Item) -> None:
    messages.say(f"yolotf: {_name(inputs.shown(item.path))}: {item.error}")


def _name(path: str | Path) -> str:
    """Returns a printable name, even if the file name is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
