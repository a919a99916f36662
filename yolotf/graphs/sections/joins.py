"""Sections with several inputs: `[route]`, `[shortcut]`, `[scale_channels]`, `[sam]`."""

from __future__ import annotations

from collections.abc import Sequence

from yolotf.darknet import cfg
from yolotf.graphs import activations, operations
from yolotf.graphs.lazy_concat import LazyConcat
from yolotf.graphs.lowering import Footprint, Lowering, lowers, lowers_in_parts, uses_memory
from yolotf.graphs.operations import Operations, Tensor


@lowers(cfg.Route)
def _route(lowering: Lowering, layer: cfg.Route, inputs: Sequence[Tensor]) -> Tensor:
    """Concatenates channels, of each input those of group `group_id` (route_layer.c:92)."""
    ops = lowering.ops
    if layer.groups > 1:
        # Not Split, which would copy the other groups too.
        sizes = [shape.channels // layer.groups for shape in lowering.input_shapes(layer)]
        inputs = [
            ops.Slice(input=x, begin=[0, 0, 0, layer.group_id * size], size=[-1, -1, -1, size])
            for x, size in zip(inputs, sizes, strict=True)
        ]
    return inputs[0] if len(inputs) == 1 else ops.ConcatV2(values=list(inputs), axis=-1)


@lowers_in_parts(cfg.Route)
def _route_in_parts(
    lowering: Lowering, layer: cfg.Route, inputs: Sequence[LazyConcat]
) -> LazyConcat | None:
    """Returns the parts of all inputs; None if a part would have to be split."""
    parts = []
    for value in inputs:
        group = value.group(layer.groups, layer.group_id)
        if group is None:
            return None
        parts += group.parts
    return LazyConcat(lowering.ops, parts)


@uses_memory(cfg.Route)
def _route_footprint(layer: cfg.Route, before: int, in_parts: bool) -> Footprint:
    if layer.groups > 1:
        return Footprint(joined=True)
    return Footprint(before, in_parts=in_parts or len(layer.inputs) > 1, joined=True)


@lowers(cfg.Shortcut)
def _shortcut(lowering: Lowering, layer: cfg.Shortcut, inputs: Sequence[Tensor]) -> Tensor:
    factors = None
    if layer.nweights:
        factors = shortcut_factors(
            lowering.ops, lowering.array(layer, "weights"), layer.weights_normalization
        )
    columns = layer.nweights // len(layer.inputs)
    shapes = lowering.input_shapes(layer)
    x = shortcut(lowering.ops, inputs, shapes, factors, columns)
    return lowering.activated(layer, x)


@lowers(cfg.ScaleChannels, cfg.Sam)
def _product(
    lowering: Lowering, layer: cfg.ScaleChannels | cfg.Sam, inputs: Sequence[Tensor]
) -> Tensor:
    x = lowering.ops.Mul(x=inputs[0], y=inputs[1])
    return lowering.activated(layer, x)


@uses_memory(cfg.Shortcut, cfg.ScaleChannels, cfg.Sam)
def _footprint(
    layer: cfg.Shortcut | cfg.ScaleChannels | cfg.Sam, before: int, in_parts: bool
) -> Footprint:
    return Footprint(layer.output_shape.floats, before)  # may overwrite an input


def shortcut(
    ops: Operations,
    inputs: Sequence[Tensor],
    shapes: Sequence[cfg.Shape],
    factors: Tensor | None,
    factor_columns: int = 0,
) -> Tensor:
    """Writes `[shortcut]` without activation (blas.c:78-129).

    Only channels that both have are added, and of larger inputs only every n-th row and column, as
    in Darknet's shortcut without weights (shortcut_cpu, blas.c:190).

    Args:
        ops: where to write the operations.
        inputs: the first defines the output shape.
        shapes: of the inputs, as in the cfg.
        factors: a row for each input, see `shortcut_factors`.
        factor_columns: length of a row: 1, or the number of channels.
    """
    first, target = inputs[0], shapes[0]
    rows = []
    if factors is not None:
        rows = ops.Unpack(value=factors, num=len(inputs), axis=0)
    outputs = first if factors is None else ops.Mul(x=first, y=rows[0])
    for number, (other, shape) in enumerate(zip(inputs[1:], shapes[1:], strict=True), 1):
        if shape[:2] != target[:2]:
            steps = [1, shape.height // target.height, shape.width // target.width, 1]
            ends = ops.Mul(x=ops.Shape(input=first), y=steps)
            other = operations.cut(ops, other, [0, 0, 0, 0], ends, ends_at=(1, 2), steps=steps)
        common = min(shape.channels, target.channels)
        if shape.channels > common:
            other = operations.cut(ops, other, [0, 0, 0, 0], [0, 0, 0, common], ends_at=(3,))
        if factors is not None:
            factor = rows[number]
            if 1 < factor_columns != common:
                factor = ops.Slice(input=factor, begin=[0], size=[common])
            other = ops.Mul(x=other, y=factor)
        if target.channels > common:
            sides = [[0, 0]] * 3 + [[0, target.channels - common]]
            other = ops.Pad(input=other, paddings=sides)
        outputs = ops.AddV2(x=outputs, y=other)
    return outputs


def shortcut_factors(ops: Operations, weights: Tensor, normalization: str) -> Tensor:
    """Returns the factors of stored `weights`, a row for each input (blas.c:85-107)."""
    if normalization == "relu":
        factors = ops.Relu(features=weights)
    elif normalization == "softmax":
        largest = ops.Max(input=weights, axis=[0], keep_dims=True)
        factors = ops.Exp(x=ops.Sub(x=weights, y=largest))
    else:
        return weights
    return activations.normalized(ops, factors, 0)
