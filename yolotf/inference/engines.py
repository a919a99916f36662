"""Which engine computes a network. TensorFlow's Python is imported only where it computes."""

from __future__ import annotations

from yolotf.darknet import cfg
from yolotf.runtime import tensorflow_library
from yolotf.runtime.engine import Engine, LoadedWeights
from yolotf.runtime.network import RuntimeNetwork
from yolotf.runtime.onnx_engine import OnnxEngine
from yolotf.runtime.onnxruntime_engine import OnnxRuntime
from yolotf.runtime.openvino_engine import OpenVino
from yolotf.runtime.options import ServingOptions
from yolotf.weights.file import WeightsFile


def open_engine(
    network: cfg.Network, file: WeightsFile, options: ServingOptions, threads: int
) -> tuple[Engine, LoadedWeights]:
    """What computes the heads, and the file's numbers for it.

    Args:
        network: the network.
        file: the first weights.
        options: of which `engine` and `precision` count.
        threads: to compute with.

    Raises:
        ImportError: the engine is not installed.
        EngineError: the engine refuses the network.
        UnsupportedSectionError: the network has sections that cannot be computed.
        OutOfMemoryError: one image needs more memory than the process may use.
    """
    if options.engine == "openvino":
        openvino = OpenVino(threads=threads, bfloat16=options.precision == "bfloat16")
        return OnnxEngine.opened(network, file, openvino, threads=threads)
    if options.engine == "onnxruntime":
        return OnnxEngine.opened(network, file, OnnxRuntime(threads=threads), threads=threads)
    if tensorflow_library.has_gpu():
        from yolotf.inference.tensorflow_engine import TracedNetwork  # imports TensorFlow

        traced = TracedNetwork(network)
        return traced, traced.load(file)
    return RuntimeNetwork.opened(network, file, threads=threads)
