"""Matrix products and biases."""

from __future__ import annotations

from yolotf.onnx.operations.writer import Operations, writes
from yolotf.onnx.tensors import Tensor, identity


@writes("BiasAdd")
def bias_add(ops: Operations, *, value: Tensor, bias: Tensor) -> Tensor:
    """Adds a bias, as an input of the preceding convolution or matrix product."""
    preceding = value.value.operation
    takes_bias = preceding is not None and preceding.kind in ("Conv", "Gemm")
    if preceding is not None and takes_bias and len(preceding.inputs) == 2 and not value.value.uses:
        added = ops.in_order(bias, (0,))
        added.uses += 1
        preceding.inputs.append(added)
        return value
    summed: Tensor = ops.AddV2(x=value, y=bias)
    return summed


@writes("MatMul")
def matrix_product(ops: Operations, *, a: Tensor, b: Tensor) -> Tensor:
    """Returns a matrix product; the right operand may be stored transposed."""
    is_transposed = b.order == (1, 0)
    inputs = [ops.in_order(a, (0, 1)), ops.in_order(b, b.order)]
    (output,) = ops.write("Gemm", inputs, transB=int(is_transposed))
    return Tensor(output, (a.shape[0], b.shape[1]), (0, 1))


@writes("BatchMatMulV2")
def matrix_products(ops: Operations, *, x: Tensor, y: Tensor) -> Tensor:
    """Returns [batch, positions, 1, depth] times [positions, depth, filters]."""
    batch, positions, rows, depth = x.shape
    assert rows == 1
    # Images are the rows of a product for each position, so that no axis is broadcast, which OpenCV
    # 4.14 does incorrectly.
    order = (1, 2, 0, 3)
    right = ops.reshaped(ops.in_order(y, identity(3)), y.shape, (positions, 1, depth, y.shape[-1]))
    (output,) = ops.write("MatMul", [ops.in_order(x, order), right])
    return Tensor(output, (batch, positions, 1, y.shape[-1]), order)
