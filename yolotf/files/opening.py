"""Opens every file whose name comes from outside: a cfg, a list, class names, an image.

Only regular files of a bounded size are opened, and opening never blocks: opening a FIFO without a
writer would hang, a device never ends, and opening some devices has side effects.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from yolotf.files import read_files
from yolotf.files.paths import StrPath
from yolotf.files.urls import shown_url, url_of

MAX_NAMES_BYTES = 16 << 20
"""Maximum bytes of a data file, of class names or of a class tree; 9,418 classes take 200 kB."""
MAX_LIST_BYTES = 1 << 30
"""Maximum bytes of a list of images."""
MAX_JSON_BYTES = 4 << 30
"""Maximum bytes of a COCO file; the largest public one has 2 GB."""

_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class NotRegularError(OSError):
    """The path is a FIFO, a device or a socket; `kind` says which."""

    def __init__(self, kind: str, path: str) -> None:
        super().__init__(errno.EINVAL, f"not a regular file but {kind}", path)
        self.kind = kind


def open_regular(path: StrPath) -> BinaryIO:
    """Opens a regular file for reading.

    Raises:
        NotRegularError: it is a FIFO, a device or a socket; it has not been opened.
        OSError: it cannot be read, or is a folder or a URL.
    """
    if (url := url_of(path)) is not None:
        raise FileNotFoundError(
            errno.ENOENT, "a URL, not a file; download it first", shown_url(url)
        )
    _check(os.stat(path), path)  # noqa: PTH116 (of text that pathlib would change)
    # O_NONBLOCK: the path may become a FIFO between stat and open.
    flags = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _check(os.fstat(file.fileno()), path)
    except BaseException:
        file.close()
        raise
    read_files.add(path)
    return file


def check_regular(path: StrPath) -> None:
    """Raises as `open_regular` does, for libraries that open the path themselves."""
    open_regular(path).close()


def read(path: StrPath, *, max_bytes: int, kind: str) -> bytes:
    """Returns the content of a file.

    Args:
        path: the file.
        max_bytes: maximum bytes.
        kind: the kind of file, for the error: `a class tree`.

    Raises:
        OSError: see `open_regular`; or the file is larger than `max_bytes`.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # Read one byte more: files in /proc report a size of 0.
        content = file.read(max_bytes + 1) if size <= max_bytes else b""
    if content is None:  # such as /proc/kmsg, which would wait for more
        raise BlockingIOError(errno.EAGAIN, "nothing to read at the moment", os.fspath(path))
    if size > max_bytes or len(content) > max_bytes:
        sizes = f"{max(size, len(content)):,} bytes, {kind} has at most {max_bytes:,}"
        raise OSError(errno.EFBIG, sizes, os.fspath(path))
    return content


def read_lines(path: StrPath, *, max_bytes: int, kind: str) -> list[str]:
    """Returns the lines of a UTF-8 text, invalid bytes as surrogates; see `read`."""
    content = read(path, max_bytes=max_bytes, kind=kind)
    return content.decode("utf-8-sig", "surrogateescape").splitlines()


def _check(status: os.stat_result, path: StrPath) -> None:
    """Raises unless `status` is that of a regular file."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            raise NotRegularError(kind, os.fspath(path))


def find_beside(folder: Path, name: str) -> Path | None:
    """Finds a file that another file in `folder` names, in that folder or below; None if not found.

    Files elsewhere are never used. Leading folders that do not exist are dropped: Darknet's files
    say `data/coco.names`, relative to the folder Darknet runs in.
    """
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts:
        return None
    candidates = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
    return next((path for path in candidates if path.exists()), None)
