"""Prints messages on standard error, and goes on if nobody reads standard output any more."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import TextIO

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


def say(text: str, stream: TextIO | None = None) -> None:
    """Prints a line on standard error, or on a stream that leads there.

    A message that cannot be written, because the disk is full or the reader is gone, is dropped,
    and so are all later ones: the command itself goes on.
    """
    stream = stream or sys.stderr
    try:
        print(shown(text), file=stream, flush=True)
    except OSError:
        discard(stream)


@contextlib.contextmanager
def ignoring_closed_pipe() -> Iterator[None]:
    """Drops what is printed in this block, and later, once the reader has closed the pipe.

    For commands that have more to do than to print, or an exit code that depends on the result.
    Others stop in `commands.main`.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)


def discard(stream: TextIO) -> None:
    """Makes a stream drop all that is written to it, with what it has not written yet."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
