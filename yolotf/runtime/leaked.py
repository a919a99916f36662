"""Objects of libraries that a forked process must never destroy."""

from __future__ import annotations

import ctypes
from typing import Any


def leak(value: Any) -> None:
    """Keeps an object until the process ends, without destroying it then.

    For objects whose destructors wait for threads of the parent process.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
