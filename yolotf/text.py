"""Formats parts of messages: plurals, sizes, lists, unprintable characters."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

_CONTROLS = re.compile(
    # Control characters such as ESC move a terminal's cursor; U+202A to U+202E reorder a line.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Returns the text with control characters escaped, for terminals, logs and pages.

    Line feeds and tabs stay, as yolotf's messages have them; remove them from names beforehand.
    """
    return _CONTROLS.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def escaped(text: str) -> str:
    """Returns a line of a report with every character escaped that is not printable.

    Bytes of file names that are not UTF-8 stay: the encoding of the output shows them.
    """
    return "".join(
        character
        if character.isprintable() or "\ud800" <= character <= "\udfff"
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def class_label(number: int, class_names: Sequence[str] = ()) -> str:
    """Returns the name of a class, or `class 7` if it has none."""
    return class_names[number] if 0 <= number < len(class_names) else f"class {number}"


_MAX_DIGITS = 18
"""Any number of so many digits fits into 64 bits, and no count in a file has more."""


def whole_number(text: object) -> int | None:
    """Returns the number that decimal digits represent; None for any other value."""
    if isinstance(text, str) and text.isdecimal() and len(text) <= _MAX_DIGITS:
        return int(text)
    return None


def first_line(error: Exception) -> str:
    """Returns the first line of an error of another library, without a full stop; or its type."""
    lines = (line.strip() for line in str(error).splitlines())
    line = next(filter(None, lines), "").rstrip(".")
    return line or type(error).__name__


def plural(count: int, singular: str, plural_form: str | None = None) -> str:
    """Returns `1 layer`, `2 layers`; with a plural form, `1 class`, `2 classes`."""
    return f"{count} {singular if count == 1 else plural_form or singular + 's'}"


def size_text(size_bytes: int) -> str:
    """Returns a size such as `3.1 GB`, `24 MB`, `12 kB` or `1 byte`; units are powers of ten."""
    if size_bytes < 1000:
        return plural(size_bytes, "byte")
    for unit, limit in (("kB", 1e6), ("MB", 1e9)):
        if size_bytes < limit * 0.9995:
            return f"{size_bytes / (limit / 1e3):.3g} {unit}"
    return f"{size_bytes / 1e9:,.1f} GB"


def listed(texts: Iterable[str], limit: int, separator: str = ", ") -> str:
    """Returns `a, b and 3 more`; for clauses, separated by `; `, `a; b; and 3 more`."""
    all_texts = list(texts)
    shown = separator.join(all_texts[:limit])
    if len(all_texts) <= limit:
        return shown
    end = " " if separator == ", " else separator
    return f"{shown}{end}and {len(all_texts) - limit} more"


def names_hint(name: str, names: Iterable[str]) -> str:
    """Returns the advice for a wrong name: the most similar of `names`, or the first of them."""
    known = list(names)
    similar = difflib.get_close_matches(name[:100], known, n=1)
    return f"did you mean {similar[0]!r}?" if similar else f"names are {listed(known, 8)}"
