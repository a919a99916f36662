"""A file that lies in no folder."""

from __future__ import annotations

import os
import tempfile


def anonymous_file(name: str = "yolotf") -> int:
    """The descriptor of a new, empty file in memory, or where the system has none in a folder.

    It needs no folder that can be written where there is `memfd_create` (Linux): containers with a
    read-only root have none.

    Raises:
        OSError: there is neither.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
