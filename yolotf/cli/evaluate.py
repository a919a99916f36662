"""`yolotf eval`: Darknet's and COCO's mean average precision on labelled images."""

from __future__ import annotations

import argparse
from typing import get_args

from yolotf import evaluation
from yolotf.cli import arguments, evaluate_classifier, network_files
from yolotf.cli.messages import say
from yolotf.darknet.class_names import Names
from yolotf.darknet.detection_options import DetectionOptions
from yolotf.darknet.network import Network
from yolotf.evaluation.darknet_score import MATCH_IOU, POINTS
from yolotf.evaluation.labels import Fork
from yolotf.files.json import to_json
from yolotf.runtime.options import ServingOptions
from yolotf.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.usage = (
        "yolotf eval (--data DATA | --coco INSTANCES.JSON) --cfg CFG|NAME "
        "--weights FILE [options]\n       yolotf eval --compare A.json B.json [--json]"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--data",
        metavar="DATA",
        help="Darknet's data file (obj.data), Ultralytics' data.yaml, or a folder of images and "
        "labels",
    )
    source.add_argument(
        "--coco", metavar="INSTANCES.JSON", help="a COCO file; also computes COCO's twelve metrics"
    )
    source.add_argument(
        "--compare",
        nargs=2,
        metavar=("A.json", "B.json"),
        help="compare two results of eval --json",
    )
    arguments.add_network(parser, required=False)
    parser.add_argument("--weights", metavar="FILE", help="the .weights file")
    arguments.add_names(
        parser,
        "the network's class names, to which those of the data set are matched; stock networks "
        "know COCO's",
    )
    parser.add_argument(
        "--like",
        choices=get_args(Fork),
        default="alexeyab",
        help="which Darknet's detector map to follow: hank-ai's looks for labels beside the images "
        "first, resizes as OpenCV does, ignores letter_box=, counts boxes in another order, and "
        "prints a table (default: %(default)s)",
    )
    parser.add_argument("--images", metavar="FOLDER", help="folder of the images of --coco")
    parser.add_argument(
        "--points",
        "-points",
        type=int,
        default=POINTS,
        metavar="N",
        help="number of recalls at which to sample the precision: 11 (VOC 2007), 101 (COCO), or 0 "
        "for the area under the curve (default)",
    )
    parser.add_argument(
        "--match-iou",
        "--iou-thresh",
        "-iou_thresh",
        type=arguments.fraction,
        default=MATCH_IOU,
        metavar="X",
        help="IoU above which a detection matches a label (default: %(default)s)",
    )
    parser.add_argument(
        "--score-threshold",
        "--thresh",
        "-thresh",
        type=arguments.fraction,
        default=DetectionOptions.score_threshold,
        metavar="X",
        help="score from which detections count for precision, recall, F1, TP, FP and FN; 50 means "
        "50 %% (default: %(default)s)",
    )
    arguments.add_batch_size(parser, ServingOptions.batch_size)
    arguments.add_letter_box(parser)
    arguments.add_nms_kind(parser)
    parser.add_argument(
        "--plot", metavar="FILE", help="plot the precision-recall curves into this file"
    )
    parser.add_argument(
        "--top",
        type=arguments.positive,
        metavar="K",
        help="for classifiers: the k of top-k accuracy (default: 5)",
    )
    arguments.add_resize(parser)
    arguments.add_overwrite(parser)
    arguments.add_max_pixels(parser)
    arguments.add_timeout(parser)
    arguments.add_engine(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(parser=parser)


def main(parsed: argparse.Namespace) -> int:
    """Runs the command; returns 0, or 1 if an image could not be read."""
    if parsed.compare:
        return _compare(parsed)
    if parsed.cfg is None:
        parsed.parser.error("--data and --coco need --cfg")
    network_files.complete(parsed)
    if parsed.plot:
        # Fail now rather than after hours of detection.
        evaluation.figure_for(parsed.plot)
    network = arguments.network_of(
        parsed.cfg, parsed.classes, parsed.size, parsed.dialect, parsed.tree
    )
    for path in (parsed.names, parsed.weights):
        arguments.require_file(path)
    names = network_files.names_of(parsed, network)
    if not network.heads:
        return evaluate_classifier.main(parsed, network, names)
    return _evaluate_detector(parsed, network, names)


def _evaluate_detector(parsed: argparse.Namespace, network: Network, names: Names) -> int:
    """Evaluates a network with detection heads; returns the exit code."""
    if parsed.top or parsed.resize in ("crop", "letter-box", "stretch"):
        option = "--top" if parsed.top else f"--resize {parsed.resize}"
        raise ValueError(
            f"{option} is for classifiers, {network.source} is a detector; leave the option out"
        )
    if parsed.coco:
        data = evaluation.read_coco(parsed.coco, images=parsed.images)
    else:
        data = evaluation.read_data_set(parsed.data, like=parsed.like)
    for note in data.notes:
        arguments.note(note)
    read = [parsed.data or parsed.coco, parsed.cfg, parsed.weights]
    read += [image.path for image in data.images]
    read += [path for path in (parsed.tree, parsed.names) if path is not None]
    if parsed.plot:
        evaluation.figure_for(parsed.plot, overwrite=parsed.overwrite, inputs=read)
    if data.unlabelled:
        say(
            f"yolotf: {len(data.unlabelled)} of {len(data.images)} images have no label file and "
            f"count as empty; the first: {evaluation.label_path(data.unlabelled[0])}"
        )
    from yolotf.cli import progress  # imports rich

    with arguments.warnings_as_notes(), progress.counted(len(data.images)) as bar:
        result = evaluation.evaluate(
            network,
            parsed.weights,
            data,
            match_iou=parsed.match_iou,
            points=parsed.points,
            score_threshold=parsed.score_threshold,
            class_names=names,
            nms_kind=parsed.nms_kind,
            letter_box=parsed.letter_box,
            batch_size=parsed.batch_size,
            resize=arguments.detector_resize_of(parsed),
            like=parsed.like,
            max_pixels=parsed.max_pixels,
            timeout=parsed.timeout,
            engine=parsed.engine,
            precision=parsed.precision,
            threads=parsed.threads,
            progress=bar.progress,
        )
    text = result.table() if parsed.like == "hank-ai" else str(result)
    print(to_json(result.to_dict()) if parsed.json else printable(text))
    if parsed.plot:
        evaluation.plot(result, parsed.plot, overwrite=parsed.overwrite, inputs=read)
    for path, error in result.unread:
        say(f"yolotf: {path}: {error}")
    if result.unread:
        count = f"{len(result.unread)} of {result.images} images"
        say(f"yolotf: {count} could not be read and counted as empty")
    return 1 if result.unread else 0


def _compare(parsed: argparse.Namespace) -> int:
    comparison = evaluation.compare(*(evaluation.read_result(path) for path in parsed.compare))
    if parsed.json:
        print(to_json(comparison))
    else:
        print(printable("\n".join(evaluation.comparison_lines(comparison))))
    return 0
