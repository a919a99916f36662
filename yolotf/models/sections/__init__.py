"""Builds sections as Keras layers, a module for each family as in `yolotf.darknet.sections`.

Importing this package imports TensorFlow, and registers a build function for each class of
section; see `yolotf.models.builder`.
"""

from yolotf.models.sections import (
    convolutional,
    dense,
    joins,
    pointwise,
    recurrent,
    resampling,
)

__all__ = [
    "convolutional",
    "dense",
    "joins",
    "pointwise",
    "recurrent",
    "resampling",
]
