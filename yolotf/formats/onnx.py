"""`.onnx`, by tf2onnx."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from yolotf import errors
from yolotf.errors import MissingPackageError
from yolotf.formats.concrete_function import traced
from yolotf.formats.request import Source

EXTRA = "onnx"
"""What `pip install yolotf[...]` calls the optional dependency."""
OPSET = 17
"""Of ONNX: what onnxruntime has read since 1.12 (2022)."""


def library() -> Any:
    """The optional dependency.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import tf2onnx  # optional
    except ImportError as error:
        raise MissingPackageError(
            f'.onnx needs the package tf2onnx; pip install "yolotf[{EXTRA}]"'
        ) from error
    return tf2onnx


def write(source: Source, path: Path) -> None:
    """Writes one graph, pictures in as `images` [batch, height, width, channels] as everywhere.

    Raises:
        UnsupportedSectionError: ONNX has no operation for a section.
    """
    import onnx  # comes with tf2onnx

    _, function = traced(source, batch=source.options.batch)
    with _quiet():
        model, _ = library().convert.from_function(
            function,
            input_signature=function.input_signature,
            opset=OPSET,
            custom_op_handlers={"Expm1": (_expm1, []), "Log1p": (_log1p, [])},
        )
    # What tf2onnx does not know it copies into the model, which then nothing reads.
    graphs = [model.graph, *model.functions]
    missing = sorted(
        {
            node.op_type
            for graph in graphs
            for node in graph.node
            if not onnx.defs.has(node.op_type, node.domain)
        }
    )
    if missing:
        raise errors.UnsupportedSectionError(
            f"{source.network.source}: tf2onnx lacks {', '.join(missing)}, which the network "
            "needs; write a SavedModel or .keras",
            source=source.network.source,
            operations=missing,
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        another = "fix the batch (batch=1), or " if source.options.batch is None else ""
        raise errors.UnsupportedSectionError(
            f"{source.network.source}: tf2onnx makes no valid model of it "
            f"({str(error).strip().splitlines()[0]}); {another}write a SavedModel or .keras",
            source=source.network.source,
        ) from error
    path.write_bytes(model.SerializeToString())


def _expm1(graph: Any, node: Any, name: str, arguments: Any) -> Any:
    """exp(x) - 1, of selu, for which ONNX has no operation of its own."""
    node.type = "Sub"
    power = graph.insert_new_node_on_input(node, "Exp", node.input[0])
    one = graph.make_const(f"{name}_one", np.float32(1))
    node.input[0], node.input[1:] = power.output[0], [one.output[0]]
    return node


def _log1p(graph: Any, node: Any, name: str, arguments: Any) -> Any:
    """log(x + 1), of tf_keras' softplus, likewise."""
    node.type = "Log"
    one = graph.make_const(f"{name}_one", np.float32(1))
    more = graph.insert_new_node_on_input(node, "Add", node.input[0])
    more.input.append(one.output[0])
    return node


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without tf2onnx's log, which repeats as errors what is raised below."""
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
