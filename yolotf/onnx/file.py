"""Writes ONNX files, with the weights streamed from a `.weights` file.

Weights are read and written a few arrays at a time (`Pieces`), so that memory is needed only for
the largest layer and the model without weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy.typing as npt

from yolotf.onnx import proto
from yolotf.onnx.folding import constant_weights, folded
from yolotf.onnx.model import LARGEST_MESSAGE, Model, Weight
from yolotf.weights import layout
from yolotf.weights.arrays import Pieces
from yolotf.weights.file import ParsedFile

Array = npt.NDArray[Any]


def write(
    model: Model,
    file: ParsedFile,
    output: BinaryIO,
    metadata: Mapping[str, str],
    *,
    threads: int,
    data: BinaryIO | None = None,
    data_name: str = "",
) -> Pieces:
    """Writes a model with the weights of a file; needs the onnx package.

    Args:
        model: the model.
        file: the `.weights` file, whose size and content have been checked.
        output: where to write the model.
        metadata: entries of the model's metadata.
        threads: number of threads that read the file.
        data: where to write the weights, if not into the model (see `is_too_large`).
        data_name: name of that file, which has to be in the model's folder.

    Returns:
        How the file was read.

    Raises:
        WeightsMismatch: another process changed the file.
        OSError: a file cannot be read or written.
    """
    plan = model.graph.plan(transposed=file.header.transposed)
    pieces = Pieces(file, plan, threads=threads)
    assignments = {assignment.slot.variable: assignment for assignment in plan.assignments}

    def arrays_of(weights: Sequence[Weight]) -> Iterator[Array]:
        return pieces.of([assignments[weight.key] for weight in weights])

    foldable = constant_weights(model)
    # Copies: an array of `arrays_of` is valid only until the next.
    arrays = [array.copy() for array in arrays_of(foldable)]
    names = [weight.name for weight in foldable]
    model = folded(model, dict(zip(names, arrays, strict=True)))
    if data is None:
        fields = [
            (proto.float_tensor_start(weight.name, weight.shape), weight.size_bytes)
            for weight in model.weights
        ]
    else:
        fields = list(_external(model.weights, data_name))
    body = model.body()
    starts = [proto.start(5, len(start) + size_bytes) + start for start, size_bytes in fields]
    size = len(body) + sum(map(len, starts)) + sum(size_bytes for _, size_bytes in fields)
    output.write(model.head(metadata) + proto.start(7, size) + body)
    for start, array in zip(starts, arrays_of(model.weights), strict=True):
        output.write(start)
        (output if data is None else data).write(array.data)
    return pieces


def _external(weights: Sequence[Weight], file: str) -> Iterator[tuple[bytes, int]]:
    offset = 0
    for weight in weights:
        yield proto.external_float_tensor(weight.name, weight.shape, file, offset), 0
        offset += weight.size_bytes


def is_too_large(network_floats: int) -> bool:
    """Returns whether a model with so many floats exceeds the largest protobuf message."""
    return layout.FLOAT_BYTES * network_floats + _DESCRIPTION_BYTES > LARGEST_MESSAGE


_DESCRIPTION_BYTES = 16 << 20
"""Upper bound for the size of a model without its weights."""
