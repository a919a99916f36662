"""The user's folder, which not every process has."""

from __future__ import annotations

from pathlib import Path


def home() -> Path | None:
    """The user's folder; None where there is neither `$HOME` nor an entry for the user.

    So it is in containers that run under a number (`docker run --user 1234`).
    """
    try:
        return Path.home()
    except RuntimeError:
        return None
