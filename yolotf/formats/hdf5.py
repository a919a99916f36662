"""Keras' HDF5 files: `.h5` (the whole model) and `.weights.h5` (its variables alone)."""

from __future__ import annotations

import os
from pathlib import Path

from yolotf.formats import keras_config
from yolotf.formats.keras import without_advice
from yolotf.formats.request import ConversionInput


def write(conversion: ConversionInput, path: Path) -> None:
    """Writes the whole model."""
    keras_config.make_portable(conversion.model, old_keras=conversion.options.old_keras)
    with without_advice():
        conversion.model.save(os.fspath(path))


def write_weights(conversion: ConversionInput, path: Path) -> None:
    """Writes the variables, for `build_model(...).load_weights`."""
    conversion.model.save_weights(os.fspath(path))
