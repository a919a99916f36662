"""Choice of the inference engine. TensorFlow's Python is imported only for a GPU."""

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
    """Returns an engine that computes the heads, and the file's weights loaded for it.

    Args:
        network: the network.
        file: the weights to start with.
        options: their `engine` and `precision` are used.
        threads: number of threads.

    Raises:
        ImportError: the engine is not installed.
        EngineError: the engine rejects the network.
        UnsupportedSectionError: the network has sections that are not supported.
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
