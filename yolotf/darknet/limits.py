"""How large a cfg may be.

A service that takes uploads parses untrusted cfgs. Each limit is at least ten times what the
largest known cfg has (30,733 bytes, 2,637 lines of at most 514 characters, 376 sections, 45 options
in a section, 9 anchors). `parse_cfg(..., limits=UNLIMITED)` lifts them all.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_INT = 2**31 - 1
"""The largest `int` in Darknet: rows, columns, channels and all options are `int`."""
MAX_FILE_BYTES = 2**63 - 1
"""The largest file offset (64 bits); no argument lifts this."""


@dataclass(frozen=True)
class Limits:
    """The limits of a cfg; None means no limit.

    Attributes:
        size_bytes: size of the text.
        lines: number of lines, including comments and empty lines.
        line_length: characters in a line.
        sections: number of sections, including `[net]`.
        options: key=value lines in a section.
        digits: characters of a number.
        anchors: anchors of a head; also limits `num=` and each number in `mask=`.
        references: layers named in all `layers=` and `from=` together; each is an operand in the
            graph.
        warnings: number of warnings to keep; the last one then counts those left out.
    """

    size_bytes: int | None = 2 * 1024 * 1024
    lines: int | None = 100_000
    line_length: int | None = 10_000
    sections: int | None = 5_000
    options: int | None = 1_000
    digits: int | None = 200
    anchors: int | None = 1_000
    references: int | None = 50_000
    warnings: int | None = 100


DEFAULT = Limits()
UNLIMITED = Limits(None, None, None, None, None, None, None, None, None)
"""For trusted cfgs."""
