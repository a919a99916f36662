"""Arguments shared by several commands, and the values parsed from them."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolotf.cli.messages import say
from yolotf.darknet import cfg, dialects, stock
from yolotf.darknet.decoding import NMS_KINDS
from yolotf.darknet.detection_options import DetectionOptions, Resize
from yolotf.errors import YolotfError
from yolotf.files import sources
from yolotf.files.fetching import TIMEOUT
from yolotf.files.stderr import captured_stderr
from yolotf.images.limits import MAX_PIXELS
from yolotf.runtime.options import ENGINES, PRECISIONS, ServingOptions
from yolotf.weights.file import WeightsFile

if TYPE_CHECKING:  # NumPy
    from yolotf.inference.classifier_images import Resize as ClassifierResize


def add_network(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Adds `--cfg`, `--classes N` and `--size`, which `network_of` turns into a network."""
    add_cfg(parser, required=required)
    add_classes(parser)
    add_size(parser)
    add_tree(parser)


def add_cfg(
    parser: argparse.ArgumentParser,
    *,
    required: bool = False,
    help: str = "a cfg file or a stock network",
) -> None:
    """Adds `--cfg`, which is also called `--network` as in Python, and `--dialect`."""
    parser.add_argument(
        "--cfg", "--network", dest="cfg", required=required, metavar="CFG|NAME", help=help
    )
    add_dialect(parser)


def add_names(parser: argparse.ArgumentParser, help: str) -> None:
    """Adds `--names`, which is also called `--class-names` as in Python."""
    parser.add_argument("--names", "--class-names", dest="names", metavar="FILE", help=help)


def add_tree(parser: argparse.ArgumentParser) -> None:
    """Adds `--tree`."""
    parser.add_argument(
        "--tree", metavar="FILE", help="file of the class tree, in place of the cfg's"
    )


def add_resize(
    parser: argparse.ArgumentParser, *, detectors: bool = True, classifiers: bool = True
) -> None:
    """Adds `--resize` with the choices for detectors, classifiers or both."""
    help_for_detectors = ", or opencv-exact, with INTER_LINEAR_EXACT" if detectors else ""
    help_for_classifiers = (
        "; for classifiers: crop the middle as AlexeyAB's darknet classifier does (default), "
        "letter-box as pjreddie's does, or stretch as darknet.py does"
    )
    parser.add_argument(
        "--resize",
        choices=[
            "darknet",
            "opencv",
            *(["opencv-exact"] if detectors else []),
            *(["crop", "letter-box", "stretch"] if classifiers else []),
        ],
        help="how to resize images: as darknet detector test does (default), or as OpenCV does, "
        f"which Darknet uses for training{help_for_detectors}"
        f"{help_for_classifiers if classifiers else ''}",
    )


def add_letter_box(parser: argparse._ActionsContainer) -> None:
    """Adds `--letter-box` and `--no-letter-box`."""
    parser.add_argument(
        "--letter-box",
        "-letter_box",
        action="store_const",
        const=True,
        help="resize images with their proportions kept, whatever the cfg says",
    )
    parser.add_argument(
        "--no-letter-box",
        action="store_const",
        const=False,
        dest="letter_box",
        help="stretch images to the network's size, whatever the cfg says",
    )


def classifier_resize_of(parsed: argparse.Namespace, network: cfg.Network) -> ClassifierResize:
    """Returns the value of `--resize` for the `resize=` of `Classifier`.

    Raises:
        YolotfError: the value is for detectors.
    """
    if parsed.resize == "opencv-exact":
        raise YolotfError(
            f"{network.source}: --resize opencv-exact is for detectors; for a classifier use "
            "--resize opencv"
        )
    choices: dict[str | None, ClassifierResize] = {
        "letter-box": "letter_box",
        "opencv": "opencv",
        "stretch": "stretch",
    }
    return choices.get(parsed.resize, "crop")


def detector_resize_of(parsed: argparse.Namespace) -> Resize | None:
    """Returns the value of `--resize` for the `resize=` of `Detector`; None if not given."""
    choices: dict[str | None, Resize] = {
        "darknet": "darknet",
        "opencv": "opencv",
        "opencv-exact": "opencv_exact",
    }
    return choices.get(parsed.resize)


def add_max_pixels(parser: argparse.ArgumentParser) -> None:
    """Adds `--max-pixels`."""
    parser.add_argument(
        "--max-pixels",
        type=_pixels,
        default=str(MAX_PIXELS),  # a string, so that argparse passes it through `_pixels`
        metavar="N",
        help=f"refuse images with more pixels (default: {MAX_PIXELS})",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Adds `--engine`, `--precision` and `--threads`."""
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default=ServingOptions.engine,
        help="library that runs the network (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=ServingOptions.precision,
        help="bfloat16 (with --engine openvino) is faster on processors that support it, and has "
        "about 3 significant digits (default: %(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads of the network (default: the number of processors available)",
    )


def add_detection_options(group: argparse._ActionsContainer) -> None:
    """Adds `--score-threshold`, `--iou-threshold` and `--max-boxes`."""
    group.add_argument(
        "--score-threshold",
        "--score",
        "--thresh",
        "-thresh",
        type=fraction,
        default=DetectionOptions.score_threshold,
        metavar="X",
        help="drop detections with a lower score; 50 means 50 %% (default: %(default)s)",
    )
    group.add_argument(
        "--iou-threshold",
        "--iou",
        type=fraction,
        default=DetectionOptions.iou_threshold,
        metavar="X",
        help="IoU above which only the best of two boxes of a class is kept (default: %(default)s)",
    )
    group.add_argument(
        "--max-boxes",
        type=positive,
        default=DetectionOptions.max_boxes,
        metavar="N",
        help="largest number of detections per image (default: %(default)s)",
    )


def add_suppression(group: argparse._ActionsContainer) -> None:
    """Adds `--agnostic`, `--nms-kind` and `--only`."""
    group.add_argument(
        "--agnostic",
        action="store_true",
        help="suppress overlapping boxes of different classes, too",
    )
    add_nms_kind(group)
    group.add_argument(
        "--only", metavar="NAMES", help="detect only these classes, by name or number from 0"
    )


def add_nms_kind(group: argparse._ActionsContainer) -> None:
    """Adds `--nms-kind`."""
    group.add_argument(
        "--nms-kind", choices=NMS_KINDS, help="which boxes overlap, in place of the cfg's nms_kind="
    )


def detection_options(parsed: argparse.Namespace) -> dict[str, Any]:
    """Returns the values of the arguments that are named after the fields of `DetectionOptions`."""
    options = {field.name: getattr(parsed, field.name) for field in fields(DetectionOptions)}
    return {**options, "resize": detector_resize_of(parsed) or DetectionOptions.resize}


def add_batch_size(parser: argparse.ArgumentParser, default: int) -> None:
    """Adds `--batch-size`."""
    parser.add_argument(
        "--batch-size",
        "--batch",
        type=positive,
        default=default,
        metavar="N",
        help="images per run of the network (default: %(default)s)",
    )


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """Adds `--timeout`."""
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=TIMEOUT,
        metavar="SECONDS",
        help="give up a download of weights after this long without data; 0: never "
        f"(default: {TIMEOUT:.0f})",
    )


def _seconds(text: str) -> float | None:
    if not re.fullmatch(r"\d{1,9}(\.\d*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return float(text) or None


def _pixels(text: str) -> int:
    if not re.fullmatch(r"\d{1,15}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    from PIL import Image  # imported lazily: keeps `import yolotf` fast

    Image.MAX_IMAGE_PIXELS = None  # the limit is checked in yolotf.images.read
    return int(text)


def add_classes(parser: argparse.ArgumentParser) -> None:
    """Adds `--classes N`."""
    parser.add_argument(
        "--classes", type=int, metavar="N", help="number of classes, in place of the cfg's"
    )


def add_dialect(parser: argparse.ArgumentParser) -> None:
    """Adds `--dialect`."""
    parser.add_argument(
        "--dialect",
        choices=tuple(dialects.NAMES),
        help="which Darknet to follow where AlexeyAB's and hank-ai's read a cfg differently",
    )


def add_size(parser: argparse.ArgumentParser) -> None:
    """Adds `--size`."""
    parser.add_argument(
        "--size",
        type=size,
        metavar="N|WxH",
        help="input size, width x height, in place of the cfg's",
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Adds `--overwrite`, for commands that write files."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace existing files, which are left alone without this option",
    )


def size(text: str) -> int | tuple[int, int]:
    """Parses `608` or `640x480`, width first; returns one number or (height, width)."""
    numbers = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", text)
    if numbers is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither N nor WIDTHxHEIGHT")
    width, height = numbers.groups()
    if not int(width) or (height and not int(height)):
        raise argparse.ArgumentTypeError(
            f"{text!r}: width and height are at least 1, and multiples of 32 for most networks"
        )
    return (int(height), int(width)) if height else int(width)


def fraction(text: str) -> float:
    """Parses a number from 0 to 1, or a percentage of up to 100, as hank-ai's library takes it."""
    value = float(text)
    return value / 100 if 1 < value <= 100 else value


def positive(text: str) -> int:
    """Parses an integer of at least 1."""
    if not re.fullmatch(r"\d{1,6}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def network_of(
    source: str,
    classes: int | None,
    pixels: int | tuple[int, int] | None,
    dialect: dialects.Dialect | None = None,
    tree: str | None = None,
) -> cfg.Network:
    """Returns the network described by the arguments of `add_network`."""
    network = stock.as_network(source, classes=classes, dialect=dialect)
    if tree is not None:
        network = network.with_tree(tree)
    return network if pixels is None else network.resized(pixels)


def require_file(path: str | None) -> None:
    """Checks a file before TensorFlow's slow import, so that its error appears at once.

    Raises:
        OSError: the file does not exist, is a folder, or cannot be read.
    """
    if path is None or sources.url_of(path) is not None:
        return
    file = Path(path)
    # Opening a FIFO would block; the code that reads the weights refuses it.
    if file.is_dir() or file.is_file() or not file.exists():
        file.open("rb").close()


@contextlib.contextmanager
def open_weights(
    weights: str, network: cfg.Network | None, timeout: float | None
) -> Iterator[WeightsFile]:
    """Opens the weights file; shows the progress of a download on a terminal."""
    with contextlib.ExitStack() as stack:
        if sources.url_of(weights) is None:
            if "\n" in weights:  # a function would take it for the content of a file
                require_file(weights)
            file = stack.enter_context(WeightsFile.open(weights))
        else:
            from yolotf.cli.progress import downloading  # imports rich

            with downloading() as progress:
                file = stack.enter_context(
                    WeightsFile.open(weights, progress, network=network, timeout=timeout)
                )
        yield file


def temporary_files_near(output: str) -> None:
    """Puts temporary files beside the output if the system has no folder for them.

    A container with a read-only root may have none. Without one, TensorFlow cannot be imported and
    Keras cannot write a file.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        target = Path(output).absolute()
        folder = next(parent for parent in target.parents if parent.is_dir())
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Mutes TensorFlow's log unless an error occurs, and prints Python warnings as notes."""
    with captured_stderr(), warnings.catch_warnings(record=True) as caught:
        yield
    for warning in caught:
        # Deprecations are for programmers, and come from TensorFlow and Keras themselves.
        if not issubclass(warning.category, DeprecationWarning | FutureWarning):
            note(str(warning.message))


def note(text: str) -> None:
    """Prints a note: something worth knowing that does not stop the command."""
    say(f"note: {text}")


@contextlib.contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Prints warnings of all threads as notes, as they occur."""

    def say(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if not issubclass(category, DeprecationWarning | FutureWarning):
            note(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = say
        yield
