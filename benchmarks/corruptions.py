"""Random corruptions of a .weights file, as disks, downloads and memory make them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_REPEAT = 16 * 1024
"""Floats in 64 KiB, the least that counts as a repeated block."""


def _length(rng: np.random.Generator, least: int, most: int) -> int:
    """Returns a log-uniform length: 1,000 to 2,000 as often as 100,000 to 200,000."""
    return int(math.exp(rng.uniform(math.log(least), math.log(max(least + 1, most)))))


def _two(rng: np.random.Generator, floats: Floats, length: int) -> tuple[slice, slice]:
    """Returns two ranges of `length` floats that do not overlap."""
    first = int(rng.integers(0, floats.size - 2 * length + 1))
    second = int(rng.integers(first + length, floats.size - length + 1))
    return slice(first, first + length), slice(second, second + length)


def _nan(rng: np.random.Generator, floats: Floats) -> Floats:
    length = _length(rng, 1, 1000)
    start = int(rng.integers(0, floats.size - length + 1))
    floats[start : start + length] = rng.choice([np.nan, np.inf, -np.inf])
    return floats


def _zeros(rng: np.random.Generator, floats: Floats) -> Floats:
    length = _length(rng, 1024, floats.size // 4)
    start = int(rng.integers(0, floats.size - length + 1))
    floats[start : start + length] = 0
    return floats


def _repeated(rng: np.random.Generator, floats: Floats) -> Floats:
    here, there = _two(rng, floats, _length(rng, _REPEAT, floats.size // 3))
    here, there = (here, there) if rng.integers(2) else (there, here)
    floats[here] = floats[there].copy()
    return floats


def _swapped(rng: np.random.Generator, floats: Floats) -> Floats:
    here, there = _two(rng, floats, _length(rng, 1024, floats.size // 3))
    floats[here], floats[there] = floats[there].copy(), floats[here].copy()
    return floats


def _shifted(rng: np.random.Generator, floats: Floats) -> Floats:
    length = _length(rng, 1, 4096)
    start = int(rng.integers(length, floats.size - 2 * length))
    if rng.integers(2):
        return np.concatenate(
            [floats[:start], floats[start - length : start], floats[start:-length]]
        )
    return np.concatenate([floats[:start], floats[start + length :], floats[-length:]])


def _flipped(rng: np.random.Generator, floats: Floats) -> Floats:
    count = int(rng.integers(1, 17))
    places = rng.integers(0, floats.size, count)
    np.bitwise_xor.at(
        floats.view(np.uint32), places, np.uint32(1) << rng.integers(23, 31, count, np.uint32)
    )
    return floats


def _truncated(rng: np.random.Generator, floats: Floats) -> Floats:
    return floats[: int(rng.integers(0, floats.size))]


KINDS: dict[str, Callable[[np.random.Generator, Floats], Floats]] = {
    "NaN or infinity": _nan,
    "zeros": _zeros,
    "repeated block": _repeated,
    "swapped blocks": _swapped,
    "shift": _shifted,
    "exponent bits": _flipped,
    "truncation": _truncated,
}


def corruptions(
    content: bytes, header_bytes: int, count: int, seed: int
) -> Iterator[tuple[str, bytes]]:
    """Yields `count` corrupted copies of a file, equally many of each kind, as (kind, bytes)."""
    rng = np.random.default_rng(seed)
    kinds = list(KINDS)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        floats = np.frombuffer(content, "<f4", offset=header_bytes).copy()
        yield kind, content[:header_bytes] + KINDS[kind](rng, floats).tobytes()
