"""Files in memory."""

from __future__ import annotations

import os
import tempfile


def anonymous_file(name: str = "yolotf") -> int:
    """Creates an empty file in memory, or in the temporary folder, and returns its descriptor.

    With `memfd_create` (Linux) it needs no writable folder, which containers with a read-only root
    do not have.

    Raises:
        OSError: neither is possible.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
