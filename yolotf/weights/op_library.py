"""Loads the TensorFlow op, or says why it cannot be loaded.

The op's C++ interface is that of one TensorFlow minor. `_op/` holds a library for each minor that
yolotf was built for, and the running TensorFlow decides which is loaded.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

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
        state = f"yolotf's op was built for TensorFlow {built}" if built else "yolotf has no op"
        raise _version_error(state, running)
    try:
        return tf.load_op_library(str(library))
    except tf.errors.NotFoundError as error:
        state = f"yolotf's op for TensorFlow {library.stem} cannot be loaded"
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
        f"{state}, this is {running}; {remedy()}", built=", ".join(built_minors()), running=running
    )


def remedy() -> str:
    """How to get an op for the TensorFlow that is installed, by how yolotf was installed."""
    pip = [sys.executable, "-m", "pip", "install"]
    again = ["--force-reinstall", "--no-deps", "--no-cache-dir"]
    checkout = Path(_core.__file__).parents[1]
    if (checkout / "CMakeLists.txt").is_file():
        command = [*pip, "-e", str(checkout)]
    elif (origin := _origin()) is None:
        # From an index, which has the sources under the same name.
        command = [*pip, *again, "--no-binary", "yolotf", "yolotf"]
    elif not origin.endswith(".whl"):
        command = [*pip, *again, origin]
    elif built := built_minors():
        # The sources of a wheel are not at hand.
        command = [*pip, f"{_tensorflow_distribution()}=={built[-1]}.*"]
        return f"install a TensorFlow it was built for with: {shlex.join(command)}"
    else:
        return "build its wheel where TensorFlow is installed"
    return f"rebuild it with: {shlex.join(command)}"


def _origin() -> str | None:
    """The folder, archive or address that pip installed; None for a package of an index.

    pip notes it in direct_url.json.
    """
    from importlib import metadata  # a fiftieth of a second, for advice alone

    try:
        note = metadata.distribution("yolotf").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        note = None
    if not note:
        return None
    about = json.loads(note)
    url: str = about["url"]
    if "vcs_info" in about:
        return f"{about['vcs_info']['vcs']}+{url}"
    return unquote(urlsplit(url).path) if url.startswith("file:") else url


def _tensorflow_distribution() -> str:
    """The distribution that brings the module: `tensorflow`, `tensorflow-cpu` or another."""
    from importlib import metadata  # see `_origin`

    return (metadata.packages_distributions().get("tensorflow") or ["tensorflow"])[0]


def thread_count() -> int:
    """The processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)
