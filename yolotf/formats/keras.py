"""`.keras`: Keras' native file format."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from yolotf.formats import keras_config
from yolotf.formats.request import ConversionInput


def write(conversion: ConversionInput, path: Path) -> None:
    """Writes the whole model; `yolotf.keras_layers` provides the layers that Keras lacks."""
    keras_config.make_portable(conversion.model, old_keras=conversion.options.old_keras)
    with without_advice():
        conversion.model.save(os.fspath(path))


@contextlib.contextmanager
def without_advice() -> Iterator[None]:
    """Silences Keras' warning that .h5 is a legacy format: the user asked for it."""
    # absl is a dependency of TensorFlow.
    from absl import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file")
            yield
    finally:
        logging.set_verbosity(level)
