"""`yolotf classify`: what pictures are of."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from yolotf.cli import arguments, inputs, network_files
from yolotf.errors import MissingPackageError
from yolotf.files.json import to_json
from yolotf.images.endings import IMAGES
from yolotf.inference.classifier import Classifier
from yolotf.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("inputs", nargs="+", metavar="PICTURE|FOLDER")
    parser.add_argument("--cfg", metavar="CFG|NAME", help="a cfg file or a stock network")
    arguments.add_dialect(parser)
    arguments.add_size(parser)
    arguments.add_tree(parser)
    arguments.add_resize(parser)
    arguments.add_max_pixels(parser)
    arguments.add_timeout(parser)
    arguments.add_engine(parser)
    parser.add_argument("--weights", metavar="FILE", help="the .weights file")
    parser.set_defaults(parser=parser)
    parser.add_argument("--names", metavar="FILE", help="class names, one a line")
    parser.add_argument(
        "--top",
        type=arguments.positive,
        default=5,
        metavar="K",
        help="classes to name (default: 5)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a picture, a line")


def main(parsed: argparse.Namespace) -> int:
    """The command `yolotf classify`: 0, or 2 if there was something it could not read."""
    network_files.complete(parsed)
    network = arguments.network_of(parsed.cfg, None, parsed.size, parsed.dialect, parsed.tree)
    for path in (parsed.names, parsed.weights):
        arguments.require_file(path)
    names = network_files.names_of(parsed, network)
    with arguments.quiet():
        classifier = Classifier(
            network,
            parsed.weights,
            class_names=names,
            resize=arguments.resize_of(parsed),
            max_pixels=parsed.max_pixels,
            timeout=parsed.timeout,
            engine=parsed.engine,
            precision=parsed.precision,
        )
    unreadable = 0
    for path in _inputs(parsed.inputs):
        try:
            classifier.reset()
            with arguments.warnings_as_notes():
                found = classifier(path, top=parsed.top)
        except (OSError, ValueError, MissingPackageError) as error:
            unreadable += 1
            reason = str(error).removeprefix(f"{path}: ")
            if isinstance(error, OSError) and error.strerror:
                reason = error.strerror.lower()
            print(printable(f"yolotf: {path}: {reason}"), file=sys.stderr)
            if parsed.json:
                print(to_json({"path": str(path), "error": reason}), flush=True)
            continue
        if parsed.json:
            print(to_json({"path": str(path), **found.to_dict()}), flush=True)
        else:
            print(printable(f"{path}\n{found}\n"), flush=True)
    return 2 if unreadable else 0


def _inputs(given: list[str]) -> list[Path]:
    """Files as given, of folders the pictures in them, by name."""
    found: list[Path] = []
    passed_over: Counter[str] = Counter()
    for path in map(Path, given):
        inside = sorted(path.iterdir()) if path.is_dir() else []
        # An empty folder is something that could not be read, and reported as such.
        found += [one for one in inside if one.suffix.lower() in IMAGES] or [path]
        passed_over.update(inputs.others(inside))
    if passed_over:
        arguments.note(inputs.about_passed_over(passed_over))
    return found
