"""What the graph is made of while it is written: values, operations, and the order of axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yolotf.onnx.proto import Dim

Axes = tuple[int, ...]

NCHW: Axes = (0, 3, 1, 2)
"""Order of a picture's axes in memory, as places in [batch, rows, columns, channels]."""
NHWC: Axes = (0, 1, 2, 3)
OIHW: Axes = (3, 2, 0, 1)
"""Order of a kernel's axes in memory, as places in HWIO."""


@dataclass(eq=False)
class Value:
    """One result of an operation, an input, a constant or an array of the network.

    Attributes:
        dtype: NumPy's name for it.
        constant: its numbers, if they are known now.
        weight: of an array of the network, its key in `NetworkGraph.shapes`.
        dims: of an array of the network, as the model declares it: its numbers in any shape.
        operation: that it is a result of.
        name: in the model; "" until it has one.
        uses: how many operations have taken it so far.
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
    """One node of the model.

    Attributes:
        kind: ONNX's name for it.
        inputs: what it takes; None for an optional input that is left out.
        attributes: by name.
        outputs: what it gives.
        section: name of the section that it is written for.
    """

    kind: str
    inputs: list[Value | None]
    attributes: dict[str, Any]
    outputs: list[Value] = field(default_factory=list)
    section: str = ""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value, and what its axes mean.

    Sections are described with channels last and computed with channels first. So a tensor has the
    shape that the description sees, and the order in which memory has these axes; an operation
    that only changes what axes are called writes nothing.

    Attributes:
        value: in the model.
        shape: as the description sees it.
        order: for each axis in memory, its place in `shape`.
    """

    value: Value
    shape: tuple[Dim, ...]
    order: Axes

    @property
    def dtype(self) -> str:
        """NumPy's name for it."""
        return self.value.dtype

    @property
    def rank(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    @property
    def in_memory(self) -> tuple[Dim, ...]:
        """The shape in memory."""
        return tuple(self.shape[axis] for axis in self.order)


@dataclass(frozen=True, eq=False)
class Filled:
    """A tensor of one number, in the shape of another; written only where a number will not do."""

    number: float
    like: Tensor


class Extent(NamedTuple):
    """`factor` times what an axis of a tensor has at run time."""

    tensor: Tensor
    axis: int
    factor: int = 1


class Sizes(list[int | Extent]):
    """A vector of extents: a shape, or a part of one, as far as it is known."""

    @property
    def known(self) -> bool:
        """Whether all of them are numbers."""
        return all(isinstance(one, int) for one in self)


def identity(rank: int) -> Axes:
    """The order of axes that the description has, too."""
    return tuple(range(rank))


def broadcast(shapes: Sequence[Sequence[Dim]]) -> tuple[Dim, ...]:
    """The shape of an operation on each element of tensors of these shapes."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(_together(extents) for extents in zip(*padded, strict=True))


def _together(extents: Sequence[Dim]) -> Dim:
    return next((extent for extent in extents if extent != 1), 1)


def moves_only_ones(shape: Sequence[Dim], before: Axes, after: Axes) -> bool:
    """Whether two orders of axes are the same in memory, axes of extent 1 aside."""
    wide = [[axis for axis in order if shape[axis] != 1] for order in (before, after)]
    return wide[0] == wide[1]


def product(extents: Sequence[Dim]) -> int:
    """Of those that are numbers."""
    return int(np.prod([one for one in extents if isinstance(one, int)], dtype=np.int64))


def windows(extent: Dim, size: int, stride: int, sides: Sequence[int], dilation: int = 1) -> Dim:
    """Positions of a window; of an extent that is not known, where `stride` divides it."""
    beyond = sum(sides) - (size - 1) * dilation - 1
    if isinstance(extent, int):
        return (extent + beyond) // stride + 1
    left = beyond // stride + 1
    return divided(extent, stride) if left == 0 else f"({divided(extent, stride)}{left:+d})"


def divided(extent: Dim, divisor: int) -> Dim:
    """The extent's `divisor`-th part."""
    if isinstance(extent, int):
        return extent // divisor
    name, before = _divisor_of(extent)
    return extent if divisor == 1 else f"{name}/{before * divisor}"


def times(extent: Dim, factor: int) -> Dim:
    """The extent multiplied."""
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
    """ONNX's order: all that is before, then all that is after."""
    return [side[0] for side in sides] + [side[1] for side in sides]
