"""Layers of the Keras models: `yolotf.models.keras_layers` under its public name."""

from yolotf.models.keras_layers import *
