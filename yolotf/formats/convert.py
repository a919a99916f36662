"""`convert`: a Darknet `.weights` file into the formats of the TensorFlow world, and ONNX.

The network is built in Keras, the file is loaded by `load_darknet_weights` with all its checks,
and the format's own library writes; each format has a file of its own beside this one. ONNX needs
neither Keras nor TensorFlow: it is written from the network's description. Raw heads come out of
every model, in cfg order, as out of `build_model`, or, with `decode`, boxes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from yolotf import errors
from yolotf._public import also_named, public, renamed
from yolotf.darknet import graph_checks
from yolotf.darknet import stock as networks
from yolotf.darknet.cfg import Network, Region
from yolotf.darknet.cfg import Source as CfgSource
from yolotf.darknet.class_names import Names, names_for, read_names
from yolotf.darknet.decoding import check_heads
from yolotf.darknet.detection_options import DetectionOptions
from yolotf.diagnosis import result as diagnosis
from yolotf.files import atomic as writing
from yolotf.files import sources
from yolotf.files.fetching import TIMEOUT
from yolotf.files.sources import StrPath
from yolotf.formats import (
    calibration,
    hdf5,
    keras,
    keras_config,
    onnx,
    request,
    safetensors,
    saved_model,
    tflite,
)
from yolotf.formats.request import Layout, Options, Source, build
from yolotf.graphs import saved_model as saved_model_folder
from yolotf.graphs import tf_errors
from yolotf.images.limits import MAX_PIXELS
from yolotf.loading import load
from yolotf.onnx.model import Suppression
from yolotf.text import plural
from yolotf.weights import layout as segments
from yolotf.weights.file import WeightsFile, WeightsSource

if TYPE_CHECKING:
    from yolotf.loading.load import LoadReport

Progress = Callable[[str], None]

SAVED_MODEL = "SavedModel"
_LAYER_BYTES = 16 * 1024
"""What a format may need for the description of one layer; .h5 takes some 6 kB."""


@public
@dataclass(frozen=True)
class Conversion:
    """What `convert` wrote; printing it gives one line.

    Attributes:
        loaded: the report of loading the `.weights` file.
        output: the file or folder written.
        format: its ending, or `SavedModel`.
        size_bytes: of the file, or of all files in the folder.
        seconds: the whole call.
        read_by: what reads it, where not every version does.
        notes: what whoever reads it has to know.
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
def convert(
    weights: WeightsSource,
    network: Network | CfgSource,
    output: StrPath,
    *,
    classes: int | None = None,
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
    """Writes a `.weights` file and its network in another format.

    The output appears in one step when it is complete: until then, and if anything fails, what
    was there before stays; `yolotf.files.atomic` says what of it the new one keeps. In a folder
    that holds other files than those of a SavedModel they stay.

    Args:
        weights: the `.weights` file, as `load_darknet_weights` takes it.
        network: a `Network`, a stock name, or a cfg's path or text.
        output: its ending decides.

            * `.keras`, `.h5`: the Keras model, for Keras 3.4 or later (or tf_keras, where that
              writes it). Where `Conversion.notes` say so, `import yolotf.keras_layers` before
              loading it: it registers the layers Keras lacks.
            * `.weights.h5`: the variables, for `build_model(...).load_weights`.
            * no ending, or `/` at the end: a SavedModel folder of standard operations;
              signature `serving_default`, from `images` to `output_0`, `output_1`, ...
            * `.tflite`: the same signature, for one image until `resize_tensor_input` says
              otherwise, or for `batch_size`. Outputs are in cfg order; tensors are named after
              the sections they come from (`conv_138`). The cfg and, if there are any, class
              names are in the file, as its associated files `model.cfg` and `classes.names`: it
              is a zip archive, too. It has operations for everything but `[local]` and a
              `[maxpool]` whose padding is neither that of `same` nor none.
            * `.onnx`: pictures in as `images`, float32 RGB in 0..1, [batch, channels, height,
              width]; raw heads out, named after the sections they come from (`conv_138`), with
              their channels first as well. It holds `cfg` and, if there are any, class `names`
              (one a line) as metadata. What a network keeps from frame to frame goes in and comes
              out beside them (`crnn_3_state_in`, `crnn_3_state_out`). Numbers of more than 2 GB
              are in a file beside it, `<output>.data`.
            * `.safetensors`: the variables under their Keras names, `conv_17/kernel` (HWIO),
              `conv_17_bn/moving_mean`; the cfg is in the metadata.
        classes: for another number of classes than the cfg says.
        size: of the picture in place of the cfg's, one number or `(height, width)`.
        any_size: the model takes pictures of any height and width that the network's stride
            divides; not for `.tflite`.
        reverse_outputs: the heads in the opposite order.
        batch_size: how many images go in at once; by default any number (`.tflite`: one). For
            SavedModel, `.tflite` and `.onnx`.
        decode: the model answers `boxes` [batch, boxes, 4] (left, top, right, bottom, relative to
            the input, 0..1) and `scores` [batch, boxes, classes] in place of raw heads, all boxes
            in cfg order, before threshold and suppression; of a class tree, each box has a score
            for one class. For SavedModel, `.tflite` and `.onnx`.
        float16: `.tflite` with weights of half precision, which also GPUs take.
        int8: pictures, or folders of them, like those the network will see, some hundred:
            `.tflite` with weights and activations in int8, their ranges taken from these
            pictures. Input and outputs stay float32.
        int8_only: with `int8`: input, outputs and all operations are in int8, as microcontrollers
            need it. The input's number q stands for (q + 128) / 255, that of an output for
            scale * (q - zero_point), which the file says.
        allow_inaccurate: writes an `int8` or `float16` file even where its outputs, tried on up to
            16 of the pictures, correlate with those of the float model by less than 0.9.
        old_keras: `.keras` and `.h5` that Keras 3.1 to 3.3 (as TensorFlow 2.16 came with) reads,
            too. The model then has its one input in a list, and later versions of Keras warn when
            it is called with an array in place of a tensor.
        max_pixels: pictures of `int8` with more are refused before they are decoded.
        overwrite: False refuses to replace an older output.
        layout: `NCHW` or, for pictures and raw heads with their channels last, `NHWC`. For
            `.onnx`. `torch` is for `.safetensors`: the arrays as PyTorch's layers have them,
            `conv_17.weight` (OIHW), `bn_17.running_mean`.
        class_names: those for the metadata: as `Detector` takes them. For `.onnx`, `.tflite` and
            `.safetensors`.
        suppress: the model answers detections: `boxes` [detections, 4], `scores`, `classes` and
            `pictures` (the number in the batch), by picture, then class, the best first. They
            exclude each other by overlap alone (ONNX's NonMaxSuppression), whatever nms_kind= the
            cfg has. For `.onnx`; of a `.tflite` file, for one image, the four outputs of
            TensorFlow Lite's detection models: `locations` [1, max_boxes, 4] (top, left, bottom,
            right, relative), `classes`, `scores` and `count`, each box of its likeliest class.
        score_threshold: with `suppress`: what a score has to be above.
        iou_threshold: with `suppress`: boxes of one class that overlap more exclude each other.
        max_boxes: with `suppress`: detections of each class of a picture, the best ones.
        progress: called with what is done next: `building`, `loading`, `writing`.
        timeout: see `load_darknet_weights`.

    Returns:
        What was written.

    Raises:
        WeightsMismatch: file and network do not belong together; with a `diagnosis`.
        UnsupportedSectionError: the network has a section that Keras, the format or `any_size`
            cannot express.
        YolotfError: the ending is unknown, or an option is not for it.
        OSError: a file cannot be read or written, or `output` is one of those that are read, or
            not to be replaced.
        ImportError: the format needs a package that is not installed.
    """
    started = time.perf_counter()
    kind = format_of(output)
    options = Options(
        any_size=any_size,
        reverse_outputs=reverse_outputs,
        batch=batch_size,
        decode=decode or suppress,
        float16=float16,
        int8=calibration.pictures(int8),
        int8_only=int8_only,
        allow_inaccurate=allow_inaccurate,
        old_keras=old_keras,
        max_pixels=max_pixels,
        layout=layout,
        names=read_names(class_names),
        suppression=Suppression(score_threshold, iou_threshold, max_boxes) if suppress else None,
    )
    _check_options(output, kind, options)
    if kind in _LIBRARIES:
        _LIBRARIES[kind]()
    source, network = network, networks.as_network(network, classes=classes)
    if size is not None:
        network = network.resized(size)
    if any_size:
        check_any_size(network, kind)
    read = [
        path
        for path in (weights, source, class_names, *options.int8)
        if isinstance(path, str | os.PathLike)
    ]
    target = _target(output, kind, overwrite=overwrite, inputs=read)
    if options.names:
        names_for(options.names, network.classes, network.source)
    tell = progress or (lambda stage: None)
    opened = WeightsFile.open(weights, _percent(tell), network=network, timeout=timeout)
    with opened as file:
        # Before TensorFlow is imported and a model built for seconds.
        floats = segments.floats(network)
        _check_whole(file, network, kind)
        room = segments.FLOAT_BYTES * floats + _LAYER_BYTES * len(network.layers)
        _check_room(target, room // (4 if options.int8 else 2 if float16 else 1), output)
        if options.decode:
            check_heads(network)
        tell("building")
        if kind == ".onnx":
            described = onnx.describe(network, options)
            loaded, size_bytes = onnx.write(
                described, file, output, options, tell, overwrite=overwrite, inputs=read
            )
            seconds = time.perf_counter() - started
            return Conversion(loaded, os.fspath(output), kind, size_bytes, seconds)
        model = build(network, options)
        tell("loading")
        loaded = load.load_darknet_weights(model, file, network=network)
        arrays = None
        if layout == "torch":
            arrays = safetensors.torch_arrays(network, file, loaded.header)
    tell("writing")
    if kind == SAVED_MODEL:
        replacing = saved_model_folder.replacing(output, overwrite=overwrite)
    else:
        replacing = writing.replacing_path(
            output,
            overwrite=overwrite,
            inputs=read,
            size_bytes=room if kind in _HDF5 else None,
        )
    try:
        with replacing as ready:
            _WRITERS[kind](Source(model, network, loaded, options, tell, arrays), ready)
            size_bytes = sum(one.stat().st_size for one in _files(ready))
    except Exception as error:
        failed = tf_errors.system_error(error, output)
        if failed is None:
            raise
        raise failed from error
    return Conversion(
        loaded,
        os.fspath(output),
        kind,
        size_bytes,
        time.perf_counter() - started,
        *(_of_keras(model, options) if kind in _WHOLE_MODELS else ()),
    )


def _of_keras(model: Any, options: Options) -> tuple[str, tuple[str, ...]]:
    """Which versions read the file of a Keras model, and what else they need."""
    own = keras_config.own_layers(model)
    needed = ("import yolotf.keras_layers before keras.models.load_model",) if own else ()
    return keras_config.readers(old_keras=options.old_keras), needed


def check_any_size(network: Network, kind: str) -> None:
    """Raises for a network that a format can only write for one image size.

    Args:
        network: any.
        kind: an ending, or `SAVED_MODEL`.

    Raises:
        UnsupportedSectionError: with section and line, or the stride.
    """
    graph_checks.check_any_size(network)
    if kind != ".onnx":
        request.check_keras_any_size(network)
    request.check_stride_divides(network)


def _check_whole(file: WeightsFile, network: Network, kind: str) -> None:
    """Refuses what does not begin as a file of weights, and backbones.

    What a backbone lacks would be written as it was drawn: a detector whose boxes mean nothing.
    `.safetensors` has no layers but those it is given.
    """
    try:
        header = file.header(segments.floats(network))
    except errors.HeaderError as error:
        found = diagnosis.diagnose(file, network)
        raise errors.HeaderError(found.summary(), **error.facts, diagnosis=found) from None
    expected = segments.size_bytes(network, header.size_bytes)
    if file.size_bytes < expected and kind != ".safetensors":
        found = diagnosis.diagnose(file, network)
        raise errors.SizeMismatchError(
            found.summary(),
            path=file.name,
            expected=expected,
            found=file.size_bytes,
            diagnosis=found,
        )


def _percent(tell: Progress) -> sources.Progress:
    """Tells of a transfer at every tenth of it."""
    told = -1

    def progress(done: int, size: int) -> None:
        nonlocal told
        if size and 10 * done // size > told:
            told = 10 * done // size
            tell(f"fetching {10 * told} %")

    return progress


def _check_options(output: StrPath, kind: str, options: Options) -> None:
    """Raises for an option that the format does not have."""
    named = f"{os.fspath(output)}: "
    if options.batch is not None and options.batch < 1:
        raise errors.YolotfError(f"{named}batch={options.batch} must be at least 1")
    if options.float16 and options.int8:
        raise errors.YolotfError(f"{named}float16 and int8 exclude each other; leave one out")
    if options.layout not in get_args(Layout):
        raise errors.YolotfError(f"{named}layout={options.layout!r}; NCHW, NHWC or torch")
    if options.suppression is not None:
        _check_suppression(named, options.suppression)
        if kind == ".tflite":
            _check_lite_detections(named, options)
    if options.any_size and kind == ".tflite":
        raise errors.YolotfError(
            f"{named}the TensorFlow Lite converter takes one image size only; leave any_size out"
        )
    asked = {"batch": options.batch is not None, "decode": options.decode}
    if options.int8_only and not options.int8:
        raise errors.YolotfError(f"{named}int8_only needs int8, images to quantize by")
    lite = {"float16": options.float16, "int8": bool(options.int8)}
    torch = {"layout='torch'": options.layout == "torch"}
    own = {"layout": options.layout == "NHWC"}
    detecting = {"suppress": options.suppression is not None}
    named_classes = {"class_names": bool(options.names)}
    old = {"old_keras": options.old_keras}
    for words, kinds in (
        (asked, _GRAPHS),
        (lite, (".tflite",)),
        (old, _WHOLE_MODELS),
        (own, (".onnx",)),
        (detecting, (".onnx", ".tflite")),
        (torch, (".safetensors",)),
        (named_classes, NAMING),
    ):
        for name in (one for one, given in words.items() if given and kind not in kinds):
            listed = " or ".join(kinds)
            raise errors.YolotfError(
                f"{named}{name} is for {listed}, not for {kind}; leave it out",
                output=os.fspath(output),
                endings=kinds,
            )


def _check_lite_detections(named: str, options: Options) -> None:
    """Raises for what a `.tflite` file of detections cannot be, too."""
    if options.batch not in (None, 1):
        raise errors.YolotfError(f"{named}batch={options.batch}: suppress takes one image at once")
    if options.int8 or options.float16:
        raise errors.YolotfError(
            f"{named}{'int8' if options.int8 else 'float16'} and suppress exclude each other; "
            "quantize with decode"
        )


def _check_suppression(named: str, suppression: Suppression) -> None:
    score, iou, most = suppression
    try:
        DetectionOptions(score_threshold=score, iou_threshold=iou, max_boxes=most)
    except ValueError as error:
        raise errors.YolotfError(f"{named}{error}") from None


def format_of(output: StrPath) -> str:
    """The ending of `output` that `convert` writes, or `SAVED_MODEL`.

    Raises:
        YolotfError: no format has this ending. Facts: `output`, `endings`.
    """
    text = os.fspath(output)
    if text.endswith((os.sep, "/")) or not Path(text).suffix:
        return SAVED_MODEL
    for ending in _ENDINGS:
        if text.endswith(ending):
            return ending
    raise errors.YolotfError(
        f"{text}: {Path(text).suffix} is not a supported format; use one of the endings "
        f"{', '.join(_ENDINGS)}, or none (or / at the end) for a SavedModel folder",
        output=text,
        endings=_ENDINGS,
    )


def write_anchors(network: Network, path: StrPath, *, overwrite: bool = True) -> bool:
    """Writes the anchors of the last head as one line in pixels, as old converters did.

    `[yolo]` has them in pixels; those of `[region]`, in grid cells, are multiplied by the
    network's stride. Returns whether there was a head that has anchors.

    Args:
        network: the network.
        path: the file, written all of it or nothing.
        overwrite: False refuses to replace a file.

    Raises:
        OSError: it cannot be written, or is not to be replaced.
    """
    head = network.heads[-1] if network.heads else None
    option = head.section.option("anchors") if head else None
    if head is None or option is None:
        return False
    text = option.value
    if isinstance(head, Region):
        stride = network.input_shape.height // head.input_shape.height
        text = ", ".join(str(float(value) * stride) for value in text.split(","))
    writing.write(path, f"{text}\n".encode(), overwrite=overwrite)
    return True


def _target(output: StrPath, kind: str, *, overwrite: bool, inputs: Sequence[StrPath]) -> Path:
    """The real path to replace.

    Raises:
        OSError: there is no folder to write it in, a folder where a file should go, or something
            that is not to be replaced.
    """
    target = Path(os.path.realpath(output))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such folder; make it first")
    if kind != SAVED_MODEL and target.is_dir():
        raise IsADirectoryError(f"{output}: is a folder, {kind} is a file")
    if kind == SAVED_MODEL and target.is_file():
        raise FileExistsError(f"{output}: is a file; a SavedModel is a folder")
    if kind == SAVED_MODEL:
        return saved_model_folder.check(output, overwrite=overwrite)
    return writing.checked_target(output, overwrite=overwrite, inputs=inputs)


_check_room = writing.check_room


def _files(path: Path) -> list[Path]:
    return [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]


_WRITERS: dict[str, Callable[[Source, Path], None]] = {
    ".keras": keras.write,
    ".weights.h5": hdf5.write_weights,
    ".h5": hdf5.write,
    ".tflite": tflite.write,
    ".safetensors": safetensors.write,
    SAVED_MODEL: saved_model.write,
}
# `.weights.h5` before `.h5`.
_ENDINGS = (*(ending for ending in _WRITERS if ending != SAVED_MODEL), ".onnx")
_LIBRARIES = {".safetensors": safetensors.library, ".onnx": onnx.library}
_HDF5 = (".h5", ".weights.h5")
_WHOLE_MODELS = (".keras", ".h5")
NAMING = (".onnx", ".tflite", ".safetensors")
"""Formats that can hold the names of the classes."""
_GRAPHS = (".tflite", ".onnx", SAVED_MODEL)
"""Formats that hold a graph of operations, and so can have a batch size and decoding."""
