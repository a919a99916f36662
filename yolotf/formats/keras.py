"""`.keras`: Keras' own file."""

from __future__ import annotations

import os
from pathlib import Path

from yolotf.formats.quiet import without_advice
from yolotf.formats.source import Source


def write(source: Source, path: Path) -> None:
    """Writes the whole model; `yolotf.keras_layers` registers what Keras needs to read it."""
    with without_advice():
        source.model.save(os.fspath(path))
