"""How large a cfg may be: the one place that says it.

A service that takes uploads reads cfgs of strangers. Every number here is at least ten times that
of the largest cfg known (30,733 bytes, 2,637 lines of at most 514 characters, 376 sections, 45
options in one, 9 anchors), and `parse_cfg(..., limits=UNLIMITED)` lifts them all.
"""

from __future__ import annotations

from dataclasses import dataclass

INT_MOST = 2**31 - 1
"""Darknet's `int`: rows, columns, channels and every option."""
BYTES_MOST = 2**63 - 1
"""Offsets in files are 64 bits wide; no argument lifts that."""


@dataclass(frozen=True)
class Limits:
    """The most a cfg may have; None for as much as there is.

    Attributes:
        size_bytes: of the text.
        lines: comments and empty ones included.
        line_length: characters of one line.
        sections: `[net]` included.
        options: key=value lines of one section.
        digits: characters of one number.
        anchors: anchors of one head, `num=` and every number in `mask=`.
        references: layers named in all `layers=` and `from=` together; each costs a graph one
            operand.
        warnings: how many are kept; the last one then says how many more there were.
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
"""For cfgs of one's own."""
