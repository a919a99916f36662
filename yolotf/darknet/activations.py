"""Darknet's activations by name, and their names in other frameworks."""

from __future__ import annotations

# activations.c:48-74
ACTIVATIONS = frozenset(
    {
        "elu",
        "gelu",
        "hard_mish",
        "hardtan",
        "leaky",
        "lhtan",
        "linear",
        "logistic",
        "loggy",
        "mish",
        "normalize_channels",
        "normalize_channels_softmax",
        "normalize_channels_softmax_maxval",
        "plse",
        "ramp",
        "relie",
        "relu",
        "relu6",
        "revleaky",
        "selu",
        "stair",
        "swish",
        "tanh",
    }
)

CONVOLUTION_ONLY = frozenset(
    {
        "hard_mish",
        "mish",
        "normalize_channels",
        "normalize_channels_softmax",
        "normalize_channels_softmax_maxval",
        "swish",
    }
)
"""Activations for which Darknet's `activate` returns 0 (activations.c:77-116). They only work in
sections that have separate code for them."""

DARKNETS_NAME = {
    "silu": "swish",
    "sigmoid": "logistic",
    "leakyrelu": "leaky",
    "leaky_relu": "leaky",
    "lrelu": "leaky",
    "hardtanh": "hardtan",
    "hardmish": "hard_mish",
    "identity": "linear",
    "none": "linear",
}
"""Darknet's names for the activations of other frameworks."""
