"""Gives native code a path to any source: a path, bytes in memory, an open file, or a URL.

Sources that are not files are read into memory with a file descriptor (`memfd_create`), URLs with
parallel ranges if the store supports them. The path is a link that ends in the source's name, since
names carry meaning (`*.conv.137`). It is handed out only once all bytes have arrived and are known
to belong to one version of the object.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from yolotf.files import read_files
from yolotf.files.fetching import Limits, fetch
from yolotf.files.memory import anonymous_file
from yolotf.files.paths import StrPath as StrPath
from yolotf.files.urls import redacted as redacted
from yolotf.files.urls import shown_url as shown_url
from yolotf.files.urls import url_of as url_of
from yolotf.progress import Progress, ignore

Weights = StrPath | bytes | bytearray | memoryview | IO[bytes]
"""Accepted by every function that reads weights."""

_CHUNK = 32 << 20
_MAX_PATH_BYTES = 4096


class Local(NamedTuple):
    """A source that can be opened by its path.

    Attributes:
        path: the path to open.
        name: the name for messages.
    """

    path: str
    name: str


@contextlib.contextmanager
def opened(
    weights: Weights, progress: Progress | None = None, limits: Limits | None = None
) -> Iterator[Local]:
    """Yields a path to the bytes of `weights`, valid inside the `with` block.

    Args:
        weights: a path or URL; bytes; or a file opened in binary mode, which is read from its
            current position to its end.
        progress: called as data arrives over a network.
        limits: how much to read into memory, and how long to wait for a silent server.

    Raises:
        OSError: it cannot be read, ended early, is larger than `limits` allow, or (TimeoutError)
            a server has been silent for too long.
        FileChangedError: the object was replaced during the download.
        MissingPackageError: a URL whose package is not installed.
        TypeError: none of these types.
    """
    with contextlib.ExitStack() as stack:
        yield _local(weights, progress, limits or Limits(), stack)


def name_of(weights: Weights) -> str:
    """Returns the name of a source for messages."""
    if isinstance(weights, str | os.PathLike):
        url = url_of(weights)
        return _shown_path(os.fsdecode(weights)) if url is None else shown_url(url)
    path = _bytes_path(weights)
    if path is not None:
        return path
    name = getattr(weights, "name", None)
    return name if isinstance(name, str) else f"<{type(weights).__name__}>"


def _shown_path(path: str) -> str:
    """Returns a path for messages; one that does not exist may be a damaged URL with secrets."""
    return path if os.path.exists(path) else redacted(path)  # noqa: PTH110 (Path's raises)


def is_url(weights: object) -> bool:
    """Whether the source is a URL."""
    return isinstance(weights, str | os.PathLike) and url_of(weights) is not None


def _bytes_path(weights: Any) -> str | None:
    """Returns the path if bytes are a file name, as `os` accepts; headers contain zeros."""
    if not isinstance(weights, bytes) or b"\0" in weights or len(weights) > _MAX_PATH_BYTES:
        return None
    path = os.fsdecode(weights)
    return path if Path(path).exists() else None


def _local(
    weights: Any, progress: Progress | None, limits: Limits, stack: contextlib.ExitStack
) -> Local:
    if isinstance(weights, str | os.PathLike):
        text = os.fspath(weights) if isinstance(weights, str) else ""
        if "\n" in text and not os.path.exists(text):  # noqa: PTH110 (Path's raises for long ones)
            raise TypeError(
                "weights must be a path, a URL, or the bytes of a file, not a text of "
                f"{len(text)} characters: open(path, 'rb').read()"
            )
        url = url_of(weights)
        if url is None:
            path = os.fsdecode(weights)
            read_files.add(path)
            return Local(path, _shown_path(path))
        memory = _Memory(stack, limits.max_bytes)
        fetch(url, memory, progress or ignore, limits)
        shown = shown_url(url)
        return memory.local(shown, shown.rstrip("/").rpartition("/")[2])
    name = name_of(weights)
    if (bytes_path := _bytes_path(weights)) is not None:
        return Local(bytes_path, bytes_path)
    if (content := _buffer(weights)) is not None:
        memory = _Memory(stack, max(len(content), 1))
        memory.write(content)
        return memory.local(name, "weights")
    if not callable(getattr(weights, "read", None)):
        raise TypeError(
            "weights must be a path, a URL, bytes or a file opened with 'rb', not "
            f"{type(weights).__name__}"
        )
    return _file(weights, name, limits.max_bytes, stack)


def _buffer(weights: Any) -> memoryview | None:
    try:
        view = memoryview(weights)
    except TypeError:
        return None
    if not isinstance(weights, bytes | bytearray | memoryview) and view.itemsize != 1:
        raise TypeError(
            "weights must be the bytes of a file, header included, not an array of "
            f"{view.format!r}; call its tobytes()"
        )
    if not view.c_contiguous:
        raise TypeError(
            "weights must be contiguous, not a memoryview with gaps; call its tobytes()"
        )
    return view.cast("B")


def _file(file: Any, name: str, max_bytes: int, stack: contextlib.ExitStack) -> Local:
    """Returns a path to an open file: a link to a regular file, or a copy in memory."""
    if isinstance(file, io.TextIOBase):
        raise TypeError(f"{name}: is open for reading text; open it with 'rb'")
    file_name = Path(name).name if not name.startswith("<") else "weights"
    # Other files with a descriptor, such as gzip's, return other bytes than the descriptor.
    raw = getattr(file, "raw", file)
    if isinstance(file, io.FileIO | io.BufferedReader | io.BufferedRandom) and isinstance(
        raw, io.FileIO
    ):
        if isinstance(file, io.BufferedRandom):
            file.flush()
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and file.tell() == 0:
            local = _linked(file.fileno(), name, file_name, stack)
            if local is not None:
                file.seek(0, os.SEEK_END)
                return local
    memory = _Memory(stack, max_bytes)
    while chunk := file.read(_CHUNK):
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise TypeError(f"{name}: reads {type(chunk).__name__}, not bytes; open it with 'rb'")
        memory.write(chunk)
    return memory.local(name, file_name)


class _Memory:
    """A file in memory or, if the system does not support that, an unnamed temporary file."""

    def __init__(self, stack: contextlib.ExitStack, max_bytes: int) -> None:
        self._stack = stack
        self._size = 0
        self._max_bytes = max_bytes
        self._descriptor = anonymous_file()
        self._lock = threading.Lock()
        stack.callback(self._close)

    def _close(self) -> None:
        with self._lock:
            os.close(self._descriptor)
            self._descriptor = -1

    def write(self, content: Any) -> None:
        """Appends bytes."""
        self.write_at(self._size, content)

    def write_at(self, offset: int, content: Any) -> None:
        view = memoryview(content)
        if offset + len(view) > self._max_bytes:
            raise OSError(
                errno.EFBIG, f"more than {self._max_bytes} bytes, which no .weights file has"
            )
        # A thread that outlives an error or Ctrl-C must not write to a reused descriptor.
        with self._lock:
            self._size = max(self._size, offset + len(view))
            while view:
                written = os.pwrite(self._descriptor, view[: 1 << 30], offset)
                offset, view = offset + written, view[written:]

    def local(self, name: str, file_name: str) -> Local:
        """Returns the path to the written bytes, which ends in `file_name` if possible."""
        read_only = None
        with contextlib.suppress(OSError):
            read_only = os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        if read_only is not None:
            # Without writers left, native code can take a lease and map the file.
            writable, self._descriptor = self._descriptor, read_only
            os.close(writable)
            local = _linked(read_only, name, file_name, self._stack)
            if local is not None:
                return local
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="yolotf-"))
        copy = Path(folder) / (file_name or "weights")
        with copy.open("wb") as file:
            offset = 0
            while chunk := os.pread(self._descriptor, _CHUNK, offset):
                file.write(chunk)
                offset += len(chunk)
        return Local(str(copy), name)


def _linked(
    descriptor: int, name: str, file_name: str, stack: contextlib.ExitStack
) -> Local | None:
    """Returns a path that ends in `file_name` and leads to an open file; None without /proc."""
    address = f"/proc/{os.getpid()}/fd/{descriptor}"
    if not Path(address).exists():
        return None
    with contextlib.suppress(OSError, ValueError):
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="yolotf-"))
        link = Path(folder) / (file_name or "weights")
        link.symlink_to(address)
        return Local(str(link), name)
    return Local(address, name)
