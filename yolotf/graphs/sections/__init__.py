"""What each section computes, one file a family as in `yolotf.darknet.sections`.

Importing this registers a lowering for every class of section; see `yolotf.graphs.lowering`. The
arithmetic that Keras layers share is a function of its own, whose first argument says where
operations are written.
"""

from yolotf.graphs.sections import (
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
