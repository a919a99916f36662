"""`yolotf detect`: detects in images and videos; writes drawings, text, JSON or labels."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yolotf.cli import arguments, inputs, label_files, network_files
from yolotf.cli.detection_results import Result, Totals, print_json, print_text
from yolotf.cli.detection_run import DetectionRun, results_of
from yolotf.cli.messages import ignoring_closed_pipe, say
from yolotf.cli.output_folder import OutputFolder
from yolotf.darknet.class_names import Names
from yolotf.darknet.network import Network
from yolotf.errors import YolotfError
from yolotf.files import output_target
from yolotf.text import plural

if TYPE_CHECKING:
    from yolotf.inference.detector import Detector

_AHEAD = 4
"""Images to read ahead while the network runs."""


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
        help="number of classes, in place of the cfg's; or a list of class names or numbers "
        "(person,car or 0,), the same as --only",
    )
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
    arguments.add_suppression(parser)
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
    network, only = _network_and_only(parsed)
    for path in (parsed.names, parsed.weights):
        arguments.require_file(path)
    names = network_files.names_of(parsed, network)
    skipped: Counter[str] = Counter()
    expanded = inputs.expanded(parsed.inputs, recursive=parsed.recursive, skipped=skipped)
    # Names on standard input are read while the network runs.
    listed = None if inputs.STDIN in parsed.inputs else list(expanded)
    named = [parsed.weights, parsed.names, parsed.cfg, parsed.tree, parsed.coco_like]
    read = [path for path in (*named, *(listed or ())) if path is not None]
    output = _output_folder(parsed, read)
    print_result = print_json if parsed.json else print_text
    if listed is not None and all(map(inputs.is_missing, listed)):
        # Do not spend a second on building the network.
        return _all_missing(listed, print_result)
    if missing := [name for name in listed or () if inputs.is_missing(name)]:
        arguments.note(
            f"{len(missing)} of {plural(len(listed or ()), 'input')} do not exist; the first: "
            f"{missing[0]}"
        )
    instances: label_files.InstancesResults | None = None
    if parsed.coco_like:
        instances = label_files.InstancesResults(parsed.coco_like)
        instances.check(name for name in listed or () if not inputs.is_video(name))
    detector = _detector(parsed, network, names, only)
    _check_results(parsed, read)  # by now the files that the inputs name are known, too
    if output is not None:
        output.folder.mkdir(parents=True, exist_ok=True)
    coco: label_files.CocoResults | None = instances
    if instances is not None:
        instances.pair(detector.class_names, max(head.classes for head in detector.network.heads))
    elif parsed.coco_json:
        coco = label_files.CocoResults(detector.class_names)
    # Somebody who asks for files wants all of them, also after `| head`; a camera would never end.
    asks_for_files = parsed.output is not None or parsed.save_txt or coco is not None
    writes_all = asks_for_files and listed is not None and not any(map(inputs.is_stream, listed))
    run = _run(parsed, detector, output)
    from yolotf.cli import progress  # imports rich

    totals = Totals()
    bar_of = progress.counted(None if listed is None else len(listed))
    with arguments.warnings_as_notes(), bar_of as bar:
        for result in results_of(expanded if listed is None else listed, run, bar):
            with ignoring_closed_pipe() if writes_all else contextlib.nullcontext():
                print_result(result)
            totals.add(result)
            if coco is not None and result.detections is not None:
                name = inputs.shown(result.path)
                coco.add(name, result.frame, result.detections, result.size, result.seconds)
    if coco is not None:
        coco.write(parsed.coco_json, overwrite=parsed.overwrite, inputs=read)
    for text in instances.notes if instances is not None else ():
        arguments.note(text)
    if output is not None and output.renamed:
        arguments.note(output.about_renamed())
    if skipped:
        arguments.note(inputs.about_skipped(skipped))
    say(str(totals))
    return 2 if totals.unreadable else 0


def _all_missing(names: Iterable[str], print_result: Callable[[Result], None]) -> int:
    """Prints that none of the inputs exists; returns the exit status."""
    totals = Totals()
    for name in names:
        result = Result(name, error="no such file or directory")
        print_result(result)
        totals.add(result)
    say(str(totals))
    return 2


def _network_and_only(parsed: argparse.Namespace) -> tuple[Network, str | None]:
    """Returns the network and the classes to detect; `--classes` means either.

    Raises:
        YolotfError: the network does not take images.
    """
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
    return network, only


def _output_folder(parsed: argparse.Namespace, read: Sequence[str]) -> OutputFolder | None:
    """Checks where the run may write; returns the folder for drawings and labels, if any.

    Raises:
        OSError: an output's path is taken, or its folder does not exist.
        YolotfError: the options do not go together.
    """
    if parsed.coco_like and not parsed.coco_json:
        raise YolotfError(
            "--coco-like needs --coco-json FILE, the file whose image and category ids it sets"
        )
    parsed.save_txt |= parsed.save_conf
    folder = parsed.output
    if folder is None and (parsed.save_txt or not parsed.json):
        folder = "detections"
    written = _check_results(parsed, read)
    for path in written:
        target = Path(path).resolve()
        if target.parent != Path(folder or ".").resolve() and not target.parent.is_dir():
            raise FileNotFoundError(f"{path.parent}: no such folder; create it first")
    if folder is None:
        return None
    output_target.check_no_url(folder)
    return OutputFolder(Path(folder), read, written, overwrite=parsed.overwrite)


def _check_results(parsed: argparse.Namespace, read: Sequence[str]) -> list[Path]:
    """Returns the paths of COCO results.

    Raises:
        OSError: one of them must not be replaced.
    """
    written = [Path(parsed.coco_json)] if parsed.coco_json else []
    if parsed.coco_json and not parsed.coco_like:
        written.append(label_files.images_path(parsed.coco_json))
    for path in written:
        output_target.checked_target(path, overwrite=parsed.overwrite, inputs=read)
    return written


def _detector(
    parsed: argparse.Namespace,
    network: Network,
    names: Names,
    only: str | None,
) -> Detector:
    with arguments.quiet():
        # Imported late, after arguments and paths were checked.
        from yolotf.inference.detector import Detector

        return Detector(
            network,
            parsed.weights,
            class_names=names,
            **{**arguments.detection_options(parsed), "only": only},
            batch_size=parsed.batch_size,
            max_pixels=parsed.max_pixels,
            timeout=parsed.timeout,
            engine=parsed.engine,
            precision=parsed.precision,
            threads=parsed.threads,
        )


def _run(
    parsed: argparse.Namespace, detector: Detector, output: OutputFolder | None
) -> DetectionRun:
    return DetectionRun(
        detect=lambda images: detector(list(images)),
        reset=detector.reset,
        stateful=detector.stateful,
        output=output,
        drawn=parsed.output is not None or not parsed.json,
        labels=parsed.save_txt,
        scores=parsed.save_conf,
        style={"line_width": parsed.line_width, "labels": not parsed.no_labels},
        overwrite=parsed.overwrite,
        max_pixels=parsed.max_pixels,
        batch_size=parsed.batch_size,
        # Answer an image from a pipe before reading the next.
        ahead=0 if inputs.STDIN in parsed.inputs else max(_AHEAD, parsed.batch_size),
    )
