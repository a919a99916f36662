"""What the commands say on standard error."""

from __future__ import annotations

import re
import sys

from yolotf.files.urls import redacted
from yolotf.text import printable

_LONGEST_WORD = 500


def shown(text: str) -> str:
    """Returns a text for a terminal or a log.

    It has no control characters, no secrets of URLs, and no words of thousands of letters, such as
    the name of a file that somebody made up.
    """
    return re.sub(r"\S+", _shortened, redacted(printable(text)))


def _shortened(found: re.Match[str]) -> str:
    word = found.group()
    return word if len(word) <= _LONGEST_WORD else f"{word[:100]}...{word[-100:]}"


def say(text: str) -> None:
    """Prints a line on standard error."""
    print(shown(text), file=sys.stderr, flush=True)
