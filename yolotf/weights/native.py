"""Loads the TensorFlow op, or says why it cannot be loaded."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from yolotf import _core
from yolotf.errors import TensorFlowVersionError


@functools.cache
def op_library() -> Any:
    """The module with `yolotf_scatter`.

    Raises:
        TensorFlowVersionError: the op was built for another minor version of TensorFlow, whose
            C++ interface differs.
    """
    import tensorflow as tf

    built, running = _core.TENSORFLOW_VERSION, tf.__version__
    if built.split(".")[:2] != running.split(".")[:2]:
        raise _version_error(built, running)
    try:
        return tf.load_op_library(str(Path(_core.__file__).parent / "_op.so"))
    except tf.errors.NotFoundError as error:
        raise _version_error(built, running) from error


def _version_error(built: str, running: str) -> TensorFlowVersionError:
    return TensorFlowVersionError(
        f"yolotf's op was built for TensorFlow {built}, this is {running}; rebuild it with: "
        "pip install --force-reinstall --no-deps --no-cache-dir --no-build-isolation yolotf",
        built=built,
        running=running,
    )


def thread_count() -> int:
    """The processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)
