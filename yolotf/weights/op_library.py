"""Loads the TensorFlow op, or says why it cannot be loaded.

The op's C++ interface is that of one TensorFlow minor. `_op/` holds a library for each minor that
yolotf was built for, and the running TensorFlow decides which is loaded.
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
    """The module with `yolotf_scatter`.

    Raises:
        TensorFlowVersionError: there is no op for this minor version of TensorFlow.
    """
    import tensorflow as tf  # only callers that have it come here

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
    """Where the libraries are: `2.21.so` is for TensorFlow 2.21."""
    return Path(_core.__file__).parent / "_op"


def built_minors() -> list[str]:
    """The minors of TensorFlow there is an op for, oldest first."""
    names = [library.stem for library in op_folder().glob("*.so")]
    return sorted(names, key=lambda name: [int(part) for part in name.split(".")])


def minor(version: str) -> str:
    """`2.21` of `2.21.0-rc1`."""
    return ".".join(version.split(".")[:2])


def _version_error(state: str, running: str) -> TensorFlowVersionError:
    return TensorFlowVersionError(
        f"{state}; {remedy()}", built=", ".join(built_minors()), running=running
    )


def remedy() -> str:
    """How to get an op for the TensorFlow that is installed."""
    return f"build it with: {shlex.join([sys.executable, '-m', 'yolotf', 'build-op'])}"


def thread_count() -> int:
    """The processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)
