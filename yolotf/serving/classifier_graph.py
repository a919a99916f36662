"""What a classifier computes with, and its SavedModel. Importing this module imports TensorFlow."""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from yolotf.darknet import cfg
from yolotf.graphs.folded import FoldedNetwork, Variable

Tensor = Any
_Path = str | os.PathLike[str]


class ClassifierGraph:
    """The plain operations of a network without heads; traced once, for any set of weights."""

    def __init__(self, network: cfg.Network) -> None:
        """Looks at the network; nothing is traced yet."""
        self._network = network
        self._traced: Any = None  # made with the first weights, whose shapes it needs

    def load(self, weights: _Path) -> FoldedNetwork:
        """Reads a file into variables of its own and runs once, so that no request has to wait.

        Raises:
            WeightsMismatch: file and network do not belong together.
            OSError: the file cannot be read.
        """
        folded = FoldedNetwork(self._network, use_onednn=False)
        folded.load(weights, fresh=True)
        if self._traced is None:
            self._keys = {key: variable.shape for key, variable in folded.stored.items()}
            self._folded = copy.copy(folded)
            self._folded.stored = {}  # the first weights go with their last request
            handles = [tf.TensorSpec([], tf.resource)] * len(self._keys)
            inputs = tf.TensorSpec([None, *self._network.input_shape], tf.float32)
            function = tf.function(self._compute, autograph=False)
            self._traced = function.get_concrete_function(inputs, handles)
        self.run(folded, np.zeros([1, *self._network.input_shape], np.float32))
        return folded

    def run(
        self, folded: FoldedNetwork, inputs: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """[pictures, numbers]: what the last section puts out, for prepared pictures."""
        handles = [variable.handle for variable in folded.stored.values()]
        found: npt.NDArray[np.float32] = self._traced(tf.constant(inputs), *handles).numpy()
        return found

    def _compute(self, inputs: Tensor, handles: list[Tensor]) -> Tensor:
        pairs = zip(self._keys.items(), handles, strict=True)
        variables = {key: Variable(shape, handle) for (key, shape), handle in pairs}
        return _flat(self._folded(inputs, variables)[0])

    def export(self, folded: FoldedNetwork, folder: _Path) -> None:
        """Writes a SavedModel; see `Classifier.export`."""
        module = tf.Module(name="classifier")
        variables = {
            key: tf.Variable(value.read_value(), trainable=False, name=key.replace("/", "_"))
            for key, value in folded.stored.items()
        }
        module.stored = list(variables.values())
        height, width, channels = self._network.input_shape

        def probabilities(images: Tensor) -> dict[str, Tensor]:
            inputs = prepare(images, height, width)
            return {"probabilities": _flat(folded(inputs, variables)[0])}

        signature = [tf.TensorSpec([None, None, None, channels], tf.uint8, "images")]
        module.probabilities = tf.function(
            probabilities, input_signature=signature, autograph=False
        )
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
