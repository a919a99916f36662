"""Prints messages on standard error."""

from __future__ import annotations

import re
import sys

from yolotf.files.urls import redacted
from yolotf.text import printable

_LONGEST_WORD = 500


def shown(text: str) -> str:
    """Returns a text that is safe to show on a terminal or in a log.

    Control characters are escaped, secrets in URLs are hidden, and words of thousands of letters,
    such as a made-up file name, are shortened.
    """
    return re.sub(r"\S+", _shortened, redacted(printable(text)))


def _shortened(match: re.Match[str]) -> str:
    word = match.group()
    return word if len(word) <= _LONGEST_WORD else f"{word[:100]}...{word[-100:]}"


def say(text: str) -> None:
    """Prints a line on standard error."""
    print(shown(text), file=sys.stderr, flush=True)
