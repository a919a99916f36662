"""Remembers which files a run reads, so that none of its outputs replaces one of them.

A cfg, a data file or a list names further files, of which the caller of a command or function may
not be aware.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar

from yolotf.files.paths import StrPath

Files = dict[tuple[int, int], str]
"""Device and inode of each file -> its path."""

_read: ContextVar[Files | None] = ContextVar("read_files", default=None)


@contextlib.contextmanager
def remembered(known: Files | None = None) -> Iterator[Files]:
    """Remembers the files that are read in this block; a block inside another adds to its files.

    Threads started in the block take part if they run in a copy of its context.

    Args:
        known: files that were read before.
    """
    files = _read.get()
    token = None
    if files is None:
        files = {}
        token = _read.set(files)
    files.update(known or {})
    try:
        yield files
    finally:
        if token is not None:
            _read.reset(token)


def add(path: StrPath) -> None:
    """Adds a file, if it exists; without effect outside of `remembered`."""
    files = _read.get()
    if files is not None:
        with contextlib.suppress(OSError, ValueError):
            status = os.stat(path)  # noqa: PTH116 (of text that pathlib would change)
            absolute = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (keeps links)
            files[status.st_dev, status.st_ino] = absolute


def contains(status: os.stat_result) -> bool:
    """Whether a file, by whatever name or link it was found, has been read in `remembered`."""
    path = (_read.get() or {}).get((status.st_dev, status.st_ino))
    if path is None:
        return False
    try:
        # A file that was deleted may have left its inode to another.
        return os.path.samestat(status, os.stat(path))  # noqa: PTH116
    except OSError:
        return False
