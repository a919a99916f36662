"""`[convolutional]` and `[local]`."""

from __future__ import annotations

from collections.abc import Sequence

from yolotf.darknet import cfg, graph_checks
from yolotf.graphs import convolution, onednn, operations
from yolotf.graphs.lazy_concat import Chunk, LazyConcat
from yolotf.graphs.lowering import (
    Footprint,
    KernelForm,
    Lowering,
    lowers,
    lowers_in_parts,
    stores_kernel,
    uses_memory,
)
from yolotf.graphs.operations import Operations, Tensor
from yolotf.graphs.sections.antialiased import blurred


@lowers(cfg.Convolutional)
@blurred
def _convolutional(
    lowering: Lowering, layer: cfg.Convolutional, inputs: Sequence[Tensor]
) -> Tensor:
    (x,) = inputs
    owner, kernel, bias = _kernel_and_bias(lowering, layer)
    blocks = lowering.blocks.get(owner.index, 1) if lowering.fused else 1
    if layer.xnor:
        side, (below, right) = layer.padding, layer.overhang
        x = convolution.signs_in_frame(lowering.ops, x, [side, side + below], [side, side + right])
        kernel = convolution.binarize(lowering.ops, kernel, 4 if blocks == 1 else 5)
    return convolved(lowering, x, kernel, bias, layer, blocks)


@lowers_in_parts(cfg.Convolutional)
def _convolutional_in_parts(
    lowering: Lowering, layer: cfg.Convolutional, inputs: Sequence[LazyConcat]
) -> LazyConcat | None:
    """Returns the blocks of a wide convolution as parts."""
    if layer.antialiasing or layer.xnor or not onednn.supports(layer):
        return None
    owner, kernel, bias = _kernel_and_bias(lowering, layer)
    blocks = lowering.blocks.get(owner.index, 1)
    parts = onednn.convolve_in_parts(lowering.ops, inputs[0].whole(), kernel, bias, layer, blocks)
    return LazyConcat(lowering.ops, [Chunk(part, layer.filters // len(parts)) for part in parts])


@stores_kernel(cfg.Convolutional)
def _kernel_form(layer: cfg.Convolutional, *, as_stored: bool, use_onednn: bool) -> KernelForm:
    return KernelForm(
        depthwise=not as_stored and convolution.is_depthwise(layer),
        blocks=onednn.blocks(layer) if use_onednn else 1,
        is_optimal=onednn.supports(layer),
    )


@uses_memory(cfg.Convolutional)
def _footprint(layer: cfg.Convolutional, before: int, in_parts: bool) -> Footprint:
    blocks = onednn.blocks(layer)
    after = layer.output_shape.floats
    return Footprint(after, before + after // blocks, in_parts=blocks > 1)


def _kernel_and_bias(
    lowering: Lowering, layer: cfg.Convolutional
) -> tuple[cfg.Convolutional, Tensor, Tensor]:
    """Returns the layer whose kernel is used, the kernel as it is multiplied, and the bias."""
    owner = graph_checks.kernel_owner(lowering.network, layer)
    kernel, bias = lowering.array(owner, "kernel"), lowering.array(owner, "bias")
    if owner.flips_kernel:
        scale = lowering.array(owner, "scale") if owner.batch_normalize else None
        depthwise = not lowering.as_stored and convolution.is_depthwise(owner)
        kernel = convolution.unflip(lowering.ops, kernel, scale, owner, depthwise=depthwise)
    return owner, kernel, bias


def convolved(
    lowering: Lowering,
    x: Tensor,
    kernel: Tensor,
    bias: Tensor,
    layer: cfg.Convolutional,
    blocks: int = 1,
) -> Tensor:
    """Writes a convolution with bias and activation in the form that the graph uses.

    Args:
        lowering: the graph.
        x: [batch, rows, columns, channels].
        kernel: in the graph's order of axes.
        bias: (filters,), or (blocks, filters / blocks).
        layer: geometry and activation.
        blocks: number of blocks of the kernel.
    """
    ops = lowering.ops
    if lowering.fused and onednn.supports(layer):
        return onednn.convolve(ops, x, kernel, bias, layer, blocks)
    if lowering.as_stored:
        x = convolution.convolve_in_groups(ops, x, kernel, layer)
        x = operations.add_bias(ops, x, bias)
    else:
        groups = 1 if convolution.is_depthwise(layer) else layer.groups
        x = convolution.convolve(ops, x, kernel, layer)
        x = operations.add_bias(ops, x, bias, groups=groups)
    return lowering.activated(layer, x, after_bias=True)


@lowers(cfg.Local)
def _local(lowering: Lowering, layer: cfg.Local, inputs: Sequence[Tensor]) -> Tensor:
    side, (below, right) = int(layer.pad), layer.overhang
    x = convolve_locally(
        lowering.ops,
        inputs[0],
        lowering.array(layer, "kernel"),
        layer.output_shape,
        channels=layer.input_shape.channels,
        size=layer.size,
        stride=layer.stride,
        padding=[[side, side + below], [side, side + right]],
    )
    x = lowering.ops.AddV2(x=x, y=lowering.array(layer, "bias"))
    return lowering.activated(layer, x)


@uses_memory(cfg.Local)
def _local_footprint(layer: cfg.Local, before: int, in_parts: bool) -> Footprint:
    after = layer.output_shape.floats
    return Footprint(after, before + after)


def convolve_locally(
    ops: Operations,
    x: Tensor,
    kernel: Tensor,
    output_shape: Sequence[int],
    *,
    channels: int,
    size: int,
    stride: int,
    padding: Sequence[Sequence[int]],
) -> Tensor:
    """Writes `[local]` without bias: a separate kernel for each position (local_layer.c:95).

    Args:
        ops: where to write the operations.
        x: [batch, rows, columns, channels].
        kernel: (positions, size, size, channels, filters).
        output_shape: rows, columns, filters.
        channels: of `x`.
        size: of the window.
        stride: of the window.
        padding: zeros around `x`: rows before and after, columns before and after.
    """
    rows, columns, filters = output_shape
    patches = ops.ExtractImagePatches(
        images=operations.pad(ops, x, *padding),
        ksizes=[1, size, size, 1],
        strides=[1, stride, stride, 1],
        rates=[1, 1, 1, 1],
        padding="VALID",
    )
    # [batch, positions, 1, floats of a window] times [positions, floats of a window, filters].
    positions = rows * columns
    depth = size**2 * channels
    patches = ops.Reshape(tensor=patches, shape=[-1, positions, 1, depth])
    weights = ops.Reshape(tensor=kernel, shape=[positions, depth, filters])
    outputs = ops.BatchMatMulV2(x=patches, y=weights)
    return ops.Reshape(tensor=outputs, shape=[-1, rows, columns, filters])
