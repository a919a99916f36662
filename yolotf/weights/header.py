"""The start of a `.weights` file (AlexeyAB/darknet src/parser.c:2254): read in one place."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from yolotf import _core, errors
from yolotf.files.sources import StrPath

WIDE, NARROW = 20, 16
"""Header sizes in bytes: `seen` is a uint64 since version 0.2, a uint32 before."""

_LARGEST_VERSION = 0xFFFF


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
        major, minor, revision, seen = struct.unpack_from("<iiiI", start)
        header = cls(major, minor, revision, seen, NARROW)
        if (size_bytes or header.version_size_bytes) == NARROW or len(start) < WIDE:
            return header
        return cls(major, minor, revision, struct.unpack_from("<Q", start, 12)[0], WIDE)

    @property
    def version_size_bytes(self) -> int:
        """The size that the version asks for; writers have lied, see `size_bytes`."""
        wide = self.major * 10 + self.minor >= 2 and max(self.major, self.minor) < 1000
        return WIDE if wide else NARROW

    @property
    def widths(self) -> tuple[int, int]:
        """Both sizes a header can have, the one that the version asks for first."""
        return (WIDE, NARROW) if self.version_size_bytes == WIDE else (NARROW, WIDE)

    @property
    def transposed(self) -> bool:
        """Dense kernels are stored (in, out) (parser.c:2274)."""
        return self.major > 1000 or self.minor > 1000

    @property
    def plausible(self) -> bool:
        """Whether a Darknet of any age could have written these versions."""
        return all(
            0 <= part <= _LARGEST_VERSION for part in (self.major, self.minor, self.revision)
        )


def read_header(path: StrPath, floats: int | None) -> tuple[Header, int]:
    """The header, its width chosen by the file's size if `floats` is known; and the file's size.

    Raises:
        HeaderError: the file is shorter than a header.
        OSError: it cannot be read, or is not a regular file.
    """
    try:
        fields = _core.read_header(path, -1 if floats is None else floats)
    except _core.NativeError as error:
        raise errors.HeaderError(
            f"{os.fspath(path)}: {error}; a .weights file starts with 16 or 20 bytes of header",
            path=os.fspath(path),
            expected=error.expected,
            found=error.found,
        ) from None
    return Header(*fields[:5]), fields[7]
