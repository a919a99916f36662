"""The command `yolotf convert`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from yolotf import errors
from yolotf.darknet import cfg
from yolotf.darknet import stock as networks
from yolotf.formats.convert import convert, format_of, write_anchors
from yolotf.formats.quiet import held_back_stderr
from yolotf.formats.source import check_any_size

if TYPE_CHECKING:
    from yolotf.formats.convert import Progress


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
            check_any_size(network)
            any_size = True
        except errors.UnsupportedSectionError as error:
            _note(f"the model takes pictures of {_size(network)} only: {error.message}")
    if parsed.plot_model:
        _note("-p does nothing: plot the model with keras.utils.plot_model")
    if parsed.weights_only and kind == ".h5":
        _note("-w: .h5 holds the model too, load_weights reads it; .weights.h5 has weights alone")
    elif parsed.weights_only and kind not in (".weights.h5", ".safetensors"):
        raise errors.YolotfError(f"{output}: -w writes .weights.h5, .safetensors or .h5")
    with held_back_stderr() as stream, _shown(stream) as progress:
        done = convert(
            weights,
            network,
            output,
            any_size=any_size,
            reverse_outputs=parsed.yolo4_reorder,
            batch=parsed.batch,
            decode=parsed.decode,
            float16=parsed.fp16,
            int8=parsed.int8 or (),
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
def _shown(stream: TextIO) -> Iterator[Progress]:
    """Stages as a bar on stderr, or as lines where it is no terminal."""
    from rich import progress as bars
    from rich.console import Console

    console = Console(file=stream)
    if not console.is_terminal:
        yield lambda stage: print(f"{stage} ...", file=stream, flush=True)
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
