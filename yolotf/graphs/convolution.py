"""Convolutions as standard operations: kernels, groups, padding and dilation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from yolotf.darknet import cfg
from yolotf.darknet.sections.antialiased import sharp
from yolotf.graphs import operations
from yolotf.graphs.operations import Operations, Tensor


def convolve(ops: Operations, x: Tensor, kernel: Tensor, layer: cfg.Convolutional) -> Tensor:
    """Writes `[convolutional]` without bias and activation (convolutional_layer.c:1141).

    Args:
        ops: where to write the operations.
        x: [batch, rows, columns, channels].
        kernel: HWIO, `I` being the channels of a group; for `is_depthwise` layers
            (size, size, channels, multiplier).
        layer: geometry.
    """
    x, layer = _subsampled(ops, x, layer)
    if not is_depthwise(layer):
        return convolve_in_groups(ops, x, kernel, layer)
    if layer.dilation > 1:
        return _convolve_dilated(ops, x, kernel, layer)
    padding, explicit = convolution_padding(layer)
    if explicit:
        # TensorFlow 2.21 aborts on DepthwiseConv2dNative with explicit padding: its shape function
        # fails a check during graph optimization (tensor_format.h:428).
        x, padding = operations.pad(ops, x, explicit[2:4], explicit[4:6]), "VALID"
    strides = [1, layer.stride_y, layer.stride_x, 1]
    return ops.DepthwiseConv2dNative(input=x, filter=kernel, strides=strides, padding=padding)


def _subsampled(
    ops: Operations, x: Tensor, layer: cfg.Convolutional
) -> tuple[Tensor, cfg.Convolutional]:
    """Returns the pixels that a 1x1 convolution with a stride reads, and the convolution of those.

    Returns the arguments for other convolutions. OpenVINO 2026.4 would move the stride to the
    operation before: it forgets padding, and fails at a split of channels or computes wrongly.
    """
    if layer.size > 1 or layer.stride_y == layer.stride_x == 1:
        return x, layer
    _, explicit = convolution_padding(layer)
    if explicit:
        x = operations.pad(ops, x, explicit[2:4], explicit[4:6])
    steps = [1, layer.stride_y, layer.stride_x, 1]
    x = operations.cut(ops, x, [0] * 4, [0] * 4, ends_at=(), steps=steps)
    return x, replace(layer, stride_y=1, stride_x=1, padding=0)


def _convolve_dilated(
    ops: Operations, x: Tensor, kernel: Tensor, layer: cfg.Convolutional
) -> Tensor:
    """Writes a dilated depthwise convolution, for which TensorFlow has no CPU kernel."""
    rate, side = layer.dilation, layer.padding * layer.dilation
    padded = ops.AddV2(x=operations.extents(ops, x), y=[2 * side, 2 * side])
    missing = ops.FloorMod(x=ops.Neg(x=padded), y=[rate, rate])
    crops = ops.Pack(values=[ops.ZerosLike(x=missing), missing], axis=1)
    parts = ops.SpaceToBatchND(
        input=x, block_shape=[rate, rate], paddings=ops.AddV2(x=crops, y=[[side, side]] * 2)
    )
    parts = ops.DepthwiseConv2dNative(
        input=parts, filter=kernel, strides=[1, 1, 1, 1], padding="VALID"
    )
    return ops.BatchToSpaceND(input=parts, block_shape=[rate, rate], crops=crops)


def convolve_in_groups(
    ops: Operations, x: Tensor, kernel: Tensor, layer: cfg.Convolutional
) -> Tensor:
    """`convolve` for a `Conv2D` that supports any groups, strides, dilation and padding.

    Args:
        ops: where to write the operations.
        x: [batch, rows, columns, channels].
        kernel: HWIO, `I` being the channels of a group.
        layer: geometry.
    """
    padding, explicit = convolution_padding(layer)
    return ops.Conv2D(
        input=x,
        filter=kernel,
        strides=[1, layer.stride_y, layer.stride_x, 1],
        padding=padding,
        explicit_paddings=explicit,
        dilations=[1, layer.dilation, layer.dilation, 1],
    )


def signs(ops: Operations, x: Tensor) -> Tensor:
    """Binarizes the input of an `xnor=1` convolution: 1 above 0, else -1 (binarize_cpu)."""
    ones = ops.OnesLike(x=x)
    return ops.SelectV2(condition=ops.Greater(x=x, y=0.0), t=ones, e=ops.Neg(x=ones))


def signs_in_frame(
    ops: Operations, x: Tensor, rows: Sequence[int], columns: Sequence[int]
) -> Tensor:
    """`signs`, padded with -1, because Darknet's padding bits are 0 (gemm.c:2128 and 2222).

    Args:
        ops: where to write the operations.
        x: [batch, rows, columns, channels].
        rows: padding before and after.
        columns: padding before and after.
    """
    x = signs(ops, x)
    if not any((*rows, *columns)):
        return x
    sides = [[0, 0], list(rows), list(columns), [0, 0]]
    return ops.PadV2(input=x, paddings=sides, constant_values=-1.0)


def binarize(ops: Operations, kernel: Tensor, rank: int = 4) -> Tensor:
    """Binarizes an `xnor=1` kernel: each filter's mean magnitude, with the signs of its weights.

    Weights of 0 count as negative (convolutional_layer.c:40, binarize_weights).

    Args:
        ops: where to write the operations.
        kernel: HWIO, or blocks of it.
        rank: 4, or 5 for blocks.
    """
    axes = list(range(rank - 4, rank - 1))
    sizes = ops.Mean(input=ops.Abs(x=kernel), axis=axes, keep_dims=True)
    return ops.Mul(x=signs(ops, kernel), y=sizes)


def unflip(
    ops: Operations,
    kernel: Tensor,
    scale: Tensor | None,
    layer: cfg.Convolutional,
    *,
    depthwise: bool,
) -> Tensor:
    """Transposes a `flipped=1` kernel to the layout of convolutions.

    Args:
        ops: where to write the operations.
        kernel: (channels of a group, size, size, filters), as in the file.
        scale: factor of each filter from batch normalization.
        layer: the layer of the kernel.
        depthwise: return (size, size, channels, multiplier), see `convolve`.
    """
    kernel = ops.Transpose(x=kernel, perm=[1, 2, 0, 3])
    if scale is not None:
        kernel = ops.Mul(x=kernel, y=scale)
    if not depthwise:
        return kernel
    channels = layer.input_shape.channels
    shape = [layer.size, layer.size, channels, layer.filters // channels]
    return ops.Reshape(tensor=kernel, shape=shape)


def convolution_padding(layer: cfg.Convolutional) -> tuple[str, list[int]]:
    """Returns TensorFlow's `padding` and `explicit_paddings` (batch, rows, columns, channels).

    None for `xnor=1`: `signs_in_frame` has already padded the input.
    """
    sides = layer.padding * layer.dilation
    below, right = layer.overhang
    if layer.xnor:
        return "VALID", []
    if below or right:
        return "EXPLICIT", [0, 0, sides, sides + below, sides, sides + right, 0, 0]
    if not sides:
        return "VALID", []
    if layer.stride_y == layer.stride_x == 1 and 2 * layer.padding == layer.size - 1:
        return "SAME", []  # symmetric, as size is odd
    return "EXPLICIT", [0, 0, sides, sides, sides, sides, 0, 0]


def is_depthwise(layer: cfg.Convolutional) -> bool:
    """Returns whether TensorFlow's depthwise kernels support `layer`.

    They need equal strides for rows and columns, and cannot combine a stride with dilation.
    """
    layer = sharp(layer)
    return (
        layer.groups == layer.input_shape.channels > 1
        and layer.stride_y == layer.stride_x
        and 1 in (layer.stride_y, layer.dilation)
    )
