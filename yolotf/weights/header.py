"""The start of a `.weights` file (AlexeyAB/darknet src/parser.c:2254), as csrc/header.h has it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from yolotf import _core
from yolotf._public import public
from yolotf.weights.segments import FLOAT_BYTES

WIDE, NARROW = 20, 16
"""Header sizes in bytes: `seen` is a uint64 since version 0.2, a uint32 before."""

_LARGEST_VERSION = 0xFFFF
_VERSION = struct.Struct("<3i")


@public
class Header(NamedTuple):
    """The start of a `.weights` file (AlexeyAB/darknet src/parser.c:2254-2271)."""

    major: int
    minor: int
    revision: int
    seen: int
    size_bytes: int

    @classmethod
    def parse(cls, start: bytes, size_bytes: int | None = None) -> Header | None:
        """The header that a file starts with; None where `start` is shorter than any.

        Args:
            start: the first 20 bytes of the file, or all of a shorter one.
            size_bytes: its size; the one that its version asks for if None.
        """
        if len(start) < NARROW:
            return None
        # A file of no floats has the size of its header.
        narrow = cls(*_core.parse_header(start, NARROW, 0))
        if (size_bytes or narrow.version_size_bytes) == NARROW or len(start) < WIDE:
            return narrow
        return cls(*_core.parse_header(start, WIDE, 0))

    def to_bytes(self) -> bytes:
        """The bytes of the file that it stands for."""
        seen = self.seen.to_bytes(self.size_bytes - _VERSION.size, "little")
        return _VERSION.pack(self.major, self.minor, self.revision) + seen

    @property
    def version_size_bytes(self) -> int:
        """The size that the version asks for; writers have lied, see `size_bytes`."""
        return _core.version_header_bytes(self.major, self.minor)

    @property
    def widths(self) -> tuple[int, int]:
        """Both sizes a header can have, the one that the version asks for first."""
        return (WIDE, NARROW) if self.version_size_bytes == WIDE else (NARROW, WIDE)

    @property
    def transposed(self) -> bool:
        """Dense kernels are stored (in, out) (parser.c:2274)."""
        return _core.stores_transposed(self.major, self.minor)

    @property
    def plausible(self) -> bool:
        """Whether a Darknet of any age could have written these versions."""
        return all(
            0 <= part <= _LARGEST_VERSION for part in (self.major, self.minor, self.revision)
        )


def float_counts(
    size_bytes: int, widths: Iterable[int] = (WIDE, NARROW)
) -> Iterator[tuple[int, int]]:
    """(width of the header, floats after it) for each width that whole floats follow.

    Args:
        size_bytes: of the file.
        widths: of the header, to be tried in this order.
    """
    for width in widths:
        floats, rest = divmod(size_bytes - width, FLOAT_BYTES)
        if floats >= 0 and not rest:
            yield width, floats
