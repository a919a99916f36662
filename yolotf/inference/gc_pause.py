"""Defers full garbage collections while a server starts."""

from __future__ import annotations

import gc

_FROZEN_BY_PYTHON = 1_000
"""Objects. More than the 400 that Python 3.12 freezes itself at startup; an application that
freezes anything freezes all of its many thousands of objects."""


def postpone() -> None:
    """Resets the collector's counters and moves all objects to the oldest generation.

    Building a graph creates many long-lived objects, which triggers a full collection; with all of
    TensorFlow's objects that takes 0.1 s. This defers the collection until the server has
    started. The collector stays enabled.
    """
    if gc.get_freeze_count() < _FROZEN_BY_PYTHON:  # do not unfreeze what the application froze
        gc.freeze()
        gc.unfreeze()


postpone()  # TensorFlow has just been imported; other modules follow
