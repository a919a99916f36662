"""SavedModel folders of standard operations."""

from __future__ import annotations

import os
from pathlib import Path

from yolotf.formats.concrete_function import traced
from yolotf.formats.request import ConversionInput


def write(conversion: ConversionInput, path: Path) -> None:
    """Writes a SavedModel with one signature, `serving_default`."""
    import tensorflow as tf  # imported lazily: needed only while converting

    module, function = traced(conversion, batch_size=conversion.options.batch_size)
    tf.saved_model.save(module, os.fspath(path), signatures=function)
