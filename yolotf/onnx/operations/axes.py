"""Operations that reorder, slice and concatenate axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from yolotf.onnx.operations.writer import Operations, static_sizes, writes
from yolotf.onnx.proto import Dim
from yolotf.onnx.tensors import (
    NCHW,
    Extent,
    Filled,
    Sizes,
    Tensor,
    Value,
    divided,
    identity,
    pads,
    product,
    same_in_memory,
    times,
    windows,
)

_TO_THE_END = np.iinfo(np.int64).max


@writes("Transpose")
def transpose(ops: Operations, *, x: Tensor, perm: Sequence[int]) -> Tensor:
    """Renames the axes; writes nothing."""
    order = tuple(list(perm).index(axis) for axis in x.order)
    return Tensor(x.value, tuple(x.shape[axis] for axis in perm), order)


@writes("Reshape")
def reshape(ops: Operations, *, tensor: Tensor, shape: Sequence[int | Extent]) -> Tensor:
    """Reshapes the values in the description's order of axes."""
    wanted = Sizes(shape)
    dims = _reshaped_dims(tensor.shape, wanted)
    plain_order = identity(tensor.rank)
    if tensor.value.weight or not same_in_memory(tensor.shape, tensor.order, plain_order):
        value, before = ops.in_order(tensor, plain_order), tensor.shape
    else:
        value, before = tensor.value, tensor.in_memory
    return Tensor(ops.reshaped(value, before, dims, wanted), dims, identity(len(dims)))


@writes("ConcatV2")
def concat(ops: Operations, *, values: Sequence[Any], axis: int) -> Any:
    """Concatenates tensors, or sizes."""
    if any(isinstance(value, Sizes) for value in values):
        return Sizes(extent for value in values for extent in value)
    tensors = [ops.materialized(ops.tensor(value)) for value in values]
    first = tensors[0]
    order = next((tensor.order for tensor in tensors if tensor.order == NCHW), first.order)
    axis %= first.rank
    inputs = [ops.in_order(tensor, order) for tensor in tensors]
    (output,) = ops.write("Concat", inputs, dtype=first.dtype, axis=order.index(axis))
    extents = [tensor.shape[axis] for tensor in tensors]
    is_static = all(isinstance(extent, int) for extent in extents)
    joined: Dim = sum(static_sizes(extents)) if is_static else f"({'+'.join(map(str, extents))})"
    shape = (*first.shape[:axis], joined, *first.shape[axis + 1 :])
    return Tensor(output, shape, order)


@writes("Split")
def split(ops: Operations, *, axis: int, value: Tensor, num_split: int) -> list[Tensor]:
    """Splits an axis into equal parts."""
    extent = static_sizes([value.shape[axis]])[0] // num_split
    sizes = [extent] * num_split
    return split_sizes(ops, value=value, size_splits=sizes, axis=axis, num_split=num_split)


@writes("SplitV")
def split_sizes(
    ops: Operations, *, value: Tensor, size_splits: Sequence[int], axis: int, num_split: int
) -> list[Tensor]:
    """Splits an axis into parts of the given sizes."""
    axis %= value.rank
    outputs = ops.write(
        "Split",
        [ops.value_of(value), ops.integers(size_splits)],
        count=num_split,
        axis=value.order.index(axis),
    )
    before, after = value.shape[:axis], value.shape[axis + 1 :]
    return [
        Tensor(output, (*before, size, *after), value.order)
        for output, size in zip(outputs, size_splits, strict=True)
    ]


@writes("Unpack")
def unpack(ops: Operations, *, value: Tensor, num: int, axis: int) -> list[Tensor]:
    """Returns a tensor for each index of an axis, without that axis."""
    plain_order = identity(value.rank)
    source = ops.in_order(value, plain_order)
    shape = (*value.shape[:axis], *value.shape[axis + 1 :])
    slices = []
    for number in range(num):
        index = ops.constant(np.array(number, np.int64))
        (output,) = ops.write("Gather", [source, index], axis=axis)
        slices.append(Tensor(output, shape, identity(len(shape))))
    return slices


@writes("GatherV2")
def gather(ops: Operations, *, params: Tensor, indices: Sequence[int], axis: int) -> Tensor:
    """Selects indices of an axis."""
    axis %= params.rank
    inputs = [ops.value_of(params), ops.integers(indices)]
    (output,) = ops.write("Gather", inputs, axis=params.order.index(axis))
    shape = (*params.shape[:axis], len(indices), *params.shape[axis + 1 :])
    return Tensor(output, shape, params.order)


@writes("Slice")
def part(ops: Operations, *, input: Any, begin: Sequence[int], size: Sequence[int]) -> Any:
    """Slices each axis, or a list of sizes."""
    if isinstance(input, Sizes):
        return Sizes(input[begin[0] : begin[0] + size[0]])
    end = [begin[axis] + count if count >= 0 else 0 for axis, count in enumerate(size)]
    open_axes = sum(1 << axis for axis, count in enumerate(size) if count < 0)
    return ops.StridedSlice(
        input=input, begin=begin, end=end, strides=[1] * len(size), end_mask=open_axes
    )


@writes("StridedSlice")
def strided_slice(
    ops: Operations,
    *,
    input: Tensor,
    begin: Sequence[int],
    end: Sequence[int | Extent],
    strides: Sequence[int],
    end_mask: int,
) -> Tensor:
    """Returns `input[begin:end:strides]`; axes in the mask extend to their end."""
    slices: list[tuple[int, int, int | Extent, int]] = []  # axis in memory, begin, end, step
    shape = list(input.shape)
    for axis, extent in enumerate(input.shape):
        to_the_end = bool(end_mask >> axis & 1)
        last: int | Extent = _TO_THE_END if to_the_end else end[axis]
        if begin[axis] == 0 and strides[axis] == 1 and last in (_TO_THE_END, extent):
            continue
        slices.append((input.order.index(axis), begin[axis], last, strides[axis]))
        shape[axis] = _span(extent, begin[axis], last, strides[axis])
    if not slices:
        return input
    places, begins, ends, steps = zip(*sorted(slices), strict=True)
    inputs = [
        ops.value_of(input),
        ops.integers(begins),
        ops.vector(Sizes(ends)),
        ops.integers(places),
    ]
    if any(step != 1 for step in steps):
        inputs.append(ops.integers(steps))
    (output,) = ops.write("Slice", inputs, dtype=input.dtype)
    return Tensor(output, tuple(shape), input.order)


@writes("Pad")
def pad(ops: Operations, *, input: Tensor, paddings: Sequence[Sequence[int]]) -> Tensor:
    """Pads with zeros."""
    return pad_with(ops, input=input, paddings=paddings, constant_values=0.0)


@writes("PadV2")
def pad_with(
    ops: Operations, *, input: Tensor, paddings: Sequence[Sequence[int]], constant_values: float
) -> Tensor:
    """Pads with a constant."""
    x = ops.materialized(input)
    inputs = [ops.value_of(x), ops.integers(pads([paddings[axis] for axis in x.order]))]
    if constant_values:  # not shared: OpenCV 4.14 rejects a constant that another operation uses
        inputs.append(Value(constant=np.array(constant_values, np.float32)))
    (output,) = ops.write("Pad", inputs, mode="constant")
    shape = [windows(extent, 1, 1, paddings[axis]) for axis, extent in enumerate(x.shape)]
    return Tensor(output, tuple(shape), x.order)


@writes("Tile")
def repeat(ops: Operations, *, input: Tensor, multiples: Sequence[int | Extent]) -> Tensor:
    """Repeats a tensor along each axis."""
    counts = Sizes(multiples)
    if all(isinstance(count, int) and count == 1 for count in counts):
        return input
    plain_order = identity(input.rank)
    inputs = [ops.in_order(input, plain_order), ops.vector(counts)]
    (output,) = ops.write("Tile", inputs)
    shape = tuple(_tiled(extent, count) for extent, count in zip(input.shape, counts, strict=True))
    return Tensor(output, shape, plain_order)


@writes("Pack")
def pack(ops: Operations, *, values: Sequence[Tensor], axis: int) -> Tensor:
    """Stacks tensors of one shape along a new axis."""
    expanded = [ops.ExpandDims(input=value, axis=axis) for value in values]
    packed: Tensor = ops.ConcatV2(values=expanded, axis=axis)
    return packed


@writes("ExpandDims")
def expand_dims(ops: Operations, *, input: Tensor | Filled, axis: int) -> Tensor:
    """Inserts an axis of size 1."""
    x = ops.materialized(input)
    axis %= x.rank + 1
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    order = (*(other + (other >= axis) for other in x.order), axis)
    return Tensor(ops.reshaped(ops.value_of(x), x.in_memory, (*x.in_memory, 1)), shape, order)


@writes("Squeeze")
def squeeze(ops: Operations, *, input: Tensor, axis: Sequence[int]) -> Tensor:
    """Removes an axis of size 1."""
    (removed,) = (number % input.rank for number in axis)
    assert input.shape[removed] == 1
    shape = (*input.shape[:removed], *input.shape[removed + 1 :])
    order = tuple(kept - (kept > removed) for kept in input.order if kept != removed)
    after = tuple(shape[kept] for kept in order)
    return Tensor(ops.reshaped(ops.value_of(input), input.in_memory, after), shape, order)


@writes("Range")
def count_up(ops: Operations, *, start: int, limit: Tensor, delta: int) -> Tensor:
    """Returns consecutive numbers from `start`."""
    first, step = (ops.constant(np.array(number, np.int64)) for number in (start, delta))
    (output,) = ops.write("Range", [first, ops.value_of(limit), step], dtype="int64")
    return Tensor(output, (f"range_{len(ops.operations)}",), (0,))


def _span(extent: Dim, begin: int, end: int | Extent, step: int) -> Dim:
    """Returns the length of a slice."""
    if isinstance(end, Extent):
        return divided(times(end.tensor.shape[end.axis], end.factor), step)
    if isinstance(extent, int) or end != _TO_THE_END:
        last = min(extent, end) if isinstance(extent, int) else end
        return -(-(last - begin) // step)
    return divided(windows(extent, 1, 1, (-begin, 0)), step)


def _tiled(extent: Dim, count: int | Extent) -> Dim:
    if isinstance(count, int):
        return times(extent, count)
    if extent == 1 and count.factor == 1:
        return count.tensor.shape[count.axis]
    return f"({extent}*{count.tensor.shape[count.axis]}*{count.factor})"


def _reshaped_dims(shape: Sequence[Dim], wanted: Sizes) -> tuple[Dim, ...]:
    """Returns the shape after a reshape of `shape` to `wanted`; -1 is inferred."""
    dims: list[Dim] = [
        times(size.tensor.shape[size.axis], size.factor) if isinstance(size, Extent) else size
        for size in wanted
    ]
    if -1 not in dims:
        return tuple(dims)
    inferred = dims.index(-1)
    rest = dims[:inferred] + dims[inferred + 1 :]
    # Dynamic sizes on both sides cancel out.
    dynamic = [extent for extent in shape if not isinstance(extent, int)]
    for extent in rest:
        if not isinstance(extent, int) and extent in dynamic:
            dynamic.remove(extent)
    static = product(rest)
    if not dynamic and static:
        dims[inferred] = product(shape) // static
    elif len(dynamic) == 1 and product(shape) == static:
        dims[inferred] = dynamic[0]
    else:
        dims[inferred] = f"({'*'.join(map(str, shape))}/{'*'.join(map(str, rest))})"
    return tuple(dims)
