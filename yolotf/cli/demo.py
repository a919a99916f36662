"""`yolotf demo`: loads the official yolov4-tiny into Keras through the op and runs a `Detector`.

It creates a folder with copies of the weights, cfg, names and photos, and the photos with their
boxes in `boxes`. The examples in docs/ run in this folder.
"""

from __future__ import annotations

import argparse
import errno
import filecmp
import io
import itertools
import os
from pathlib import Path

import yolotf
from yolotf.cli import arguments
from yolotf.cli.demo_data import DemoData, demo_data
from yolotf.files import atomic
from yolotf.files.paths import StrPath
from yolotf.images.detections import Detections

_MAX_BOXES = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "-o",
        "--output",
        default="demo-output",
        help="folder for the weights, cfg and images (default: %(default)s)",
    )


def main(parsed: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    arguments.temporary_files_near(parsed.output)
    with arguments.quiet():
        run(parsed.output)
    return 0


def copy_files(data: DemoData, folder: Path) -> DemoData:
    """Copies the cached files to `folder`, where users may change them.

    Raises:
        OSError: a different file of that name exists, or a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copies = DemoData(*(folder / path.name for path in data))
    missing = [pair for pair in zip(data, copies, strict=True) if not _same(*pair)]
    for _, copy in missing:
        if os.path.lexists(copy):
            reason = "differs from the demo's file of this name; name another folder with -o"
            raise FileExistsError(errno.EEXIST, reason, os.fspath(copy))
    for path, copy in missing:
        atomic.write(copy, path.read_bytes(), overwrite=False)
    return copies


def _same(path: Path, copy: Path) -> bool:
    return copy.is_file() and filecmp.cmp(path, copy, shallow=False)


def _draw(detections: Detections, photo: Path, folder: Path) -> Path:
    """Writes a photo with its boxes under the photo's name, numbered if that is taken."""
    content = io.BytesIO()
    detections.draw(photo).save(content, "JPEG")
    for number in itertools.count(1):
        name = photo.name if number == 1 else f"{photo.stem}-{number}{photo.suffix}"
        target = folder / name
        if not os.path.lexists(target):
            atomic.write(target, content.getvalue(), overwrite=False)
            return target
        if target.is_file() and target.read_bytes() == content.getvalue():
            return target
    raise AssertionError  # unreachable: count() is infinite


def run(folder: StrPath) -> None:
    """Copies the files, loads, detects, prints, and writes the photos with their boxes."""
    out = Path(folder)
    data = copy_files(demo_data(), out)
    print(f"{out}: {', '.join(path.name for path in data)}")

    import tensorflow as tf  # imported lazily: slow

    boxes = out / "boxes"
    boxes.mkdir(exist_ok=True)
    network = yolotf.parse_cfg(data.cfg)
    print(f"TensorFlow {tf.__version__}; building {network.source}")
    model = yolotf.build_model(network)
    print(yolotf.load_darknet_weights(model, data.weights))
    detector = yolotf.Detector(network, data.weights, class_names=data.names, max_boxes=_MAX_BOXES)
    for photo in (data.bus, data.zidane):
        detections = detector(photo)
        target = _draw(detections, photo, boxes)
        print(f"\n{photo.name} -> {target}\n{detections}")
