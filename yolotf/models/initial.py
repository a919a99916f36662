"""Initializers with the distributions that Darknet uses.

They are Keras' own initializers, so that `keras.utils.set_random_seed` sets their seed and a saved
model needs no class of yolotf for them. Biases, betas and moving means start at 0, gammas, the
factors of a `[shortcut]` (shortcut_layer.c:56) and moving variances at 1. Darknet's variances start
at 0 (convolutional_layer.c:649), but are not used in training.
"""

from __future__ import annotations

import math
from typing import Any

from yolotf.models.keras_module import keras


def kernel(fan_in: int) -> Any:
    """Returns the initializer of a kernel: uniform in ±sqrt(2 / fan_in).

    Darknet uses it for convolutions (convolutional_layer.c:570,575; the value that line 572 has
    for `normalize_channels` is never used, because the activation is set only from line 584 on),
    for dense layers (connected_layer.c:93-95) and so for all parts of the recurrent sections, and
    for local layers (local_layer.c:57-58; there only for the first position, with 0 at all others;
    here for all positions).

    Args:
        fan_in: the number of inputs of an output: size * size * channels / groups.
    """
    limit = math.sqrt(2 / fan_in)
    return keras().initializers.RandomUniform(-limit, limit)


def implicit(mean: float, std: float) -> Any:
    """Returns `[implicit]`'s initializer: uniform in mean ± std (representation_layer.c:31)."""
    return keras().initializers.RandomUniform(mean - std, mean + std)
