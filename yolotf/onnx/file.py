"""A model as a file, its numbers straight from a `.weights` file.

They are read and written a few arrays at a time (`Pieces`), so that a network of any size takes
the memory of its largest layer and of what it is described with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy.typing as npt

from yolotf.onnx import proto
from yolotf.onnx.folding import constant_weights, folded
from yolotf.onnx.model import LARGEST, Model, Weight
from yolotf.weights import layout
from yolotf.weights.file import WeightsFile
from yolotf.weights.header import Header
from yolotf.weights.write import Pieces

Array = npt.NDArray[Any]


def write(
    model: Model,
    file: WeightsFile,
    header: Header,
    output: BinaryIO,
    metadata: Mapping[str, str],
    *,
    threads: int,
    data: BinaryIO | None = None,
    data_name: str = "",
) -> Pieces:
    """Writes a model with the numbers of a file; needs the package onnx.

    Args:
        model: what to write.
        file: the `.weights` file, whose size and content have been checked.
        header: what it begins with.
        output: where to write it.
        metadata: what else the model is to say, by key.
        threads: that read the file.
        data: where to write the numbers, if not into the model (see `is_too_large`).
        data_name: what that file is called, which has to be in the folder of the model.

    Returns:
        How the file was read.

    Raises:
        WeightsMismatch: another process changed the file.
        OSError: a file cannot be read or written.
    """
    plan = model.graph.plan(transposed=header.transposed)
    pieces = Pieces(file, header, plan, threads=threads)
    assignments = {one.slot.variable: one for one in plan.assignments}

    def numbers(weights: Sequence[Weight]) -> Iterator[Array]:
        return pieces.of([assignments[one.key] for one in weights])

    inner = constant_weights(model)
    # Copies: what `numbers` gives is good until the next.
    arrays = [array.copy() for array in numbers(inner)]
    model = folded(model, {one.name: array for one, array in zip(inner, arrays, strict=True)})
    if data is None:
        fields = [
            (proto.float_tensor_start(one.name, one.shape), one.size_bytes) for one in model.weights
        ]
    else:
        fields = list(_external(model.weights, data_name))
    body = model.body()
    starts = [proto.start(5, len(start) + inside) + start for start, inside in fields]
    size = len(body) + sum(map(len, starts)) + sum(inside for _, inside in fields)
    output.write(model.head(metadata) + proto.start(7, size) + body)
    for start, array in zip(starts, numbers(model.weights), strict=True):
        output.write(start)
        (output if data is None else data).write(array.data)
    return pieces


def _external(weights: Sequence[Weight], file: str) -> Iterator[tuple[bytes, int]]:
    offset = 0
    for one in weights:
        yield proto.external_float_tensor(one.name, one.shape, file, offset), 0
        offset += one.size_bytes


def is_too_large(network_floats: int) -> bool:
    """Whether a model with so many numbers cannot be one protobuf message."""
    return layout.FLOAT_BYTES * network_floats + _DESCRIPTION > LARGEST


_DESCRIPTION = 16 << 20
"""Bytes that everything but the weights may take."""
