"""`.onnx`, by tf2onnx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolotf import errors
from yolotf.errors import MissingPackageError
from yolotf.formats.source import Source
from yolotf.formats.traced import traced

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
    import tensorflow as tf  # not before a format is asked for

    _, function = traced(source, batch=source.options.batch)
    specification = function.input_signature
    try:
        model, _ = library().convert.from_function(
            function, input_signature=specification, opset=OPSET
        )
    except (ValueError, NotImplementedError, tf.errors.OpError) as error:
        raise errors.UnsupportedSectionError(
            f"{source.network.source}: tf2onnx cannot express the network: {error}; write a "
            "SavedModel or .keras",
            source=source.network.source,
        ) from error
    path.write_bytes(model.SerializeToString())
