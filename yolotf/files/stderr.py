"""Captures what TensorFlow and its converters print to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from yolotf.errors import YolotfError
from yolotf.files.memory import anonymous_file


@contextlib.contextmanager
def captured_stderr() -> Iterator[TextIO]:
    """Captures stderr, including native code's, and prints it only on an exception.

    Yields a stream to the real stderr. If Python's `sys.stderr` is not the process's (in tests and
    notebooks), what Python prints is not captured.
    """
    with _log_level():
        try:
            is_stderr = sys.stderr.fileno() == 2
            original = os.dup(2)
        except (OSError, ValueError, AttributeError):  # closed, missing, or not a file
            is_stderr = False
            try:
                original = os.dup(2)
            except OSError:
                yield sys.stderr
                return
        with (
            os.fdopen(anonymous_file(), "w+b") as captured,
            os.fdopen(original, "w", errors="replace") as terminal,
        ):
            _flush()
            os.dup2(captured.fileno(), 2)
            try:
                yield terminal if is_stderr else sys.stderr
            except YolotfError:
                raise  # its message contains the important part of TensorFlow's
            except Exception:
                _flush()
                os.dup2(original, 2)
                captured.seek(0)
                with contextlib.suppress(OSError):
                    while chunk := captured.read(1 << 16):
                        os.write(2, chunk)
                raise
            finally:
                _flush()
                with contextlib.suppress(OSError):
                    terminal.flush()
                os.dup2(original, 2)


@contextlib.contextmanager
def _log_level() -> Iterator[None]:
    """Lowers TensorFlow's log level, unless the user has set the variable."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    try:
        yield
    finally:
        os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)


def _flush() -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
