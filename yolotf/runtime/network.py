"""The engine that runs TensorFlow's kernels without TensorFlow's Python package."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotf import _runtime
from yolotf.darknet import cfg
from yolotf.errors import TensorFlowError
from yolotf.files.protobuf import integer, message
from yolotf.graphs import forked, onednn, tf_errors
from yolotf.graphs.memory_budget import RunMemory
from yolotf.graphs.network import NetworkGraph
from yolotf.runtime import tensorflow_library
from yolotf.runtime.arrays import read_arrays
from yolotf.runtime.graph import Node, Operations
from yolotf.weights import op_library
from yolotf.weights.file import WeightsFile, WeightsSource
from yolotf.weights.header import Header

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of a file as the graph uses them; freed with their last request.

    Attributes:
        path: the file.
        header: its header.
        arrays: by the keys of `NetworkGraph.shapes`.
    """

    path: str
    header: Header
    arrays: Mapping[str, npt.NDArray[np.float32]]
    tensors: _runtime.Tensors


class RuntimeNetwork:
    """The `Engine` that runs TensorFlow's kernels through its C API.

    Attributes:
        graph: the network's graph.
    """

    def __init__(self, network: cfg.Network, *, threads: int | None = None) -> None:
        """Builds the graph.

        Args:
            network: the network.
            threads: number of threads; None: the number of processors available to the process.

        Raises:
            UnsupportedSectionError: a section is not supported, or has no weights in the file
                (`dontload`).
            ImportError: TensorFlow is not installed, or its version is not supported.
            OutOfMemoryError: one image needs more memory than the process may use.
            TensorFlowError: TensorFlow rejects the graph.
        """
        self._threads = threads or op_library.thread_count()
        tensorflow_library.load()
        with tf_errors.translate_errors(network):
            self._build(network)

    def _build(self, network: cfg.Network) -> None:
        chosen_kernels = kernels()
        self.graph = NetworkGraph(network, use_onednn=chosen_kernels.fused)
        self._memory = RunMemory.of(network, self.graph.shapes.values())
        self._memory.check()
        ops = Operations()
        height, width, channels = network.input_shape
        batch = 1 if self.graph.states else None
        images = ops.placeholder([batch, height, width, channels])
        weights = {key: ops.placeholder(shape) for key, shape in self.graph.shapes.items()}
        states = {key: ops.placeholder(shape) for key, shape in self.graph.states.items()}
        heads, after = self.graph.heads(
            ops,
            images,
            weights.__getitem__,
            fused=self.graph.onednn,
            fuses_mish=chosen_kernels.fuses_mish,
            states=states,
        )
        inputs = [images, *states.values(), *weights.values()]
        outputs = [
            # TensorFlow refuses to return what it is given.
            ops.Identity(input=output) if output in inputs else output
            for output in (*heads, *after.values())
        ]
        optimize = chosen_kernels.optimized and not self.graph.skip_grappler
        session = _runtime.Session(ops.graph, _config(self._threads, optimize=optimize))
        self._heads = _call(session, ops, inputs, outputs)

    @classmethod
    def opened(
        cls,
        network: cfg.Network,
        weights: WeightsSource,
        *,
        threads: int | None = None,
    ) -> tuple[RuntimeNetwork, Weights]:
        """Returns a network and its first weights, read while TensorFlow's libraries are loaded.

        Args:
            network: see the constructor.
            weights: see `load`.
            threads: see the constructor.
        """
        threads = threads or op_library.thread_count()
        # Whether kernels are stored in blocks is certain only once the libraries are loaded.
        expected = NetworkGraph(network, use_onednn=onednn.likely_fused())
        RunMemory.of(network, expected.shapes.values()).check()
        with WeightsFile.open(weights, network=network) as file:
            with ThreadPoolExecutor(1, "yolotf-open") as pool:
                libraries = pool.submit(tensorflow_library.load)
                with tf_errors.translate_errors(network):
                    parsed, arrays = read_arrays(expected, file, verify=True, threads=threads)
                libraries.result()
            engine = cls(network, threads=threads)
            if engine.graph.shapes != expected.shapes:
                return engine, engine.load(file)
        tensors = _runtime.Tensors(list(arrays.values()))
        return engine, Weights(parsed.name, parsed.header, arrays, tensors)

    @property
    def network(self) -> cfg.Network:
        """The network."""
        return self.graph.network

    @property
    def states(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the recurrent state, by key."""
        return self.graph.states

    def load(self, weights: WeightsSource, *, verify: bool = True) -> Weights:
        """Reads a `.weights` file into memory.

        Args:
            weights: the file.
            verify: see `load_darknet_weights`.

        Raises:
            WeightsMismatch: the file does not match the network.
            OSError: the file cannot be read.
            ForkedProcessError: the process was forked after a network had been created.
            OutOfMemoryError: there is not enough memory for the weights.
        """
        forked.check_runtime()
        opened = WeightsFile.open(weights, network=self.network)
        with opened as file, tf_errors.translate_errors(self.network):
            parsed, arrays = read_arrays(self.graph, file, verify=verify, threads=self._threads)
            tensors = _runtime.Tensors(list(arrays.values()))
        return Weights(parsed.name, parsed.header, arrays, tensors)

    def raw_heads(self, inputs: npt.NDArray[np.float32], weights: Weights) -> list[Array]:
        """Returns the inputs of the heads, in cfg order.

        Args:
            inputs: [batch, rows, columns, channels] float32, 0..1, of the network's size.
            weights: from `load`.

        Raises:
            OutOfMemoryError: the run needs more memory than the process may use.
            TensorFlowError: TensorFlow fails to run the graph.
            ForkedProcessError: the process was forked after a network had been created.
        """
        forked.check_runtime()
        return self._run(len(inputs), [np.ascontiguousarray(inputs)], weights)

    def _run(self, batch: int, arrays: Sequence[Array], weights: Weights) -> list[Array]:
        with tf_errors.translate_errors(self.network, batch), self._memory.reserve(batch):
            return self._heads.run(arrays, weights.tensors)

    def step(
        self, frame: npt.NDArray[np.float32], weights: Weights, states: Mapping[str, Array]
    ) -> tuple[list[Array], dict[str, Array]]:
        """Computes one frame with explicit recurrent state; otherwise like `raw_heads`.

        Args:
            frame: [1, rows, columns, channels].
            weights: from `load`.
            states: the states returned for the previous frame, zeros at first; keys as in
                `graph.states`.

        Returns:
            The inputs of the heads, and the states for the next frame.
        """
        forked.check_runtime()
        inputs = [frame, *(states[key] for key in self.graph.states)]
        outputs = self._run(len(frame), inputs, weights)
        heads = len(outputs) - len(self.graph.states)
        return outputs[:heads], dict(zip(self.graph.states, outputs[heads:], strict=True))

    def hwio_weights(self, weights: Weights) -> dict[str, npt.NDArray[np.float32]]:
        """Returns the arrays of `weights`, with kernels stored in blocks joined to HWIO."""
        return {
            key: array if self.graph.blocks_of(key) == 1 else np.concatenate(array, -1)
            for key, array in weights.arrays.items()
        }


def _call(
    session: _runtime.Session, ops: Operations, inputs: Sequence[Node], outputs: Sequence[Node]
) -> _runtime.Call:
    return _runtime.Call(
        session, ops.graph, [node.number for node in inputs], [node.number for node in outputs]
    )


def _config(threads: int, *, optimize: bool) -> bytes:
    """Returns a `ConfigProto` (tensorflow/core/protobuf/config.proto), serialized.

    CPU only, with a thread pool for each session, and without Grappler unless `optimize`.
    """
    no_gpu = message(1, message(1, b"GPU") + integer(2, 0))  # device_count {"GPU": 0}
    pools = integer(2, threads) + integer(5, threads) + integer(9, 1)
    # disable_thread_spinning: spinning threads take processors from other threads, such as those of
    # a second detector, or of the caller between requests.
    config = no_gpu + pools + message(16, integer(9, 1))
    if not optimize:
        # graph_options: rewrite_options.disable_meta_optimizer, optimizer_options.opt_level = L0
        options = message(10, integer(19, 1)) + message(3, integer(3, -1))
        config += message(10, options)
    return config


_checked: dict[str, bool] = {}
"""Result of `matches_reference`, by TensorFlow's version."""
_checking = threading.Lock()


def kernels() -> onednn.Kernels:
    """Returns what runs the convolutions of the runtime's graphs; see `onednn.kernels`.

    TensorFlow's libraries must be loaded.
    """
    return onednn.kernels(_runtime.onednn_enabled(), _computes_correctly)


def _computes_correctly() -> bool:
    version = _runtime.version()
    if onednn.is_tested(version):
        return True
    with _checking:
        if version not in _checked:
            try:
                _checked[version] = matches_reference()
            except TensorFlowError:  # the operation is missing or incompatible
                _checked[version] = False
        return _checked[version]


def matches_reference() -> bool:
    """Returns the result of `onednn.check` on the runtime.

    Raises:
        TensorFlowError: the operation is missing or incompatible.
    """

    def run(write: onednn.Written, arrays: list[Any]) -> list[Any]:
        ops = Operations()
        inputs = [ops.placeholder(array.shape) for array in arrays]
        outputs = write(ops, *inputs)
        session = _runtime.Session(ops.graph, _config(op_library.thread_count(), optimize=False))
        return _call(session, ops, inputs, outputs).run(arrays)

    tensorflow_library.load()
    return onednn.check(run)
