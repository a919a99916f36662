"""Registers the layers of `yolotf.keras_layers` with Keras. Importing this imports Keras."""

from __future__ import annotations

from typing import Any, TypeVar

from yolotf.models.keras_module import keras

layers: Any = keras().layers
initializers: Any = keras().initializers
Layer: Any = layers.Layer

_PUBLIC = "yolotf.models.keras_layers"
"""The module under which programs and saved files find the layers, wherever they are defined."""

_Class = TypeVar("_Class", bound=type)


def register(cls: _Class) -> _Class:
    """Registers a layer, so that `load_model` can load a `.keras` file that contains it."""
    cls.__module__ = _PUBLIC
    registered: _Class = keras().saving.register_keras_serializable(package="yolotf")(cls)
    return registered
