"""Values, operations and axis orders of an ONNX graph under construction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yolotf.onnx.proto import Dim

Axes = tuple[int, ...]

NCHW: Axes = (0, 3, 1, 2)
"""Order of an image's axes in memory, as indices into [batch, rows, columns, channels]."""
NHWC: Axes = (0, 1, 2, 3)
OIHW: Axes = (3, 2, 0, 1)
"""Order of a kernel's axes in memory, as indices into HWIO."""


@dataclass(eq=False)
class Value:
    """A result of an operation, an input, a constant or a weight array.

    Attributes:
        dtype: NumPy's name of the type.
        constant: the array, if constant.
        weight: key of a weight array in `NetworkGraph.shapes`.
        dims: shape that the model declares for a weight array, whose values fit any shape.
        operation: the operation that computes it.
        name: in the model; "" until named.
        uses: how many operations use it so far.
    """

    dtype: str = "float32"
    constant: npt.NDArray[Any] | None = None
    weight: str = ""
    dims: tuple[int, ...] = ()
    operation: Operation | None = None
    name: str = ""
    uses: int = 0


@dataclass(eq=False)
class Operation:
    """A node of the model.

    Attributes:
        kind: ONNX's name of the operation.
        inputs: the inputs; None for an omitted optional input.
        attributes: by name.
        outputs: the outputs.
        section: name of the section it belongs to.
    """

    kind: str
    inputs: list[Value | None]
    attributes: dict[str, Any]
    outputs: list[Value] = field(default_factory=list)
    section: str = ""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value with the meaning of its axes.

    Sections are described channels last and computed channels first. A tensor therefore has both
    the shape that the description works with and the order of its axes in memory. Operations that
    only rename axes write nothing.

    Attributes:
        value: in the model.
        shape: the shape that the description works with.
        order: for each axis in memory, its index in `shape`.
    """

    value: Value
    shape: tuple[Dim, ...]
    order: Axes

    @property
    def dtype(self) -> str:
        """NumPy's name of the type."""
        return self.value.dtype

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def in_memory(self) -> tuple[Dim, ...]:
        """The shape in memory."""
        return tuple(self.shape[axis] for axis in self.order)


@dataclass(frozen=True, eq=False)
class Filled:
    """A scalar broadcast to a tensor's shape; written in full only where a scalar is not enough."""

    number: float
    like: Tensor


class Extent(NamedTuple):
    """`factor` times the size of a tensor's axis at run time."""

    tensor: Tensor
    axis: int
    factor: int = 1


class Sizes(list[int | Extent]):
    """A vector of sizes, such as a shape, static where known."""

    @property
    def is_static(self) -> bool:
        """Whether all sizes are static."""
        return all(isinstance(size, int) for size in self)


def identity(rank: int) -> Axes:
    """Returns the axis order of the description."""
    return tuple(range(rank))


def broadcast(shapes: Sequence[Sequence[Dim]]) -> tuple[Dim, ...]:
    """Returns the broadcast shape of tensors with these shapes."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(_common_extent(extents) for extents in zip(*padded, strict=True))


def _common_extent(extents: Sequence[Dim]) -> Dim:
    return next((extent for extent in extents if extent != 1), 1)


def same_in_memory(shape: Sequence[Dim], before: Axes, after: Axes) -> bool:
    """Returns whether two axis orders are equal in memory apart from axes of size 1."""
    wide_before, wide_after = (
        [axis for axis in order if shape[axis] != 1] for order in (before, after)
    )
    return wide_before == wide_after


def product(extents: Sequence[Dim]) -> int:
    """Returns the product of the static sizes."""
    return int(np.prod([extent for extent in extents if isinstance(extent, int)], dtype=np.int64))


def windows(extent: Dim, size: int, stride: int, sides: Sequence[int], dilation: int = 1) -> Dim:
    """Returns the number of window positions; `stride` is assumed to divide a dynamic size."""
    added = sum(sides) - (size - 1) * dilation - 1
    if isinstance(extent, int):
        return (extent + added) // stride + 1
    offset = added // stride + 1
    return divided(extent, stride) if offset == 0 else f"({divided(extent, stride)}{offset:+d})"


def divided(extent: Dim, divisor: int) -> Dim:
    """Returns a size divided by `divisor`."""
    if isinstance(extent, int):
        return extent // divisor
    name, earlier_divisor = _divisor_of(extent)
    return extent if divisor == 1 else f"{name}/{earlier_divisor * divisor}"


def times(extent: Dim, factor: int) -> Dim:
    """Returns a size multiplied by `factor`."""
    if isinstance(extent, int):
        return extent * factor
    name, divisor = _divisor_of(extent)
    if divisor % factor:
        return f"({extent}*{factor})"
    return name if divisor == factor else f"{name}/{divisor // factor}"


def _divisor_of(extent: str) -> tuple[str, int]:
    name, slash, divisor = extent.rpartition("/")
    return (name, int(divisor)) if slash and divisor.isdecimal() else (extent, 1)


def pads(sides: Sequence[Sequence[int]]) -> list[int]:
    """Returns padding in ONNX's order: before for all axes, then after."""
    return [side[0] for side in sides] + [side[1] for side in sides]
