"""Lets Python's exit wait for native code of other libraries in daemon threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from yolotf import _runtime


@contextlib.contextmanager
def native_work() -> Iterator[None]:
    """Within the block Python does not exit, or for some seconds at most.

    A library whose objects are destroyed at the exit while its code runs crashes the process. Once
    Python is exiting, the block is not entered, and its thread stops.
    """
    _runtime.begin_work()
    try:
        yield
    finally:
        _runtime.end_work()
