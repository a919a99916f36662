"""SavedModel folders of standard operations."""

from __future__ import annotations

import os
from pathlib import Path

from yolotf.formats.concrete_function import traced
from yolotf.formats.request import Source


def write(source: Source, path: Path) -> None:
    """Writes a SavedModel with one signature, `serving_default`."""
    import tensorflow as tf  # imported lazily: needed only while converting

    module, function = traced(source, batch=source.options.batch)
    tf.saved_model.save(module, os.fspath(path), signatures=function)
