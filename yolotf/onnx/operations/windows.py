"""Convolutions, pooling and resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from yolotf.onnx.operations.writer import Operations, static_sizes, writes
from yolotf.onnx.tensors import NCHW, OIHW, Extent, Tensor, Value, divided, pads, times, windows


@writes("Conv2D")
def convolution(
    ops: Operations,
    *,
    input: Tensor,
    filter: Any,
    strides: Sequence[int],
    padding: str,
    explicit_paddings: Sequence[int] = (),
    dilations: Sequence[int] = (1, 1, 1, 1),
) -> Tensor:
    """Writes a convolution; the number of groups follows from the kernel's channels."""
    kernel = ops.tensor(filter)
    rows, columns, depth, filters = static_sizes(kernel.shape)
    channels = input.shape[3]
    assert isinstance(channels, int)
    return _convolution(
        ops,
        input,
        ops.in_order(kernel, OIHW),
        filters,
        (rows, columns),
        strides[1:3],
        _sides(padding, explicit_paddings, (rows, columns), dilations[1:3]),
        dilations[1:3],
        channels // depth,
    )


@writes("DepthwiseConv2dNative")
def depthwise_convolution(
    ops: Operations, *, input: Tensor, filter: Any, strides: Sequence[int], padding: str
) -> Tensor:
    """Writes a convolution with a group for each channel."""
    kernel = ops.tensor(filter)
    rows, columns, channels, multiplier = static_sizes(kernel.shape)
    filters = channels * multiplier
    value = ops.reshaped(
        ops.in_order(kernel, (2, 3, 0, 1)),
        (channels, multiplier, rows, columns),
        (filters, 1, rows, columns),
    )
    sides = _sides(padding, (), (rows, columns), (1, 1))
    size = (rows, columns)
    return _convolution(ops, input, value, filters, size, strides[1:3], sides, (1, 1), channels)


def _convolution(
    ops: Operations,
    x: Tensor,
    kernel: Value,
    filters: int,
    size: tuple[int, int],
    strides: Sequence[int],
    sides: Sequence[Sequence[int]],
    dilations: Sequence[int],
    groups: int,
) -> Tensor:
    is_padded = any(map(any, sides))
    if max(size) == 1 and max(strides) > 1 and (is_padded or _splits(ops)):
        # OpenVINO 2026.4 moves the stride of such a convolution to the operation before: it forgets
        # the padding, and fails at a split of channels. Others keep their stride, as ncnn has no
        # slices with steps.
        if is_padded:
            x = ops.Pad(input=x, paddings=[[0, 0], *map(list, sides), [0, 0]])
        x = ops.StridedSlice(
            input=x,
            begin=[0, 0, 0, 0],
            end=[0, 0, 0, 0],
            strides=[1, *strides, 1],
            end_mask=0b1111,
        )
        strides, sides = (1, 1), ((0, 0), (0, 0))
    (output,) = ops.write(
        "Conv",
        [ops.in_order(x, NCHW), kernel],
        kernel_shape=list(size),
        strides=list(strides),
        pads=pads(sides),
        dilations=list(dilations),
        group=groups,
    )
    extents = map(windows, x.shape[1:3], size, strides, sides, dilations)
    return Tensor(output, (x.shape[0], *extents, filters), NCHW)


def _splits(ops: Operations) -> bool:
    """Whether channels have been split; OpenVINO makes a split of several slices, too."""
    return any(operation.kind in ("Split", "Slice") for operation in ops.operations)


@writes("MaxPool")
def max_pool(
    ops: Operations,
    *,
    input: Tensor,
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: str,
    explicit_paddings: Sequence[int] = (),
) -> Tensor:
    """Returns the maximum of each window."""
    return _pool(ops, "MaxPool", input, ksize, strides, padding, explicit_paddings)


@writes("AvgPool")
def avg_pool(
    ops: Operations, *, value: Tensor, ksize: Sequence[int], strides: Sequence[int], padding: str
) -> Tensor:
    """Returns the mean of the part of each window that lies inside the image."""
    return _pool(ops, "AveragePool", value, ksize, strides, padding, (), count_include_pad=0)


@writes("PaddedAvgPool")
def padded_avg_pool(
    ops: Operations,
    *,
    value: Tensor,
    ksize: Sequence[int],
    strides: Sequence[int],
    explicit_paddings: Sequence[int],
) -> Tensor:
    """As `AvgPool`, with explicit padding, which TensorFlow's operation does not have."""
    padding = "EXPLICIT", explicit_paddings
    return _pool(ops, "AveragePool", value, ksize, strides, *padding, count_include_pad=0)


def _pool(
    ops: Operations,
    kind: str,
    x: Tensor,
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: str,
    explicit: Sequence[int],
    **attributes: Any,
) -> Tensor:
    size, steps = tuple(ksize[1:3]), tuple(strides[1:3])
    sides = _sides(padding, explicit, size, (1, 1))
    is_even = all(isinstance(extent, int) and extent % 2 == 0 for extent in x.shape[1:3])
    if padding == "SAME" and steps != (1, 1):
        assert steps == size == (2, 2), "padding that depends on the image size"
        sides = ((0, 0), (0, 0)) if is_even else ((0, 1), (0, 1))
    (output,) = ops.write(
        kind,
        [ops.in_order(x, NCHW)],
        kernel_shape=list(size),
        strides=list(steps),
        pads=pads(sides),
        **attributes,
    )
    extents = map(windows, x.shape[1:3], size, steps, sides)
    return Tensor(output, (x.shape[0], *extents, x.shape[3]), NCHW)


@writes("ResizeNearestNeighbor")
def resize_nearest_neighbor(
    ops: Operations, *, images: Tensor, size: Sequence[int | Extent], half_pixel_centers: bool
) -> Tensor:
    """Repeats rows and columns an integer number of times."""
    factors = []
    for axis, wanted in zip((1, 2), size, strict=True):
        if isinstance(wanted, Extent):
            assert (wanted.tensor, wanted.axis) == (images, axis)
            factors.append(wanted.factor)
        else:
            factors.append(wanted // static_sizes(images.shape[axis : axis + 1])[0])
    (output,) = ops.write(
        "Resize",
        [
            ops.in_order(images, NCHW),
            None,
            ops.constant(np.array([1, 1, *factors], np.float32)),
        ],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    batch, *extents, channels = images.shape
    extents = [times(extent, factor) for extent, factor in zip(extents, factors, strict=True)]
    return Tensor(output, (batch, *extents, channels), NCHW)


@writes("SpaceToDepth")
def space_to_depth(ops: Operations, *, input: Tensor, block_size: int) -> Tensor:
    """Moves blocks of rows and columns to channels."""
    (output,) = ops.write("SpaceToDepth", [ops.in_order(input, NCHW)], blocksize=block_size)
    batch, *extents, channels = input.shape
    extents = [divided(extent, block_size) for extent in extents]
    return Tensor(output, (batch, *extents, times(channels, block_size**2)), NCHW)


@writes("ExtractImagePatches")
def extract_image_patches(
    ops: Operations,
    *,
    images: Tensor,
    ksizes: Sequence[int],
    strides: Sequence[int],
    rates: Sequence[int],
    padding: str,
) -> Tensor:
    """Returns the values of every window by row, column and channel; a slice for each offset."""
    assert padding == "VALID"
    assert list(rates) == [1, 1, 1, 1]
    x = Tensor(ops.in_order(images, NCHW), images.shape, NCHW)
    (rows, columns), steps = ksizes[1:3], list(strides)
    extents = [
        static_sizes([windows(extent, size, step, (0, 0))])[0]
        for extent, size, step in zip(images.shape[1:3], (rows, columns), steps[1:3], strict=True)
    ]
    spans = [(extent - 1) * step + 1 for extent, step in zip(extents, steps[1:3], strict=True)]
    parts = [
        ops.StridedSlice(
            input=x,
            begin=[0, row, column, 0],
            end=[0, row + spans[0], column + spans[1], 0],
            strides=steps,
            end_mask=0b1001,
        )
        for row in range(rows)
        for column in range(columns)
    ]
    patches: Tensor = ops.ConcatV2(values=parts, axis=3)
    return patches


def _sides(
    padding: str, explicit: Sequence[int], size: Sequence[int], dilations: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Returns rows before and after, columns before and after; `SAME` assumes a stride of 1."""
    if padding == "EXPLICIT":
        return (explicit[2], explicit[3]), (explicit[4], explicit[5])
    if padding == "VALID":
        return (0, 0), (0, 0)
    spans = [(extent - 1) * rate for extent, rate in zip(size, dilations, strict=True)]
    return tuple((span // 2, span - span // 2) for span in spans)
