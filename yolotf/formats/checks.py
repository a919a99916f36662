"""The formats of `convert`, and what it checks before the slow work: options, output, file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from yolotf import argument_numbers, errors
from yolotf.darknet import graph_checks
from yolotf.darknet.cfg import Network
from yolotf.darknet.detection_options import DetectionOptions
from yolotf.diagnosis.file_diagnosis import diagnose
from yolotf.files import output_target
from yolotf.files.paths import StrPath
from yolotf.formats import request
from yolotf.formats.request import Layout, Options
from yolotf.graphs import saved_model as saved_model_folder
from yolotf.onnx.model import Suppression
from yolotf.weights import layout as file_layout
from yolotf.weights.file import WeightsFile

SAVED_MODEL = "SavedModel"
# `.weights.h5` must precede `.h5`.
ENDINGS = (".keras", ".weights.h5", ".h5", ".tflite", ".safetensors", ".onnx")
HDF5 = (".h5", ".weights.h5")
WHOLE_MODELS = (".keras", ".h5")
"""Formats that hold a Keras model."""
NAMING = (".onnx", ".tflite", ".safetensors")
"""Formats that can store class names."""
GRAPHS = (".tflite", ".onnx", SAVED_MODEL)
"""Formats that hold a graph of operations and so support a batch size and decoding."""


def format_of(output: StrPath) -> str:
    """Returns the extension of `output` if `convert` can write it, or `SAVED_MODEL`.

    Raises:
        YolotfError: no format has this extension. Facts: `output`, `endings`.
        OSError: it is a URL.
    """
    output_target.check_no_url(output)
    text = os.fspath(output)
    if text.endswith((os.sep, "/")) or not Path(text).suffix:
        return SAVED_MODEL
    for ending in ENDINGS:
        if text.endswith(ending):
            return ending
    raise errors.YolotfError(
        f"{text}: {Path(text).suffix} is not a supported format; use one of the endings "
        f"{', '.join(ENDINGS)}, or none (or / at the end) for a SavedModel folder",
        output=text,
        endings=ENDINGS,
    )


def check_any_size(network: Network, kind: str) -> None:
    """Checks that a format can write the network for any image size.

    Args:
        network: the network.
        kind: a file extension, or `SAVED_MODEL`.

    Raises:
        UnsupportedSectionError: it cannot; says the section and line, or the stride.
    """
    graph_checks.check_any_size(network)
    if kind != ".onnx":
        request.check_keras_any_size(network)
    request.check_stride_divides(network)


def check_options(output: StrPath, kind: str, options: Options) -> None:
    """Raises YolotfError for an option that does not apply to the format."""
    prefix = f"{os.fspath(output)}: "
    if options.batch_size is not None and (
        argument_numbers.integer("batch_size", options.batch_size) < 1
    ):
        raise errors.YolotfError(f"{prefix}batch_size={options.batch_size} must be at least 1")
    if options.float16 and options.int8:
        raise errors.YolotfError(
            f"{prefix}float16 and int8 cannot be combined; leave float16 or int8 out"
        )
    if options.layout not in get_args(Layout):
        choices = ", ".join(map(repr, get_args(Layout)))
        raise errors.YolotfError(f"{prefix}layout={options.layout!r} must be one of {choices}")
    if options.suppression is not None:
        _check_suppression(prefix, options.suppression)
        if kind == ".tflite":
            _check_lite_detections(prefix, options)
    if options.any_size and kind == ".tflite":
        raise errors.YolotfError(
            f"{prefix}TensorFlow Lite's converter supports a single image size; leave any_size out"
        )
    graph_options = {"batch_size": options.batch_size is not None, "decode": options.decode}
    if options.int8_only and not options.int8:
        raise errors.YolotfError(f"{prefix}int8_only needs int8=, the images to calibrate with")
    lite_options = {"float16": options.float16, "int8": bool(options.int8)}
    torch_options = {"layout='torch'": options.layout == "torch"}
    onnx_options = {"layout='NHWC'": options.layout == "NHWC"}
    suppression_options = {"suppress": options.suppression is not None}
    name_options = {"class_names": bool(options.class_names)}
    keras_options = {"old_keras": options.old_keras}
    for given, kinds in (
        (graph_options, GRAPHS),
        (lite_options, (".tflite",)),
        (keras_options, WHOLE_MODELS),
        (onnx_options, (".onnx",)),
        (suppression_options, (".onnx", ".tflite")),
        (torch_options, (".safetensors",)),
        (name_options, NAMING),
    ):
        for name in (name for name, is_given in given.items() if is_given and kind not in kinds):
            *others, last = kinds
            listed = f"{', '.join(others)} or {last}" if others else last
            raise errors.YolotfError(
                f"{prefix}{name} is for {listed}, not for {kind}; leave it out",
                output=os.fspath(output),
                endings=kinds,
            )


def _check_lite_detections(prefix: str, options: Options) -> None:
    """Raises YolotfError for options that a `.tflite` file of detections does not support."""
    if options.batch_size not in (None, 1):
        raise errors.YolotfError(
            f"{prefix}batch_size={options.batch_size}: with suppress a .tflite file takes one "
            "image; leave batch_size out"
        )
    if options.int8 or options.float16:
        raise errors.YolotfError(
            f"{prefix}{'int8' if options.int8 else 'float16'} and suppress cannot be "
            "combined in a .tflite file; use decode in place of suppress"
        )


def _check_suppression(prefix: str, suppression: Suppression) -> None:
    score, iou, most = suppression
    try:
        DetectionOptions(score_threshold=score, iou_threshold=iou, max_boxes=most)
    except ValueError as error:
        raise errors.YolotfError(f"{prefix}{error}") from None


def checked_target(
    output: StrPath, kind: str, *, overwrite: bool, inputs: Sequence[StrPath]
) -> Path:
    """Returns the path to write, with symbolic links resolved.

    Raises:
        OSError: its folder does not exist, a folder is where the file should go, or something
            there must not be replaced.
    """
    target = Path(os.path.realpath(output))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such folder; create it first")
    if kind != SAVED_MODEL and target.is_dir():
        raise IsADirectoryError(
            f"{output}: is a folder, but a {kind} output is a file; name a file"
        )
    if kind == SAVED_MODEL and target.is_file():
        raise FileExistsError(f"{output}: is a file, but a SavedModel is a folder; name a folder")
    if kind == SAVED_MODEL:
        return saved_model_folder.check(output, overwrite=overwrite, inputs=inputs)
    return output_target.checked_target(output, overwrite=overwrite, inputs=inputs)


def check_holds_all_layers(file: WeightsFile, network: Network, kind: str) -> None:
    """Refuses files that do not start like weights, and backbone files.

    The layers that a backbone file lacks would be written with their initial values: a detector
    with meaningless boxes. `.safetensors` holds only the layers in the file.
    """
    try:
        parsed = file.parsed(file_layout.floats(network))
    except errors.HeaderError as error:
        diagnosis = diagnose(file, network)
        raise errors.HeaderError(diagnosis.summary(), **error.facts, diagnosis=diagnosis) from None
    expected = parsed.size_of(file_layout.floats(network))
    if file.size_bytes < expected and kind != ".safetensors":
        diagnosis = diagnose(file, network).with_argument()
        raise errors.SizeMismatchError(
            diagnosis.summary(),
            path=file.name,
            expected=expected,
            found=file.size_bytes,
            diagnosis=diagnosis,
        )
