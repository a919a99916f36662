"""`.onnx`: written from the network's description, without Keras and TensorFlow."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from yolotf.darknet.cfg import Network
from yolotf.errors import WeightsMismatch, YolotfError, optional_package
from yolotf.files import atomic
from yolotf.files.paths import StrPath
from yolotf.formats.request import Options
from yolotf.inference.diagnosed_errors import with_diagnosis
from yolotf.loading.load import LoadReport, file_warnings
from yolotf.onnx import file, model
from yolotf.progress import Progress
from yolotf.weights import layout, op_library
from yolotf.weights.arrays import check_content, check_size
from yolotf.weights.file import WeightsFile

EXTRA = "onnx"
"""The extra in `pip install yolotf[...]` that installs the library."""
OPSET = model.OPSET


def library() -> Any:
    """Imports and returns the optional library.

    Raises:
        MissingPackageError: it is not installed.
    """
    with optional_package("onnx", ".onnx needs the package onnx", f"yolotf[{EXTRA}]"):
        import onnx  # optional
    return onnx


def describe(network: Network, options: Options) -> model.Model:
    """Returns the model without its weights, checked.

    Raises:
        UnsupportedSectionError: a section is not supported.
    """
    described = model.describe(
        network,
        model.Options(
            batch=options.batch_size,
            any_size=options.any_size,
            layout="NHWC" if options.layout == "NHWC" else "NCHW",
            reverse_outputs=options.reverse_outputs,
            decode=options.decode,
            suppression=options.suppression,
        ),
    )
    onnx = library()
    onnx.checker.check_model(onnx.load_from_string(described.skeleton()), full_check=True)
    return described


def write(
    described: model.Model,
    weights: WeightsFile,
    target: StrPath,
    options: Options,
    progress: Progress,
    *,
    overwrite: bool,
    inputs: Sequence[StrPath],
) -> tuple[LoadReport, int]:
    """Writes the model with the weights of a `.weights` file.

    Args:
        described: the result of `describe`.
        weights: the file.
        target: output path.
        options: see `convert`.
        progress: see `convert`.
        overwrite: see `convert`.
        inputs: files that must not be replaced.

    Returns:
        The report of reading the file, and the number of bytes written.

    Raises:
        WeightsMismatch: the file does not match the network; has a `diagnosis`.
        OSError: a file cannot be read or written.
    """
    started = time.perf_counter()
    network = described.network
    threads = op_library.thread_count()
    progress("building", 1, 1)
    progress("loading", 0, weights.size_bytes)
    try:
        parsed = weights.parsed(layout.floats(network))
        plan = described.graph.plan(transposed=parsed.header.transposed)
        check_size(parsed, plan)
        check_content(parsed, plan, threads=threads)
        progress("loading", weights.size_bytes, weights.size_bytes)
        progress("writing", 0, 1)
        metadata = {"cfg": network.to_cfg(), "names": "\n".join(options.class_names)}
        metadata = {key: value for key, value in metadata.items() if value}
        with _files(target, network, overwrite, inputs) as (model_file, data, data_name):
            pieces = file.write(
                described,
                parsed,
                model_file,
                metadata,
                threads=threads,
                data=data,
                data_name=data_name,
            )
            written = model_file.tell() + (data.tell() if data else 0)
    except WeightsMismatch as error:
        raise with_diagnosis(error, weights, network) from None
    layers = sorted({assignment.segment.layer for assignment in plan.assignments})
    report = LoadReport(
        path=weights.name,
        header=parsed.header,
        layers=len(layers),
        variables=len(described.weights),
        floats=layout.floats(network),
        size_bytes=weights.size_bytes,
        seconds=time.perf_counter() - started,
        native_seconds=pieces.nanoseconds / 1e9,
        path_taken="portable",
        mapped=pieces.mapped,
        threads=threads,
        loaded=tuple(network.layers[index].name for index in layers),
        warnings=tuple(file_warnings(parsed, network)),
    )
    return report, written


@contextlib.contextmanager
def _files(
    target: StrPath, network: Network, overwrite: bool, inputs: Sequence[StrPath]
) -> Iterator[tuple[BinaryIO, BinaryIO | None, str]]:
    """Opens the output, and a second file for the weights if they do not fit into one."""
    with atomic.replacing_file(target, overwrite=overwrite, inputs=inputs) as model_file:
        if not file.is_too_large(layout.floats(network)):
            yield model_file, None, ""
            return
        weights_path = data_path(target)
        with atomic.replacing_file(weights_path, overwrite=overwrite, inputs=inputs) as data:
            yield model_file, data, weights_path.name


def data_path(target: StrPath) -> Path:
    """Returns the path for weights too large for the model file.

    Raises:
        YolotfError: a file exists there that does not belong to an older model of that name.
    """
    path = Path(f"{os.path.realpath(target)}.data")
    if path.exists() and not _belongs(path, Path(target)):
        raise YolotfError(
            f"{path}: the file exists and does not belong to an older {Path(target).name}, but the "
            "weights would replace it, as they do not fit into the model file; move it, or choose "
            "another output",
            path=str(path),
        )
    return path


def _belongs(data: Path, model_path: Path) -> bool:
    """Returns whether an existing model file names `data` as the file of its weights."""
    with contextlib.suppress(OSError):
        return data.name.encode() in model_path.read_bytes()
    return False
