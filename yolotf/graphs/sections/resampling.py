"""Sections that change rows and columns: pools, `[upsample]`, `[reorg]`, `[crop]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from yolotf.darknet import cfg
from yolotf.graphs import operations
from yolotf.graphs.lazy_concat import LazyConcat
from yolotf.graphs.lowering import Footprint, Lowering, lowers, lowers_in_parts, uses_memory
from yolotf.graphs.operations import Operations, Tensor
from yolotf.graphs.sections.antialiased import blurred

_LOWEST = float(np.finfo(np.float32).min)


@lowers(cfg.Pool)
@blurred
def _pool(lowering: Lowering, layer: cfg.Pool, inputs: Sequence[Tensor]) -> Tensor:
    return pool(lowering.ops, inputs[0], layer)


@lowers_in_parts(cfg.Pool)
def _pool_in_parts(
    lowering: Lowering, layer: cfg.Pool, inputs: Sequence[LazyConcat]
) -> LazyConcat | None:
    """Pools part by part, because concatenating the smaller outputs is cheaper."""
    if layer.antialiasing or layer.maxpool_depth or layer.stride_x * layer.stride_y == 1:
        return None
    return inputs[0].each(lambda x: pool(lowering.ops, x, layer))


@uses_memory(cfg.Pool)
def _pool_footprint(layer: cfg.Pool, before: int, in_parts: bool) -> Footprint:
    if layer.size == 1 or layer.maxpool_depth:
        return Footprint()
    after = layer.output_shape.floats
    return Footprint(after, 0 if in_parts else before + after, in_parts=in_parts)


@lowers(cfg.Avgpool)
def _average(lowering: Lowering, layer: cfg.Avgpool, inputs: Sequence[Tensor]) -> Tensor:
    """Returns the mean over positions, [batch, 1, 1, channels]."""
    return lowering.ops.Mean(input=inputs[0], axis=[1, 2], keep_dims=True)


@lowers(cfg.Upsample)
def _upsample(lowering: Lowering, layer: cfg.Upsample, inputs: Sequence[Tensor]) -> Tensor:
    """Nearest-neighbor upsampling; a negative stride downsamples by summing (blas.c:483)."""
    ops, stride, (x,) = lowering.ops, layer.stride, inputs
    if layer.reverse:
        window = [1, stride, stride, 1]
        x = ops.AvgPool(value=x, ksize=window, strides=window, padding="VALID")
        return ops.Mul(x=x, y=layer.scale * stride**2)
    if stride > 1:
        size: Any = list(layer.output_shape[:2])
        if lowering.resizable:
            size = ops.Mul(x=operations.extents(ops, x), y=[stride, stride])
        x = ops.ResizeNearestNeighbor(images=x, size=size, half_pixel_centers=True)
    return x if layer.scale == 1 else ops.Mul(x=x, y=layer.scale)


@uses_memory(cfg.Upsample)
def _upsample_footprint(layer: cfg.Upsample, before: int, in_parts: bool) -> Footprint:
    if layer.stride == 1 or layer.reverse:
        return Footprint()
    after = layer.output_shape.floats
    return Footprint(after, before + after)


@lowers(cfg.Reorg)
def _reorg(lowering: Lowering, layer: cfg.Reorg, inputs: Sequence[Tensor]) -> Tensor:
    return reorg(lowering.ops, inputs[0], layer)


@lowers(cfg.Crop)
def _crop(lowering: Lowering, layer: cfg.Crop, inputs: Sequence[Tensor]) -> Tensor:
    """Crops the center; maps 0..1 to -1..1 unless `noadjust` (crop_layer.c:76)."""
    ops = lowering.ops
    height, width, _ = layer.output_shape
    top = (layer.input_shape.height - height) // 2
    left = (layer.input_shape.width - width) // 2
    begin, end = [0, top, left, 0], [0, top + height, left + width, 0]
    x = operations.cut(ops, inputs[0], begin, end, ends_at=(1, 2))
    return x if layer.noadjust else ops.Sub(x=ops.Mul(x=x, y=2.0), y=1.0)


def pool(ops: Operations, x: Tensor, layer: cfg.Pool) -> Tensor:
    """Writes `[maxpool]` or `[local_avgpool]` (maxpool_layer.c:286 and 355).

    The smaller half of the padding comes first; padding is ignored by the maximum and the mean.
    """
    if layer.maxpool_depth:
        return pool_channels(ops, x, layer.input_shape.channels, layer.out_channels)
    strides = [layer.stride_y, layer.stride_x]
    before = layer.padding // 2
    after = layer.padding - before
    below, right = layer.overhang
    padding: Any = [[before, after + below], [before, after + right]]
    if not (below or right):
        if not layer.padding:
            padding = "VALID"
        elif layer.padding == layer.size - 1 and (
            strides == [1, 1] or strides == [2, 2] == [layer.size] * 2
        ):
            padding = "SAME"
    return pool_window(ops, x, layer.type == "maxpool", layer.size, strides, padding)


def pool_window(
    ops: Operations,
    x: Tensor,
    largest: bool,
    size: int,
    strides: Sequence[int],
    padding: str | Sequence[Sequence[int]],
) -> Tensor:
    """Returns the maximum or mean of the part of each window that lies inside the image.

    Args:
        ops: where to write the operations.
        x: [batch, rows, columns, channels].
        largest: the maximum; False: the mean.
        size: of the window.
        strides: rows, columns.
        padding: `SAME`, `VALID`, or rows before and after, columns before and after.
    """
    window: dict[str, Any] = {"ksize": [1, size, size, 1], "strides": [1, *strides, 1]}
    if isinstance(padding, str):  # the mean with SAME ignores padding too
        if largest:
            return ops.MaxPool(input=x, padding=padding, **window)
        return ops.AvgPool(value=x, padding=padding, **window)
    lowest = getattr(x.dtype, "min", _LOWEST)
    if largest and max(map(max, padding)) >= size:
        # TensorFlow's pooling does not support padding as wide as the window. -FLT_MAX, as in
        # Darknet.
        sides = [[0, 0], *map(list, padding), [0, 0]]
        x = ops.PadV2(input=x, paddings=sides, constant_values=lowest)
        return ops.MaxPool(input=x, padding="VALID", **window)
    explicit = [0, 0, *padding[0], *padding[1], 0, 0]
    if largest:
        return ops.MaxPool(input=x, padding="EXPLICIT", explicit_paddings=explicit, **window)
    if hasattr(ops, "PaddedAvgPool") and max(map(max, padding)) < size:
        return ops.PaddedAvgPool(value=x, explicit_paddings=explicit, **window)

    def mean(values: Tensor) -> Tensor:
        return ops.AvgPool(value=operations.pad(ops, values, *padding), padding="VALID", **window)

    inside = ops.OnesLike(x=operations.cut(ops, x, [0, 0, 0, 0], [1, 0, 0, 1], ends_at=(0, 3)))
    # Maximum changes nothing; without it OpenVINO 2026.4 would multiply the next kernel by factors
    # for positions of the image.
    return ops.Maximum(x=ops.RealDiv(x=mean(x), y=mean(inside)), y=lowest)


def pool_channels(ops: Operations, x: Tensor, channels: int, filters: int) -> Tensor:
    """Writes `maxpool_depth`: the maximum of channels i, i + filters, ... (maxpool_layer.c:242)."""
    whole, left = divmod(channels, filters)
    if not left:
        parts = operations.split(ops, x, whole) if whole > 1 else [x]
    else:
        parts = ops.SplitV(
            value=x, size_splits=[filters] * whole + [left], axis=-1, num_split=whole + 1
        )
    largest = parts[0]
    for part in parts[1:whole]:
        largest = ops.Maximum(x=largest, y=part)
    if left:
        head, tail = ops.SplitV(
            value=largest, size_splits=[left, filters - left], axis=-1, num_split=2
        )
        largest = ops.ConcatV2(values=[ops.Maximum(x=head, y=parts[-1]), tail], axis=-1)
    return largest


def reorg(ops: Operations, x: Tensor, layer: cfg.Reorg) -> Tensor:
    """Writes `[reorg]`, Darknet's shuffle (blas.c:9-37), or `[reorg3d]`.

    `[reorg]` is not space-to-depth: Darknet passes the input's shape where the output's is expected
    (reorg_old_layer.c:81); `[reorg3d]` with reverse does the opposite (reorg_layer.c:82).
    """
    if layer.type == "reorg3d" and not layer.reverse:
        return ops.SpaceToDepth(input=x, block_size=layer.stride)
    view = layer.output_shape if layer.type == "reorg3d" else layer.input_shape
    return shuffle(ops, x, layer.stride, bool(layer.reverse), view, layer.output_shape)


def shuffle(
    ops: Operations,
    x: Tensor,
    stride: int,
    reverse: bool,
    view: Sequence[int],
    output_shape: Sequence[int],
) -> Tensor:
    """Writes the shuffle of rows, columns and channels of `[reorg]` (blas.c:9-37).

    Args:
        ops: where to write the operations.
        x: [batch, rows, columns, channels].
        stride: of the section.
        reverse: of the section.
        view: rows, columns, channels in which the values are shuffled.
        output_shape: rows, columns, channels.
    """
    height, width, channels = view
    depth = channels // stride**2
    flat = ops.Transpose(x=x, perm=[0, 3, 1, 2])
    if reverse:
        parts = ops.Reshape(tensor=flat, shape=[-1, stride, stride, depth, height, width])
        shuffled = ops.Transpose(x=parts, perm=[0, 3, 4, 1, 5, 2])
    else:
        parts = ops.Reshape(tensor=flat, shape=[-1, depth, height, stride, width, stride])
        shuffled = ops.Transpose(x=parts, perm=[0, 3, 5, 1, 2, 4])
    rows, columns, filters = output_shape
    planes = ops.Reshape(tensor=shuffled, shape=[-1, filters, rows, columns])
    return ops.Transpose(x=planes, perm=[0, 2, 3, 1])
