"""Lowerings of sections, one file per family as in `yolotf.darknet.sections`.

Importing this package registers a lowering for every class of section; see
`yolotf.graphs.lowering`. Arithmetic shared with Keras layers is in separate functions, whose first
argument is where operations are written.
"""

from yolotf.graphs.sections import (
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
