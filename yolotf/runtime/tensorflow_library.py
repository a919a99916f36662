"""Finds and loads the libraries of the installed TensorFlow without importing it."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yolotf import _runtime
from yolotf.errors import TENSORFLOW_MISSING, OutOfMemoryError
from yolotf.files.memory import anonymous_file
from yolotf.graphs import forked, tf_errors
from yolotf.text import size_text

_ENDING = "2.dylib" if sys.platform == "darwin" else "so.2"
FRAMEWORK, CC = f"libtensorflow_framework.{_ENDING}", f"libtensorflow_cc.{_ENDING}"
_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

_runtime.set_exception_factory(tf_errors.refusal)


def folder() -> Path:
    """Returns TensorFlow's installation folder.

    Raises:
        ImportError: TensorFlow is not installed.
    """
    loaded = sys.modules.get("tensorflow")
    if loaded is not None and getattr(loaded, "__file__", None):
        return Path(str(loaded.__file__)).parent
    # find_spec of a top-level package runs none of its code.
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(TENSORFLOW_MISSING, name="tensorflow")
    return Path(next(iter(spec.submodule_search_locations)))


_lock = threading.Lock()


def load() -> None:
    """Loads TensorFlow's two libraries once; does nothing if TensorFlow has been imported.

    Raises:
        ImportError: TensorFlow is not installed, or a library is missing or incomplete.
        OutOfMemoryError: there is not enough memory for the libraries.
        ForkedProcessError: the process was forked after TensorFlow had run in its parent.
    """
    forked.check_runtime()
    with _lock:
        if not _runtime.version():
            _open_libraries(folder())


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # its owner does not exist in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


_NO_MEMORY = re.compile(
    "failed to map segment|[Cc]annot allocate memory|cannot create shared object"
)
"""The dynamic linker's messages for lack of memory."""


def _open_libraries(folder: Path) -> None:
    libraries = folder / FRAMEWORK, folder / CC
    advice = "it belongs to TensorFlow 2.16 and later: pip install --upgrade tensorflow"
    for library in libraries:
        if not library.is_file():
            raise ImportError(f"{library}: no such file; {advice}", path=str(library))
    try:
        with _quiet():
            _runtime.open(*map(str, libraries))
    except ImportError as error:  # the message says which library
        if _NO_MEMORY.search(str(error)):
            needed = sum(library.stat().st_size for library in libraries)
            raise OutOfMemoryError(
                f"{folder}: there is not enough memory for TensorFlow's libraries, which need "
                f"{size_text(needed)}; raise the limit (ulimit -v)",
                source=str(folder),
                input_size=None,
                batch=None,
                needed=needed,
                allowed=None,
            ) from None
        raise ImportError(f"{error}; {advice}", path=str(folder)) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TensorFlow's log lines from stderr while its libraries load.

    Nothing is lost: errors are raised as exceptions.

    TensorFlow reads the log level at load, but from 2.21 on logs its first lines before that. These
    are captured; anything else written to stderr meanwhile is passed on afterwards. If the user has
    set the log level, nothing is hidden.
    """
    if _LOG_LEVEL in os.environ:
        yield
        return
    os.environ[_LOG_LEVEL] = "3"
    try:
        with _log_lines_removed():
            yield
    finally:
        os.environ.pop(_LOG_LEVEL, None)


_LOG_LINE = re.compile(
    rb"WARNING: All log messages before absl|[IWEF]\d{4} |\d{4}-\d\d-\d\d .*: [IWEF] "
)


@contextmanager
def _log_lines_removed() -> Iterator[None]:
    try:
        original = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    try:
        with os.fdopen(anonymous_file(), "w+b") as captured:
            os.dup2(captured.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(original, 2)
                captured.seek(0)
                other_lines = [line for line in captured if not _LOG_LINE.match(line)]
                if other_lines:
                    os.write(2, b"".join(other_lines))
    finally:
        os.close(original)


@functools.cache
def has_gpu() -> bool:
    """Returns whether TensorFlow would use a GPU: it supports GPUs and finds one."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return False
    if not any(re.fullmatch(r"nvidia\d+|kfd", device.name) for device in Path("/dev").iterdir()):
        return False
    build_info = folder() / "python/platform/build_info.py"
    try:
        text = build_info.read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"'is_(cuda|rocm)_build', True", text) is not None
