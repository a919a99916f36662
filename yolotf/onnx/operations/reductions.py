"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yolotf.onnx.operations.writer import Operations, writes
from yolotf.onnx.tensors import NCHW, Tensor, Value


@writes("Mean")
def mean(ops: Operations, *, input: Tensor, axis: Sequence[int], keep_dims: bool) -> Tensor:
    """Returns the mean over axes."""
    is_pooling = input.order == NCHW and sorted(axis) == [1, 2] and keep_dims
    if not is_pooling:
        return _reduce(ops, "ReduceMean", input, axis, keep_dims)
    (output,) = ops.write("GlobalAveragePool", [ops.value_of(input)])
    return Tensor(output, (input.shape[0], 1, 1, input.shape[3]), NCHW)


@writes("Sum")
def total(ops: Operations, *, input: Tensor, axis: Sequence[int], keep_dims: bool) -> Tensor:
    """Returns the sum over axes."""
    return _reduce(ops, "ReduceSum", input, axis, keep_dims)


@writes("Max")
def largest(ops: Operations, *, input: Tensor, axis: Sequence[int], keep_dims: bool) -> Tensor:
    """Returns the maximum over axes."""
    return _reduce(ops, "ReduceMax", input, axis, keep_dims)


def _reduce(ops: Operations, kind: str, x: Tensor, axis: Sequence[int], keep_dims: bool) -> Tensor:
    reduced = {number % x.rank for number in axis}
    places = sorted(x.order.index(number) for number in reduced)
    inputs: list[Value | None] = [ops.value_of(x)]
    attributes: dict[str, Any] = {"keepdims": int(keep_dims)}
    if kind == "ReduceSum":  # its axes are an input since opset 13
        inputs.append(ops.integers(places))
    else:
        attributes["axes"] = places
    (output,) = ops.write(kind, inputs, **attributes)
    if keep_dims:
        shape = tuple(1 if number in reduced else extent for number, extent in enumerate(x.shape))
        return Tensor(output, shape, x.order)
    kept = [number for number in range(x.rank) if number not in reduced]
    order = tuple(kept.index(number) for number in x.order if number not in reduced)
    return Tensor(output, tuple(x.shape[number] for number in kept), order)
