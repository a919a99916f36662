"""A classifier as a SavedModel of standard operations. Importing this module imports TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from yolotf.darknet import cfg
from yolotf.graphs.folded import FoldedNetwork

Tensor = Any


def write(network: cfg.Network, weights: Mapping[str, Any], folder: str | os.PathLike[str]) -> None:
    """Writes a SavedModel; see `Classifier.export`.

    Args:
        network: without heads.
        weights: see `FoldedNetwork.unblocked_weights`.
        folder: where to.

    Raises:
        OSError: the folder cannot be written.
    """
    module = tf.Module(name="classifier")
    variables = {
        key: tf.Variable(value, trainable=False, name=key.replace("/", "_"))
        for key, value in weights.items()
    }
    module.stored = list(variables.values())
    folded = FoldedNetwork(network, use_onednn=False)
    height, width, channels = network.input_shape

    def probabilities(images: Tensor) -> dict[str, Tensor]:
        inputs = prepare(images, height, width)
        return {"probabilities": _flat(folded(inputs, variables)[0])}

    signature = [tf.TensorSpec([None, None, None, channels], tf.uint8, "images")]
    module.probabilities = tf.function(probabilities, input_signature=signature, autograph=False)
    concrete = module.probabilities.get_concrete_function()
    signatures = {"serving_default": concrete, "probabilities": concrete}
    tf.saved_model.save(module, os.fspath(folder), signatures=signatures)


def _flat(values: Tensor) -> Tensor:
    """[batch, numbers], channels first, as Darknet keeps them."""
    if values.shape.rank == 4:
        values = tf.transpose(values, [0, 3, 1, 2])
    return tf.reshape(values, [-1, int(np.prod(values.shape[1:]))])


def prepare(images: Tensor, height: int, width: int) -> Tensor:
    """`yolotf.serving.classifier.prepare` of a batch, in operations."""
    rows, columns = tf.unstack(tf.shape(images)[1:3])
    is_high = columns < rows
    new_rows = tf.where(is_high, rows * width // columns, width)
    new_columns = tf.where(is_high, width, columns * width // rows)
    values = tf.raw_ops.ResizeBilinear(
        images=images, size=tf.stack([new_rows, new_columns]), align_corners=True
    )
    for axis, resized, wanted in ((1, new_rows, height), (2, new_columns, width)):
        start = tf.cast(tf.truncatediv(resized - wanted, 2), tf.int32)
        place = tf.clip_by_value(start + tf.range(wanted), 0, resized - 1)
        values = tf.gather(values, place, axis=axis)
    return tf.ensure_shape(values / 255.0, [None, height, width, images.shape[-1]])
