"""`yolotf convert`: a Darknet `.weights` file into the formats of the TensorFlow world.

The network is built in Keras, the file is loaded by `load_darknet_weights` with all its checks,
and the format's own library writes: Keras, `tf.saved_model`, the TensorFlow Lite converter,
safetensors. Raw heads come out of every model, in cfg order, as out of `build_model`.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolotf import errors
from yolotf.darknet import cfg
from yolotf.darknet import rules as graph_rules
from yolotf.darknet import stock as networks
from yolotf.loading import load
from yolotf.weights import layout
from yolotf.weights.header import read_header

if TYPE_CHECKING:
    from yolotf.loading.load import LoadReport

Progress = Callable[[str], None]
_Path = str | os.PathLike[str]

SAVED_MODEL = "SavedModel"
_LAYER_BYTES = 16 * 1024
"""What a format may need for the description of one layer; .h5 takes some 6 kB."""
EXTRA = "safetensors"
"""What `pip install yolotf[...]` calls the one optional dependency."""


@dataclass(frozen=True)
class Conversion:
    """What `convert` wrote; printing it gives one line.

    Attributes:
        loaded: the report of loading the `.weights` file.
        output: the file or folder written.
        format: its ending, or `SavedModel`.
        size_bytes: of the file, or of all files in the folder.
        seconds: the whole call.
    """

    loaded: LoadReport
    output: str
    format: str
    size_bytes: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.loaded.path} -> {self.output}: {self.loaded.layers} layers, "
            f"{self.loaded.floats:,} floats, {self.size_bytes:,} bytes, {self.seconds:.1f} s"
        )


def convert(
    weights: _Path,
    cfg: cfg.Network | cfg.Source,
    output: _Path,
    *,
    classes: int | None = None,
    size: int | tuple[int, int] | None = None,
    any_size: bool = False,
    reverse_outputs: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Writes a `.weights` file and its network in another format.

    The output appears in one step when it is complete: until then, and if anything fails, what
    was there before stays.

    Args:
        weights: the `.weights` file.
        cfg: a `Network`, a stock name, or a cfg's path or text.
        output: its ending decides.

            * `.keras`, `.h5`: the Keras model. Before loading it again, `import
              yolotf.keras_layers`, which registers the layers Keras lacks.
            * `.weights.h5`: the variables, for `build_model(...).load_weights`.
            * no ending, or `/` at the end: a SavedModel folder of standard operations;
              signature `serving_default`, from `images` to `output_0`, `output_1`, ...
            * `.tflite`: the same signature for one picture at a time. The signature has the
              outputs in cfg order, the interpreter's `get_output_details()` need not. It has
              operations for everything but `[local]` and a `[maxpool]` whose padding is neither
              that of `same` nor none.
            * `.safetensors`: the variables under their Keras names, `conv_17/kernel` (HWIO),
              `conv_17_bn/moving_mean`; the cfg is in the metadata.
        classes: for another number of classes than the cfg says.
        size: of the picture in place of the cfg's, one number or `(height, width)`.
        any_size: the model takes pictures of any height and width that the network's stride
            divides; not for `.tflite`.
        reverse_outputs: the heads in the opposite order.
        progress: called with what is done next: `building`, `loading`, `writing`.

    Returns:
        What was written.

    Raises:
        WeightsMismatch: file and network do not belong together.
        UnsupportedSectionError: the network has a section that Keras, the format or `any_size`
            cannot express.
        YolotfError: the ending is unknown, or `output` is a folder of something else.
        OSError: a file cannot be read or written.
        ImportError: `.safetensors` without safetensors installed.
    """
    started = time.perf_counter()
    kind = format_of(output)
    target = _target(output, kind)
    if kind == ".safetensors":
        _safetensors()
    network = networks.find(cfg, classes=classes)
    if size is not None:
        network = network.resized(size)
    # Before TensorFlow is imported and a model built for seconds.
    floats = layout.floats(network)
    read_header(weights, floats)
    room = layout.FLOAT_BYTES * floats + _LAYER_BYTES * len(network.layers)
    _check_room(target, room, output)
    if any_size:
        if kind == ".tflite":
            raise errors.YolotfError(
                f"{output}: the TensorFlow Lite converter takes one picture size only; leave "
                "any_size out"
            )
        _check_any_size(network)
    tell = progress or (lambda stage: None)

    tell("building")
    model = _build(network, any_size=any_size, reverse_outputs=reverse_outputs)
    tell("loading")
    loaded = load.load_darknet_weights(model, weights, cfg=network)
    tell("writing")
    try:
        with _replacing(target) as ready:
            _WRITERS[kind](_Source(model, network, loaded), ready)
            size_bytes = sum(one.stat().st_size for one in _files(ready))
    except Exception as error:
        failed = _write_error(error, output)
        if failed is None:
            raise
        raise failed from error
    return Conversion(loaded, os.fspath(output), kind, size_bytes, time.perf_counter() - started)


def format_of(output: _Path) -> str:
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
        f"{text}: {Path(text).suffix} is no format that can be written; use one of the endings "
        f"{', '.join(_ENDINGS)}, or none (or / at the end) for a SavedModel folder",
        output=text,
        endings=_ENDINGS,
    )


def write_anchors(network: cfg.Network, path: _Path) -> bool:
    """Writes the anchors of the last head as one line in pixels, as old converters did.

    `[yolo]` has them in pixels; those of `[region]`, in grid cells, are multiplied by the
    network's stride. Returns whether there was a head that has anchors.
    """
    head = network.heads[-1] if network.heads else None
    option = head.section.option("anchors") if head else None
    if head is None or option is None:
        return False
    text = option.value
    if isinstance(head, cfg.Region):
        stride = network.input_shape.height // head.input_shape.height
        text = ", ".join(str(float(value) * stride) for value in text.split(","))
    Path(path).write_text(text + "\n", encoding="utf-8")
    return True


def run(parsed: argparse.Namespace) -> int:
    """The command `yolotf convert`; returns its exit code.

    Besides `FILE --cfg CFG -o OUTPUT` it takes the arguments of YAD2K, keras-yolo3 and
    keras-YOLOv3-model-set, `CFG WEIGHTS OUTPUT`, and then does as they do: a model for pictures of
    any size where the network allows it, and a file with the anchors beside it.
    """
    old_style = len(parsed.files) == 3
    source, weights, output = _arguments(parsed)
    kind = format_of(output)
    network = networks.find(source, classes=parsed.classes)
    if parsed.size is not None:
        network = network.resized(parsed.size)
    for warning in network.warnings:
        _note(warning)
    any_size = parsed.any_size
    if old_style and kind != ".tflite" and not (any_size or parsed.fixed_input_shape):
        try:
            _check_any_size(network)
            any_size = True
        except errors.UnsupportedSectionError as error:
            _note(f"the model takes pictures of {_size(network)} only: {error.message}")
    if parsed.plot_model:
        _note("-p does nothing: plot the model with keras.utils.plot_model")
    if parsed.weights_only and kind == ".h5":
        _note("-w: .h5 holds the model too, load_weights reads it; .weights.h5 has weights alone")
    elif parsed.weights_only and kind not in (".weights.h5", ".safetensors"):
        raise errors.YolotfError(f"{output}: -w writes .weights.h5, .safetensors or .h5")
    with _shown() as progress:
        done = convert(
            weights,
            network,
            output,
            any_size=any_size,
            reverse_outputs=parsed.yolo4_reorder,
            progress=progress,
        )
    for warning in done.loaded.warnings:
        _note(warning)
    if kind in (".keras", ".h5"):
        _note("import yolotf.keras_layers before keras.models.load_model")
    print(done)
    if old_style:
        anchors = f"{output.removesuffix(kind).rstrip('/')}_anchors.txt"
        if write_anchors(network, anchors):
            print(f"anchors -> {anchors}")
    return 0


def _arguments(parsed: argparse.Namespace) -> tuple[str, str, str]:
    """Cfg, weights and output of either form."""
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


def _size(network: cfg.Network) -> str:
    return f"{network.input_shape.width}x{network.input_shape.height}"


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


@contextlib.contextmanager
def _shown() -> Iterator[Progress]:
    """Stages as a bar on stderr, or as lines where it is no terminal."""
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda stage: print(f"{stage} ...", file=sys.stderr)
        return
    columns = (
        bars.SpinnerColumn(),
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.TimeElapsedColumn(),
    )
    with bars.Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("reading", total=4)
        yield lambda stage: bar.update(task, advance=1, description=stage)


@dataclass(frozen=True)
class _Source:
    """What a writer is given."""

    model: Any
    network: cfg.Network
    loaded: LoadReport


def _build(network: cfg.Network, *, any_size: bool, reverse_outputs: bool) -> Any:
    from yolotf.models.build import build_model
    from yolotf.models.which_keras import keras

    model = build_model(network)
    if any_size:
        picture = keras().layers.Input(
            (None, None, network.input_shape.channels), name=model.input.name.split(":")[0]
        )
        model = keras().models.clone_model(model, input_tensors=picture)
    if reverse_outputs:
        model = keras().Model(model.input, list(model.outputs)[::-1], name=model.name)
    return model


def _check_any_size(network: cfg.Network) -> None:
    """Raises for a network whose Keras layers depend on the picture's size."""
    for index in sorted(graph_rules.used_layers(network)):
        layer = network.layers[index]
        match layer:
            case cfg.Connected() | cfg.Local() | cfg.Crop() | cfg.Softmax():
                fixed = True
            case cfg.Reorg():
                fixed = layer.type == "reorg" or layer.reverse
            case cfg.Shortcut():
                shapes = {graph_rules.shape_of(network, one) for one in layer.inputs}
                fixed = layer.weights_type != "none" or len(shapes) > 1
            case cfg.Pool():
                fixed = layer.maxpool_depth
            case _:
                fixed = False
        if fixed:
            raise graph_rules.refuse(
                network, layer, f"[{layer.type}] is made for one picture size; leave any_size out"
            )
    ends = [network.layers[index].output_shape for index in graph_rules.output_layers(network)]
    height, width, _ = network.input_shape
    for end in ends:
        # Where a stride does not divide a size, padding differs from size to size.
        if isinstance(end, cfg.Shape) and (height % end.height or width % end.width):
            raise errors.UnsupportedSectionError(
                f"{network.source}: the stride of the network does not divide its {width}x{height} "
                "pixels, so its padding fits no other size; set another size, or leave any_size "
                "out",
                source=network.source,
            )


# Where it is written to.


def _target(output: _Path, kind: str) -> Path:
    """The real path to replace.

    Raises:
        OSError: there is no folder to write it in, or a folder where a file should go.
        YolotfError: a folder that is no SavedModel is in the way.
    """
    target = Path(os.path.realpath(output))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such folder; make it first")
    if kind != SAVED_MODEL:
        if target.is_dir():
            raise IsADirectoryError(f"{output}: is a folder, {kind} is a file")
    elif target.is_dir():
        if any(target.iterdir()) and not (target / "saved_model.pb").is_file():
            raise errors.YolotfError(
                f"{output}: the folder is not empty and no SavedModel, so it is not replaced; "
                "name another one"
            )
    elif target.exists():
        raise FileExistsError(f"{output}: is a file; a SavedModel is a folder")
    return target


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A path to write to, in the same file system, that becomes `target` if nothing is raised."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        ready = Path(scratch) / target.name
        yield ready
        for path in _files(ready):
            _sync(path)
        if not target.is_dir():
            ready.replace(target)
            return
        # Folders are not replaced in one step: the old one steps aside, and back on failure.
        old = Path(scratch) / "old"
        target.rename(old)
        try:
            ready.rename(target)
        except OSError:
            old.rename(target)
            raise


def _check_room(target: Path, size_bytes: int, output: _Path) -> None:
    """Raises if so many bytes cannot be written beside `target`.

    HDF5 crashes the process, no less, when the disk is full half way.
    """
    with tempfile.TemporaryFile(dir=target.parent) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        except OSError as error:
            # A file system that cannot reserve room has said nothing about it.
            if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                reason = os.strerror(error.errno)
                raise OSError(error.errno, reason, os.fspath(output)) from None


def _files(path: Path) -> list[Path]:
    return [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]


def _write_error(error: Exception, output: _Path) -> OSError | None:
    """The system's error behind `error`; None if there is none.

    HDF5 and TensorFlow have it in the text of errors of their own.
    """
    import tensorflow as tf

    number = error.errno if isinstance(error, OSError) else None
    if number is None and isinstance(error, OSError | RuntimeError | tf.errors.OpError):
        text = str(error)
        number = next((one for one in sorted(errno.errorcode) if os.strerror(one) in text), None)
    return None if number is None else OSError(number, os.strerror(number), os.fspath(output))


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


# The writers.


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Keras' advice against .h5: it was asked for."""
    from absl import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file")
            yield
    finally:
        logging.set_verbosity(level)


def _write_keras(source: _Source, path: Path) -> None:
    with _quiet():
        source.model.save(os.fspath(path))


def _write_weights_h5(source: _Source, path: Path) -> None:
    source.model.save_weights(os.fspath(path))


def _write_saved_model(source: _Source, path: Path) -> None:
    import tensorflow as tf

    module, function = _traced(source.model, batch=None)
    tf.saved_model.save(module, os.fspath(path), signatures=function)


def _write_tflite(source: _Source, path: Path) -> None:
    import tensorflow as tf

    _check_tflite(source)
    module, function = _traced(source.model, batch=1)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], module
    )
    try:
        content = converter.convert()
    except Exception as error:
        missing = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", str(error))))
        if not missing:
            raise
        raise errors.UnsupportedSectionError(
            f"{source.network.source}: TensorFlow Lite lacks {', '.join(missing)}, which the "
            "network needs; write a SavedModel or .keras",
            source=source.network.source,
            operations=missing,
        ) from error
    path.write_bytes(content)


def _check_tflite(source: _Source) -> None:
    """Names the sections that TensorFlow Lite has no operations for."""
    from yolotf.models import keras_layers
    from yolotf.models.build import layer_name

    for layer in source.model.layers:
        if isinstance(layer, keras_layers.LocallyConnected2D):
            what = "[local]"
        elif isinstance(layer, keras_layers.PaddedPooling2D) and layer.mode == "max":
            what = f"[maxpool] with a padding of {layer.padding}"
        else:
            continue
        network = source.network
        section = next(one for one in network.layers if layer_name(one) == layer.name)
        raise graph_rules.refuse(
            network, section, f"TensorFlow Lite has no {what}; write a SavedModel or .keras"
        )


def _traced(model: Any, *, batch: int | None) -> tuple[Any, Any]:
    """A module with the model's variables, and its function from `images` to `output_<n>`."""
    import tensorflow as tf

    from yolotf.models.variables import plain

    module = tf.Module()
    module.stored = [plain(variable) for variable in model.variables]

    def heads(images: Any) -> dict[str, Any]:
        raws = model(images, training=False)
        raws = raws if isinstance(raws, list | tuple) else [raws]
        return {f"output_{number}": raw for number, raw in enumerate(raws)}

    shape = [batch, *model.inputs[0].shape[1:]]
    module.heads = tf.function(
        heads, input_signature=[tf.TensorSpec(shape, tf.float32, "images")], autograph=False
    )
    return module, module.heads


def _write_safetensors(source: _Source, path: Path) -> None:
    from yolotf.models import walk

    arrays = {}
    for layer in walk.layers(source.model):
        for variable in layer.weights:
            # Keras 3: conv_17/kernel has the name kernel; tf_keras: conv_17/kernel:0.
            name = variable.name.split("/")[-1].removesuffix(":0")
            arrays[f"{layer.name}/{name}"] = variable.numpy()
    header = source.loaded.header
    metadata = {
        "format": "tf",
        "cfg": source.network.to_cfg(),
        "darknet_version": f"{header.major}.{header.minor}.{header.revision}",
        "seen": str(header.seen),
    }
    # Its save_file makes files that only their owner can read.
    path.write_bytes(_safetensors().save(arrays, metadata))


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            f'.safetensors needs the package safetensors; pip install "yolotf[{EXTRA}]"'
        ) from error
    return safetensors.numpy


_WRITERS: dict[str, Callable[[_Source, Path], None]] = {
    ".keras": _write_keras,
    ".weights.h5": _write_weights_h5,
    ".h5": _write_keras,
    ".tflite": _write_tflite,
    ".safetensors": _write_safetensors,
    SAVED_MODEL: _write_saved_model,
}
# `.weights.h5` before `.h5`.
_ENDINGS = tuple(ending for ending in _WRITERS if ending != SAVED_MODEL)
