"""The section classes, one module per family; importing this package registers them all."""

from yolotf.darknet.sections import (
    convolutional,
    dense,
    heads,
    joins,
    pointwise,
    recurrent,
    resampling,
)

__all__ = [
    "convolutional",
    "dense",
    "heads",
    "joins",
    "pointwise",
    "recurrent",
    "resampling",
]
