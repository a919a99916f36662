"""The OpenVINO engine."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any

from yolotf.errors import ForkedProcessError, YolotfError, optional_package
from yolotf.graphs.forked import missing_threads
from yolotf.onnx.model import Model
from yolotf.runtime.engine import Array
from yolotf.runtime.leaked import leak
from yolotf.runtime.onnx_engine import Arrays, Runner

NAME = "openvino"
_DEVICE = "CPU"


class OpenVino:
    """The installed OpenVINO; see `Library`.

    Attributes:
        name: the value of `engine=`.
        batch_sizes: the batch sizes that have been computed.
    """

    name = NAME

    def __init__(self, *, threads: int, bfloat16: bool = False) -> None:
        """Creates the engine without importing OpenVINO.

        Args:
            threads: number of threads.
            bfloat16: compute in bfloat16 instead of float32.
        """
        self._bfloat16 = bfloat16
        self.batch_sizes: set[int] = set()
        self._properties: dict[str, Any] = {
            # OpenVINO's default is bfloat16 on processors that support it.
            "INFERENCE_PRECISION_HINT": "bf16" if self._bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Pinned threads of two detectors would share some processors and leave others idle.
            "ENABLE_CPU_PINNING": False,
        }

    def load(self) -> None:
        """See `Library.load`."""
        core = _core()
        if self._bfloat16 and "BF16" not in core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"):
            raise YolotfError(
                "precision='bfloat16': OpenVINO does not support it on this processor; "
                "leave precision out"
            )

    def runner(self, model: Model, arrays: Arrays) -> Runner:
        """See `Library.runner`."""
        return _Runner(self, model, arrays)

    def compiled(self, model: Model, arrays: Arrays, batch: int | None) -> Any:
        """Compiles the model for a fixed batch size, or for any (None).

        Its constants are the arrays themselves; the CPU plugin makes one copy of the kernels in its
        own layout.

        Raises:
            ForkedProcessError: it would wait for threads of the parent process.
        """
        _threads.check()
        constant_of = library().op.Constant
        imported = _core().read_model(model.skeleton())
        weights = {weight.name: weight for weight in model.weights}
        for parameter in list(imported.get_parameters()):
            weight = weights.get(parameter.get_friendly_name())
            if weight is None:
                continue
            array = arrays[weight.key].reshape(weight.shape)
            constant = constant_of(array, shared_memory=True)
            constant.set_friendly_name(weight.name)
            parameter.output(0).replace(constant.output(0))
            imported.remove_parameter(parameter)
        if batch is not None:
            imported.reshape({port.name: [batch, *port.shape[1:]] for port in model.inputs})
        return _core().compile_model(imported, _DEVICE, self._properties)


class _Runner:
    """Compiled models of one set of weights: one for single images, and one for several.

    A model for a fixed batch size is up to 5 % faster than one for any batch size. The second model
    is compiled for the size of the first batch of several images, and replaced by one for any size
    when a batch of another size follows. Weights loaded later get these models during the load.
    """

    def __init__(self, library: OpenVino, model: Model, arrays: Arrays) -> None:
        self._library = library
        self._model = model
        self._arrays = arrays
        self._compiling = threading.Lock()
        self._requests: dict[int | None, _Requests] = {}
        for count in tuple(library.batch_sizes) or (1,):
            self._requests_for(count)

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        count = len(inputs[0])
        self._library.batch_sizes.add(count)
        return self._requests_for(count).run(inputs)

    def _requests_for(self, count: int) -> _Requests:
        """Returns the requests of the model for `count` images, which is compiled if needed."""
        several = self._library.batch_sizes - {1}
        batch = count if count == 1 or len(several) == 1 else None
        requests = self._requests.get(batch)
        if requests is None:
            with self._compiling:
                requests = self._requests.get(batch)
                if requests is None:
                    compiled = self._library.compiled(self._model, self._arrays, batch)
                    requests = _Requests(compiled)
                    other = {
                        size: model
                        for size, model in self._requests.items()
                        if (size == 1) != (batch == 1)
                    }
                    self._requests = {**other, batch: requests}
        return requests


class _Requests:
    """A pool of inference requests; each is used by one thread at a time."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._idle: list[Any] = []
        _threads.watch(self)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        # Outputs are not shared: the results are copies that later runs do not overwrite.
        results = request.infer(list(inputs), share_inputs=True, share_outputs=False)
        outputs = list(results.values())
        self._idle.append(request)
        return outputs


def library() -> Any:
    """Returns the package.

    Raises:
        MissingPackageError: it is not installed.
    """
    need = f"engine={NAME!r} needs the package openvino"
    with optional_package("openvino", need, "yolotf[openvino]"):
        import openvino  # optional, and takes 0.25 s
    return openvino


@functools.cache
def _core() -> Any:
    """Returns OpenVINO's core; its threads belong to the process, so one core suffices."""
    return library().Core()


class _Threads:
    """Tracks which of OpenVINO's threads do not exist in a forked process.

    OpenVINO keeps the threads of a destroyed model, and compiles the next model with them. In a
    forked process it would wait for them forever. So models of the parent are not destroyed there,
    and nothing is compiled if the parent had destroyed a model.
    """

    def __init__(self) -> None:
        self._models: weakref.WeakSet[_Requests] = weakref.WeakSet()
        self._destroyed = False
        self._missing = False

    def watch(self, model: _Requests) -> None:
        """Notes a compiled model, and later that it was destroyed."""
        self._models.add(model)
        weakref.finalize(model, self._note_destroyed).atexit = False

    def check(self) -> None:
        """Raises if compiling would wait forever.

        Raises:
            ForkedProcessError: the parent had destroyed a model before the fork.
        """
        if self._missing:
            raise ForkedProcessError(
                "this process was forked after a detector with engine='openvino' had been deleted "
                "or reloaded in its parent, or had seen other batch sizes, "
                + missing_threads("OpenVINO", "the first detector is created")
            )

    def after_fork(self) -> None:
        """Gives up what the parent has compiled."""
        self._missing = self._missing or self._destroyed
        for model in list(self._models):
            leak(model)

    def _note_destroyed(self) -> None:
        self._destroyed = True


_threads = _Threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.after_fork)
