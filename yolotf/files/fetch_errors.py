"""Errors of fsspec and its HTTP client, as OSErrors that name the URL without its secrets."""

from __future__ import annotations

import errno
import os
import re
from urllib.parse import unquote

from yolotf import errors
from yolotf.files.urls import redacted, shown_url

PRECONDITION_FAILED = 412
"""HTTP status if a condition such as If-Match does not hold."""


def translated(error: Exception, url: str) -> Exception:
    """Returns the exception to raise for one of a store's library."""
    name = shown_url(url)
    reason = _without_secrets(str(error), url) or type(error).__name__
    if status_of(error) == PRECONDITION_FAILED:
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
        message = _without_secrets(error.strerror or "", url) or reason
        return OSError(error.errno or errno.EIO, message, name)
    if isinstance(error, ValueError):
        # Unknown protocol or invalid URL.
        return errors.YolotfError(f"{name}: {reason}", path=name)
    # aiohttp's and other errors that are not OSErrors.
    return _http_error(error, url) or OSError(errno.EIO, f"cannot be read: {reason}", name)


def _without_secrets(message: str, url: str) -> str:
    """Returns a library's message as one line; empty if it contains hidden parts of the URL."""
    text = redacted(" ".join(message.split()))
    shown = shown_url(url)
    parts = [part for part in re.split(r"[/?#@&=:;,+]", url) if len(part) > 3]
    hidden = (word for part in parts for word in (part, unquote(part)) if word not in shown)
    return "" if any(word in text for word in hidden) else text


def status_of(error: BaseException | None) -> int | None:
    """Returns the HTTP status of a client's error, or of fsspec's, which has it in its cause."""
    status = getattr(error, "status", None)
    cause = getattr(error, "__cause__", None)
    return status if status is not None or cause is None else status_of(cause)


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
