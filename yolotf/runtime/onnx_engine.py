"""The engine for libraries that read ONNX models, such as OpenVINO and onnxruntime.

The model is built in memory and the weights are passed without a copy: no ONNX file is written, and
the onnx package is not needed. Each library implements `Library` and `Runner`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from yolotf.darknet import cfg
from yolotf.errors import EngineError, ForkedProcessError, OutOfMemoryError
from yolotf.graphs import tf_errors
from yolotf.graphs.memory_budget import RunMemory
from yolotf.graphs.network import NetworkGraph
from yolotf.onnx.model import Model, Options, describe
from yolotf.runtime.arrays import read_arrays
from yolotf.runtime.engine import Array, Floats
from yolotf.runtime.native_work import native_work
from yolotf.text import first_line, plural
from yolotf.weights.file import ParsedFile, WeightsFile, WeightsSource
from yolotf.weights.header import Header

Arrays = Mapping[str, npt.NDArray[np.float32]]


class Runner(Protocol):
    """A model compiled with one set of weights; thread-safe."""

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Returns the outputs in the model's order, in newly allocated memory.

        Args:
            inputs: in the model's order, in C order.
        """


class Library(Protocol):
    """A library that compiles and runs ONNX models."""

    @property
    def name(self) -> str:
        """The value of `engine=`."""

    def load(self) -> None:
        """Imports the library; required before the other methods.

        Raises:
            MissingPackageError: the library is not installed.
            YolotfError: the library does not support the options.
        """

    def runner(self, model: Model, arrays: Arrays) -> Runner:
        """Compiles a model with its weights.

        Args:
            model: the model.
            arrays: by the keys of `model.graph.shapes`; the runner uses them without a copy.
        """


@dataclass(frozen=True, eq=False)
class OnnxWeights:
    """The weights of a file, compiled into a model; freed with their last request.

    Attributes:
        path: the file.
        header: its header.
        arrays: by the keys of `NetworkGraph.shapes`, kernels in Darknet's order of axes.
        run: runs the model.
    """

    path: str
    header: Header
    arrays: Arrays
    run: Runner


class OnnxEngine:
    """The `Engine` of libraries that read ONNX."""

    def __init__(self, network: cfg.Network, library: Library, *, threads: int) -> None:
        """Builds the model; `library` need not be loaded yet.

        Args:
            network: the network.
            library: compiles and runs the model.
            threads: number of threads that read the file.

        Raises:
            UnsupportedSectionError: a section cannot be expressed in ONNX.
            OutOfMemoryError: one image needs more memory than the process may use.
        """
        self._library = library
        self._threads = threads
        # Images and heads are NHWC as in the other engines: an engine transposes during inference,
        # which is faster than transposing before and after.
        self._model = describe(network, Options(layout="NHWC"))
        self._memory = RunMemory.of(network, self._model.graph.shapes.values())
        self._memory.check()

    @classmethod
    def opened(
        cls, network: cfg.Network, weights: WeightsSource, library: Library, *, threads: int
    ) -> tuple[OnnxEngine, OnnxWeights]:
        """Returns an engine and its first weights, read while the library is imported."""
        engine = cls(network, library, threads=threads)
        with (
            WeightsFile.open(weights, network=network) as file,
            tf_errors.translate_errors(network),
            ThreadPoolExecutor(1, "yolotf-open") as pool,
        ):
            reading = pool.submit(engine._read, file, verify=True)
            library.load()
            parsed, arrays = reading.result()
        return engine, engine._compiled(parsed, arrays)

    @property
    def network(self) -> cfg.Network:
        """The network."""
        return self._model.network

    @property
    def states(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the recurrent state, by key."""
        return self._model.graph.states

    def load(self, weights: WeightsSource, *, verify: bool = True) -> OnnxWeights:
        """See `Engine.load`.

        Raises:
            EngineError: the engine rejects the network.
        """
        self._library.load()
        opened = WeightsFile.open(weights, network=self.network)
        with opened as file, tf_errors.translate_errors(self.network):
            parsed, arrays = self._read(file, verify=verify)
        return self._compiled(parsed, arrays)

    def raw_heads(self, inputs: Floats, weights: OnnxWeights) -> list[Array]:
        """See `Engine.raw_heads`."""
        return self._run([inputs], weights)

    def step(
        self, frame: Floats, weights: OnnxWeights, states: Mapping[str, Array]
    ) -> tuple[list[Array], Mapping[str, Array]]:
        """See `Engine.step`."""
        outputs = self._run([frame, *(states[key] for key in self.states)], weights)
        heads = len(outputs) - len(self.states)
        return outputs[:heads], dict(zip(self.states, outputs[heads:], strict=True))

    def hwio_weights(self, weights: OnnxWeights) -> Mapping[str, Array]:
        """See `Engine.hwio_weights`."""
        axes = self._model.graph.axes
        plain = NetworkGraph(self.network, use_onednn=False)
        return {
            key: _in_tensorflow_order(weights.arrays[key], axes.get(key), shape)
            for key, shape in plain.shapes.items()
        }

    def _read(self, file: WeightsFile, *, verify: bool) -> tuple[ParsedFile, Arrays]:
        return read_arrays(self._model.graph, file, verify=verify, threads=self._threads)

    def _compiled(self, file: ParsedFile, arrays: Arrays) -> OnnxWeights:
        with translated_errors(self._library.name, self.network), native_work():
            runner = self._library.runner(self._model, arrays)
        return OnnxWeights(file.name, file.header, arrays, runner)

    def _run(self, inputs: Sequence[Array], weights: OnnxWeights) -> list[Array]:
        batch = len(inputs[0])
        with (
            translated_errors(self._library.name, self.network, batch),
            self._memory.reserve(batch),
            native_work(),
        ):
            return weights.run([np.ascontiguousarray(array) for array in inputs])


def _in_tensorflow_order(
    array: npt.NDArray[np.float32], axes: tuple[int, ...] | None, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Returns an array in the order of axes that TensorFlow computes with.

    Args:
        array: as in the file.
        axes: position of its axes in TensorFlow's order; None: already in that order.
        shape: the shape in that order; for a depthwise kernel (size, size, channels, multiplier).
    """
    if axes is None:
        ordered = array.reshape(shape)
    elif array.ndim == 4 and shape[2:] != (array.shape[1], array.shape[0]):
        ordered = array.reshape(*shape[2:], *shape[:2]).transpose(2, 3, 0, 1)
    else:
        ordered = array.transpose(np.argsort(axes))
    return ordered


_NO_MEMORY = re.compile(r"bad_alloc|[Ff]ailed to allocate memory|[Cc]annot allocate|out of memory")


@contextlib.contextmanager
def translated_errors(
    engine: str, network: cfg.Network, batch: int | None = None
) -> Iterator[None]:
    """Translates exceptions that an engine raises in the block.

    Args:
        engine: its name.
        network: the network being compiled or run.
        batch: number of images of the run; None while compiling.

    Raises:
        EngineError: the engine failed.
        ForkedProcessError: the engine would wait for threads of the parent process.
        OutOfMemoryError: the engine ran out of memory.
    """
    try:
        yield
    except (OutOfMemoryError, EngineError, ForkedProcessError):
        raise
    except MemoryError:
        raise tf_errors.out_of_memory(network, batch) from None
    except Exception as error:
        text = str(error)
        if _NO_MEMORY.search(text):
            raise tf_errors.out_of_memory(network, batch) from None
        refused = "the graph" if batch is None else f"a run of {plural(batch, 'image')}"
        raise EngineError(
            f"{network.source}: {engine} refuses {refused} for {tf_errors.input_text(network)}: "
            f"{first_line(error)}",
            engine=engine,
            source=network.source,
            input_size=tuple(network.input_shape[:2]),
            batch=batch,
            said=text,
        ) from error
