"""The command `yolotf`. Exit codes: 0 done or fits, 1 does not fit, 2 cannot be read or used."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from yolotf.cli import transfer
from yolotf.errors import WeightsMismatch

if TYPE_CHECKING:
    # argparse does not export it.
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone, as in `yolotf inspect F | head`; nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except WeightsMismatch as error:
        print(f"yolotf: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError, ImportError) as error:
        text = str(error)
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            text = f"{os.fsdecode(error.filename)}: {error.strerror.lower()}"
        print(f"yolotf: {text}", file=sys.stderr)
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    from yolotf import __version__

    parser = argparse.ArgumentParser(
        prog="yolotf", description="Darknet .weights files in TensorFlow."
    )
    parser.add_argument("--version", action="version", version=f"yolotf {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo", help="load the official yolov4-tiny and detect in two photographs"
    )
    demo.add_argument("-o", "--output", default="demo-output", help="folder for the pictures")
    demo.set_defaults(run=_demo)
    _add_inspect(commands)
    _add_check(commands)
    _add_detect(commands)
    _add_convert(commands)
    _add_classify(commands)
    _add_eval(commands)
    return parser


def _add_inspect(commands: _Commands) -> None:
    inspect = commands.add_parser(
        "inspect", help="what a .weights file is: header, network, layers, statistics"
    )
    inspect.add_argument("file", metavar="FILE")
    inspect.add_argument(
        "--cfg", metavar="CFG|NAME", help="the network, where the size does not tell"
    )
    inspect.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    inspect.set_defaults(run=_inspect)


def _add_check(commands: _Commands) -> None:
    check = commands.add_parser(
        "check",
        help="whether a .weights file fits a network, and if not, why",
        description="Exit code 0: it fits; 1: it does not; 2: it cannot be read.",
    )
    check.add_argument("file", metavar="FILE")
    check.add_argument("--cfg", metavar="CFG|NAME", help="a cfg file or a stock network")
    check.add_argument(
        "--classes", type=int, metavar="N", help="for another number of classes than the cfg's"
    )
    check.add_argument(
        "--model", metavar="M.keras", help="a Keras model in place of the cfg, or against it"
    )
    check.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    check.add_argument("--html", metavar="OUT", help="write a page with a picture of the layers")
    check.set_defaults(run=_check)


def _add_detect(commands: _Commands) -> None:
    detect = commands.add_parser("detect", help="find things in pictures, folders and videos")
    detect.add_argument("inputs", nargs="+", metavar="PICTURE|FOLDER|VIDEO")
    _add_network(detect, required=True)
    detect.add_argument("--weights", required=True, metavar="FILE", help="the .weights file")
    detect.add_argument("--names", metavar="FILE", help="class names, one a line")
    detect.add_argument(
        "-o",
        "--output",
        metavar="FOLDER",
        help="write annotated pictures into this folder (default: detections; none with --json)",
    )
    detect.add_argument("--score", type=float, default=0.25, help="lowest score (default: 0.25)")
    detect.add_argument(
        "--iou",
        type=float,
        default=0.45,
        help="boxes of one class that overlap more exclude each other (default: 0.45)",
    )
    detect.add_argument(
        "--json", action="store_true", help="one JSON object a picture or frame, one a line"
    )
    detect.set_defaults(run=_detect)


def _add_convert(commands: _Commands) -> None:
    convert = commands.add_parser(
        "convert",
        help="write .keras, .h5, SavedModel, .tflite, .onnx or .safetensors",
        usage="yolotf convert FILE --cfg CFG|NAME -o OUTPUT [options]\n"
        "       yolotf convert CFG WEIGHTS OUTPUT [options]",
        description="The ending of OUTPUT decides: .keras, .h5, .weights.h5, .tflite, "
        ".onnx, .safetensors; a SavedModel folder has none, or / at the end. The second form is "
        "that of YAD2K and its descendants, and writes OUTPUT_anchors.txt as they did.",
    )
    convert.add_argument("files", nargs="+", metavar="FILE", help="the .weights file")
    _add_network(convert, required=False)
    convert.add_argument("-o", "--output", metavar="OUTPUT")
    convert.add_argument(
        "--any-size",
        "-flcl",
        "--fully_convolutional",
        action="store_true",
        help="a model for pictures of any size; the default of the second form where possible",
    )
    convert.add_argument(
        "-f",
        "--fixed_input_shape",
        action="store_true",
        help="a model for the cfg's size; the default of the first form",
    )
    convert.add_argument(
        "-r", "--yolo4_reorder", action="store_true", help="the heads in the opposite order"
    )
    convert.add_argument("-w", "--weights_only", action="store_true", help="to .h5 or .weights.h5")
    convert.add_argument("-p", "--plot_model", action="store_true", help=argparse.SUPPRESS)
    convert.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="pictures at once; by default any number, in .tflite one",
    )
    convert.add_argument(
        "--decode",
        action="store_true",
        help="boxes and scores in place of raw heads (SavedModel, .tflite, .onnx)",
    )
    convert.add_argument(
        "--fp16", action="store_true", help=".tflite with weights of half precision"
    )
    convert.add_argument(
        "--int8",
        nargs="+",
        metavar="PICTURES",
        help=".tflite in int8; pictures, or folders of them, show the range of numbers",
    )
    convert.set_defaults(run=_convert)


def _add_classify(commands: _Commands) -> None:
    classify = commands.add_parser("classify", help="what pictures are of, by a classifier")
    classify.add_argument("inputs", nargs="+", metavar="PICTURE|FOLDER")
    classify.add_argument(
        "--cfg", required=True, metavar="CFG|NAME", help="a cfg file or a stock network"
    )
    classify.add_argument(
        "--size", type=_size, metavar="N|WxH", help="of the network's input in place of the cfg's"
    )
    classify.add_argument("--weights", required=True, metavar="FILE", help="the .weights file")
    classify.add_argument("--names", metavar="FILE", help="class names, one a line")
    classify.add_argument(
        "--top", type=_positive, default=5, metavar="K", help="classes to name (default: 5)"
    )
    classify.add_argument("--json", action="store_true", help="one JSON object a picture, a line")
    classify.set_defaults(run=_classify)


def _add_eval(commands: _Commands) -> None:
    parser = commands.add_parser(
        "eval",
        help="mean average precision on labelled pictures, as `darknet detector map` has it",
        usage="yolotf eval (--data OBJ.DATA | --coco INSTANCES.JSON) --cfg CFG|NAME "
        "--weights FILE [options]\n       yolotf eval --compare A.json B.json [--json]",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--data", metavar="OBJ.DATA", help="Darknet's data file: valid list, names, labels"
    )
    what.add_argument(
        "--coco", metavar="INSTANCES.JSON", help="a COCO file; COCO's twelve numbers, too"
    )
    what.add_argument(
        "--compare", nargs=2, metavar=("A.json", "B.json"), help="what `eval --json` printed twice"
    )
    _add_network(parser, required=False)
    parser.add_argument("--weights", metavar="FILE", help="the .weights file")
    parser.add_argument("--images", metavar="FOLDER", help="of the pictures of --coco")
    parser.add_argument(
        "--points",
        "-points",
        type=int,
        default=0,
        metavar="N",
        help="recalls at which precision is read: 11 (VOC 2007), 101 (COCO), 0 for the area "
        "under the curve (default)",
    )
    parser.add_argument(
        "--iou-thresh",
        "-iou_thresh",
        type=float,
        default=0.5,
        metavar="X",
        help="overlap above which a detection is of a label (default: 0.5)",
    )
    parser.add_argument(
        "--thresh",
        "-thresh",
        type=float,
        default=0.25,
        metavar="X",
        help="score for precision, recall, F1, TP, FP and FN (default: 0.25)",
    )
    parser.add_argument(
        "--batch", type=_positive, default=8, metavar="N", help="pictures at once (default: 8)"
    )
    parser.add_argument("--plot", metavar="FILE", help="write precision over recall as a picture")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.set_defaults(run=_eval, parser=parser)


def _add_network(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--cfg", required=required, metavar="CFG|NAME", help="a cfg file or a stock network"
    )
    parser.add_argument(
        "--classes", type=int, metavar="N", help="for another number of classes than the cfg's"
    )
    parser.add_argument(
        "--size", type=_size, metavar="N|WxH", help="of the network's input in place of the cfg's"
    )


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 1")
    return int(text)


def _size(text: str) -> int | tuple[int, int]:
    """`608`, or `640x480`, width first; (height, width) for `Network.resized`."""
    numbers = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if numbers is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither N nor WIDTHxHEIGHT")
    width, height = numbers.groups()
    return (int(height), int(width)) if height else int(width)


def _demo(parsed: argparse.Namespace) -> int:
    # TensorFlow's own log would bury the result; who wants it sets the variable.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from yolotf.cli import demo

    demo.run(parsed.output)
    return 0


def _inspect(parsed: argparse.Namespace) -> int:
    from yolotf.darknet import stock as networks
    from yolotf.diagnosis import render as report
    from yolotf.diagnosis import result as diagnosis

    network = networks.find(parsed.cfg) if parsed.cfg else None
    with transfer.opened(parsed.file) as source:
        found = source.renamed(diagnosis.inspect(source.path, network))
    if parsed.json:
        print(report.to_json(found))
    else:
        report.show(found)
    return 1 if found.detected else 0


def _check(parsed: argparse.Namespace) -> int:
    from yolotf.diagnosis import render as report
    from yolotf.loading import diagnosing

    if not parsed.cfg and not parsed.model:
        raise ValueError("check needs --cfg or --model")
    model = None
    if parsed.model:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from yolotf.models import build as keras_model

        model = keras_model.read_model(parsed.model)
    with transfer.opened_or_named(parsed.file) as source:
        found = diagnosing.diagnose(source.path, parsed.cfg or model, classes=parsed.classes)
        found = source.renamed(found)
        if parsed.cfg and model is not None:
            found = diagnosing.against_model(found, model)
        if parsed.html:
            report.write_html(found, parsed.html)
        if parsed.json:
            print(report.to_json(found))
        else:
            report.show(found)
    return found.exit_code


def _detect(parsed: argparse.Namespace) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from yolotf.cli import detect

    return detect.run(parsed)


def _classify(parsed: argparse.Namespace) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from yolotf.cli import classify

    return classify.run(parsed)


def _eval(parsed: argparse.Namespace) -> int:
    from yolotf.cli import evaluate

    return evaluate.run(parsed)


def _convert(parsed: argparse.Namespace) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from yolotf.cli import convert

    return convert.run(parsed)


if __name__ == "__main__":
    sys.exit(main())
