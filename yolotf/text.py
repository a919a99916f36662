"""Small helpers for the words of messages: plurals, sizes, lists, safe characters."""

from __future__ import annotations

import re
from collections.abc import Iterable

_CONTROLS = re.compile(
    # ESC and its kind move a terminal's cursor; the marks of direction (U+202A..) reorder a line.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    """`text` with its control characters written out, for terminals, logs and pages.

    Line feeds and tabs stay: yolotf's own messages have them. Take them out of a name first.
    """
    return _CONTROLS.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


_MOST_DIGITS = 18
"""More digits than any count of a file has; fewer than Python refuses to read, or 64 bits hold."""


def whole_number(text: object) -> int | None:
    """The number that a text of decimal digits stands for; None for any other value."""
    if isinstance(text, str) and text.isdecimal() and len(text) <= _MOST_DIGITS:
        return int(text)
    return None


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 layer`, `2 layers`; `1 class`, `2 classes` with `many`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def size_text(size_bytes: int) -> str:
    """`3.1 GB`, `24 MB`, `12 kB`, `1 byte`; powers of ten."""
    if size_bytes < 1000:
        return plural(size_bytes, "byte")
    for unit, most in (("kB", 1e6), ("MB", 1e9)):
        if size_bytes < most * 0.9995:
            return f"{size_bytes / (most / 1e3):.3g} {unit}"
    return f"{size_bytes / 1e9:,.1f} GB"


def listed(texts: Iterable[str], most: int, between: str = ", ") -> str:
    """`a, b and 3 more`; clauses, with `; ` between them: `a; b; and 3 more`."""
    every = list(texts)
    shown = between.join(every[:most])
    if len(every) <= most:
        return shown
    return f"{shown}{' ' if between == ', ' else between}and {len(every) - most} more"
