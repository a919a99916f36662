"""`antialiasing=`: a section with stride 1, followed by a strided blur."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from yolotf.darknet.sections.antialiased import Antialiased, Blur, sharp
from yolotf.graphs import operations
from yolotf.graphs.lowering import Lower, Lowering
from yolotf.graphs.operations import Operations, Tensor


def blurred(lower: Lower) -> Lower:
    """Returns `lower` followed by the section's blur, if it has one."""

    @functools.wraps(lower)
    def lower_and_blur(lowering: Lowering, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
        assert isinstance(layer, Antialiased)
        x = lower(lowering, sharp(layer), inputs)
        if not layer.antialiasing:
            return x
        return blur(lowering.ops, x, layer.blur, layer.output_shape.channels)

    return lower_and_blur


def blur(ops: Operations, x: Tensor, blur: Blur, channels: int) -> Tensor:
    """Writes the blur of a section with `antialiasing`: a fixed kernel on each channel.

    Args:
        ops: where to write the operations.
        x: [batch, rows, columns, channels].
        blur: the kernel and its strides.
        channels: of `x`.
    """
    kernel = [[[[weight]] * channels for weight in row] for row in blur.kernel]
    even = blur.stride_y == blur.stride_x
    x = ops.DepthwiseConv2dNative(
        input=operations.pad(ops, x, *blur.padding),
        filter=kernel,
        strides=[1, blur.stride_y, blur.stride_x, 1] if even else [1, 1, 1, 1],
        padding="VALID",
    )
    if even:
        return x
    steps = [1, blur.stride_y, blur.stride_x, 1]
    return operations.cut(ops, x, [0, 0, 0, 0], [0, 0, 0, 0], ends_at=(), steps=steps)
