"""The onnxruntime engine."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any

from yolotf.errors import optional_package
from yolotf.onnx import proto
from yolotf.onnx.model import Model
from yolotf.runtime.engine import Array
from yolotf.runtime.leaked import leak
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
    layout. In a forked process, the first run starts a new session.
    """

    def __init__(self, model: Model, arrays: Arrays, threads: int) -> None:
        self._model = model
        self._arrays = arrays
        self._threads = threads
        self._values = {  # kept alive here: the session does not
            weight.name: library().OrtValue.ortvalue_from_numpy(
                arrays[weight.key].reshape(weight.shape)
            )
            for weight in model.weights
        }
        self._inputs = [port.name for port in model.inputs]
        self._outputs = [port.name for port in model.outputs]
        self._starting = threading.Lock()
        self._session = self._new_session()
        _runners.add(self)

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        session = self._session
        if session is None:
            with self._starting:
                session = self._session = self._session or self._new_session()
        outputs: list[Array] = session.run(
            self._outputs, dict(zip(self._inputs, inputs, strict=True))
        )
        return outputs

    def _new_session(self) -> Any:
        runtime = library()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Spinning threads take processors from other threads; this stops them after each run.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_external_initializers(list(self._values), list(self._values.values()))
        return runtime.InferenceSession(
            _content(self._model), options, providers=["CPUExecutionProvider"]
        )

    def abandon_session(self) -> None:
        """Gives up the session of the parent process, whose threads do not exist in this one.

        It is never destroyed: its destructor would wait for the threads forever.
        """
        if self._session is not None:
            leak(self._session)
        self._session = None
        self._starting = threading.Lock()  # another thread of the parent may hold the old one


_runners: weakref.WeakSet[_Runner] = weakref.WeakSet()


def _after_fork() -> None:
    for runner in list(_runners):
        runner.abandon_session()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


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
