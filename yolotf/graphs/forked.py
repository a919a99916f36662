"""Checks whether this process was forked after TensorFlow had run.

TensorFlow's threads do not exist in the child, so waiting for their work would hang.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

from yolotf.errors import ForkedProcessError


def missing_threads(library: str, before: str) -> str:
    """Returns what is wrong with a forked process, and what to do, for the end of an error.

    Args:
        library: the library whose threads it lacks.
        before: what the process must be forked before, as a clause.
    """
    return (
        f"so {library}'s threads do not exist in it; start processes with "
        f'multiprocessing.get_context("spawn"), or fork before {before}'
    )


def check_process(purpose: str) -> None:
    """Raises if TensorFlow's Python would hang.

    Args:
        purpose: the function that needs it, such as `build_model`.

    Raises:
        ForkedProcessError: the process was forked after TensorFlow had run in its parent.
    """
    if _parent.ran:
        raise ForkedProcessError(
            f"{purpose}: this process was forked after TensorFlow had run in its parent, "
            + missing_threads("TensorFlow", "TensorFlow runs")
        )


def check_runtime() -> None:
    """Raises if TensorFlow's C API would hang, which it does not after TensorFlow's Python alone.

    Raises:
        ForkedProcessError: the process was forked after a detector had been created in its parent.
    """
    if _parent.detected:
        raise ForkedProcessError(
            "this process was forked after a detector had been created in its parent, "
            + missing_threads("TensorFlow", "the first detector is created")
        )


class _Threads(NamedTuple):
    """What has started TensorFlow's threads so far."""

    ran: bool
    """TensorFlow's Python or its C API."""
    detected: bool
    """TensorFlow's C API."""

    @classmethod
    def now(cls) -> _Threads:
        context = getattr(sys.modules.get("tensorflow.python.eager.context"), "_context", None)
        runtime = sys.modules.get("yolotf._runtime")
        detected = runtime is not None and bool(runtime.version())
        return cls(detected or getattr(context, "_context_handle", None) is not None, detected)


def _before_import() -> _Threads:
    """Returns what a parent that did not import this module had started.

    Known only where the system lists a process's threads, as Linux does, and only if there is a
    single thread, as after a fork.
    """
    try:
        threads = len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        threads = 0
    return _Threads.now() if threads == 1 else _Threads(False, False)


def _after_fork() -> None:
    global _parent
    now = _Threads.now()
    _parent = _Threads(_parent.ran or now.ran, _parent.detected or now.detected)


_parent = _before_import()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
