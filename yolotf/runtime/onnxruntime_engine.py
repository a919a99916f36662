"""onnxruntime as an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yolotf.errors import MissingPackageError
from yolotf.onnx import proto
from yolotf.onnx.model import Model
from yolotf.runtime.engine import Array
from yolotf.runtime.onnx_engine import Arrays, Runner

NAME = "onnxruntime"
_ERRORS_ONLY = 3
"""onnxruntime's severity of what it writes to stderr; its errors are exceptions anyway."""


class OnnxRuntime:
    """The installed onnxruntime; see `Library`.

    Attributes:
        name: as `engine=` has it.
    """

    name = NAME

    def __init__(self, *, threads: int) -> None:
        """Imports nothing yet.

        Args:
            threads: to compute with.
        """
        self._threads = threads

    def load(self) -> None:
        """See `Library.load`."""
        library()

    def runner(self, model: Model, arrays: Arrays) -> Runner:
        """See `Library.runner`."""
        return _Runner(model, arrays, self._threads)


class _Runner:
    """A session of one set of weights.

    The session reads the arrays where they are, and makes one copy of the kernels, in an order of
    its own.
    """

    def __init__(self, model: Model, arrays: Arrays, threads: int) -> None:
        runtime = library()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Threads that look for work in circles keep other ones from theirs; here, after a run.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._values = {  # the session does not keep them
            weight.name: runtime.OrtValue.ortvalue_from_numpy(
                arrays[weight.key].reshape(weight.shape)
            )
            for weight in model.weights
        }
        options.add_external_initializers(list(self._values), list(self._values.values()))
        self._arrays = arrays
        self._session = runtime.InferenceSession(
            b"".join(_content(model)), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [port.name for port in model.inputs]
        self._outputs = [port.name for port in model.outputs]

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        found: list[Array] = self._session.run(
            self._outputs, dict(zip(self._inputs, inputs, strict=True))
        )
        return found


def _content(model: Model) -> list[bytes]:
    """The model with numbers that are elsewhere, of which onnxruntime never opens the file."""
    weights = [
        proto.message(5, proto.external_float_tensor(weight.name, weight.shape, "memory", 0))
        for weight in model.weights
    ]
    return [model.head({}), proto.message(7, b"".join([model.body(), *weights]))]


def library() -> Any:
    """The package.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import onnxruntime  # optional
    except ImportError as error:
        raise MissingPackageError(
            f"engine={NAME!r} needs the package onnxruntime, which cannot be imported ({error}); "
            'pip install "yolotf[onnxruntime]"'
        ) from error
    return onnxruntime
