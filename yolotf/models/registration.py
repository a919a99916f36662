"""How the layers of `yolotf.keras_layers` are made known to Keras. Importing it imports Keras."""

from __future__ import annotations

from typing import Any, TypeVar

from yolotf.models.keras_module import keras

layers: Any = keras().layers
initializers: Any = keras().initializers
Layer: Any = layers.Layer

_PUBLIC = "yolotf.models.keras_layers"
"""Where programs and files find the layers, whichever module has them."""

_Class = TypeVar("_Class", bound=type)


def register(cls: _Class) -> _Class:
    """Registers a layer, so that `load_model` finds it in a saved `.keras` file."""
    cls.__module__ = _PUBLIC
    registered: _Class = keras().saving.register_keras_serializable(package="yolotf")(cls)
    return registered
