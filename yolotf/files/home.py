"""The user's home folder, which may not exist."""

from __future__ import annotations

from pathlib import Path


def home() -> Path | None:
    """Returns the home folder; None with neither `$HOME` nor a passwd entry for the user.

    That is the case in containers that run as a numeric user (`docker run --user 1234`).
    """
    try:
        return Path.home()
    except RuntimeError:
        return None
