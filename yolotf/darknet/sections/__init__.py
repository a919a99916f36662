"""The sections of a cfg, one file a family; importing them registers every class."""

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
