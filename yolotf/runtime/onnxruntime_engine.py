"""The onnxruntime engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yolotf.errors import optional_package
from yolotf.onnx import proto
from yolotf.onnx.model import Model
from yolotf.runtime.engine import Array
from yolotf.runtime.onnx_engine import Arrays, Runner

NAME = "onnxruntime"
_ERRORS_ONLY = 3
"""onnxruntime's log severity; its errors are raised as exceptions anyway."""


class OnnxRuntime:
    """The installed onnxruntime; see `Library`.

    Attributes:
        name: the value of `engine=`.
    """

    name = NAME

    def __init__(self, *, threads: int) -> None:
        """Creates the engine without importing onnxruntime.

        Args:
            threads: number of threads.
        """
        self._threads = threads

    def load(self) -> None:
        """See `Library.load`."""
        library()

    def runner(self, model: Model, arrays: Arrays) -> Runner:
        """See `Library.runner`."""
        return _Runner(model, arrays, self._threads)


class _Runner:
    """A session with one set of weights.

    The session uses the arrays without a copy, apart from one copy of the kernels in its own
    layout.
    """

    def __init__(self, model: Model, arrays: Arrays, threads: int) -> None:
        runtime = library()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Spinning threads take processors from other threads; this stops them after each run.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._values = {  # kept alive here: the session does not
            weight.name: runtime.OrtValue.ortvalue_from_numpy(
                arrays[weight.key].reshape(weight.shape)
            )
            for weight in model.weights
        }
        options.add_external_initializers(list(self._values), list(self._values.values()))
        self._arrays = arrays
        self._session = runtime.InferenceSession(
            _content(model), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [port.name for port in model.inputs]
        self._outputs = [port.name for port in model.outputs]

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        outputs: list[Array] = self._session.run(
            self._outputs, dict(zip(self._inputs, inputs, strict=True))
        )
        return outputs


def _content(model: Model) -> bytes:
    """Returns the model with its weights as external data, whose file is never opened."""
    weights = [
        proto.message(5, proto.external_float_tensor(weight.name, weight.shape, "memory", 0))
        for weight in model.weights
    ]
    return model.head({}) + proto.message(7, b"".join([model.body(), *weights]))


def library() -> Any:
    """Returns the package.

    Raises:
        MissingPackageError: it is not installed.
    """
    need = f"engine={NAME!r} needs the package onnxruntime"
    with optional_package("onnxruntime", need, "yolotf[onnxruntime]"):
        import onnxruntime  # optional
    return onnxruntime
