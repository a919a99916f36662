"""Compiles the op for the installed TensorFlow from the sources that yolotf ships.

This is needed in two cases: `pip install tensorflow .` builds yolotf before it installs TensorFlow,
and a wheel has no op for a TensorFlow released after it. `build` needs only a C++ compiler, neither
CMake nor pip.
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
    # As in CMakeLists.txt.
    "-ffp-contract=off",
    *("-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"),
    *(["-Wl,-z,relro,-z,now,-z,noexecstack"] if sys.platform == "linux" else []),
)
_LINES = 20
"""Lines of the compiler's output to show; the cause is usually in the first."""


def build() -> Path:
    """Compiles the op, loads it once as a check, and installs it where `op_library` looks.

    Returns:
        The path of the library.

    Raises:
        ImportError: TensorFlow is not installed.
        YolotfError: there is no compiler, compiling failed, or TensorFlow cannot load the result.
        OSError: yolotf's folder is not writable.
    """
    compiler = _compiler()
    import tensorflow as tf  # slow: only after the cheap checks

    folder = op_library.op_folder()
    sources = folder / "source"
    files = sorted(sources.rglob("*.cc"))
    if not files:
        raise YolotfError(f"{sources}: yolotf's sources are missing; install yolotf again")
    # In the target folder: fails early if that is not writable, and the final rename is atomic.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as work:
        compiled = Path(work) / f"{op_library.minor(tf.__version__)}.so"
        command = [
            *(*compiler, *_FLAGS, *tf.sysconfig.get_compile_flags(), f"-I{sources}"),
            *(*map(str, files), *tf.sysconfig.get_link_flags()),
            *(["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []),
            *("-o", str(compiled)),
        ]
        compilation = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if compilation.returncode:
            output = os.fsdecode(compilation.stdout).splitlines()
            raise YolotfError(
                f"the op for TensorFlow {tf.__version__} cannot be compiled by "
                f"{shlex.join(command)}:\n" + "\n".join(output[:_LINES])
            )
        _check(tf, compiled)
        library = folder / compiled.name
        compiled.replace(library)
    _record(library)
    op_library.op_library.cache_clear()
    return library


def _compiler() -> list[str]:
    """Returns the command that runs the C++ compiler: $CXX, otherwise the first one on PATH.

    Raises:
        YolotfError: no compiler is installed.
    """
    chosen = shlex.split(os.environ.get("CXX", ""))
    names = chosen[:1] or ["c++", "g++", "clang++"]
    for name in names:
        if shutil.which(name):
            return chosen or [name]
    advice = "on Debian or Ubuntu: apt install g++"
    if built := op_library.built_minors():
        # tensorflow, tensorflow-cpu or another distribution that provides the module.
        providers = metadata.packages_distributions().get("tensorflow") or ["tensorflow"]
        requirement = f"{providers[0]}=={built[-1]}.*"
        advice += (
            f"; or install a TensorFlow that yolotf has an op for: pip install '{requirement}'"
        )
    raise YolotfError(f"no C++ compiler found ({' or '.join(names)}); {advice}")


def _check(tf: Any, library: Path) -> None:
    try:
        tf.load_op_library(str(library))
    except tf.errors.OpError as error:
        raise YolotfError(
            f"TensorFlow {tf.__version__} cannot load the op compiled for it: {error.message}"
        ) from None


def _record(library: Path) -> None:
    """Adds the library to the package's RECORD, so that `pip uninstall` removes it too."""
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
        # If it replaces an op that pip installed, the recorded hash is out of date.
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
        others = [line for line in lines if not line.startswith(f"{name},")]
        record.write_text("".join([*others, f"{name},,\n"]), encoding="utf-8")
