"""Choice of the inference engine. Only its own modules are imported; TensorFlow's for a GPU."""

from __future__ import annotations

from yolotf.darknet import cfg
from yolotf.runtime import tensorflow_library
from yolotf.runtime.engine import Engine, LoadedWeights
from yolotf.runtime.network import RuntimeNetwork
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
    if options.engine == "tensorflow":
        return _tensorflow(network, file, threads)

    # The ONNX writer: ten modules that TensorFlow's engine does not need.
    from yolotf.runtime.onnx_engine import Library, OnnxEngine

    library: Library
    if options.engine == "openvino":
        from yolotf.runtime.openvino_engine import OpenVino  # as above

        library = OpenVino(threads=threads, bfloat16=options.precision == "bfloat16")
    else:
        from yolotf.runtime.onnxruntime_engine import OnnxRuntime  # as above

        library = OnnxRuntime(threads=threads)
    return OnnxEngine.opened(network, file, library, threads=threads)


def _tensorflow(
    network: cfg.Network, file: WeightsFile, threads: int
) -> tuple[Engine, LoadedWeights]:
    if tensorflow_library.has_gpu():
        from yolotf.inference.tensorflow_engine import TracedNetwork  # imports TensorFlow

        traced = TracedNetwork(network)
        return traced, traced.load(file)
    return RuntimeNetwork.opened(network, file, threads=threads)
