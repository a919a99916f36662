"""The folder of downloads that yolotf keeps."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Returns `$YOLOTF_CACHE`, or the platform's cache folder: `~/.cache/yolotf` on Linux.

    A user without a home folder gets a folder in the temporary folder.
    """
    if own := os.environ.get("YOLOTF_CACHE"):
        return Path(own)
    # platformdirs raises RuntimeError for a user without a home, or returns a folder called "~".
    with contextlib.suppress(RuntimeError):
        folder = platformdirs.user_cache_path("yolotf", appauthor=False)
        if folder.is_absolute():
            return folder
    return Path(tempfile.gettempdir()) / f"yolotf-{os.getuid()}"
