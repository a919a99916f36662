"""Random weights with which the activations of a deep network neither vanish nor explode.

If the means and variances of normalizations are not those of their inputs, each layer multiplies
float32's rounding errors; after a hundred layers, results differ by a thousandth and more. Here,
means and variances are those of the layer's inputs for a few random images, and betas around 1.5
keep most values where activations are not constant.
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
    """Writes a `.weights` file of a network; see `numpy_loader.random_file`.

    `model` is its Keras model, from `build_model`; afterwards its weights differ from the file.
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
            layer.momentum = 0.0  # moving statistics become those of the last batch
        elif isinstance(layer, keras().layers.Dropout):
            layer.rate = 0.0
    shape = (PICTURES, *network.input_shape)
    model(np.random.default_rng(seed + 1).random(shape, dtype=np.float32), training=True)
    for array, values in stored.items():
        if array.index in normalized and array.role.startswith("moving"):
            statistics = np.asarray(getattr(layers[f"conv_{array.index}_bn"], array.role))
            if array.role == "moving_variance":  # no channel is almost constant
                statistics = np.maximum(statistics, statistics.mean() / 4)
            stored[array] = statistics.astype(np.float32).reshape(values.shape)
    return weights_files.content(*stored.values())
