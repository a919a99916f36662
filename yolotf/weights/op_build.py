"""Compiles the op for the TensorFlow that is installed, from the sources that yolotf carries.

pip builds a package before it installs what the package runs with: `pip install tensorflow .` finds
no TensorFlow to compile the op for, and a wheel holds no op for a TensorFlow that is younger than
it. A C++ compiler is all that `build` needs; CMake and pip have no part in it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from yolotf.errors import YolotfError
from yolotf.weights import op_library

_FLAGS = (
    *("-std=c++17", "-O3", "-DNDEBUG", "-fPIC", "-shared", "-fvisibility=hidden"),
    "-ffp-contract=off",  # as CMakeLists.txt has it
)
_LINES = 20
"""Of a compiler's complaint; the first is the cause, as a rule."""


def build() -> Path:
    """Compiles the op, tries it, and puts it where `op_library` looks.

    Returns:
        The library.

    Raises:
        ImportError: there is no TensorFlow.
        YolotfError: there is no compiler, or it failed, or TensorFlow does not load the result.
        OSError: the folder of yolotf cannot be written.
    """
    compiler = _compiler()
    import tensorflow as tf  # after what is cheap to look at

    folder = op_library.op_folder()
    sources = folder / "source"
    files = sorted(sources.rglob("*.cc"))
    if not files:
        raise YolotfError(f"{sources}: yolotf's sources are not there; install yolotf again")
    # Beside its place: what cannot be written there is known before, and moving it is one step.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as work:
        made = Path(work) / f"{op_library.minor(tf.__version__)}.so"
        command = [
            *(*compiler, *_FLAGS, *tf.sysconfig.get_compile_flags(), f"-I{sources}"),
            *(*map(str, files), *tf.sysconfig.get_link_flags()),
            *(["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []),
            *("-o", str(made)),
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            said = os.fsdecode(done.stdout).splitlines()
            raise YolotfError(
                f"the op for TensorFlow {tf.__version__} cannot be compiled by "
                f"{shlex.join(command)}:\n" + "\n".join(said[:_LINES])
            )
        _check(tf, made)
        library = folder / made.name
        made.replace(library)
    _record(library)
    op_library.op_library.cache_clear()
    return library


def _compiler() -> list[str]:
    """The command of a C++ compiler.

    Raises:
        YolotfError: there is none.
    """
    chosen = shlex.split(os.environ.get("CXX", ""))
    names = chosen[:1] or ["c++", "g++", "clang++"]
    for name in names:
        if shutil.which(name):
            return chosen or [name]
    advice = "on Debian or Ubuntu: apt install g++"
    if built := op_library.built_minors():
        # tensorflow, tensorflow-cpu or another that brings the module.
        brought = metadata.packages_distributions().get("tensorflow") or ["tensorflow"]
        wanted = f"{brought[0]}=={built[-1]}.*"
        advice += f"; or install a TensorFlow that there is an op for: pip install '{wanted}'"
    raise YolotfError(f"there is no C++ compiler ({' or '.join(names)}); {advice}")


def _check(tf: Any, library: Path) -> None:
    try:
        tf.load_op_library(str(library))
    except tf.errors.OpError as error:
        raise YolotfError(
            f"TensorFlow {tf.__version__} does not load the op compiled for it: {error.message}"
        ) from None


def _record(library: Path) -> None:
    """Notes the library in the list of installed files, so that pip removes it with the others."""
    try:
        files = metadata.distribution("yolotf").files or []
    except metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name != "RECORD":
            continue
        record = Path(str(file.locate()))
        site = record.parents[1]
        if site not in library.parents:  # an editable install
            return
        name = library.relative_to(site).as_posix()
        # Of an op that pip installed and this one replaces, the old hash is no longer right.
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
        others = [line for line in lines if not line.startswith(f"{name},")]
        record.write_text("".join([*others, f"{name},,\n"]), encoding="utf-8")
