"""What TensorFlow and the converters print while they do as they were asked."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from yolotf.errors import OutOfMemoryError, TensorFlowError
from yolotf.files.memory import anonymous_file


@contextlib.contextmanager
def held_back_stderr() -> Iterator[TextIO]:
    """Keeps what is written to stderr, by native code too, and shows it only on an exception.

    Yields the stream that meanwhile goes to stderr. What Python prints to a `sys.stderr` that is
    not the process's (a test's, a notebook's) goes there as ever.
    """
    with _log_level():
        try:
            own = sys.stderr.fileno() == 2
            kept = os.dup(2)
        except (OSError, ValueError, AttributeError):  # closed, or none, or no file
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
            except (OutOfMemoryError, TensorFlowError):
                raise  # TensorFlow's words are in it
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
    """TensorFlow's own log would bury the result; who wants it sets the variable."""
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
