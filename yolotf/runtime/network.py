"""A network on TensorFlow's kernels: its graph, sets of its weights, runs."""

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
    """What one file holds, as a network computes with it; freed with its last request.

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
    """The `Engine` of TensorFlow's kernels, without its Python.

    Attributes:
        graph: what it computes.
    """

    def __init__(self, network: cfg.Network, *, threads: int | None = None) -> None:
        """Builds the graph.

        Args:
            network: the network.
            threads: that it computes with; None: the processors that this process may use.

        Raises:
            UnsupportedSectionError: a section that cannot be built, or that the file holds
                nothing for (`dontload`).
            ImportError: TensorFlow is not installed, or another than is known here.
            OutOfMemoryError: one picture needs more memory than the process may use.
            TensorFlowError: TensorFlow refuses the graph.
        """
        self._threads = threads or op_library.thread_count()
        tensorflow_library.load()
        with tf_errors.explained(network):
            self._build(network)

    def _build(self, network: cfg.Network) -> None:
        chosen = kernels()
        self.graph = NetworkGraph(network, use_onednn=chosen.fused)
        self._memory = RunMemory.of(network, self.graph.shapes.values())
        self._memory.check()
        ops = Operations()
        height, width, channels = network.input_shape
        batch = 1 if self.graph.states else None
        pictures = ops.placeholder([batch, height, width, channels])
        weights = {key: ops.placeholder(shape) for key, shape in self.graph.shapes.items()}
        states = {key: ops.placeholder(shape) for key, shape in self.graph.states.items()}
        heads, after = self.graph.heads(
            ops, pictures, weights.__getitem__, fused=self.graph.onednn, states=states
        )
        optimize = chosen.optimized and not self.graph.needs_no_optimizer
        session = _runtime.Session(ops.graph, _config(self._threads, optimize=optimize))
        entering = [pictures, *states.values(), *weights.values()]
        self._heads = _call(session, ops, entering, [*heads, *after.values()])

    @classmethod
    def opened(
        cls,
        network: cfg.Network,
        weights: WeightsSource,
        *,
        threads: int | None = None,
    ) -> tuple[RuntimeNetwork, Weights]:
        """A network and its first weights, read while TensorFlow's libraries are opened.

        Args:
            network: see the constructor.
            weights: see `load`.
            threads: see the constructor.
        """
        threads = threads or op_library.thread_count()
        # How wide kernels are stored is known when the libraries are there; till then, a guess.
        likely = NetworkGraph(network, use_onednn=onednn.likely_fused())
        RunMemory.of(network, likely.shapes.values()).check()
        with WeightsFile.open(weights, network=network) as file:
            with ThreadPoolExecutor(1, "yolotf-open") as pool:
                opening = pool.submit(tensorflow_library.load)
                with tf_errors.explained(network):
                    header, arrays = read_arrays(likely, file, verify=True, threads=threads)
                opening.result()
            opened = cls(network, threads=threads)
            if opened.graph.shapes != likely.shapes:
                return opened, opened.load(file)
        tensors = _runtime.Tensors(list(arrays.values()))
        return opened, Weights(file.name, header, arrays, tensors)

    @property
    def network(self) -> cfg.Network:
        """What it was built from."""
        return self.graph.network

    @property
    def states(self) -> Mapping[str, tuple[int, ...]]:
        """What the network keeps from one frame to the next: shapes by key."""
        return self.graph.states

    def load(self, weights: WeightsSource, *, verify: bool = True) -> Weights:
        """Reads a `.weights` file into memory of its own.

        Args:
            weights: the file.
            verify: see `load_darknet_weights`.

        Raises:
            WeightsMismatch: file and network do not belong together.
            OSError: the file cannot be read.
            ForkedProcessError: the process was forked after a network had been made.
            OutOfMemoryError: there is no memory for them.
        """
        forked.check_runtime()
        opened = WeightsFile.open(weights, network=self.network)
        with opened as file, tf_errors.explained(self.network):
            header, arrays = read_arrays(self.graph, file, verify=verify, threads=self._threads)
            tensors = _runtime.Tensors(list(arrays.values()))
        return Weights(file.name, header, arrays, tensors)

    def raw_heads(self, inputs: npt.NDArray[np.float32], weights: Weights) -> list[Array]:
        """What enters the heads, in cfg order.

        Args:
            inputs: [batch, rows, columns, channels] float32, 0..1, of the network's size.
            weights: from `load`.

        Raises:
            OutOfMemoryError: there is no memory for the run.
            TensorFlowError: TensorFlow refuses to run it.
            ForkedProcessError: the process was forked after a network had been made.
        """
        forked.check_runtime()
        return self._run(len(inputs), [inputs], weights)

    def _run(self, batch: int, arrays: Sequence[Array], weights: Weights) -> list[Array]:
        with tf_errors.explained(self.network, batch), self._memory.held(batch):
            return self._heads.run(arrays, weights.tensors)

    def step(
        self, frame: npt.NDArray[np.float32], weights: Weights, states: Mapping[str, Array]
    ) -> tuple[list[Array], dict[str, Array]]:
        """As `raw_heads`, for a network that keeps something from one frame to the next.

        Args:
            frame: [1, rows, columns, channels].
            weights: from `load`.
            states: what the step before gave; zeros at first. By the keys of `graph.states`.

        Returns:
            What enters the heads, and the states for the next step.
        """
        forked.check_runtime()
        entering = [frame, *(states[key] for key in self.graph.states)]
        found = self._run(len(frame), entering, weights)
        heads = len(found) - len(self.graph.states)
        return found[:heads], dict(zip(self.graph.states, found[heads:], strict=True))

    def unblocked_weights(self, weights: Weights) -> dict[str, npt.NDArray[np.float32]]:
        """The arrays of `weights`, wide convolutions in one piece."""
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
    """A `ConfigProto` (tensorflow/core/protobuf/config.proto), in protobuf's wire format.

    CPU only, threads of the session's own, and, unless `optimize`, no rewriting of the graph.
    """
    no_gpu = message(1, message(1, b"GPU") + integer(2, 0))  # device_count {"GPU": 0}
    pools = integer(2, threads) + integer(5, threads) + integer(9, 1)
    # Threads that look for work in circles (disable_thread_spinning) keep other ones from theirs: a
    # second detector's, the caller's after a pause.
    config = no_gpu + pools + message(16, integer(9, 1))
    if not optimize:
        # graph_options: rewrite_options.disable_meta_optimizer, optimizer_options.opt_level = L0
        options = message(10, integer(19, 1)) + message(3, integer(3, -1))
        config += message(10, options)
    return config


_tried: dict[str, bool] = {}
_trying = threading.Lock()


def kernels() -> onednn.Kernels:
    """What runs the convolutions of the runtime's graphs; see `onednn.kernels`.

    TensorFlow's libraries have to be open.
    """
    return onednn.kernels(_runtime.onednn_enabled(), _is_right)


def _is_right() -> bool:
    version = _runtime.version()
    if onednn.is_tested(version):
        return True
    with _trying:
        if version not in _tried:
            try:
                _tried[version] = matches_reference()
            except TensorFlowError:  # it is not there, or means something else
                _tried[version] = False
        return _tried[version]


def matches_reference() -> bool:
    """`onednn.check` on the runtime.

    Raises:
        TensorFlowError: the operation is not what it is here.
    """

    def run(written: onednn.Written, arrays: list[Any]) -> list[Any]:
        ops = Operations()
        inputs = [ops.placeholder(array.shape) for array in arrays]
        outputs = written(ops, *inputs)
        session = _runtime.Session(ops.graph, _config(op_library.thread_count(), optimize=False))
        return _call(session, ops, inputs, outputs).run(arrays)

    tensorflow_library.load()
    return onednn.check(run)
