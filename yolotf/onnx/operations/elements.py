"""Elementwise operations."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from yolotf.onnx.operations.writer import Operations, static_sizes, writes
from yolotf.onnx.proto import Dim
from yolotf.onnx.tensors import (
    Axes,
    Extent,
    Filled,
    Sizes,
    Tensor,
    Value,
    broadcast,
    identity,
    same_in_memory,
)

_UNARY = {
    "Abs": "Abs",
    "Elu": "Elu",
    "Exp": "Exp",
    "Floor": "Floor",
    "Neg": "Neg",
    "Relu": "Relu",
    "Sigmoid": "Sigmoid",
    "Softplus": "Softplus",
    "Tanh": "Tanh",
}
_BINARY = {
    "AddV2": "Add",
    "Equal": "Equal",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
    "Less": "Less",
    "Maximum": "Max",
    "Minimum": "Min",
    "Mul": "Mul",
    "Pow": "Pow",
    "RealDiv": "Div",
    "Sub": "Sub",
}
"""ONNX's names of TensorFlow's operations."""
_COMPARISONS = {"Equal", "Greater", "GreaterOrEqual", "Less"}


@writes("Softmax")
def softmax(ops: Operations, *, logits: Tensor) -> Tensor:
    """Softmax over the last axis."""
    axis = logits.order.index(logits.rank - 1)
    (output,) = ops.write("Softmax", [ops.value_of(logits)], axis=axis)
    return Tensor(output, logits.shape, logits.order)


@writes("LeakyRelu")
def leaky_relu(ops: Operations, *, features: Tensor, alpha: float) -> Tensor:
    """Multiplies negative values by `alpha`."""
    (output,) = ops.write("LeakyRelu", [ops.value_of(features)], alpha=float(alpha))
    return Tensor(output, features.shape, features.order)


@writes("Relu6")
def relu6(ops: Operations, *, features: Tensor) -> Tensor:
    """Clips to 0..6."""
    bounds = [ops.constant(np.float32(0)), ops.constant(np.float32(6))]
    (output,) = ops.write("Clip", [ops.value_of(features), *bounds])
    return Tensor(output, features.shape, features.order)


@writes("Square")
def square(ops: Operations, *, x: Tensor) -> Tensor:
    """Returns x * x."""
    squared: Tensor = _binary(ops, "Mul", x=x, y=x)
    return squared


@writes("Expm1")
def expm1(ops: Operations, *, x: Tensor) -> Tensor:
    """Returns exp(x) - 1."""
    difference: Tensor = _binary(ops, "Sub", x=_unary(ops, "Exp", x=x), y=1.0)
    return difference


@writes("FloorDiv")
def floor_div(ops: Operations, *, x: Tensor, y: Any) -> Tensor:
    """Returns the quotient rounded down; integer operands must not be negative."""
    quotient: Tensor = _binary(ops, "Div", x=x, y=y)
    if x.dtype != "int64":
        quotient = _unary(ops, "Floor", x=quotient)
    return quotient


@writes("FloorMod")
def floor_mod(ops: Operations, *, x: Tensor, y: Any) -> Tensor:
    """Returns the remainder of `floor_div`."""
    quotient = floor_div(ops, x=x, y=y)
    remainder: Tensor = _binary(ops, "Sub", x=x, y=_binary(ops, "Mul", x=quotient, y=y))
    return remainder


@writes("SelectV2")
def select(ops: Operations, *, condition: Tensor, t: Any, e: Any) -> Tensor:
    """Selects elements from two tensors."""
    return _each(ops, "Where", [condition, t, e])


@writes("OnesLike")
def ones_like(ops: Operations, *, x: Tensor) -> Filled:
    """Returns ones in the shape of x."""
    return Filled(1.0, x)


@writes("ZerosLike")
def zeros_like(ops: Operations, *, x: Tensor) -> Filled:
    """Returns zeros in the shape of x."""
    return Filled(0.0, x)


@writes("Cast")
def cast(ops: Operations, *, x: Tensor, DstT: str) -> Tensor:
    """Converts to float32."""
    assert DstT == "float32"
    (output,) = ops.write("Cast", [ops.value_of(x)], to=1)
    return Tensor(output, x.shape, x.order)


def _unary(ops: Operations, kind: str, **arguments: Any) -> Any:
    (x,) = arguments.values()
    if isinstance(x, Filled):
        assert kind == "Neg"
        return Filled(-x.number, x.like)
    (output,) = ops.write(kind, [ops.value_of(x)])
    return Tensor(output, x.shape, x.order)


def _binary(ops: Operations, kind: str, *, x: Any, y: Any) -> Any:
    if isinstance(x, Sizes):
        assert kind == "Mul"
        return Sizes(_multiplied(*pair) for pair in zip(x, y, strict=True))
    return _each(ops, kind, [x, y], dtype="bool" if kind in _COMPARISONS else None)


def _each(ops: Operations, kind: str, operands: Sequence[Any], dtype: str | None = None) -> Tensor:
    """Writes an elementwise operation on tensors brought to a common order of axes."""
    dtypes = [
        operand.dtype
        for operand in operands
        if isinstance(operand, Tensor) and operand.dtype != "bool"
    ]
    input_dtype = dtypes[0] if dtypes else "float32"
    # A scalar suffices for a filled operand if another operand has the shape.
    filled_shapes = [operand.like.shape for operand in operands if isinstance(operand, Filled)]
    shapes = [
        ops.tensor(operand, input_dtype).shape
        for operand in operands
        if not isinstance(operand, Filled)
    ]
    if filled_shapes and (not shapes or broadcast(shapes) != broadcast([*shapes, *filled_shapes])):
        operands = [
            ops.materialized(operand) if isinstance(operand, Filled) else operand
            for operand in operands
        ]
    tensors = [ops.tensor(_scalar(operand), input_dtype) for operand in operands]
    rank = max(tensor.rank for tensor in tensors)
    orders = [tensor.order for tensor in tensors if tensor.rank == rank]
    order = next((order for order in orders if order != identity(rank)), identity(rank))
    inputs = [_aligned(ops, tensor, order) for tensor in tensors]
    (output,) = ops.write(kind, inputs, dtype=dtype or input_dtype)
    return Tensor(output, broadcast([tensor.shape for tensor in tensors]), order)


def _aligned(ops: Operations, tensor: Tensor, order: Axes) -> Value:
    """Returns a value that broadcasts against values of the given order."""
    rank = len(order)
    added = rank - tensor.rank
    if all(extent == 1 for extent in tensor.shape) and added:
        return ops.reshaped(ops.value_of(tensor), tensor.in_memory, ())
    shape: tuple[Dim, ...] = (1,) * added + tensor.shape
    if same_in_memory(shape, (*range(added), *(axis + added for axis in tensor.order)), order):
        after = [shape[axis] for axis in order]
        while len(after) > 1 and after[0] == 1 and added:
            del after[0]
        return ops.reshaped(ops.value_of(tensor), tensor.in_memory, tuple(after))
    if added:
        tensor = ops.Reshape(tensor=tensor, shape=list(static_sizes(shape)))
    return ops.in_order(tensor, order)


def _scalar(operand: Any) -> Any:
    """Returns the number of a filled operand, and any other operand as it is."""
    return operand.number if isinstance(operand, Filled) else operand


def _multiplied(size: int | Extent, factor: int) -> int | Extent:
    if isinstance(size, int):
        return size * factor
    return size._replace(factor=size.factor * factor)


for _kind, _name in _UNARY.items():
    writes(_kind)(functools.partial(_unary, kind=_name))
for _kind, _name in _BINARY.items():
    writes(_kind)(functools.partial(_binary, kind=_name))
