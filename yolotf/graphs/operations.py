"""What the sections of a network and the resizing of pictures have in common.

What a section does at inference (AlexeyAB/darknet src/) is written in TensorFlow operations,
channels last, once for all graphs; see `yolotf.graphs.sections`. The first argument of a function
says where the operations are written: `tf.raw_ops` for functions and Keras layers,
`yolotf.runtime.graph.Operations` for the runtime, `yolotf.onnx.operations.Operations` for ONNX, or
whatever else takes the same keyword arguments. Numbers and lists among them become constants of the
type of the other arguments, so a tensor always comes before them.

Nothing in `yolotf.graphs` imports TensorFlow unless it says so.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from yolotf.darknet.detection_options import Resize

Tensor = Any
Operations = Any
"""`tf.raw_ops`, or what has its functions."""


def pad(ops: Operations, x: Tensor, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """Zeros around rows and columns: how many before, and how many after."""
    if not any((*rows, *columns)):
        return x
    return ops.Pad(input=x, paddings=[[0, 0], list(rows), list(columns), [0, 0]])


def split(ops: Operations, x: Tensor, parts: int) -> Sequence[Tensor]:
    """Equal parts of the channels."""
    outputs: Sequence[Tensor] = ops.Split(axis=-1, value=x, num_split=parts)
    return outputs


def extents(ops: Operations, x: Tensor) -> Tensor:
    """[2]: rows and columns."""
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
    """`x[begin:end:steps]` of four axes; axes not in `ends_at` go to their end."""
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
    """Images of another size, bilinearly; bytes stay numbers of 0..255, in float32.

    Darknet lays the corners of both images on each other (image.c:1006 and 1399), OpenCV the
    centres of their pixels, and it makes bytes of bytes (in fixed point: they differ by up to 1).
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
    """Resizes pictures to the network's input, see `resized`, and adds what is around them.

    Args:
        ops: where to write it.
        images: [batch, height, width, channels], uint8, or float32 in 0..1.
        inner: (height, width) that the pictures get.
        sides: [4, 2]: what of 0.5 is added around them, for letter boxes.
        integers: whether they are uint8.
        resize: as Darknet or as OpenCV.

    Returns:
        [batch, rows, columns, channels] float32 in 0..1.
    """
    values = resized(ops, images, inner, integers=integers, resize=resize)
    if integers:
        values = ops.RealDiv(x=values, y=255.0)
    return values if sides is None else ops.PadV2(input=values, paddings=sides, constant_values=0.5)


def letter_box_size(picture: Sequence[int], size: Sequence[int]) -> tuple[int, int]:
    """(height, width) of the picture inside the letter box (image.c:1006).

    The longer side, measured against the input, fills it; the other is rounded down, but never
    to nothing.

    Args:
        picture: its height and width.
        size: those of the network's input.
    """
    (height, width), (rows, columns) = picture, size
    # In float32, as Darknet compares them.
    if np.float32(columns) / np.float32(width) < np.float32(rows) / np.float32(height):
        return max(1, height * columns // width), columns
    return rows, max(1, width * rows // height)


def add_bias(ops: Operations, x: Tensor, bias: Tensor, *, groups: int = 1) -> Tensor:
    """The bias behind a convolution or matrix product; TensorFlow's optimizer joins the two.

    What it makes of `Conv2D` and `BiasAdd` is Eigen's where oneDNN is off, and knows no groups
    (TensorFlow 2.16 to 2.21: "Fused conv implementation does not support grouped convolutions").
    It leaves `AddV2` alone there; where oneDNN is on it takes it for the bias that it is, and
    oneDNN's operation has groups.

    Args:
        ops: where to write it.
        x: channels last.
        bias: (channels,).
        groups: of the `Conv2D` that `x` comes from.
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
        """What was here before every family of sections had a file of its own."""
        for module in () if name.startswith("_") else _SPLIT:
            home = importlib.import_module(f"yolotf.graphs.{module}")
            if name in vars(home):
                return vars(home)[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
