"""Holds back what TensorFlow and its converters print to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from yolotf.errors import YolotfError
from yolotf.files.memory import anonymous_file


@contextlib.contextmanager
def held_back_stderr() -> Iterator[TextIO]:
    """Captures stderr, including native code's, and prints it only on an exception.

    Yields a stream to the real stderr. If Python's `sys.stderr` is not the process's (in tests and
    notebooks), what Python prints is not captured.
    """
    with _log_level():
        try:
            own = sys.stderr.fileno() == 2
            kept = os.dup(2)
        except (OSError, ValueError, AttributeError):  # closed, missing, or not a file
            own = False
            try:
                kept = os.dup(2)
            except OSError:
                yield sys.stderr
                return
        with (
            os.fdopen(anonymous_file(), "w+b") as file,
            os.fdopen(kept, "w", errors="replace") as shown,
        ):
            _flush()
            os.dup2(file.fileno(), 2)
            try:
                yield shown if own else sys.stderr
            except YolotfError:
                raise  # the message contains what matters of TensorFlow's
            except Exception:
                _flush()
                os.dup2(kept, 2)
                file.seek(0)
                with contextlib.suppress(OSError):
                    while chunk := file.read(1 << 16):
                        os.write(2, chunk)
                raise
            finally:
                _flush()
                with contextlib.suppress(OSError):
                    shown.flush()
                os.dup2(kept, 2)


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
