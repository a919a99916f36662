"""OpenVINO as an engine."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

from yolotf.errors import MissingPackageError, YolotfError
from yolotf.onnx.model import Model
from yolotf.runtime.engine import Array
from yolotf.runtime.onnx_engine import Arrays, Runner

NAME = "openvino"
_DEVICE = "CPU"


class OpenVino:
    """The installed OpenVINO; see `Library`.

    Attributes:
        name: as `engine=` has it.
        ran: whether one image, and whether several have been computed at once.
    """

    name = NAME

    def __init__(self, *, threads: int, bfloat16: bool = False) -> None:
        """Imports nothing yet.

        Args:
            threads: to compute with.
            bfloat16: in place of float32.
        """
        self._bfloat16 = bfloat16
        self.ran: set[bool] = set()
        self._properties: dict[str, Any] = {
            # By itself OpenVINO computes in bfloat16 where a processor has it.
            "INFERENCE_PRECISION_HINT": "bf16" if self._bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Pinned threads of two detectors would share processors and leave others idle.
            "ENABLE_CPU_PINNING": False,
        }

    def load(self) -> None:
        """See `Library.load`."""
        core = _core()
        if self._bfloat16 and "BF16" not in core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"):
            raise YolotfError(
                "precision='bfloat16': OpenVINO has no bfloat16 on this processor; "
                "leave precision out"
            )

    def runner(self, model: Model, arrays: Arrays) -> Runner:
        """See `Library.runner`."""
        return _Runner(self, model, arrays)

    def compiled(self, model: Model, arrays: Arrays, batch: int | None) -> Any:
        """The model for one number of images, or for any.

        Its constants are the arrays themselves; the processor's plugin makes one copy of the
        kernels, in an order of its own.
        """
        constant_of = library().op.Constant
        read = _core().read_model(model.skeleton())
        weights = {weight.name: weight for weight in model.weights}
        for parameter in list(read.get_parameters()):
            weight = weights.get(parameter.get_friendly_name())
            if weight is None:
                continue
            array = arrays[weight.key].reshape(weight.shape)
            constant = constant_of(array, shared_memory=True)
            constant.set_friendly_name(weight.name)
            parameter.output(0).replace(constant.output(0))
            read.remove_parameter(parameter)
        if batch is not None:
            read.reshape({port.name: [batch, *port.shape[1:]] for port in model.inputs})
        return _core().compile_model(read, _DEVICE, self._properties)


class _Runner:
    """Compiled models of one set of weights.

    One image at once is what most servers compute: the model of exactly one image is a few percent
    faster than that of any number, and is ready sooner. The other one is compiled when several
    images come for the first time; of later weights, as they are loaded.
    """

    def __init__(self, library: OpenVino, model: Model, arrays: Arrays) -> None:
        self._library = library
        self._model = model
        self._arrays = arrays
        self._compiling = threading.Lock()
        self._requests: dict[bool, _Requests] = {}
        for single in tuple(library.ran) or (True,):
            self._requests_for(single=single)

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        single = len(inputs[0]) == 1
        self._library.ran.add(single)
        return self._requests_for(single=single).run(inputs)

    def _requests_for(self, *, single: bool) -> _Requests:
        requests = self._requests.get(single)
        if requests is None:
            with self._compiling:
                requests = self._requests.get(single)
                if requests is None:
                    size = 1 if single else None
                    compiled = self._library.compiled(self._model, self._arrays, size)
                    requests = self._requests[single] = _Requests(compiled)
        return requests


class _Requests:
    """Inference requests, each of which one thread uses at a time."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._idle: list[Any] = []

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        # Without sharing, what is returned is a copy, and stays as it is in the next run.
        found = request.infer(list(inputs), share_inputs=True, share_outputs=False)
        outputs = list(found.values())
        self._idle.append(request)
        return outputs


def library() -> Any:
    """The package.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import openvino  # optional, and takes a quarter of a second
    except ImportError as error:
        raise MissingPackageError(
            f"engine={NAME!r} needs the package openvino, which cannot be imported ({error}); "
            'pip install "yolotf[openvino]"'
        ) from error
    return openvino


@functools.cache
def _core() -> Any:
    """OpenVINO's core: its threads are the process's, so one is enough."""
    return library().Core()
