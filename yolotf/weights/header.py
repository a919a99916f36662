"""The header of a `.weights` file (AlexeyAB/darknet src/parser.c:2254).

See csrc/weights/header.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from yolotf import _core
from yolotf._public import public
from yolotf.darknet.segments import FLOAT_BYTES

WIDE, NARROW = 20, 16
"""Header sizes in bytes: `seen` is a uint64 since version 0.2, a uint32 before."""

_LARGEST_VERSION = 0xFFFF
_VERSION = struct.Struct("<3i")


@public
class Header(NamedTuple):
    """The header of a `.weights` file (AlexeyAB/darknet src/parser.c:2254-2271).

    Attributes:
        major: first part of the file format's version.
        minor: second part.
        revision: third part.
        seen: images the network was trained on.
        size_bytes: size of the header, 16 or 20.
    """

    major: int
    minor: int
    revision: int
    seen: int
    size_bytes: int

    @classmethod
    def parse(cls, start: bytes, size_bytes: int | None = None) -> Header | None:
        """Parses the header of a file; returns None if `start` has fewer than 16 bytes.

        Args:
            start: the first 20 bytes of the file, or the whole file if it is shorter.
            size_bytes: size of the header, 16 or 20; by default the one that its version specifies.
        """
        if len(start) < NARROW:
            return None
        # The width follows from the file's size: pass that of a file with a header and no floats.
        narrow = cls(*_core.parse_header(start, NARROW, 0))
        if (size_bytes or narrow.version_size_bytes) == NARROW or len(start) < WIDE:
            return narrow
        return cls(*_core.parse_header(start, WIDE, 0))

    def to_bytes(self) -> bytes:
        """Encodes the header as it is stored in a file."""
        seen = self.seen.to_bytes(self.size_bytes - _VERSION.size, "little")
        return _VERSION.pack(self.major, self.minor, self.revision) + seen

    @property
    def version_size_bytes(self) -> int:
        """The size that the version specifies; some writers store another one (`size_bytes`)."""
        return _core.version_header_bytes(self.major, self.minor)

    @property
    def widths(self) -> tuple[int, int]:
        """Both possible sizes, the one that the version specifies first."""
        return (WIDE, NARROW) if self.version_size_bytes == WIDE else (NARROW, WIDE)

    @property
    def transposed(self) -> bool:
        """Whether dense kernels are stored as (in, out) (parser.c:2274)."""
        return _core.stores_transposed(self.major, self.minor)

    @property
    def plausible(self) -> bool:
        """Whether any release of Darknet could have written this version."""
        return all(
            0 <= part <= _LARGEST_VERSION for part in (self.major, self.minor, self.revision)
        )


def float_counts(
    size_bytes: int, widths: Iterable[int] = (WIDE, NARROW)
) -> Iterator[tuple[int, int]]:
    """Yields (header width, float count) for each width after which a whole number of floats fits.

    Args:
        size_bytes: size of the file.
        widths: header widths to try, in this order.
    """
    for width in widths:
        floats, remainder = divmod(size_bytes - width, FLOAT_BYTES)
        if floats >= 0 and not remainder:
            yield width, floats


def width_warning(version: str, by_version: int, by_size: int) -> str:
    """Returns the warning that version and file size imply different header sizes, in bytes."""
    return (
        f"version {version} means a header of {by_version} bytes, but the size of the file means "
        f"one of {by_size}"
    )
