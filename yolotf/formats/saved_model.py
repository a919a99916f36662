"""SavedModel folders of standard operations."""

from __future__ import annotations

import os
from pathlib import Path

from yolotf.formats.source import Source
from yolotf.formats.traced import traced


def write(source: Source, path: Path) -> None:
    """Writes one signature, `serving_default`."""
    import tensorflow as tf  # not before a format is asked for

    module, function = traced(source, batch=source.options.batch)
    tf.saved_model.save(module, os.fspath(path), signatures=function)
