"""`convert`: writes a Darknet `.weights` file as a TensorFlow or Keras model, ONNX or safetensors.

The Keras formats build the network in Keras, load the file with `load_darknet_weights` and all of
its checks, and let the format's library write; each format has a module in this package. ONNX needs
neither Keras nor TensorFlow: it is written from the network's description. Every model outputs raw
heads in cfg order, as `build_model` does, or, with `decode`, boxes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolotf import errors
from yolotf._public import also_named, public, renamed
from yolotf.argument_numbers import flags_checked
from yolotf.darknet import stock
from yolotf.darknet.cfg import Network
from yolotf.darknet.cfg import Source as CfgSource
from yolotf.darknet.class_names import Names, names_for, read_names
from yolotf.darknet.decoding import check_heads
from yolotf.darknet.detection_options import DetectionOptions
from yolotf.darknet.dialects import Dialect
from yolotf.files import atomic, output_target, read_files
from yolotf.files.fetching import TIMEOUT
from yolotf.files.paths import StrPath
from yolotf.formats import (
    calibration,
    checks,
    hdf5,
    keras,
    keras_config,
    onnx,
    safetensors,
    saved_model,
    tflite,
)
from yolotf.formats.anchors import write_anchors
from yolotf.formats.checks import NAMING, SAVED_MODEL, check_any_size, format_of
from yolotf.formats.request import ConversionInput, Layout, Options, build
from yolotf.graphs import saved_model as saved_model_folder
from yolotf.graphs import tf_errors
from yolotf.images.limits import MAX_PIXELS
from yolotf.inference.diagnosed_errors import with_diagnosis
from yolotf.loading import load
from yolotf.onnx.model import Suppression
from yolotf.progress import Progress, as_progress
from yolotf.text import plural
from yolotf.weights import layout as file_layout
from yolotf.weights.file import WeightsFile, WeightsSource

if TYPE_CHECKING:
    from yolotf.loading.load import LoadReport

__all__ = [
    "NAMING",
    "SAVED_MODEL",
    "Conversion",
    "check_any_size",
    "convert",
    "format_of",
    "write_anchors",
]
_LAYER_BYTES = 16 * 1024
"""Upper bound for the description of one layer; .h5 needs about 6 kB."""


@public
@dataclass(frozen=True)
class Conversion:
    """What `convert` wrote; prints as one line.

    Attributes:
        loaded: the report of loading the `.weights` file.
        output: the file or folder written.
        format: the file extension, or `SavedModel`.
        size_bytes: of the file, or of all files in the folder.
        seconds: duration of the whole call.
        read_by: the versions that can read it, where not all can.
        notes: what users of the output need to know.
    """

    loaded: LoadReport
    output: str
    format: str
    size_bytes: int
    seconds: float
    read_by: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"{self.loaded.path} -> {self.output}: {plural(self.loaded.layers, 'layer')}, "
            f"{self.loaded.floats:,} floats, {self.size_bytes:,} bytes, {self.seconds:.1f} s"
            + (f"; for {self.read_by}" if self.read_by else "")
        )


@public
@also_named(cfg="network")
@renamed(names="class_names", batch="batch_size")
@read_files.remembered()
@flags_checked(
    *("any_size", "reverse_outputs", "decode", "float16", "int8_only", "allow_inaccurate"),
    *("old_keras", "suppress"),
)
def convert(
    weights: WeightsSource,
    network: Network | CfgSource,
    output: StrPath,
    *,
    classes: int | None = None,
    dialect: Dialect | None = None,
    size: int | tuple[int, int] | None = None,
    any_size: bool = False,
    reverse_outputs: bool = False,
    batch_size: int | None = None,
    decode: bool = False,
    float16: bool = False,
    int8: StrPath | Iterable[StrPath] = (),
    int8_only: bool = False,
    allow_inaccurate: bool = False,
    old_keras: bool = False,
    max_pixels: int | None = MAX_PIXELS,
    overwrite: bool = True,
    layout: Layout = "NCHW",
    class_names: Names = None,
    suppress: bool = False,
    score_threshold: float = DetectionOptions.score_threshold,
    iou_threshold: float = DetectionOptions.iou_threshold,
    max_boxes: int = DetectionOptions.max_boxes,
    progress: Progress | None = None,
    timeout: float | None = TIMEOUT,
) -> Conversion:
    """Converts a `.weights` file and its network to another format.

    The output is written atomically: until it is complete, and if anything fails, an older output
    stays as it was. `yolotf.files.atomic` says which file attributes the new one keeps. Files in
    the output folder that are not part of a SavedModel stay.

    Args:
        weights: the `.weights` file, as `load_darknet_weights` takes it.
        network: a `Network`, a stock name, or a cfg's path or text.
        output: the extension selects the format.

            * `.keras`, `.h5`: the Keras model, for Keras 3.4 or later (or tf_keras, if it wrote
              the file). Where `Conversion.notes` says so, `import yolotf.keras_layers` before
              loading it, which registers the layers Keras lacks.
            * `.weights.h5`: the variables, for `build_model(...).load_weights`.
            * no extension, or a trailing `/`: a SavedModel folder of standard operations with the
              signature `serving_default`, from `images` to `output_0`, `output_1`, ...
            * `.tflite`: the same signature, for one image (or `batch_size` images) until
              `resize_tensor_input` changes the shape. Outputs are in cfg order; tensors are named
              after their sections (`conv_138`). The file is also a zip archive with the cfg and any
              class names as its associated files `model.cfg` and `classes.names`. TensorFlow Lite
              lacks operations for `[local]` and for `[maxpool]` padding other than `same` and none.
            * `.onnx`: input `images`, float32 RGB in 0..1, [batch, channels, height, width]; the
              outputs are the raw heads, named after their sections (`conv_138`), also channels
              first. The metadata has `cfg` and any class `names`, one per line. Recurrent state
              is passed as additional inputs and outputs (`crnn_3_state_in`, `crnn_3_state_out`).
              Weights of more than 2 GB go into a second file, `<output>.data`.
            * `.safetensors`: the variables under their Keras names, `conv_17/kernel` (HWIO),
              `conv_17_bn/moving_mean`; the cfg is in the metadata.
        classes: number of classes, to override the cfg's.
        dialect: see `Detector`.
        size: input size, to override the cfg's: one number or `(height, width)`.
        any_size: the model accepts images of any height and width divisible by the network's
            stride; not for `.tflite`.
        reverse_outputs: the heads in the opposite order.
        batch_size: a fixed batch size; by default any (`.tflite`: 1). For SavedModel, `.tflite` and
            `.onnx`.
        decode: the model outputs `boxes` [batch, boxes, 4] (left, top, right, bottom, relative to
            the input, 0..1) and `scores` [batch, boxes, classes] in place of raw heads: all boxes
            in cfg order, before thresholding and suppression; with a class tree, each box has a
            score for one class. For SavedModel, `.tflite` and `.onnx`.
        float16: `.tflite` with half-precision weights, which GPU delegates also accept.
        int8: a few hundred images, or folders of them, like those the network will see: writes a
            `.tflite` with int8 weights and activations, whose ranges are calibrated on these
            images. Input and outputs stay float32.
        int8_only: with `int8`: input, outputs and all operations are int8, as microcontrollers
            require. An input value q means (q + 128) / 255, an output value
            scale * (q - zero_point), with both parameters in the file.
        allow_inaccurate: writes an `int8` or `float16` file even if its outputs, tested on up to
            16 of the images, correlate with the float model's by less than 0.9.
        old_keras: `.keras` and `.h5` that Keras 3.1 to 3.3 (of TensorFlow 2.16) can also read. The
            model then has its single input in a list, and later versions of Keras warn when it is
            called with an array instead of a tensor.
        max_pixels: `int8` images with more pixels are refused before they are decoded.
        overwrite: False refuses to replace an existing output.
        layout: `NCHW` or, for images and raw heads with channels last, `NHWC`. For `.onnx`.
            `torch` is for `.safetensors`: the arrays under PyTorch's names and axis order,
            `conv_17.weight` (OIHW), `bn_17.running_mean`.
        class_names: class names for the metadata, as `Detector` takes them. For `.onnx`, `.tflite`
            and `.safetensors`.
        suppress: the model outputs detections: `boxes` [detections, 4], `scores`, `classes` and
            `pictures` (index in the batch), sorted by image, then class, then descending score.
            Suppression is by overlap alone (ONNX's NonMaxSuppression), regardless of the cfg's
            nms_kind=. For `.onnx`; a `.tflite` file has, for one image, the four outputs of
            TensorFlow Lite's detection models: `locations` [1, max_boxes, 4] (top, left, bottom,
            right, relative), `classes`, `scores` and `count`, with the most likely class of each
            box.
        score_threshold: with `suppress`: keeps boxes that score higher.
        iou_threshold: with `suppress`: the IoU above which boxes of one class suppress each other.
        max_boxes: with `suppress`: maximum detections per class and image, best first.
        progress: called as `progress(stage, done, total)`, see `yolotf.progress`; the stages are
            `downloading` (a URL), `building`, `loading`, `calibrating` (`int8`) and `writing`.
        timeout: see `load_darknet_weights`.

    Returns:
        The conversion's result.

    Raises:
        WeightsMismatch: the file does not match the network; has a `diagnosis`.
        UnsupportedSectionError: Keras, the format or `any_size` does not support a section of
            the network.
        YolotfError: the extension is unknown, or an option does not apply to the format.
        OSError: a file cannot be read or written, `output` is one of the input files, or it
            exists and `overwrite` is False.
        ImportError: the format needs a package that is not installed.
    """
    started = time.perf_counter()
    progress = as_progress(progress, "stage")
    kind = format_of(output)
    options = Options(
        any_size=any_size,
        reverse_outputs=reverse_outputs,
        batch_size=batch_size,
        decode=decode or suppress,
        float16=float16,
        int8=calibration.image_files(int8),
        int8_only=int8_only,
        allow_inaccurate=allow_inaccurate,
        old_keras=old_keras,
        max_pixels=max_pixels,
        layout=layout,
        class_names=read_names(class_names),
        suppression=Suppression(score_threshold, iou_threshold, max_boxes) if suppress else None,
    )
    checks.check_options(output, kind, options)
    if kind in _LIBRARIES:
        _LIBRARIES[kind]()
    network_argument, network = network, stock.as_network(network, classes=classes, dialect=dialect)
    if size is not None:
        network = network.resized(size)
    if any_size:
        check_any_size(network, kind)
    named = (weights, network_argument, class_names, *options.int8)
    inputs = [path for path in named if isinstance(path, str | os.PathLike)]
    inputs += network.tree_files
    target = checks.checked_target(output, kind, overwrite=overwrite, inputs=inputs)
    if options.class_names:
        names_for(options.class_names, network.classes, network.source)
    opened = WeightsFile.open(weights, progress, network=network, timeout=timeout)
    with opened as file:
        # Checked before seconds go into importing TensorFlow and building a model.
        checks.check_holds_all_layers(file, network, kind)
        output_target.check_space(target, _output_bytes(network, options), output)
        if options.decode:
            check_heads(network)
        progress("building", 0, 1)
        if kind == ".onnx":
            described = onnx.describe(network, options)
            loaded, size_bytes = onnx.write(
                described, file, output, options, progress, overwrite=overwrite, inputs=inputs
            )
        else:
            conversion = _loaded(network, file, options, progress)
    read_by = ""
    notes: tuple[str, ...] = ()
    if kind != ".onnx":
        loaded = conversion.loaded
        size_bytes = _write(conversion, kind, output, overwrite=overwrite, inputs=inputs)
        if kind in checks.WHOLE_MODELS:
            read_by, notes = _readers_and_notes(conversion.model, options)
    progress("writing", 1, 1)
    seconds = time.perf_counter() - started
    return Conversion(loaded, os.fspath(output), kind, size_bytes, seconds, read_by, notes)


def _output_bytes(network: Network, options: Options) -> int:
    """Returns an upper bound for the size of the output."""
    weights = file_layout.FLOAT_BYTES * file_layout.floats(network)
    largest = weights + _LAYER_BYTES * len(network.layers)
    return largest // (4 if options.int8 else 2 if options.float16 else 1)


def _loaded(
    network: Network, file: WeightsFile, options: Options, progress: Progress
) -> ConversionInput:
    """Builds the Keras model and loads the file into it.

    Raises:
        WeightsMismatch: the file does not match the network; has a `diagnosis`.
    """
    model = build(network, options)
    progress("building", 1, 1)
    try:
        loaded = load.load_darknet_weights(model, file, network=network, progress=progress)
    except errors.WeightsMismatch as error:
        raise with_diagnosis(error, file, network) from None  # names what `convert` takes
    arrays = None
    if options.layout == "torch":
        arrays = safetensors.torch_arrays(network, file.with_header(loaded.header))
    return ConversionInput(model, network, loaded, options, progress, arrays)


def _write(
    conversion: ConversionInput,
    kind: str,
    output: StrPath,
    *,
    overwrite: bool,
    inputs: Sequence[StrPath],
) -> int:
    """Writes the output, and returns its size in bytes.

    Args:
        conversion: the model.
        kind: the format.
        output: see `convert`.
        overwrite: see `convert`.
        inputs: files that must not be replaced.

    Raises:
        OSError: the output cannot be written.
    """
    replacing: AbstractContextManager[Path]
    if kind == SAVED_MODEL:
        replacing = saved_model_folder.replacing(output, overwrite=overwrite)
    else:
        size_bytes = _output_bytes(conversion.network, conversion.options)
        replacing = atomic.replacing_path(
            output,
            overwrite=overwrite,
            inputs=inputs,
            size_bytes=size_bytes if kind in checks.HDF5 else None,
        )
    if not conversion.options.int8:  # which calibrates first
        conversion.progress("writing", 0, 1)
    try:
        with replacing as new_output:
            _WRITERS[kind](conversion, new_output)
            return sum(file.stat().st_size for file in _files(new_output))
    except Exception as error:
        system_error = tf_errors.system_error(error, output)
        if system_error is None:
            raise
        raise system_error from error


def _readers_and_notes(model: Any, options: Options) -> tuple[str, tuple[str, ...]]:
    """Returns the versions that can read a Keras model file, and notes on what else they need."""
    has_own_layers = bool(keras_config.own_layers(model))
    notes = ("import yolotf.keras_layers before keras.models.load_model",) if has_own_layers else ()
    return keras_config.readers(old_keras=options.old_keras), notes


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


_WRITERS: dict[str, Callable[[ConversionInput, Path], None]] = {
    ".keras": keras.write,
    ".weights.h5": hdf5.write_weights,
    ".h5": hdf5.write,
    ".tflite": tflite.write,
    ".safetensors": safetensors.write,
    SAVED_MODEL: saved_model.write,
}
_LIBRARIES = {".safetensors": safetensors.library, ".onnx": onnx.library}
