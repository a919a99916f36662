"""The numbers that weights have before they are trained or loaded, as Darknet draws them.

They are drawn by Keras' own initializers, so that `keras.utils.set_random_seed` seeds them and a
saved model needs no class of yolotf for them. Biases and betas begin at 0, gammas and the factors
of a `[shortcut]` (shortcut_layer.c:56) at 1, moving means at 0 and moving variances at 1.
Darknet's variances begin at 0 (convolutional_layer.c:649) and are not read in training.
"""

from __future__ import annotations

import math
from typing import Any

from yolotf.models.keras_module import keras


def kernel(fan_in: int) -> Any:
    """The initializer of a kernel: evenly distributed between -sqrt(2 / fan_in) and its opposite.

    Darknet draws it so for convolutions (convolutional_layer.c:570,575; the ones that line 572
    has for `normalize_channels` are never set, because the activation is known from line 584 on),
    dense layers (connected_layer.c:93-95) and with them all parts of the recurrent sections, and
    local ones (local_layer.c:57-58; only those of the first position, the others are 0 there,
    all positions here).

    Args:
        fan_in: numbers that one output sums up: size * size * channels / groups.
    """
    limit = math.sqrt(2 / fan_in)
    return keras().initializers.RandomUniform(-limit, limit)


def implicit(mean: float, std: float) -> Any:
    """The initializer of `[implicit]`: within `std` of `mean` (representation_layer.c:31)."""
    return keras().initializers.RandomUniform(mean - std, mean + std)
