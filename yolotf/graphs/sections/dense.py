"""`[connected]` and `[batchnorm]`."""

from __future__ import annotations

from collections.abc import Sequence

from yolotf.darknet import cfg
from yolotf.graphs import activations, operations
from yolotf.graphs.lowering import Footprint, Lowering, lowers, uses_memory
from yolotf.graphs.operations import Operations, Tensor


@lowers(cfg.Connected)
def _connected(lowering: Lowering, layer: cfg.Connected, inputs: Sequence[Tensor]) -> Tensor:
    kernel, bias = lowering.array(layer, "kernel"), lowering.array(layer, "bias")
    return connected(lowering.ops, inputs[0], kernel, bias, layer)


@uses_memory(cfg.Connected)
def _footprint(layer: cfg.Connected, before: int, in_parts: bool) -> Footprint:
    after = layer.output_shape.floats
    return Footprint(after, before + after)


@lowers(cfg.Batchnorm)
def _batchnorm(lowering: Lowering, layer: cfg.Batchnorm, inputs: Sequence[Tensor]) -> Tensor:
    x = lowering.ops.Mul(x=inputs[0], y=lowering.array(layer, "scale"))
    return lowering.ops.AddV2(x=x, y=lowering.array(layer, "bias"))


def connected(
    ops: Operations, x: Tensor, kernel: Tensor, bias: Tensor, layer: cfg.Connected
) -> Tensor:
    """Writes `[connected]`, returning [batch, 1, 1, outputs] (connected_layer.c:151).

    Args:
        ops: where to write the operations.
        x: [batch, rows, columns, channels]; Darknet's order of inputs is channels, rows, columns.
        kernel: (inputs, outputs).
        bias: (outputs,).
        layer: sizes and activation.
    """
    x = ops.Transpose(x=x, perm=[0, 3, 1, 2])
    x = ops.Reshape(tensor=x, shape=[-1, layer.input_shape.floats])
    x = ops.MatMul(a=x, b=kernel)
    x = operations.add_bias(ops, x, bias)
    x = activations.activate_fused(ops, x, layer.activation)
    return ops.Reshape(tensor=x, shape=[-1, 1, 1, layer.output])
