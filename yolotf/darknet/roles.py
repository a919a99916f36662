"""The roles that arrays have in `.weights` files, plans and models."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple


class Role(str, Enum):
    """The role of an array in its layer; equal to its string.

    In the order of csrc/weights/plan.h.
    """

    BIAS = "bias"
    BETA = "beta"
    GAMMA = "gamma"
    MOVING_MEAN = "moving_mean"
    MOVING_VARIANCE = "moving_variance"
    KERNEL = "kernel"
    WEIGHTS = "weights"
    SCALE = "scale"
    """Never stored: gamma / sqrt(variance + epsilon) of a folded batch normalization."""

    __str__ = str.__str__
    __repr__ = str.__repr__

    def __format__(self, spec: str) -> str:
        """The plain string in every Python version."""
        return format(str(self), spec)

    @property
    def number(self) -> int:
        """The value of the same role in csrc/weights/plan.h."""
        return _NUMBERS[self]


_NUMBERS = {role: number for number, role in enumerate(Role)}
SCALES = (Role.GAMMA, Role.MOVING_MEAN, Role.MOVING_VARIANCE)
"""The arrays of a batch normalization after beta, in file order (parser.c:2167-2170)."""
NORMALIZED = (Role.BETA, *SCALES, Role.KERNEL)
"""A convolution with batch normalization, in file order."""
PLAIN = (Role.BIAS, Role.KERNEL)
"""A convolution without batch normalization, in file order."""
ORDER = (Role.BIAS, *NORMALIZED, Role.WEIGHTS)
"""All arrays that a convolution can have, in file order (parser.c:2160-2194)."""
DENSE_ORDER = (Role.BIAS, Role.BETA, Role.KERNEL, *SCALES)
"""The same for `[connected]`, whose kernel comes before gamma (parser.c:2093-2112)."""


class Stored(NamedTuple):
    """An array in the file.

    Attributes:
        part: name of the sub-layer in recurrent sections, else "".
        role: its role in the layer.
        shape: in Darknet's axis order: `(filters,)`, `(filters, in / groups, size, size)` (OIHW)
            for convolutions, `(out, in)` for dense kernels.
    """

    part: str
    role: Role
    shape: tuple[int, ...]


def scales(channels: int, part: str = "") -> Iterator[Stored]:
    """Gamma, moving mean and moving variance."""
    for role in SCALES:
        yield Stored(part, role, (channels,))


def convolution(
    kernel: tuple[int, int, int, int], *, normalized: bool, with_scales: bool = True, part: str = ""
) -> Iterator[Stored]:
    """Bias or beta, then gamma, mean and variance, then the kernel (parser.c:2160-2194)."""
    return _in_order(ORDER, kernel, normalized, with_scales, part)


def dense(
    output: int, inputs: int, *, normalized: bool, with_scales: bool = True, part: str = ""
) -> Iterator[Stored]:
    """Bias or beta, then the kernel, then gamma, mean and variance (parser.c:2093-2112)."""
    return _in_order(DENSE_ORDER, (output, inputs), normalized, with_scales, part)


def _in_order(
    order: tuple[Role, ...],
    kernel: tuple[int, ...],
    normalized: bool,
    with_scales: bool,
    part: str,
) -> Iterator[Stored]:
    present = {Role.BETA if normalized else Role.BIAS, Role.KERNEL}
    if normalized and with_scales:
        present.update(SCALES)
    for role in order:
        if role in present:
            yield Stored(part, role, kernel if role is Role.KERNEL else kernel[:1])
