"""Where bytes come from: a path, bytes in memory, an open file, or a URL through fsspec.

Whatever it is becomes a path that native code can open: what is no file yet is brought into memory
that has a descriptor (`memfd_create`), in parallel ranges where the store can do that, and leads to
it by a link with its own name at the end (`*.conv.137` means something). Only when all of it is
there and proved to be one version of the object is a path given out.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import queue
import re
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import unquote

from yolotf import errors

StrPath = str | os.PathLike[str]
Weights = StrPath | bytes | bytearray | memoryview | IO[bytes]
"""What every function that reads weights takes."""
Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all); all is 0 where it is not known."""

EXTRA = "remote"
"""What `pip install yolotf[...]` calls the optional dependency."""
LARGEST = 1 << 33
"""Bytes that are brought into memory at most: the largest public file is some 800 MB."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?:://|::)")
_URL_AS_PATH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")
"""What pathlib makes of a URL."""
_ANY_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)((?:(?!::[A-Za-z])[^\s'\"<>])*)")
"""In a sentence, or chained by `::`."""
_RANGE = 32 << 20
"""A request: so large that YOLOv4's file is eight, as many as are under way at once."""
_AT_ONCE = 8
_ATTEMPTS = 3
_OTHER_VERSION = 412
"""HTTP's answer where a condition such as If-Match does not hold."""
_VERSION = (
    *("ETag", "etag", "md5Hash", "generation", "version", "blob_id"),
    *("LastModified", "Last-Modified", "last_modified", "mtime", "created", "modified"),
)
"""What a store says of an object that changes with it; and its size."""
_LONGEST_PATH = 4096


class Local(NamedTuple):
    """A source that can be opened by path.

    Attributes:
        path: what to open.
        name: what to call it.
    """

    path: str
    name: str


@contextlib.contextmanager
def opened(weights: Weights, progress: Progress | None = None) -> Iterator[Local]:
    """A path to the bytes of `weights` for as long as the block lasts.

    Args:
        weights: a path or URL; bytes; or a file opened for reading bytes, which is read from
            where it stands to its end.
        progress: told of what comes over a network.

    Raises:
        OSError: it cannot be read, ended early, or is larger than `LARGEST`.
        FileChangedError: the object was replaced while it came.
        MissingPackageError: a URL, and the package for it is not installed.
        TypeError: it is none of these.
    """
    with contextlib.ExitStack() as stack:
        yield _local(weights, progress, stack)


def name_of(weights: Weights) -> str:
    """What messages call it."""
    if isinstance(weights, str | os.PathLike):
        url = url_of(weights)
        return os.fsdecode(weights) if url is None else redacted(url)
    path = _bytes_path(weights)
    if path is not None:
        return path
    name = getattr(weights, "name", None)
    return name if isinstance(name, str) else f"<{type(weights).__name__}>"


def redacted(text: str) -> str:
    """A URL, or a sentence with some: their schemes, hosts and last path parts, nothing else.

    Credentials stand before an @, in the query, behind the # and in the path, and whoever reads a
    presigned URL in a log can open its object.
    """
    return _ANY_URL.sub(lambda found: found[1] + _shown(found[2]), text)


def _shown(rest: str) -> str:
    """What is shown of a URL after `scheme://`."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    path = re.split(r"[?#]", rest, maxsplit=1)[0][len(authority) :]
    middle, _, last = path.rpartition("/")
    between = "/.../" if middle else "/" if path else ""
    host = authority.rpartition("@")[2]
    if "@" not in rest[len(authority) :]:
        return host + between + last
    # A password may hold / ? # itself, and then this is not where the host is.
    after = rest.rpartition("@")[2]
    same = "/" in after and last and re.split(r"[?#]", after)[0].rpartition("/")[2] == last
    return f".../{last}" if same else "..."


def url_of(weights: StrPath) -> str | None:
    """The URL that a path is; None for paths."""
    text = os.fsdecode(weights)
    if isinstance(weights, str):
        return text if _URL.match(text) and not Path(text).exists() else None
    mangled = _URL_AS_PATH.match(text)
    if mangled and not Path(text).exists():
        return f"{mangled[1]}://{text[mangled.end() :]}"
    return None


def _bytes_path(weights: Any) -> str | None:
    """Bytes that are the name of a file, as `os` takes them; a header has zeros in it."""
    if not isinstance(weights, bytes) or b"\0" in weights or len(weights) > _LONGEST_PATH:
        return None
    path = os.fsdecode(weights)
    return path if Path(path).exists() else None


def _local(weights: Any, progress: Progress | None, stack: contextlib.ExitStack) -> Local:
    if isinstance(weights, str | os.PathLike):
        text = os.fspath(weights) if isinstance(weights, str) else ""
        if "\n" in text and not os.path.exists(text):  # noqa: PTH110 (Path's raises for long ones)
            raise TypeError(
                f"weights is a text of {len(text)} characters, must be a path, a URL, or the "
                "bytes of a file: open(path, 'rb').read()"
            )
        url = url_of(weights)
        if url is None:
            return Local(os.fsdecode(weights), os.fsdecode(weights))
        memory = _Memory(stack)
        _fetch(url, memory, progress or (lambda done, size: None))
        return memory.local(redacted(url), url.split("?")[0].rstrip("/").rpartition("/")[2])
    name = name_of(weights)
    if (path := _bytes_path(weights)) is not None:
        return Local(path, path)
    if (content := _buffer(weights)) is not None:
        memory = _Memory(stack)
        memory.write(content)
        return memory.local(name, "weights")
    if not callable(getattr(weights, "read", None)):
        raise TypeError(
            "weights must be a path, a URL, bytes or a file opened with 'rb', not "
            f"{type(weights).__name__}"
        )
    return _file(weights, name, stack)


def _buffer(weights: Any) -> memoryview | None:
    try:
        view = memoryview(weights)
    except TypeError:
        return None
    if not isinstance(weights, bytes | bytearray | memoryview) and view.itemsize != 1:
        raise TypeError(
            f"weights is an array of {view.format}, must be the bytes of a file, header included"
        )
    if not view.c_contiguous:
        raise TypeError("weights is a memoryview with gaps, must be contiguous")
    return view.cast("B")


def _file(file: Any, name: str, stack: contextlib.ExitStack) -> Local:
    if isinstance(file, io.TextIOBase):
        raise TypeError(f"{name}: is open for reading text; open it with 'rb'")
    short = Path(name).name if not name.startswith("<") else "weights"
    # Other files with a descriptor, such as gzip's, do not read what is behind it.
    plain = getattr(file, "raw", file)
    if isinstance(file, io.FileIO | io.BufferedReader | io.BufferedRandom) and isinstance(
        plain, io.FileIO
    ):
        if isinstance(file, io.BufferedRandom):
            file.flush()
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and file.tell() == 0:
            local = _linked(file.fileno(), name, short, stack)
            if local is not None:
                file.seek(0, os.SEEK_END)
                return local
    memory = _Memory(stack)
    while chunk := file.read(_RANGE):
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise TypeError(f"{name}: reads {type(chunk).__name__}, not bytes; open it with 'rb'")
        memory.write(chunk)
    return memory.local(name, short)


class _Memory:
    """A file in memory; where the system has none, a temporary file without a name."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._size = 0
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("yolotf", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                self._descriptor = os.dup(file.fileno())
        self._lock = threading.Lock()
        stack.callback(self._close)

    def _close(self) -> None:
        with self._lock:
            os.close(self._descriptor)
            self._descriptor = -1

    def write(self, content: Any) -> None:
        """Behind what is there."""
        self.write_at(self._size, content)

    def write_at(self, offset: int, content: Any) -> None:
        view = memoryview(content)
        if offset + len(view) > LARGEST:
            raise OSError(errno.EFBIG, f"more than {LARGEST} bytes, which is no .weights file")
        # Whoever comes after an error or a Ctrl-C finds it closed, and not another file there.
        with self._lock:
            self._size = max(self._size, offset + len(view))
            while view:
                done = os.pwrite(self._descriptor, view[: 1 << 30], offset)
                offset, view = offset + done, view[done:]

    def local(self, name: str, short: str) -> Local:
        """The path to what has been written."""
        read_only = None
        with contextlib.suppress(OSError):
            read_only = os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        if read_only is not None:
            # Nobody can write it any more, so that native code can hold a lease and map it.
            writable, self._descriptor = self._descriptor, read_only
            os.close(writable)
            local = _linked(read_only, name, short, self._stack)
            if local is not None:
                return local
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="yolotf-"))
        copied = Path(folder) / (short or "weights")
        with copied.open("wb") as file:
            offset = 0
            while chunk := os.pread(self._descriptor, _RANGE, offset):
                file.write(chunk)
                offset += len(chunk)
        return Local(str(copied), name)


def _linked(descriptor: int, name: str, short: str, stack: contextlib.ExitStack) -> Local | None:
    """A path with a certain name at its end that leads to an open file; None without /proc."""
    address = f"/proc/{os.getpid()}/fd/{descriptor}"
    if not Path(address).exists():
        return None
    with contextlib.suppress(OSError, ValueError):
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="yolotf-"))
        link = Path(folder) / (short or "weights")
        link.symlink_to(address)
        return Local(str(link), name)
    return Local(address, name)


# URLs.


def _fetch(url: str, memory: _Memory, progress: Progress) -> None:
    """Brings an object into memory, all of it and of one version.

    Whatever a store's library raises becomes an OSError that says which URL. The library's own
    error is neither its cause nor its context: its words hold the URL with its secrets.
    """
    fsspec = _fsspec(url)
    try:
        return _fetch_object(fsspec, url, memory, progress)
    except errors.YolotfError:
        raise
    except Exception as error:
        refused = _worded_error(error, url)
    raise refused


def _fetch_object(fsspec: Any, url: str, memory: _Memory, progress: Progress) -> None:
    name = redacted(url)
    system, path = fsspec.core.url_to_fs(url)
    before = system.info(path)
    if before.get("type") == "directory":
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    size = before.get("size")
    if size is not None and size > LARGEST:
        raise OSError(errno.EFBIG, f"{size} bytes, which is no .weights file", name)
    progress(0, size or 0)
    if size and system.async_impl and before.get("partial", True):
        _fetch_ranges(system, path, size, memory, progress, _only_if(system, before))
    else:
        _fetch_stream(system, path, name, size, memory, progress)
    with contextlib.suppress(Exception):
        system.invalidate_cache(path)
    after = system.info(path)
    changed = [
        key
        for key in ("size", *_VERSION)
        if key in before and key in after and before[key] != after[key]
    ]
    if changed:
        key = changed[0]
        raise errors.FileChangedError(
            f"{name}: replaced while it was read: {key} was {before[key]}, is {after[key]}; "
            "load it again",
            path=name,
            expected=before[key],
            found=after[key],
        )


def _only_if(system: Any, before: dict[str, Any]) -> dict[str, Any]:
    """What makes an HTTP server refuse a range of another version of the object (RFC 9110, 13.1.1).

    Weak tags (W/) never match there; other stores take no conditions.
    """
    tag = before.get("ETag")
    protocols = system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)
    if "http" not in protocols or not isinstance(tag, str) or not tag.startswith('"'):
        return {}
    return {"headers": {**system.kwargs.get("headers", {}), "If-Match": tag}}


def _fetch_ranges(
    system: Any,
    path: str,
    size: int,
    memory: _Memory,
    progress: Progress,
    conditions: dict[str, Any],
) -> None:
    def part(start: int) -> int:
        end = min(start + _RANGE, size)
        content = _with_patience(lambda: _range(system, path, start, end, size, conditions))
        memory.write_at(start, content)
        return len(content)

    done = part(0)
    progress(done, size)
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    finished: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()
    stopped = threading.Event()
    for start in range(done, size, _RANGE):
        waiting.put(start)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while not stopped.is_set():
                start = waiting.get_nowait()
                try:
                    finished.put(part(start))
                except BaseException as error:
                    finished.put(error)

    # Daemons, not a pool: neither an error nor a Ctrl-C waits for what hangs in a slow network.
    for _ in range(min(_AT_ONCE, waiting.qsize())):
        threading.Thread(target=work, name="yolotf-fetch", daemon=True).start()
    try:
        while done < size:
            result = finished.get()
            if isinstance(result, BaseException):
                raise result
            done += result
            progress(done, size)
    finally:
        stopped.set()


def _range(
    system: Any, path: str, start: int, end: int, size: int, conditions: dict[str, Any]
) -> bytes:
    content: bytes = system.cat_file(path, start=start, end=end, **conditions)
    whole = start == 0 and len(content) == size  # from a server that knows no ranges
    if len(content) != end - start and not whole:
        raise OSError(
            errno.EIO,
            f"{len(content)} bytes came for {start}..{end} of {size}; the connection broke, or "
            "the file was replaced",
        )
    return content


def _with_patience(fetch: Callable[[], bytes], attempts: int = _ATTEMPTS) -> bytes:
    """One broken connection of many is no reason to give up."""
    try:
        return fetch()
    except Exception as error:
        if attempts == 1 or _status(error) == _OTHER_VERSION:
            raise
    return _with_patience(fetch, attempts - 1)


def _fetch_stream(
    system: Any, path: str, name: str, size: int | None, memory: _Memory, progress: Progress
) -> None:
    done = 0
    with system.open(path, "rb", **({} if size else {"block_size": 0})) as file:
        while chunk := file.read(_RANGE):
            memory.write(chunk)
            done += len(chunk)
            progress(done, max(size or 0, done))
    if size is not None and done != size:
        raise OSError(
            errno.EIO,
            f"{done} bytes came of {size}; the connection broke, or it was replaced",
            name,
        )


def _fsspec(url: str) -> Any:
    try:
        import fsspec  # optional
    except ImportError:
        raise errors.MissingPackageError(
            f'{redacted(url)}: URLs need the package fsspec; pip install "yolotf[{EXTRA}]"',
            url=redacted(url),
        ) from None
    return fsspec


def _worded_error(error: Exception, url: str) -> Exception:
    name = redacted(url)
    reason = _without_secrets(str(error), url) or type(error).__name__
    if _status(error) == _OTHER_VERSION:
        return errors.FileChangedError(
            f"{name}: replaced while it was read: the server has another version by now; load it "
            "again",
            path=name,
        )
    if isinstance(error, ImportError):
        # fsspec names the package that it lacks for the protocol.
        return errors.MissingPackageError(f"{name}: {reason}", url=name)
    if isinstance(error, FileNotFoundError):
        # fsspec takes a server that does not answer, or answers 403 or 503, for a missing file.
        return _http_error(error.__cause__, url) or FileNotFoundError(
            errno.ENOENT, os.strerror(errno.ENOENT), name
        )
    if isinstance(error, PermissionError):
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
    if isinstance(error, OSError):
        said = _without_secrets(error.strerror or "", url) or reason
        return OSError(error.errno or errno.EIO, said, name)
    if isinstance(error, ValueError):
        # No such protocol, or a URL that is none.
        return errors.YolotfError(f"{name}: {reason}", path=name)
    # aiohttp's and the like, which are no OSErrors.
    return _http_error(error, url) or OSError(errno.EIO, f"cannot be read: {reason}", name)


def _without_secrets(said: str, url: str) -> str:
    """A library's words in one line; none of them if they hold a part of the URL not shown."""
    text = redacted(" ".join(said.split()))
    shown = redacted(url)
    parts = [part for part in re.split(r"[/?#@&=:;,+]", url) if len(part) > 3]
    hidden = (word for part in parts for word in (part, unquote(part)) if word not in shown)
    return "" if any(word in text for word in hidden) else text


def _status(error: BaseException | None) -> int | None:
    """Of an HTTP client's error; of fsspec's, which hides it, that of its cause."""
    status = getattr(error, "status", None)
    cause = getattr(error, "__cause__", None)
    return status if status is not None or cause is None else _status(cause)


def _http_error(error: BaseException | None, url: str) -> OSError | None:
    """What an HTTP client's error is in the system's terms."""
    name = redacted(url)
    status = getattr(error, "status", None)
    if status in (401, 403):
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
    if status is not None and status != 404:
        return OSError(errno.EIO, f"the server answered {status}", name)
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, _without_secrets(error.strerror or "", url) or None, name)
    return None
