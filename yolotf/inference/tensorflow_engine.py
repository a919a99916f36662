"""The engine on GPUs: a network as a TensorFlow function.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from yolotf.darknet import cfg
from yolotf.graphs import tf_errors
from yolotf.graphs.folded_network import FoldedNetwork
from yolotf.graphs.network import NetworkGraph
from yolotf.weights import layout
from yolotf.weights.file import WeightsFile, WeightsSource
from yolotf.weights.header import Header

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class TracedWeights:
    """The weights of a file in variables, and the function that reads them.

    Attributes:
        path: the file.
        header: its header.
        folded: the variables.
    """

    path: str
    header: Header
    folded: FoldedNetwork
    function: Any


class TracedNetwork:
    """An `Engine` that lets TensorFlow place the computation.

    Attributes:
        graph: the network's graph.
    """

    def __init__(self, network: cfg.Network) -> None:
        """Analyzes the network; nothing is traced yet."""
        self.graph = NetworkGraph(network, use_onednn=False)

    @property
    def network(self) -> cfg.Network:
        """The network."""
        return self.graph.network

    @property
    def states(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the recurrent state, by key."""
        return self.graph.states

    def load(self, weights: WeightsSource, *, verify: bool = True) -> TracedWeights:
        """Loads a file as `RuntimeNetwork.load`, and runs the graph once to warm it up."""
        opened = WeightsFile.open(weights, network=self.network)
        with opened as file, tf_errors.translate_errors(self.network):
            return self._load(file, verify)

    def _load(self, file: WeightsFile, verify: bool) -> TracedWeights:
        parsed = file.parsed(layout.floats(self.network))
        folded = FoldedNetwork(self.network)
        folded.load(parsed, verify=verify, contents_disposable=True)
        input_shape = self.network.input_shape
        inputs = tf.TensorSpec([None, *input_shape], tf.float32)
        states = {key: tf.TensorSpec(shape) for key, shape in self.graph.states.items()}
        if states:
            function = tf.function(folded.step, input_signature=[inputs, states], autograph=False)
            function(
                tf.zeros([1, *input_shape]),
                {key: tf.zeros(spec.shape) for key, spec in states.items()},
            )
        else:
            function = tf.function(folded, input_signature=[inputs], autograph=False)
            function(tf.zeros([1, *input_shape]))
        return TracedWeights(parsed.name, parsed.header, folded, function)

    def raw_heads(self, inputs: npt.NDArray[np.float32], weights: TracedWeights) -> list[Array]:
        """See `RuntimeNetwork.raw_heads`."""
        with tf_errors.translate_errors(self.network, len(inputs)):
            return [head.numpy() for head in weights.function(inputs)]

    def step(
        self, frame: npt.NDArray[np.float32], weights: TracedWeights, states: Mapping[str, Array]
    ) -> tuple[list[Array], Mapping[str, Array]]:
        """See `RuntimeNetwork.step`."""
        with tf_errors.translate_errors(self.network, len(frame)):
            heads, after = weights.function(frame, dict(states))
            return [head.numpy() for head in heads], after

    def hwio_weights(self, weights: TracedWeights) -> Mapping[str, Array]:
        """See `RuntimeNetwork.hwio_weights`."""
        arrays = weights.folded.hwio_weights()
        return {key: array.numpy() for key, array in arrays.items()}
