"""The one way to open a file that somebody else may have named: a cfg, a list, names, a picture.

It is a regular file of a bounded size, and nobody waits for it: opening a FIFO that nobody writes
into would hang, a device never ends, and opening some devices does something.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Union

StrPath = Union[str, "os.PathLike[str]"]

NAMES_MOST = 16 << 20
"""Bytes of a file of class names or of a class tree; that of 9,418 classes has 200 kB."""
LIST_MOST = 1 << 30
"""Bytes of a list of pictures, a file of labels or a data file."""
JSON_MOST = 4 << 30
"""Bytes of a COCO file; that of the largest public data set has 2 GB."""

_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class NotRegularError(OSError):
    """A FIFO, a device or a socket where a file belongs; `kind` says which."""

    def __init__(self, kind: str, path: str) -> None:
        super().__init__(errno.EINVAL, f"not a regular file but {kind}", path)
        self.kind = kind


def opened(path: StrPath) -> BinaryIO:
    """A regular file, opened for reading.

    Raises:
        NotRegularError: it is a FIFO, a device or a socket; it has not been opened.
        OSError: it cannot be read, or is a folder.
    """
    _check(os.stat(path), path)  # noqa: PTH116 (of text that pathlib would change)
    # O_NONBLOCK: somebody may put a FIFO there at this moment.
    flags = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _check(os.fstat(file.fileno()), path)
    except BaseException:
        file.close()
        raise
    return file


def check_regular(path: StrPath) -> None:
    """Raises as `opened` does, for what a library opens by its path."""
    opened(path).close()


def read(path: StrPath, *, most: int, what: str) -> bytes:
    """All of a file.

    Args:
        path: the file.
        most: bytes that it may have.
        what: it is, for the error: `a class tree`.

    Raises:
        OSError: see `opened`; or it is larger.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        # Of a file in /proc the size says nothing.
        content = file.read(most + 1) if size <= most else b""
    if size > most or len(content) > most:
        found = f"{max(size, len(content)):,} bytes, {what} has at most {most:,}"
        raise OSError(errno.EFBIG, found, os.fspath(path))
    return content


def read_lines(path: StrPath, *, most: int, what: str) -> list[str]:
    """The lines of a text in UTF-8, other bytes as surrogates; see `read`."""
    text = read(path, most=most, what=what).decode("utf-8-sig", "surrogateescape")
    return text.splitlines()


def _check(status: os.stat_result, path: StrPath) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            raise NotRegularError(kind, os.fspath(path))


def beside(folder: Path, name: str) -> Path | None:
    """Where a file named by another in `folder` is: in it or in a folder there; None if nowhere.

    A stranger's file names none elsewhere. Directories in the name that are not there are left
    out: Darknet's files say `data/coco.names`, from the folder Darknet runs in.
    """
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts:
        return None
    places = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
    return next((place for place in places if place.exists()), None)
