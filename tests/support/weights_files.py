"""Writes `.weights` files byte by byte: a header, then float32s; shares no line with yolotf.

All other helpers that write `.weights` files use this module.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def header(
    seen: int = 0, *, version: tuple[int, int, int] = (0, 2, 5), seen_bytes: int | None = None
) -> bytes:
    """Returns the version and the number of images seen (AlexeyAB/darknet src/parser.c:2254).

    `seen` has 8 bytes from version 0.2 on, and 4 bytes before it and above 1000; or `seen_bytes`.
    """
    major, minor, _ = version
    wide = major * 10 + minor >= 2 and major < 1000 and minor < 1000
    if seen_bytes is None:
        seen_bytes = 8 if wide else 4
    return struct.pack("<3i", *version) + seen.to_bytes(seen_bytes, "little")


HEADER = header()
NARROW = header(version=(0, 1, 0))
"""A header of 16 bytes."""


def content(*arrays: Any, header: bytes = HEADER) -> bytes:
    """Returns a file with these arrays in this order, each in the shape of the file."""
    return b"".join([header, *(np.asarray(array, "<f4").tobytes() for array in arrays)])


def write(path: Path, *arrays: Any, header: bytes = HEADER) -> Path:
    """Writes `content`."""
    path.write_bytes(content(*arrays, header=header))
    return path


def write_in_parts(path: Path, arrays: Iterable[Any], header: bytes = HEADER) -> Path:
    """Writes `content` with only one array in memory at a time."""
    with path.open("wb") as file:
        file.write(header)
        for array in arrays:
            file.write(np.asarray(array, "<f4").tobytes())
    return path


def write_zeros(path: Path, size_bytes: int, header: bytes = HEADER) -> Path:
    """Writes a sparse file of zeros, for tests in which only the size counts."""
    with path.open("wb") as file:
        file.write(header)
        file.truncate(size_bytes)
    return path


def floats(content: bytes) -> np.ndarray:
    """Returns the values after a header of 20 bytes, to be read or changed."""
    return np.frombuffer(content[len(HEADER) :], "<f4").copy()
