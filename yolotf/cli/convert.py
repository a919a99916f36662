"""`yolotf convert`: converts weights to other formats."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from yolotf import errors
from yolotf.cli import arguments
from yolotf.cli.arguments import note
from yolotf.darknet import cfg
from yolotf.darknet.class_names import stock_names
from yolotf.darknet.decoding import suppression_of
from yolotf.files.output_target import checked_target
from yolotf.files.stderr import captured_stderr
from yolotf.formats.convert import (
    NAMING,
    check_any_size,
    convert,
    format_of,
    write_anchors,
)
from yolotf.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.usage = (
        "yolotf convert FILE --cfg CFG|NAME -o OUTPUT [options]\n"
        "       yolotf convert CFG WEIGHTS OUTPUT [options]"
    )
    parser.description = (
        "The extension of OUTPUT selects the format: .keras, .h5, .weights.h5, .tflite, .onnx, "
        ".safetensors; without an extension, or with / at the end, it is a SavedModel folder. The "
        "second form takes the arguments of YAD2K and its descendants, and also writes "
        "OUTPUT_anchors.txt as they do."
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="the .weights file")
    arguments.add_network(parser, required=False)
    parser.add_argument("-o", "--output", metavar="OUTPUT", help="file or folder to write")
    arguments.add_overwrite(parser)
    arguments.add_max_pixels(parser)
    arguments.add_timeout(parser)
    parser.add_argument(
        "--any-size",
        "-flcl",
        "--fully_convolutional",
        action="store_true",
        help="accept images of any size (default for CFG WEIGHTS OUTPUT, where possible)",
    )
    parser.add_argument(
        "-f",
        "--fixed_input_shape",
        action="store_true",
        help="accept images of the cfg's size only (default with --cfg)",
    )
    parser.add_argument(
        "-r", "--yolo4_reorder", action="store_true", help="output the heads in the opposite order"
    )
    parser.add_argument(
        "-w", "--weights_only", action="store_true", help="write .weights.h5 or .safetensors"
    )
    parser.add_argument("-p", "--plot_model", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--batch-size",
        "--batch",
        type=int,
        metavar="N",
        help="fixed batch size (default: any; for .tflite 1)",
    )
    parser.add_argument(
        "--decode",
        action="store_true",
        help="output boxes and scores in place of raw heads (SavedModel, .tflite, .onnx)",
    )
    parser.add_argument(
        "--fp16", action="store_true", help="store the weights of a .tflite file in half precision"
    )
    parser.add_argument(
        "--int8",
        nargs="+",
        metavar="IMAGES",
        help="quantize a .tflite file to int8, calibrated on these images or folders of images",
    )
    parser.add_argument(
        "--int8-only",
        action="store_true",
        help="with --int8: input, outputs and all operations are int8, for microcontrollers",
    )
    parser.add_argument(
        "--allow-inaccurate",
        action="store_true",
        help="write an --int8 or --fp16 file even if its outputs differ too much from float32's",
    )
    parser.add_argument(
        "--old-keras",
        action="store_true",
        help="write .keras and .h5 that Keras 3.1 to 3.3 (TensorFlow 2.16) can read, too",
    )
    arguments.add_names(parser, "class names for .onnx, .tflite and .safetensors")
    parser.add_argument(
        "--layout",
        choices=("nchw", "nhwc", "torch"),
        default="nchw",
        help="axes of images and raw heads in .onnx (default: nchw); torch: names and axes of "
        "PyTorch's layers in .safetensors",
    )
    onnx = parser.add_argument_group(
        "detections in the model (.onnx, .tflite)", "the thresholds need --suppress"
    )
    onnx.add_argument(
        "--suppress",
        action="store_true",
        help="output detections in place of raw heads",
    )
    arguments.add_detection_options(onnx)


def main(parsed: argparse.Namespace) -> int:
    """Runs the command and returns its exit code.

    Beside `FILE --cfg CFG -o OUTPUT` it accepts the arguments of YAD2K, keras-yolo3 and
    keras-YOLOv3-model-set, `CFG WEIGHTS OUTPUT`. Like those programs, it then writes a model for
    images of any size, if the network allows it, and a file with the anchors beside the model.
    """
    old_style = len(parsed.files) == 3
    source, weights, output = _arguments(parsed)
    kind = format_of(output)
    arguments.temporary_files_near(output)
    anchors = f"{output.removesuffix(kind).rstrip('/')}_anchors.txt" if old_style else None
    network = arguments.network_of(source, parsed.classes, parsed.size, parsed.dialect, parsed.tree)
    arguments.require_file(weights)
    for warning in network.warnings:
        note(warning)
    any_size = _is_any_size(parsed, network, kind, old_style=old_style)
    read = [source, weights, parsed.names, parsed.tree, *(parsed.int8 or ())]
    read = [path for path in read if path is not None]
    if Path(output).is_file():
        checked_target(output, overwrite=parsed.overwrite, inputs=read)
    if anchors:
        checked_target(anchors, overwrite=parsed.overwrite, inputs=read)
    _check_options(parsed, network, output, kind)
    names = parsed.names or (stock_names(network) if kind in NAMING else None)
    from yolotf.cli import progress as bars  # imports rich

    with captured_stderr() as stream, bars.stages(stream) as progress:
        conversion = convert(
            weights,
            network,
            output,
            any_size=any_size,
            reverse_outputs=parsed.yolo4_reorder,
            batch_size=parsed.batch_size,
            decode=parsed.decode,
            float16=parsed.fp16,
            int8=parsed.int8 or (),
            int8_only=parsed.int8_only,
            allow_inaccurate=parsed.allow_inaccurate,
            old_keras=parsed.old_keras,
            max_pixels=parsed.max_pixels,
            timeout=parsed.timeout,
            overwrite=parsed.overwrite,
            layout=parsed.layout if parsed.layout == "torch" else parsed.layout.upper(),
            class_names=names,
            suppress=parsed.suppress,
            score_threshold=parsed.score_threshold,
            iou_threshold=parsed.iou_threshold,
            max_boxes=parsed.max_boxes,
            progress=progress,
        )
    for text in (*conversion.loaded.warnings, *conversion.notes):
        note(text)
    lines = [str(conversion)]
    if anchors and write_anchors(network, anchors, overwrite=parsed.overwrite):
        lines.append(f"anchors -> {anchors}")
    print(*map(printable, lines), sep="\n")
    return 0


def _arguments(parsed: argparse.Namespace) -> tuple[str, str, str]:
    """Returns cfg, weights and output, whichever form they were given in."""
    match parsed.files, parsed.cfg, parsed.output:
        case [weights], str(source), str(output):
            return source, weights, output
        case [source, weights, output], None, None:
            source, weights, output = map(os.path.expanduser, (source, weights, output))
            if source.endswith(".weights") or weights.endswith(".cfg"):
                raise errors.YolotfError(
                    f"{source} {weights}: the cfg comes first: yolotf convert CFG WEIGHTS OUTPUT"
                )
            return source, weights, output
        case _:
            raise errors.YolotfError(
                "convert takes FILE --cfg CFG -o OUTPUT, or three files, CFG WEIGHTS OUTPUT"
            )


def _is_any_size(
    parsed: argparse.Namespace, network: cfg.Network, kind: str, *, old_style: bool
) -> bool:
    """Returns whether the model takes images of any size, the default of the second form.

    Raises:
        UnsupportedSectionError: `--any-size` was given, and the network does not allow it.
    """
    if parsed.any_size:
        check_any_size(network, kind)
        return True
    if not old_style or parsed.fixed_input_shape or kind == ".tflite":
        return False
    try:
        check_any_size(network, kind)
    except errors.UnsupportedSectionError as error:
        size = f"{network.input_shape.width}x{network.input_shape.height}"
        note(f"the model takes images of {size} only: {error.message}")
        return False
    return True


def _check_options(
    parsed: argparse.Namespace, network: cfg.Network, output: str, kind: str
) -> None:
    """Prints notes on options that change less than expected.

    Raises:
        YolotfError: `-w`, and the output is not a file of weights.
    """
    if parsed.plot_model:
        note("-p does nothing: plot the model with keras.utils.plot_model")
    if parsed.weights_only and kind == ".h5":
        note("-w: a .h5 file contains the model, too; for the weights alone use .weights.h5")
    elif parsed.weights_only and kind not in (".weights.h5", ".safetensors"):
        raise errors.YolotfError(f"{output}: -w writes .weights.h5, .safetensors or .h5")
    if parsed.suppress and network.heads and suppression_of(network).kind != "default":
        note(
            "--suppress removes boxes by overlap alone and ignores the cfg's "
            f"nms_kind={suppression_of(network).kind}"
        )
