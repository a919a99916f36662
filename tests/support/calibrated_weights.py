"""Random weights with which a deep network's activations neither vanish nor explode.

Normalizations whose means and variances are not those of what reaches them multiply what float32
rounds off, layer by layer, to a thousandth and more after a hundred of them. Here they are: each is
that of the layer's own numbers on a few random pictures, and beta around 1.5 keeps most of them
on the side of an activation where there is something to see.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from support import numpy_loader, weights_files
from yolotf.darknet import cfg
from yolotf.models.keras_module import keras

BETA = 1.5
PICTURES = 4


def calibrated_file(network: cfg.Network, model: Any, seed: int = 0) -> bytes:
    """A `.weights` file of a network, see `numpy_loader.random_file`.

    `model` is its Keras model, from `build_model`; afterwards it has other weights than the file.
    """
    text = network.to_cfg()
    stored = numpy_loader.arrays(text, numpy_loader.random_file(text, seed))
    normalized = {array.index for array in stored if array.role == "moving_variance"}
    for array, values in stored.items():
        if array.index in normalized and array.role == "beta":
            stored[array] = values + np.float32(BETA)
    numpy_loader.load(model, text, weights_files.content(*stored.values()))
    layers = {layer.name: layer for layer in model.layers}
    for layer in layers.values():
        if isinstance(layer, keras().layers.BatchNormalization):
            layer.momentum = 0.0  # what it remembers is what it saw last
        elif isinstance(layer, keras().layers.Dropout):
            layer.rate = 0.0
    shape = (PICTURES, *network.input_shape)
    model(np.random.default_rng(seed + 1).random(shape, dtype=np.float32), training=True)
    for array, values in stored.items():
        if array.index in normalized and array.role.startswith("moving"):
            statistics = np.asarray(getattr(layers[f"conv_{array.index}_bn"], array.role))
            if array.role == "moving_variance":  # no channel is as good as constant
                statistics = np.maximum(statistics, statistics.mean() / 4)
            stored[array] = statistics.astype(np.float32).reshape(values.shape)
    return weights_files.content(*stored.values())
