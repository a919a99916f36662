"""What a float in a `.weights` file can be: the words that files, plans and models share."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple


class Role(str, Enum):
    """What one array is to its layer; equal to the plain word. In the order of csrc/plan.h."""

    BIAS = "bias"
    BETA = "beta"
    GAMMA = "gamma"
    MOVING_MEAN = "moving_mean"
    MOVING_VARIANCE = "moving_variance"
    KERNEL = "kernel"
    WEIGHTS = "weights"
    SCALE = "scale"
    """No file holds it: gamma / sqrt(variance + epsilon) of a folded batch normalization."""

    __str__ = str.__str__
    __repr__ = str.__repr__

    def __format__(self, spec: str) -> str:
        """As the plain word, whatever the Python."""
        return format(str(self), spec)

    @property
    def number(self) -> int:
        """Of the same role in csrc/plan.h."""
        return _NUMBERS[self]


_NUMBERS = {role: number for number, role in enumerate(Role)}
SCALES = (Role.GAMMA, Role.MOVING_MEAN, Role.MOVING_VARIANCE)
"""Of a batch normalization, after its beta, in file order (parser.c:2167-2170)."""
NORMALIZED = (Role.BETA, *SCALES, Role.KERNEL)
"""A convolution with batch norm, in file order."""
PLAIN = (Role.BIAS, Role.KERNEL)
"""A convolution without."""
ORDER = (Role.BIAS, *NORMALIZED, Role.WEIGHTS)
"""All that a layer can have, in file order (parser.c:2160-2194)."""
DENSE_ORDER = (Role.BIAS, Role.BETA, Role.KERNEL, *SCALES)
"""The same for `[connected]`, whose kernel comes before the scales (parser.c:2093-2112)."""


class Stored(NamedTuple):
    """One array in the file.

    Attributes:
        part: name of the sub-layer inside recurrent sections, else "".
        role: what it is.
        shape: Darknet's: (filters,), kernels OIHW `(filters, in / groups, size, size)`, dense
            kernels `(out, in)`.
    """

    part: str
    role: Role
    shape: tuple[int, ...]


def scales(channels: int, part: str = "") -> Iterator[Stored]:
    """Gamma, mean and variance."""
    for role in SCALES:
        yield Stored(part, role, (channels,))


def convolution(
    kernel: tuple[int, int, int, int], *, normalized: bool, with_scales: bool = True, part: str = ""
) -> Iterator[Stored]:
    """Biases, then scales, mean and variance, then the kernel (parser.c:2160-2194)."""
    return _in_order(ORDER, kernel, normalized, with_scales, part)


def dense(
    output: int, inputs: int, *, normalized: bool, with_scales: bool = True, part: str = ""
) -> Iterator[Stored]:
    """Biases, the kernel, then scales, mean and variance (parser.c:2093-2112)."""
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
