"""Downloads a URL into memory through fsspec: all of it and of one version, or an error.

Stores that support it are asked for several ranges in parallel. A slow download continues as long
as data arrives; it fails if the server is silent for the timeout or sends more than was requested.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from yolotf import argument_numbers, errors
from yolotf.files.fetch_errors import PRECONDITION_FAILED, status_of, translated
from yolotf.files.urls import shown_url
from yolotf.progress import Progress, ignore
from yolotf.text import plural

OnBytes = Callable[[int], None]
"""Called with the number of bytes received; negative if they must be sent again."""

EXTRA = "remote"
"""The extra in `pip install yolotf[...]` that installs the library."""
MAX_BYTES = 1 << 33
"""Maximum bytes to download into memory."""
MAX_UNSTATED_BYTES = 1 << 30
"""Maximum bytes to download if the server does not state the size. The largest public .weights file
has about 800 MB; a wrong file that is smaller is downloaded, to identify it."""
TIMEOUT = 60.0
"""Seconds without data after which a download fails."""

_MOST_SECONDS = 1e9
"""The longest time limit, 30 years; threads cannot wait for longer than 292."""
_STAGE = "downloading"
_RANGE_BYTES = 8 << 20
"""Bytes per request."""
_MAX_REQUESTS = 8
"""The most requests at a time."""
_CHUNK_BYTES = 1 << 20
_ATTEMPTS = 3
_MIN_BYTES_PER_SECOND = 1 << 10
"""Bytes per second; a slower server counts as silent."""
_PARTIAL_CONTENT = 206
"""HTTP status of a response with the requested range."""
_CACHES = ("simplecache", "filecache", "blockcache", "cached")
"""fsspec's links that copy a file to the disk and read the copy later, whatever the store has by
then; parts of the copy, if the store has a shorter file. A download into memory has no use for
them."""
_VERSION_KEYS = (
    *("ETag", "etag", "md5Hash", "generation", "version", "blob_id"),
    *("LastModified", "Last-Modified", "last_modified", "mtime", "created", "modified"),
)
"""Metadata that changes with an object, in the terms of different stores."""


@dataclass(frozen=True)
class Limits:
    """Limits of a download.

    Attributes:
        max_bytes: maximum size if the source states its size.
        max_unstated_bytes: maximum size if it does not.
        timeout: seconds without data after which to give up; None for no limit.
        limit_source: the file that has `max_unstated_bytes` bytes at most, for errors.
    """

    max_bytes: int = MAX_BYTES
    max_unstated_bytes: int = MAX_UNSTATED_BYTES
    timeout: float | None = TIMEOUT
    limit_source: str = "any known .weights file"

    def __post_init__(self) -> None:
        if self.timeout is None:
            return
        timeout = argument_numbers.real("timeout", self.timeout)
        if not (0 < timeout < math.inf):
            raise ValueError(f"timeout={self.timeout} must be above 0, or None for no time limit")
        object.__setattr__(self, "timeout", min(timeout, _MOST_SECONDS))

    @classmethod
    def of_weights(cls, size_bytes: int | None, timeout: float | None) -> Limits:
        """Returns the limits for a network's weights, of `size_bytes` bytes if that is known.

        A source that does not state its size must not be larger. A source that does may be another
        network's file, which is downloaded to identify it.
        """
        if size_bytes is None:
            return cls(MAX_BYTES, MAX_UNSTATED_BYTES, timeout)
        return cls(max(size_bytes, MAX_UNSTATED_BYTES), size_bytes, timeout, "the network's file")


class _Memory(Protocol):
    def write_at(self, offset: int, content: Any) -> None: ...


class _RefusedError(OSError):
    """Raised in this module; the message contains no secrets."""


def fetch(url: str, memory: _Memory, progress: Progress, limits: Limits) -> None:
    """Downloads an object into memory, all of it and of one version.

    Any exception of a store's library becomes an OSError with the URL. The library's exception is
    neither its cause nor its context: it contains the URL with its secrets.

    Raises:
        OSError: it cannot be read, is larger than `limits` allow, or (TimeoutError) stalls.
        FileChangedError: it was replaced during the download.
        MissingPackageError: the package for its protocol is not installed.
    """
    fsspec = _fsspec(url)
    refused: Exception
    try:
        return _Fetch(fsspec, url, memory, progress, limits).run()
    except errors.YolotfError:
        raise
    except _RefusedError as error:
        refused = OSError(error.errno, error.strerror, shown_url(url))
    except Exception as error:
        refused = translated(error, url)
    raise refused


def read(url: str, *, max_bytes: int, timeout: float | None = TIMEOUT) -> bytes:
    """Returns the content of a URL, of at most `max_bytes` bytes.

    Raises:
        OSError, FileChangedError, MissingPackageError: see `fetch`.
    """
    content = _Buffer()
    limits = Limits(max_bytes, max_bytes, timeout, "the largest file that can be read")
    fetch(url, content, ignore, limits)
    return bytes(content.bytes)


class _Buffer:
    """A memory buffer that several threads fill in any order."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self._lock = threading.Lock()

    def write_at(self, offset: int, content: Any) -> None:
        with self._lock:
            end = offset + len(content)
            self.bytes.extend(bytes(max(0, end - len(self.bytes))))
            self.bytes[offset:end] = content


class _Fetch:
    """The download of one object."""

    def __init__(
        self, fsspec: Any, url: str, memory: _Memory, progress: Progress, limits: Limits
    ) -> None:
        self._name = shown_url(url)
        self._fsspec = fsspec
        self._links = [link for link in url.split("::") if link.rstrip(":/") not in _CACHES]
        self._is_chained = len(self._links) > 1
        self._open_system(new=self._is_chained)
        self._memory = memory
        self._progress = progress
        self._limits = limits
        protocols = self._system.protocol
        self._is_http = "http" in (protocols if isinstance(protocols, tuple) else (protocols,))

    def run(self) -> None:
        before = self._first_info()
        if before.get("type") == "directory":
            raise _RefusedError(errno.EISDIR, os.strerror(errno.EISDIR))
        if before.get("type") == "other":  # file:///dev/zero; opening a FIFO would block
            raise _RefusedError(errno.EINVAL, "not a regular file; name another file")
        size = before.get("size")
        if size is not None and size > self._limits.max_bytes:
            raise _RefusedError(
                errno.EFBIG,
                f"{size:,} bytes, at most {self._limits.max_bytes:,} are read; download it, and "
                "pass its path",
            )
        self._progress(_STAGE, 0, size or 0)
        if size and self._system.async_impl and before.get("partial", True):
            self._download_ranges(size, self._version_condition(before))
        else:
            self._download_stream(size)
        with contextlib.suppress(Exception):
            self._system.invalidate_cache(self._path)
        self._check_version(before, self._info())

    def _open_system(self, *, new: bool) -> None:
        """Finds the file system of the URL; with `new`, one with the settings of now.

        fsspec keeps its instances, and new ones of a chain hold on to kept ones of its links.
        """
        options: dict[str, dict[str, bool]] = {}
        for link in self._links if new else ():
            if protocol := self._fsspec.core.split_protocol(link)[0]:
                options[protocol] = {"skip_instance_cache": True}
        self._system, self._path = self._fsspec.core.url_to_fs("::".join(self._links), **options)

    def _first_info(self) -> dict[str, Any]:
        """Returns what the store says about the object now.

        fsspec keeps its instances, whose listings and credentials may be out of date: those that a
        notebook sets after an error would never be used.
        """
        with contextlib.suppress(Exception):
            self._system.invalidate_cache(self._path)
        try:
            return self._info()
        except _RefusedError:
            raise
        except Exception:
            if self._is_http or self._is_chained:
                raise
        self._open_system(new=True)
        return self._info()

    def _info(self) -> dict[str, Any]:
        infos: list[dict[str, Any]] = []
        self._run_tasks([lambda on_bytes: infos.append(self._system.info(self._path))])
        return infos[0]

    def _check_version(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        for key in ("size", *_VERSION_KEYS):
            if key in before and key in after and before[key] != after[key]:
                raise errors.FileChangedError(
                    f"{self._name}: replaced while it was read: {key} was {before[key]}, is "
                    f"{after[key]}; load it again",
                    path=self._name,
                    expected=before[key],
                    found=after[key],
                )

    def _version_condition(self, before: dict[str, Any]) -> dict[str, str]:
        """Returns the header that makes an HTTP server refuse ranges of another version.

        See RFC 9110, 13.1.1. Weak tags (W/) never match there; other stores have no conditions.
        """
        tag = before.get("ETag")
        if not self._is_http or not isinstance(tag, str) or not tag.startswith('"'):
            return {}
        return {"If-Match": tag}

    def _download_ranges(self, size: int, conditions: dict[str, str]) -> None:
        done = 0

        def on_bytes(count: int) -> None:
            nonlocal done
            done += count
            self._progress(_STAGE, done, size)

        def download(start: int, on_bytes: OnBytes) -> None:
            end = min(start + _RANGE_BYTES, size)
            _retried(lambda: self._download_range(start, end, size, conditions, on_bytes))

        # Times the first range alone: on a slow network, too many parallel ranges gain nothing, and
        # none would finish within the time limit.
        started = time.monotonic()
        self._run_tasks([lambda on_bytes: download(0, on_bytes)], on_bytes)
        seconds = time.monotonic() - started
        starts: queue.SimpleQueue[int] = queue.SimpleQueue()
        for start in range(done, size, _RANGE_BYTES):
            starts.put(start)

        def work(on_bytes: OnBytes) -> None:
            with contextlib.suppress(queue.Empty):
                while True:
                    download(starts.get_nowait(), on_bytes)

        threads = min(_MAX_REQUESTS, starts.qsize())
        if self._limits.timeout is not None and seconds > 0:
            threads = min(threads, max(1, int(self._limits.timeout / 2 / seconds)))
        self._run_tasks([work] * threads, on_bytes)

    def _download_range(
        self, start: int, end: int, size: int, conditions: dict[str, str], on_bytes: OnBytes
    ) -> None:
        done = 0
        try:
            for content in self._range_chunks(start, end, conditions):
                if start + done + len(content) > (size if start == 0 else end):
                    raise _RefusedError(
                        errno.EIO,
                        f"the server sent more than the {end - start:,} bytes that were requested",
                    )
                self._memory.write_at(start + done, content)
                done += len(content)
                on_bytes(len(content))
        except BaseException:
            on_bytes(-done)
            raise
        whole = start == 0 and done == size  # the server ignores ranges
        if done != end - start and not whole:
            on_bytes(-done)
            raise _RefusedError(
                errno.EIO,
                f"received {done} bytes for {start}..{end} of {size}; the connection broke, or "
                "the file was replaced",
            )

    def _range_chunks(self, start: int, end: int, conditions: dict[str, str]) -> Iterable[Any]:
        if not self._is_http:
            yield self._system.cat_file(self._path, start=start, end=end)
            return
        headers = {
            **self._system.kwargs.get("headers", {}),
            **conditions,
            "Range": f"bytes={start}-{end - 1}",
        }
        with self._open_stream(headers=headers) as file:
            if start and file.r.status != _PARTIAL_CONTENT:
                raise _RefusedError(
                    errno.EIO, f"the server answered {file.r.status} to a request for a range"
                )
            while content := file.read(_CHUNK_BYTES):
                yield content

    def _open_stream(self, **arguments: Any) -> Any:
        """Opens the object as a stream that caches nothing."""
        if self._is_http:
            import aiohttp  # needed by fsspec for HTTP

            # By default aiohttp gives up after five minutes, however much has arrived. A little
            # longer than our timeout, so that abandoned requests end as well.
            silence = None if self._limits.timeout is None else self._limits.timeout + 1
            arguments["size"] = 1  # unused in a stream, but saves a request for the size
            arguments["timeout"] = aiohttp.ClientTimeout(
                total=None, sock_connect=silence, sock_read=silence
            )
        return self._system.open(self._path, "rb", block_size=0, **arguments)

    def _download_stream(self, size: int | None) -> None:
        done = 0
        max_bytes = self._limits.max_unstated_bytes if size is None else size

        def on_bytes(count: int) -> None:
            self._progress(_STAGE, done, max(size or 0, done))

        def work(on_bytes: OnBytes) -> None:
            nonlocal done
            file = self._system.open(self._path, "rb") if size else self._open_stream()
            with file:
                while content := file.read(_CHUNK_BYTES):
                    if size is not None and done + len(content) > size:
                        raise _RefusedError(
                            errno.EIO,
                            f"the server sent more than the {size:,} bytes that it stated",
                        )
                    if done + len(content) > max_bytes:
                        raise _RefusedError(
                            errno.EFBIG,
                            "the server does not state the size of the file, which has more than "
                            f"the {max_bytes:,} bytes of {self._limits.limit_source}; download it, "
                            "and pass its path",
                        )
                    self._memory.write_at(done, content)
                    done += len(content)
                    on_bytes(len(content))

        self._run_tasks([work], on_bytes)
        if size is not None and done != size:
            raise _RefusedError(
                errno.EIO,
                f"received {done} of {size} bytes; the connection broke, or the file was replaced",
            )

    def _run_tasks(
        self, tasks: Iterable[Callable[[OnBytes], None]], on_bytes: OnBytes = lambda count: None
    ) -> None:
        """Runs tasks in threads, and `on_bytes` in this thread, until all have finished.

        Raises the exception of a task, or an error if too little data arrives.
        """
        events: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
        stopped = threading.Event()

        def report(count: int) -> None:
            if stopped.is_set():
                raise InterruptedError
            events.put(count)

        def run(task: Callable[[OnBytes], None]) -> None:
            try:
                task(report)
                events.put(None)
            except BaseException as error:
                events.put(error)

        running = 0
        # Daemon threads, not a pool: errors and Ctrl-C must not wait for a hanging connection.
        for task in tasks:
            threading.Thread(target=run, args=(task,), name="yolotf-fetch", daemon=True).start()
            running += 1
        timeout = self._limits.timeout
        interval_start, received = time.monotonic(), 0
        try:
            while running:
                try:
                    event = events.get(timeout=timeout)
                except queue.Empty:
                    raise self._stalled(received) from None
                if isinstance(event, BaseException):
                    raise event
                if event is None:
                    running -= 1
                    continue
                received += event
                seconds = time.monotonic() - interval_start
                if timeout is not None and seconds > timeout:
                    if received < _MIN_BYTES_PER_SECOND * seconds:
                        raise self._stalled(received)
                    interval_start, received = time.monotonic(), 0
                on_bytes(event)
        finally:
            stopped.set()

    def _stalled(self, count: int) -> OSError:
        received = f"no more than {plural(count, 'byte')}" if count > 0 else "nothing"
        return _RefusedError(
            errno.ETIMEDOUT,
            f"received {received} in {self._limits.timeout:g} seconds; try again, or with a longer "
            "timeout=, or --timeout",
        )


def _retried(fetch_part: Callable[[], None], attempts: int = _ATTEMPTS) -> None:
    """Calls `fetch_part`, and again after a broken connection."""
    try:
        return fetch_part()
    except InterruptedError:
        raise
    except Exception as error:
        if attempts == 1 or status_of(error) == PRECONDITION_FAILED:
            raise
    return _retried(fetch_part, attempts - 1)


def _fsspec(url: str) -> Any:
    name = shown_url(url)
    need = f"{name}: URLs need the package fsspec"
    with errors.optional_package("fsspec", need, f"yolotf[{EXTRA}]", url=name):
        import fsspec  # optional
    return fsspec
