"""A network on an engine that reads ONNX: described in memory, its numbers handed over in place.

Nothing of ONNX is written to a file and no package onnx is needed. What an engine does with the
description is a `Runner`, of which there is one class an engine.
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
from yolotf.errors import EngineError, OutOfMemoryError
from yolotf.graphs import tf_errors
from yolotf.graphs.memory_budget import RunMemory
from yolotf.graphs.network import NetworkGraph
from yolotf.onnx.model import Model, Options, describe
from yolotf.runtime.arrays import read_arrays
from yolotf.runtime.engine import Array, Floats
from yolotf.text import plural
from yolotf.weights.file import WeightsFile, WeightsSource
from yolotf.weights.header import Header

Arrays = Mapping[str, npt.NDArray[np.float32]]


class Runner(Protocol):
    """A description with one set of numbers, ready to run from several threads at once."""

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Outputs in the model's order, in memory of their own.

        Args:
            inputs: in the model's order, in C order.
        """


class Library(Protocol):
    """An installed engine."""

    @property
    def name(self) -> str:
        """As `engine=` has it."""

    def load(self) -> None:
        """Imports it; other methods may be called then.

        Raises:
            MissingPackageError: it is not installed.
            YolotfError: it cannot do what was asked for.
        """

    def runner(self, model: Model, arrays: Arrays) -> Runner:
        """Compiles a description with its numbers.

        Args:
            model: the description.
            arrays: by the keys of `model.graph.shapes`; the runner reads them where they are.
        """


@dataclass(frozen=True, eq=False)
class OnnxWeights:
    """What one file holds, compiled; freed with its last request.

    Attributes:
        path: the file.
        header: its header.
        arrays: by the keys of `NetworkGraph.shapes`, kernels in Darknet's order of axes.
        run: computes with them.
    """

    path: str
    header: Header
    arrays: Arrays
    run: Runner


class OnnxEngine:
    """The `Engine` of libraries that read ONNX."""

    def __init__(self, network: cfg.Network, library: Library, *, threads: int) -> None:
        """Describes the network; `library` need not be loaded yet.

        Args:
            network: the network.
            library: what computes it.
            threads: that read the file.

        Raises:
            UnsupportedSectionError: a section that cannot be described.
            OutOfMemoryError: one image needs more memory than the process may use.
        """
        self._library = library
        self._threads = threads
        # The axes of images and heads are those of the other engines: an engine turns them while
        # it computes, which takes less time than to do it before and after.
        self._model = describe(network, Options(layout="NHWC"))
        self._memory = RunMemory.of(network, self._model.graph.shapes.values())
        self._memory.check()

    @classmethod
    def opened(
        cls, network: cfg.Network, weights: WeightsSource, library: Library, *, threads: int
    ) -> tuple[OnnxEngine, OnnxWeights]:
        """An engine and its first weights, which are read while the library is imported."""
        engine = cls(network, library, threads=threads)
        with (
            WeightsFile.open(weights, network=network) as file,
            tf_errors.explained(network),
            ThreadPoolExecutor(1, "yolotf-open") as pool,
        ):
            reading = pool.submit(engine._read, file, verify=True)
            library.load()
            header, arrays = reading.result()
        return engine, engine._compiled(file.name, header, arrays)

    @property
    def network(self) -> cfg.Network:
        """What it was built from."""
        return self._model.network

    @property
    def states(self) -> Mapping[str, tuple[int, ...]]:
        """What the network keeps from one frame to the next: shapes by key."""
        return self._model.graph.states

    def load(self, weights: WeightsSource, *, verify: bool = True) -> OnnxWeights:
        """See `Engine.load`.

        Raises:
            EngineError: the engine refuses the network.
        """
        self._library.load()
        opened = WeightsFile.open(weights, network=self.network)
        with opened as file, tf_errors.explained(self.network):
            header, arrays = self._read(file, verify=verify)
        return self._compiled(file.name, header, arrays)

    def raw_heads(self, inputs: Floats, weights: OnnxWeights) -> list[Array]:
        """See `Engine.raw_heads`."""
        return self._run([inputs], weights)

    def step(
        self, frame: Floats, weights: OnnxWeights, states: Mapping[str, Array]
    ) -> tuple[list[Array], Mapping[str, Array]]:
        """See `Engine.step`."""
        found = self._run([frame, *(states[key] for key in self.states)], weights)
        heads = len(found) - len(self.states)
        return found[:heads], dict(zip(self.states, found[heads:], strict=True))

    def unblocked_weights(self, weights: OnnxWeights) -> Mapping[str, Array]:
        """See `Engine.unblocked_weights`."""
        axes = self._model.graph.axes
        plain = NetworkGraph(self.network, use_onednn=False)
        return {
            key: _in_keras_order(weights.arrays[key], axes.get(key), shape)
            for key, shape in plain.shapes.items()
        }

    def _read(self, file: WeightsFile, *, verify: bool) -> tuple[Header, Arrays]:
        return read_arrays(self._model.graph, file, verify=verify, threads=self._threads)

    def _compiled(self, path: str, header: Header, arrays: Arrays) -> OnnxWeights:
        with refusals(self._library.name, self.network):
            runner = self._library.runner(self._model, arrays)
        return OnnxWeights(path, header, arrays, runner)

    def _run(self, inputs: Sequence[Array], weights: OnnxWeights) -> list[Array]:
        batch = len(inputs[0])
        with refusals(self._library.name, self.network, batch), self._memory.held(batch):
            return weights.run([np.ascontiguousarray(array) for array in inputs])


def _in_keras_order(
    array: npt.NDArray[np.float32], axes: tuple[int, ...] | None, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """An array in the order of axes that TensorFlow computes with.

    Args:
        array: as it is in the file.
        axes: where its axes are in Keras' order; None: they are in that order.
        shape: that it has there; of a depthwise kernel (size, size, channels, multiplier).
    """
    if axes is None:
        turned = array.reshape(shape)
    elif array.ndim == 4 and shape[2:] != (array.shape[1], array.shape[0]):
        turned = array.reshape(*shape[2:], *shape[:2]).transpose(2, 3, 0, 1)
    else:
        turned = array.transpose(np.argsort(axes))
    return turned


_NO_MEMORY = re.compile(r"bad_alloc|[Ff]ailed to allocate memory|[Cc]annot allocate|out of memory")


@contextlib.contextmanager
def refusals(engine: str, network: cfg.Network, batch: int | None = None) -> Iterator[None]:
    """Around calls of an engine: what it raises, as yolotf's errors.

    Args:
        engine: its name.
        network: that is compiled, or run.
        batch: images of the run; None while it is compiled.

    Raises:
        EngineError: the engine refused it.
        OutOfMemoryError: there is no memory for it.
    """
    try:
        yield
    except (OutOfMemoryError, EngineError):
        raise
    except MemoryError:
        raise tf_errors.out_of_memory(network, batch) from None
    except Exception as error:
        said = str(error)
        if _NO_MEMORY.search(said):
            raise tf_errors.out_of_memory(network, batch) from None
        what = "the graph" if batch is None else f"a run of {plural(batch, 'image')}"
        first = next((line.strip() for line in said.splitlines() if line.strip()), "")
        raise EngineError(
            f"{network.source}: {engine} refuses {what} for {tf_errors.input_text(network)}: "
            f"{first.rstrip('.') or type(error).__name__}",
            engine=engine,
            source=network.source,
            input_size=tuple(network.input_shape[:2]),
            batch=batch,
            said=said,
        ) from error
