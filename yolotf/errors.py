"""The exceptions of yolotf, which have the facts in their messages as attributes.

YolotfError (ValueError)
    CfgError
        UnsupportedSectionError
    WeightsMismatch (AssertionError)
        HeaderError
        SizeMismatchError
        ModelMismatchError
        ContentError
        FileChangedError
    EngineError
        TensorFlowError
    OutOfMemoryError (MemoryError)
    ForkedProcessError (RuntimeError)
    KerasBackendError (ImportError)
    MissingPackageError (ImportError)
TensorFlowVersionError (ImportError)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from yolotf._public import public
from yolotf.text import printable


@public
class YolotfError(ValueError):
    """Base of yolotf's errors.

    Attributes:
        code: the kind of error, a word that does not change when messages are reworded. For each
            code, docs/errors.md has an example and what to do.
        message: the message.
        facts: the values in the message, by name; each is also an attribute.
    """

    code = "refused"

    def __init__(self, message: str, **facts: Any) -> None:
        message = printable(message)
        super().__init__(message)
        self.message = message
        self.facts = facts

    def __getattr__(self, name: str) -> Any:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are pickled by their positional arguments only; facts would be lost
        # between processes.
        return (_rebuild, (type(self), self.message, self.facts))


def _rebuild(cls: type[YolotfError], message: str, facts: dict[str, Any]) -> YolotfError:
    return cls(message, **facts)


@public
class CfgError(YolotfError):
    """A cfg that Darknet would refuse or misread. Facts: `source`, `line`, ..."""

    code = "cfg"


@public
class UnsupportedSectionError(CfgError):
    """A valid section that the called function or the output format does not support."""

    code = "unsupported-section"


@public
class WeightsMismatch(YolotfError, AssertionError):
    """The file does not match the model.

    Also an `AssertionError`, which old loaders raised and their callers catch.

    Attributes:
        is_about_file: whether the contents of the file are wrong, so that a diagnosis of the file
            explains more than the message.
    """

    code = "weights-mismatch"

    is_about_file = False

    @property
    def diagnosis(self) -> Any:
        """The `Diagnosis` of the mismatch; None if there is none."""
        return self.facts.get("diagnosis")


@public
class HeaderError(WeightsMismatch):
    """The file is too short for a header, or not a weights file. Facts: `path`, `found`."""

    code = "header"

    is_about_file = True


@public
class SizeMismatchError(WeightsMismatch):
    """The file has another size than the network needs. Facts: `path`, `expected`, `found`, ..."""

    code = "size-mismatch"

    is_about_file = True


@public
class ModelMismatchError(WeightsMismatch):
    """A variable of the model does not match. Facts: `variable`, `expected`, `found`, ..."""

    code = "model-mismatch"


PlanError = ModelMismatchError
"""Old name of `ModelMismatchError`."""


@public
class ContentError(WeightsMismatch):
    """The file has the right size, but its values cannot be the network's weights.

    Facts: `layer`, `role`, `offset`.
    """

    code = "content"

    is_about_file = True


@public
class FileChangedError(WeightsMismatch):
    """Another process changed the file during the load; no variable was changed. Facts: `path`."""

    code = "file-changed"


@public
class EngineError(YolotfError):
    """The inference engine failed to build or run the network's graph.

    Facts: `source`, `input_size`, `batch`, `said`, the engine's complete message; and `engine`, its
    name, unless it is TensorFlow.
    """

    code = "engine"


@public
class TensorFlowError(EngineError):
    """TensorFlow failed to build or run a graph.

    Facts: `source`, `input_size`, `batch`; `tensorflow_code`, such as `INVALID_ARGUMENT`; `said`,
    TensorFlow's complete message.
    """

    code = "tensorflow"


@public
class OutOfMemoryError(YolotfError, MemoryError):
    """There is not enough memory. Facts: `source`, `input_size`, `batch`, `needed`, `allowed`.

    Also a `MemoryError`. `input_size` is (height, width); `needed` and `allowed` are bytes, or None
    if unknown.
    """

    code = "out-of-memory"


@public
class ForkedProcessError(YolotfError, RuntimeError):
    """The process was forked after TensorFlow had run, whose threads the child does not have.

    Also a `RuntimeError`.
    """

    code = "forked-process"


@public
class KerasBackendError(YolotfError, ImportError):
    """Keras uses, or would use, another backend than TensorFlow."""

    code = "keras-backend"


@public
class MissingPackageError(YolotfError, ImportError):
    """A required package is not installed; the message says how to install it."""

    code = "missing-package"


@contextlib.contextmanager
def optional_package(package: str, need: str, install: str, **facts: Any) -> Iterator[None]:
    """Translates the ImportError of an optional package that the block imports.

    Args:
        package: its name.
        need: the beginning of the message: `.onnx needs the package onnx`.
        install: what to install with pip: `yolotf[onnx]`.
        facts: further facts of the error.

    Raises:
        MissingPackageError: it is not installed, or cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        is_missing = (error.name or "").partition(".")[0] == package
        reason = "" if is_missing else f", which cannot be imported ({error})"
        quoted = f'"{install}"' if "[" in install else install
        raise MissingPackageError(
            f"{need}{reason}; pip install {quoted}", package=package, **facts
        ) from error


TENSORFLOW_MISSING = (
    "TensorFlow is not installed; install it with: pip install tensorflow (or tensorflow-cpu)"
)


def with_install_advice(error: ImportError) -> ImportError:
    """Returns an error that says what to install if a package is missing; else the same error."""
    if error.name in ("fastapi", "pyarrow", "pydantic", "ray"):
        return ModuleNotFoundError(
            f'{error.name} is not installed; install Ray with: pip install "yolotf[ray]"',
            name=error.name,
        )
    if error.name in ("keras", "tensorflow"):
        return ModuleNotFoundError(TENSORFLOW_MISSING, name=error.name)
    if error.name == "tf_keras":
        return ModuleNotFoundError(
            "tf_keras is not installed, but TF_USE_LEGACY_KERAS requires it; install it with: "
            "pip install tf_keras",
            name=error.name,
        )
    return error


@public
class TensorFlowVersionError(ImportError):
    """The TensorFlow op was built for another version. Attributes: `built`, `running`."""

    code = "tensorflow-version"

    def __init__(self, message: str, *, built: str, running: str) -> None:
        super().__init__(message)
        self.built = built
        self.running = running
