"""Operations shared by sections and image resizing.

What a section computes (AlexeyAB/darknet src/) is written once for all graphs, in TensorFlow
operations, channels last; see `yolotf.graphs.sections`. The first argument of each function,
`ops`, receives the operations: `tf.raw_ops` for functions and Keras layers,
`yolotf.runtime.graph.Operations` for the runtime, `yolotf.onnx.operations.Operations` for ONNX, or
anything else with the same keyword arguments. Numbers and lists become constants with the type of
the other arguments, so a tensor always precedes them.

Nothing in `yolotf.graphs` imports TensorFlow unless its docstring says so.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from yolotf.darknet.detection_options import Resize
from yolotf.interfaces import Tensor as Tensor

Operations = Any
"""`tf.raw_ops`, or an object with the same functions."""


def pad(ops: Operations, x: Tensor, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """Pads rows and columns with zeros, given (before, after) of each."""
    if not any((*rows, *columns)):
        return x
    return ops.Pad(input=x, paddings=[[0, 0], list(rows), list(columns), [0, 0]])


def split(ops: Operations, x: Tensor, parts: int) -> Sequence[Tensor]:
    """Splits the channels into equal parts."""
    outputs: Sequence[Tensor] = ops.Split(axis=-1, value=x, num_split=parts)
    return outputs


def extents(ops: Operations, x: Tensor) -> Tensor:
    """Returns rows and columns, [2]."""
    return ops.Slice(input=ops.Shape(input=x), begin=[1], size=[2])


def cut(
    ops: Operations,
    x: Tensor,
    begin: Sequence[int],
    end: Tensor | Sequence[int],
    *,
    ends_at: Sequence[int],
    steps: Sequence[int] = (1, 1, 1, 1),
) -> Tensor:
    """Returns `x[begin:end:steps]` of four axes; axes not in `ends_at` extend to their end."""
    open_axes = sum(1 << axis for axis in range(4) if axis not in ends_at)
    return ops.StridedSlice(
        input=x, begin=list(begin), end=end, strides=list(steps), end_mask=open_axes
    )


def resized(
    ops: Operations,
    images: Tensor,
    size: Tensor | Sequence[int],
    *,
    integers: bool,
    resize: Resize = "darknet",
) -> Tensor:
    """Resizes images bilinearly; uint8 input yields float32 in 0..255.

    Darknet aligns the corner pixels of both images (image.c:1006 and 1399). OpenCV uses half-pixel
    centers and rounds uint8 to uint8 (in fixed point, so results differ by up to 1).
    """
    if resize == "darknet":
        return ops.ResizeBilinear(images=images, size=size, align_corners=True)
    values = ops.ResizeBilinear(images=images, size=size, half_pixel_centers=True)
    return ops.Round(x=values) if integers else values


def fit(
    ops: Operations,
    images: Tensor,
    inner: Tensor | Sequence[int],
    sides: Tensor | None = None,
    *,
    integers: bool,
    resize: Resize = "darknet",
) -> Tensor:
    """Resizes images to the network's input, see `resized`, and pads them.

    Args:
        ops: where to write the operations.
        images: [batch, height, width, channels], uint8, or float32 in 0..1.
        inner: (height, width) of the resized images.
        sides: [4, 2]: padding with 0.5 for letter boxes.
        integers: whether images are uint8.
        resize: as Darknet or as OpenCV.

    Returns:
        [batch, rows, columns, channels] float32 in 0..1.
    """
    values = resized(ops, images, inner, integers=integers, resize=resize)
    if integers:
        values = ops.RealDiv(x=values, y=255.0)
    return values if sides is None else ops.PadV2(input=values, paddings=sides, constant_values=0.5)


def letter_box_size(image: Sequence[int], size: Sequence[int]) -> tuple[int, int]:
    """Returns (height, width) of the image inside the letter box (image.c:1006).

    The side that is longer relative to the input fills it; the other is rounded down, but is at
    least 1.

    Args:
        image: (height, width) of the image.
        size: (height, width) of the network's input.
    """
    (height, width), (rows, columns) = image, size
    # Compared in float32 as in Darknet.
    if np.float32(columns) / np.float32(width) < np.float32(rows) / np.float32(height):
        return max(1, height * columns // width), columns
    return rows, max(1, width * rows // height)


def add_bias(ops: Operations, x: Tensor, bias: Tensor, *, groups: int = 1) -> Tensor:
    """Adds the bias after a convolution or matrix product, in a form that TensorFlow can fuse.

    Without oneDNN, Grappler fuses `Conv2D` and `BiasAdd` into an Eigen operation that lacks groups
    (TensorFlow 2.16 to 2.21: "Fused conv implementation does not support grouped convolutions"). It
    does not fuse `AddV2` there; with oneDNN it does, into an operation that supports groups.

    Args:
        ops: where to write the operations.
        x: channels last.
        bias: (channels,).
        groups: of the `Conv2D` that computed `x`.
    """
    return ops.BiasAdd(value=x, bias=bias) if groups == 1 else ops.AddV2(x=x, y=bias)


_SPLIT = (
    "activations",
    "convolution",
    "sections.antialiased",
    "sections.convolutional",
    "sections.joins",
    "sections.pointwise",
    "sections.resampling",
)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Returns functions that have moved to `yolotf.graphs.sections`."""
        for module in () if name.startswith("_") else _SPLIT:
            home = importlib.import_module(f"yolotf.graphs.{module}")
            if name in vars(home):
                return vars(home)[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
