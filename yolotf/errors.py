"""Every exception yolotf raises on purpose; each carries the facts of its message as attributes.

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
        code: which kind of error this is, a word that stays the same when messages are reworded.
            docs/errors.md has an example and what to do for each.
        message: the sentence.
        facts: what the message states, by name; each fact is an attribute too.
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
    """A cfg that Darknet would refuse or silently misread. Facts: `source`, `line`, ..."""

    code = "cfg"


@public
class UnsupportedSectionError(CfgError):
    """A section that is understood but that the asked-for step cannot express."""

    code = "unsupported-section"


@public
class WeightsMismatch(YolotfError, AssertionError):
    """File and model do not belong together.

    An `AssertionError` too, because old loaders ended with `assert` and their callers
    catch that.

    Attributes:
        is_about_file: whether it is what the file holds that does not fit, so that a diagnosis of
            the file says more than the sentence.
    """

    code = "weights-mismatch"

    is_about_file = False

    @property
    def diagnosis(self) -> Any:
        """The whole `Diagnosis`, where `load_darknet_weights` made one; else None."""
        return self.facts.get("diagnosis")


@public
class HeaderError(WeightsMismatch):
    """The file is too short to hold a header, or is no weights file. Facts: `path`, `found`."""

    code = "header"

    is_about_file = True


@public
class SizeMismatchError(WeightsMismatch):
    """The file holds fewer or more bytes than the plan. Facts: `path`, `expected`, `found`, ..."""

    code = "size-mismatch"

    is_about_file = True


@public
class ModelMismatchError(WeightsMismatch):
    """A variable is not what the plan needs. Facts: `variable`, `expected`, `found`, ..."""

    code = "model-mismatch"


PlanError = ModelMismatchError
"""The name that `ModelMismatchError` had."""


@public
class ContentError(WeightsMismatch):
    """The size fits, the numbers cannot be this network's. Facts: `layer`, `role`, `offset`."""

    code = "content"

    is_about_file = True


@public
class FileChangedError(WeightsMismatch):
    """Another process changed the file during the load; no variable was written. Facts: `path`."""

    code = "file-changed"


@public
class EngineError(YolotfError):
    """What computes a network refused its graph or a run of it.

    Facts: `source`, `input_size`, `batch`, `said`; `engine`, its name, of any but TensorFlow.
    `said` are all of the engine's words.
    """

    code = "engine"


@public
class TensorFlowError(EngineError):
    """TensorFlow refused a graph or a run.

    Facts: `source`, `input_size`, `batch`, `tensorflow_code`, `said`. `tensorflow_code` is its name
    of the kind, such as `INVALID_ARGUMENT`, and `said` are all of its words.
    """

    code = "tensorflow"


@public
class OutOfMemoryError(YolotfError, MemoryError):
    """There is no memory for what was asked. Facts: `source`, `input_size`, `batch`, `needed`, ...

    A `MemoryError` too. `input_size` is (height, width), `needed` and `allowed` are bytes, None
    where they are not known.
    """

    code = "out-of-memory"


@public
class ForkedProcessError(YolotfError, RuntimeError):
    """The process was forked from one in which TensorFlow ran, whose threads are not in it.

    A `RuntimeError` too, which it was before.
    """

    code = "forked-process"


@public
class KerasBackendError(YolotfError, ImportError):
    """Keras runs, or would run, on another backend than TensorFlow."""

    code = "keras-backend"


@public
class MissingPackageError(YolotfError, ImportError):
    """A package is needed that is not installed; the message says how to install it."""

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
        absent = (error.name or "").partition(".")[0] == package
        why = "" if absent else f", which cannot be imported ({error})"
        quoted = f'"{install}"' if "[" in install else install
        raise MissingPackageError(
            f"{need}{why}; pip install {quoted}", package=package, **facts
        ) from error


TENSORFLOW_MISSING = (
    "TensorFlow is not installed; install it with: pip install tensorflow (or tensorflow-cpu)"
)


def explained_import(error: ImportError) -> ImportError:
    """An error of the same kind that says what to install, where a package is missing."""
    if error.name in ("fastapi", "pyarrow", "pydantic", "ray"):
        return ModuleNotFoundError(
            f'{error.name} is not installed; install Ray with: pip install "yolotf[ray]"',
            name=error.name,
        )
    if error.name in ("keras", "tensorflow"):
        return ModuleNotFoundError(TENSORFLOW_MISSING, name=error.name)
    if error.name == "tf_keras":
        return ModuleNotFoundError(
            "tf_keras is not installed, which TF_USE_LEGACY_KERAS asks for; install it with: "
            "pip install tf_keras",
            name=error.name,
        )
    return error


@public
class TensorFlowVersionError(ImportError):
    """The TensorFlow op was built for another TensorFlow. Attributes: `built`, `running`."""

    code = "tensorflow-version"

    def __init__(self, message: str, *, built: str, running: str) -> None:
        super().__init__(message)
        self.built = built
        self.running = running
