"""Python's garbage collector, kept from a long look at the wrong moment."""

from __future__ import annotations

import gc

_FROZEN_BY_PYTHON = 1_000
"""Objects: more than the 400 that Python 3.12 itself freezes when it starts; a process that freezes
anything freezes all there is, many thousands."""


def postpone() -> None:
    """Starts the collector's counts anew: what exists is taken for old.

    Building a graph makes many objects that stay. The collector takes that for a reason to look at
    every object of the process, and TensorFlow has so many that a look takes a tenth of a second.
    It will look, but not while somebody waits for a server. Nothing is switched off.
    """
    if gc.get_freeze_count() < _FROZEN_BY_PYTHON:  # what the process has frozen stays so
        gc.freeze()
        gc.unfreeze()


postpone()  # for the modules that follow: who imports this one has just imported TensorFlow
