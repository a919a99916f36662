"""The activations Darknet knows by name, and those other frameworks call otherwise."""

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
"""Darknet's `activate` knows none of these and answers 0 (activations.c:77-116); only the sections
that call other functions for them have them."""

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
"""What Darknet calls the activations of other frameworks."""
