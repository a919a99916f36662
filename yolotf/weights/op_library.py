"""Finds and loads the TensorFlow op.

TensorFlow's C++ ABI changes with every minor version, so `_op/` has one library for each minor that
yolotf was built for; the one for the running TensorFlow is loaded.
"""

from __future__ import annotations

import functools
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from yolotf import _core
from yolotf.errors import TensorFlowVersionError


@functools.cache
def op_library() -> Any:
    """Returns the module that has the op `yolotf_scatter`.

    Raises:
        TensorFlowVersionError: there is no op for this minor version of TensorFlow.
    """
    import tensorflow as tf  # callers have checked that it is installed

    running = tf.__version__
    library = op_folder() / f"{minor(running)}.so"
    if not library.is_file():
        built = ", ".join(built_minors())
        others = f", only for {built}" if built else ""
        raise _version_error(f"yolotf has no op for TensorFlow {running}{others}", running)
    try:
        return tf.load_op_library(str(library))
    except tf.errors.NotFoundError as error:
        state = f"yolotf's op for TensorFlow {library.stem} cannot be loaded by {running}"
        raise _version_error(state, running) from error


def op_folder() -> Path:
    """Returns the folder of the libraries; `2.21.so` is for TensorFlow 2.21."""
    return Path(_core.__file__).parent / "_op"


def built_minors() -> list[str]:
    """Returns the TensorFlow minor versions that have an op, oldest first."""
    names = [library.stem for library in op_folder().glob("*.so")]
    return sorted(names, key=lambda name: [int(part) for part in name.split(".")])


def minor(version: str) -> str:
    """Returns the minor version: `2.21` for `2.21.0-rc1`."""
    return ".".join(version.split(".")[:2])


def _version_error(state: str, running: str) -> TensorFlowVersionError:
    return TensorFlowVersionError(
        f"{state}; {remedy()}", built=", ".join(built_minors()), running=running
    )


def remedy() -> str:
    """Returns advice on how to get an op for the installed TensorFlow."""
    return f"build it with: {shlex.join([sys.executable, '-m', 'yolotf', 'build-op'])}"


def thread_count() -> int:
    """Returns the number of processors this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)
