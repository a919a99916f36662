"""What each section is in Keras, one file a family as in `yolotf.darknet.sections`.

Importing this imports TensorFlow, and registers a builder for every class of section; see
`yolotf.models.building`.
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
