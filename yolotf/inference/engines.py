"""Which engine computes a network. No TensorFlow Python unless it is what computes."""

from __future__ import annotations

from yolotf.darknet import cfg
from yolotf.runtime import tensorflow_library
from yolotf.runtime.engine import Engine, LoadedWeights
from yolotf.runtime.network import RuntimeNetwork
from yolotf.weights.file import WeightsFile


def open_engine(
    network: cfg.Network, file: WeightsFile, threads: int
) -> tuple[Engine, LoadedWeights]:
    """What computes the heads, and the file's numbers for it.

    Args:
        network: the network.
        file: the first weights.
        threads: to compute with.
    """
    if tensorflow_library.has_gpu():
        from yolotf.inference.tensorflow_engine import TracedNetwork  # imports TensorFlow

        traced = TracedNetwork(network)
        return traced, traced.load(file)
    return RuntimeNetwork.opened(network, file, threads=threads)
