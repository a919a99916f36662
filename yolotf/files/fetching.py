"""Downloads a URL into memory through fsspec: all of it and of one version, or an error.

Stores that support it are asked for several ranges in parallel. A slow download continues as long
as data arrives; a server that falls silent is given up after a timeout, and one that sends more
than requested is cut off.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

from yolotf import errors
from yolotf.files.urls import redacted, shown_url
from yolotf.progress import Progress, ignore
from yolotf.text import plural

Came = Callable[[int], None]
"""Called with the number of bytes received; negative if they must be sent again."""

EXTRA = "remote"
"""The extra in `pip install yolotf[...]` that installs the library."""
LARGEST = 1 << 33
"""Maximum bytes to download into memory."""
LARGEST_KNOWN = 1 << 30
"""More bytes than any public file has: the largest has about 800 MB. A wrong file that is smaller
is downloaded, to identify it."""
TIMEOUT = 60.0
"""Seconds without data after which a server is given up."""

_STAGE = "downloading"
_RANGE = 8 << 20
"""Bytes per request."""
_AT_ONCE = 8
_CHUNK = 1 << 20
_ATTEMPTS = 3
_SLOWEST = 1 << 10
"""Bytes per second; a slower server counts as silent."""
_OTHER_VERSION = 412
"""HTTP status if a condition such as If-Match does not hold."""
_PARTIAL = 206
"""HTTP status of a response with the requested range."""
_VERSION = (
    *("ETag", "etag", "md5Hash", "generation", "version", "blob_id"),
    *("LastModified", "Last-Modified", "last_modified", "mtime", "created", "modified"),
)
"""Metadata that changes with an object, in the terms of different stores."""


@dataclass(frozen=True)
class Limits:
    """Limits of a download.

    Attributes:
        most_bytes: maximum size if the source states its size.
        most_unsaid_bytes: maximum size if it does not.
        timeout: seconds without data after which to give up; None: no limit.
        most_of: what is at most `most_unsaid_bytes` large, for errors.
    """

    most_bytes: int = LARGEST
    most_unsaid_bytes: int = LARGEST_KNOWN
    timeout: float | None = TIMEOUT
    most_of: str = "any known .weights file"

    def __post_init__(self) -> None:
        if self.timeout is not None and not (0 < self.timeout < math.inf):
            raise ValueError(f"timeout={self.timeout} must be above 0, or None for no time limit")

    @classmethod
    def of_weights(cls, size_bytes: int | None, timeout: float | None) -> Limits:
        """Returns the limits for a network's weights, of `size_bytes` bytes if that is known.

        A source that does not state its size must not be larger. A source that does may be another
        network's file, which is downloaded to identify it.
        """
        if size_bytes is None:
            return cls(LARGEST, LARGEST_KNOWN, timeout)
        return cls(max(size_bytes, LARGEST_KNOWN), size_bytes, timeout, "the network's file")


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
        refused = _worded_error(error, url)
    raise refused


def read(url: str, *, most_bytes: int, timeout: float | None = TIMEOUT) -> bytes:
    """Returns the content of a URL, of at most `most_bytes` bytes.

    Raises:
        OSError, FileChangedError, MissingPackageError: see `fetch`.
    """
    content = _Buffer()
    what = "a file that is read here"
    fetch(url, content, ignore, Limits(most_bytes, most_bytes, timeout, what))
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
        self._system, self._path = fsspec.core.url_to_fs(url)
        self._memory = memory
        self._progress = progress
        self._limits = limits
        protocols = self._system.protocol
        self._is_http = "http" in (protocols if isinstance(protocols, tuple) else (protocols,))

    def run(self) -> None:
        before = self._info()
        if before.get("type") == "directory":
            raise _RefusedError(errno.EISDIR, os.strerror(errno.EISDIR))
        size = before.get("size")
        if size is not None and size > self._limits.most_bytes:
            raise _RefusedError(
                errno.EFBIG, f"{size:,} bytes, at most {self._limits.most_bytes:,} are read"
            )
        self._progress(_STAGE, 0, size or 0)
        if size and self._system.async_impl and before.get("partial", True):
            self._by_ranges(size, self._only_if(before))
        else:
            self._as_stream(size)
        with contextlib.suppress(Exception):
            self._system.invalidate_cache(self._path)
        self._check_version(before, self._info())

    def _info(self) -> dict[str, Any]:
        answers: list[dict[str, Any]] = []
        self._attend([lambda came: answers.append(self._system.info(self._path))])
        return answers[0]

    def _check_version(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        for key in ("size", *_VERSION):
            if key in before and key in after and before[key] != after[key]:
                raise errors.FileChangedError(
                    f"{self._name}: replaced while it was read: {key} was {before[key]}, is "
                    f"{after[key]}; load it again",
                    path=self._name,
                    expected=before[key],
                    found=after[key],
                )

    def _only_if(self, before: dict[str, Any]) -> dict[str, str]:
        """Returns the header that makes an HTTP server refuse ranges of another version.

        See RFC 9110, 13.1.1. Weak tags (W/) never match there; other stores have no conditions.
        """
        tag = before.get("ETag")
        if not self._is_http or not isinstance(tag, str) or not tag.startswith('"'):
            return {}
        return {"If-Match": tag}

    def _by_ranges(self, size: int, conditions: dict[str, str]) -> None:
        done = 0

        def came(count: int) -> None:
            nonlocal done
            done += count
            self._progress(_STAGE, done, size)

        def part(start: int, came: Came) -> None:
            end = min(start + _RANGE, size)
            _retried(lambda: self._range(start, end, size, conditions, came))

        # Measures one range alone: on a slow network, too many parallel ranges gain nothing, and
        # none would finish within the time limit.
        started = time.monotonic()
        self._attend([lambda came: part(0, came)], came)
        seconds = time.monotonic() - started
        starts: queue.SimpleQueue[int] = queue.SimpleQueue()
        for start in range(done, size, _RANGE):
            starts.put(start)

        def work(came: Came) -> None:
            with contextlib.suppress(queue.Empty):
                while True:
                    part(starts.get_nowait(), came)

        at_once = min(_AT_ONCE, starts.qsize())
        if self._limits.timeout is not None and seconds > 0:
            at_once = min(at_once, max(1, int(self._limits.timeout / 2 / seconds)))
        self._attend([work] * at_once, came)

    def _range(
        self, start: int, end: int, size: int, conditions: dict[str, str], came: Came
    ) -> None:
        done = 0
        try:
            for content in self._pieces(start, end, conditions):
                if start + done + len(content) > (size if start == 0 else end):
                    raise _RefusedError(
                        errno.EIO, f"more bytes came than the {end - start:,} that were asked for"
                    )
                self._memory.write_at(start + done, content)
                done += len(content)
                came(len(content))
        except BaseException:
            came(-done)
            raise
        whole = start == 0 and done == size  # the server ignores ranges
        if done != end - start and not whole:
            came(-done)
            raise _RefusedError(
                errno.EIO,
                f"{done} bytes came for {start}..{end} of {size}; the connection broke, or "
                "the file was replaced",
            )

    def _pieces(self, start: int, end: int, conditions: dict[str, str]) -> Iterable[Any]:
        if not self._is_http:
            yield self._system.cat_file(self._path, start=start, end=end)
            return
        headers = {
            **self._system.kwargs.get("headers", {}),
            **conditions,
            "Range": f"bytes={start}-{end - 1}",
        }
        with self._opened(headers=headers) as file:
            if start and file.r.status != _PARTIAL:
                raise _RefusedError(
                    errno.EIO, f"the server answered {file.r.status} to a request for a range"
                )
            while content := file.read(_CHUNK):
                yield content

    def _opened(self, **arguments: Any) -> Any:
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

    def _as_stream(self, size: int | None) -> None:
        done = 0
        most = self._limits.most_unsaid_bytes if size is None else size

        def came(count: int) -> None:
            self._progress(_STAGE, done, max(size or 0, done))

        def work(came: Came) -> None:
            nonlocal done
            file = self._system.open(self._path, "rb") if size else self._opened()
            with file:
                while content := file.read(_CHUNK):
                    if done + len(content) > most:
                        raise _RefusedError(
                            errno.EFBIG,
                            "does not say how large it is, and has more than the "
                            f"{most:,} bytes of {self._limits.most_of}; no more of it was read: "
                            "download it, and pass its path",
                        )
                    self._memory.write_at(done, content)
                    done += len(content)
                    came(len(content))

        self._attend([work], came)
        if size is not None and done != size:
            raise _RefusedError(
                errno.EIO, f"{done} bytes came of {size}; the connection broke, or it was replaced"
            )

    def _attend(
        self, tasks: Iterable[Callable[[Came], None]], came: Came = lambda count: None
    ) -> None:
        """Runs tasks in threads, and `came` in this thread, until all have finished.

        Raises the exception of a task, or an error if too little data arrives.
        """
        events: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
        stopped = threading.Event()

        def tell(count: int) -> None:
            if stopped.is_set():
                raise InterruptedError
            events.put(count)

        def run(task: Callable[[Came], None]) -> None:
            try:
                task(tell)
                events.put(None)
            except BaseException as error:
                events.put(error)

        running = 0
        # Daemon threads, not a pool: errors and Ctrl-C must not wait for a hanging connection.
        for task in tasks:
            threading.Thread(target=run, args=(task,), name="yolotf-fetch", daemon=True).start()
            running += 1
        timeout = self._limits.timeout
        since, bytes_since = time.monotonic(), 0
        try:
            while running:
                try:
                    event = events.get(timeout=timeout)
                except queue.Empty:
                    raise self._stalled(bytes_since) from None
                if isinstance(event, BaseException):
                    raise event
                if event is None:
                    running -= 1
                    continue
                bytes_since += event
                waited = time.monotonic() - since
                if timeout is not None and waited > timeout:
                    if bytes_since < _SLOWEST * waited:
                        raise self._stalled(bytes_since)
                    since, bytes_since = time.monotonic(), 0
                came(event)
        finally:
            stopped.set()

    def _stalled(self, count: int) -> OSError:
        came = f"no more than {plural(count, 'byte')}" if count > 0 else "nothing"
        return _RefusedError(
            errno.ETIMEDOUT,
            f"{came} came in {self._limits.timeout:g} seconds; try it again, or with a longer "
            "timeout=, or --timeout",
        )


def _retried(fetch_part: Callable[[], None], attempts: int = _ATTEMPTS) -> None:
    """Retries after a broken connection."""
    try:
        return fetch_part()
    except InterruptedError:
        raise
    except Exception as error:
        if attempts == 1 or _status(error) == _OTHER_VERSION:
            raise
    return _retried(fetch_part, attempts - 1)


def _fsspec(url: str) -> Any:
    name = shown_url(url)
    need = f"{name}: URLs need the package fsspec"
    with errors.optional_package("fsspec", need, f"yolotf[{EXTRA}]", url=name):
        import fsspec  # optional
    return fsspec


def _worded_error(error: Exception, url: str) -> Exception:
    name = shown_url(url)
    reason = _without_secrets(str(error), url) or type(error).__name__
    if _status(error) == _OTHER_VERSION:
        return errors.FileChangedError(
            f"{name}: replaced while it was read: the server has another version by now; load it "
            "again",
            path=name,
        )
    if isinstance(error, ImportError):
        # fsspec's message names the package that the protocol needs.
        return errors.MissingPackageError(f"{name}: {reason}", url=name)
    if isinstance(error, FileNotFoundError):
        # fsspec reports an unreachable server, or status 403 or 503, as a missing file.
        return _http_error(error.__cause__, url) or FileNotFoundError(
            errno.ENOENT, os.strerror(errno.ENOENT), name
        )
    if isinstance(error, PermissionError):
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
    if isinstance(error, OSError):
        said = _without_secrets(error.strerror or "", url) or reason
        return OSError(error.errno or errno.EIO, said, name)
    if isinstance(error, ValueError):
        # Unknown protocol or invalid URL.
        return errors.YolotfError(f"{name}: {reason}", path=name)
    # aiohttp's and other errors that are not OSErrors.
    return _http_error(error, url) or OSError(errno.EIO, f"cannot be read: {reason}", name)


def _without_secrets(said: str, url: str) -> str:
    """Returns a library's message as one line; empty if it contains hidden parts of the URL."""
    text = redacted(" ".join(said.split()))
    shown = shown_url(url)
    parts = [part for part in re.split(r"[/?#@&=:;,+]", url) if len(part) > 3]
    hidden = (word for part in parts for word in (part, unquote(part)) if word not in shown)
    return "" if any(word in text for word in hidden) else text


def _status(error: BaseException | None) -> int | None:
    """Returns the HTTP status of a client's error, or of fsspec's, which has it in its cause."""
    status = getattr(error, "status", None)
    cause = getattr(error, "__cause__", None)
    return status if status is not None or cause is None else _status(cause)


def _http_error(error: BaseException | None, url: str) -> OSError | None:
    """Translates an HTTP client's error into an OSError."""
    name = shown_url(url)
    status = getattr(error, "status", None)
    if status in (401, 403):
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
    if status is not None and status != 404:
        return OSError(errno.EIO, f"the server answered {status}", name)
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, _without_secrets(error.strerror or "", url) or None, name)
    return None
