"""`yolotf.environment`: describes what yolotf runs on, and what slows it down."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from yolotf import _core
from yolotf._public import public
from yolotf.files.cache import cache_folder
from yolotf.files.stderr import captured_stderr
from yolotf.graphs import onednn
from yolotf.runtime import network, tensorflow_library
from yolotf.runtime.options import ENGINES
from yolotf.weights import op_library

OPTIONAL = {
    "cv2": "videos, cameras and streams",
    "fsspec": "weights from URLs",
    "pillow_heif": "HEIC images",
    "safetensors": "convert to .safetensors",
    "onnx": "convert to .onnx",
}
"""Module of an optional dependency -> what it is needed for."""


_HAS_GPU = "TensorFlow sees a GPU"
_NO_DISTRIBUTION = "unknown; no installed distribution provides it"
"""The version of a module that was not installed as a package."""


@public
@dataclass(frozen=True)
class Environment:
    """What yolotf runs on; `str()` gives the lines that `yolotf doctor` prints.

    Attributes:
        topics: for each topic, such as `tensorflow` or `processor`, its facts by name.
    """

    topics: Mapping[str, Mapping[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Returns the object that `yolotf doctor --json` prints."""
        return {topic: dict(facts) for topic, facts in self.topics.items()}

    def __str__(self) -> str:
        width = max(map(len, self.topics))
        return "\n".join(
            f"{_label(topic):<{width}}  {_text(facts)}" for topic, facts in self.topics.items()
        )


@public
def environment() -> Environment:
    """Describes what yolotf runs on, and what slows it down.

    Returns:
        Versions, whether yolotf has the op for the installed TensorFlow, which kernels a detector
        uses, the processor, the cache folder and optional packages. Where TensorFlow or another
        package is missing or broken, the facts say so.
    """
    return Environment(_topics())


def _label(name: str) -> str:
    return name if name.isupper() else name.replace("_", " ")


def _text(facts: Any) -> str:
    if isinstance(facts, dict):
        return "; ".join(f"{_label(name)} {_text(fact)}" for name, fact in facts.items())
    if isinstance(facts, list):
        return ", ".join(map(str, facts)) or "none"
    if facts is None:
        return "none"
    if isinstance(facts, bool):
        return "yes" if facts else "no"
    return str(facts)


def _topics() -> dict[str, Any]:
    """Returns the facts of each topic, ready for JSON."""
    return {
        "yolotf": {"version": _version("yolotf"), "folder": str(op_library.op_folder().parent)},
        "python": {"version": platform.python_version(), "platform": platform.platform()},
        "tensorflow": _tensorflow(),
        "writing": _writing(),
        "detecting": _detecting(),
        "engines": _engines(),
        "onednn": _onednn(),
        "processor": _processor(),
        "huge_pages": _huge_pages(),
        "read_lease": _lease(),
        "cache_folder": _cache(),
        "optional": {name: _installed(name, purpose) for name, purpose in OPTIONAL.items()},
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _distributions(module: str) -> list[str]:
    """Returns the names of the distributions that provide a module."""
    return sorted(set(metadata.packages_distributions().get(module, [])))


def _tensorflow() -> dict[str, Any]:
    if importlib.util.find_spec("tensorflow") is None:
        return {"version": None, "advice": "pip install tensorflow or pip install tensorflow-cpu"}
    names = _distributions("tensorflow")
    facts: dict[str, Any] = {
        "version": _version(names[0]) if names else _NO_DISTRIBUTION,
        "distribution": names,
        "keras": _version("keras"),
    }
    if len({name for name in names if name.startswith("tensorflow")}) > 1:
        facts["advice"] = (
            f"{' and '.join(names)} overwrite each other's files; uninstall all but one"
        )
    return facts


def _writing() -> dict[str, Any]:
    """Returns how `load_darknet_weights` writes variables, and why."""
    facts: dict[str, Any] = {"path": "portable", "op_for_tensorflow": op_library.built_minors()}
    if importlib.util.find_spec("tensorflow") is None:
        return {**facts, "reason": "TensorFlow is not installed"}
    try:
        with captured_stderr():
            op_library.op_library()
    except Exception as error:  # including a broken TensorFlow
        return {**facts, "reason": str(error)}
    return {**facts, "path": "op"}


def _detecting() -> dict[str, Any]:
    """Returns what a `Detector` computes with, and why."""
    facts: dict[str, Any] = {"path": "none"}
    try:
        if tensorflow_library.has_gpu():
            return {"path": "TensorFlow's Python", "reason": _HAS_GPU}
        with captured_stderr():
            tensorflow_library.load()
    except Exception as error:  # including a broken TensorFlow
        return {**facts, "reason": str(error)}
    return {
        "path": "TensorFlow's libraries, without its Python",
        "folder": str(tensorflow_library.folder()),
    }


def _engines() -> dict[str, str]:
    """Returns for each `engine=` its version, or how to install it."""
    versions: dict[str, str] = {}
    for name in ENGINES:
        names = _distributions(name)
        if importlib.util.find_spec(name) is None:
            extra = {"tensorflow": "tf"}.get(name, name)
            versions[name] = f'missing; pip install "yolotf[{extra}]"'
        else:
            versions[name] = (_version(names[0]) if names else None) or _NO_DISTRIBUTION
    return versions


def _onednn() -> dict[str, Any]:
    """Returns whether oneDNN runs the convolutions of a `Detector`, and why."""
    switch = os.environ.get(onednn.SWITCH)
    return {
        **_kernels(),
        "switched_off": onednn.switched_off(),
        onednn.SWITCH: switch if switch is not None else "not set",
    }


def _kernels() -> dict[str, Any]:
    try:
        if tensorflow_library.has_gpu():
            return {"kernels": "TensorFlow's choice", "reason": _HAS_GPU}
        with captured_stderr():
            tensorflow_library.load()
    except Exception as error:  # including a broken TensorFlow
        return {"kernels": "none", "reason": str(error)}
    chosen = network.kernels()
    facts = {"kernels": chosen.name, "reason": chosen.reason}
    if not chosen.optimized:
        facts["advice"] = (
            f"{onednn.SWITCH}=0 is a fifth faster for most networks, and half as fast for networks "
            "with grouped or depthwise convolutions; try both"
        )
    return facts


def _processor() -> dict[str, Any]:
    return {
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "threads_used": op_library.thread_count(),
        "scatter": _core.scatter_isa(),
    }


def _huge_pages() -> dict[str, Any]:
    """Returns the mode of transparent huge pages, in which weights are allocated if possible."""
    text = _read("/sys/kernel/mm/transparent_hugepage/enabled")
    mode = text.partition("[")[2].partition("]")[0] if text else None
    facts: dict[str, Any] = {"mode": mode}
    if mode == "never":
        facts["advice"] = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
    return facts


def _lease() -> dict[str, Any]:
    """Returns whether the kernel grants leases, which protect a mapped file from being changed."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return {"granted": False, "reason": "this system has no leases; files are read into memory"}
    try:
        temporary = tempfile.NamedTemporaryFile()  # noqa: SIM115 (closed before the lease is taken)
    except OSError as error:
        return {"granted": False, "reason": f"not tried: {error.strerror or error}"}
    with Path(temporary.name).open("rb") as file:
        temporary.close()
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            return {"granted": False, "reason": f"{error.strerror}; files are read into memory"}
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return {"granted": True, "where": tempfile.gettempdir()}


def _cache() -> dict[str, Any]:
    folder = cache_folder()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    return {
        "path": str(folder),
        "exists": folder.is_dir(),
        "writable": nearest.is_dir() and os.access(nearest, os.W_OK),
    }


def _installed(module: str, purpose: str) -> str:
    if importlib.util.find_spec(module) is None:
        return f"missing, for {purpose}"
    names = _distributions(module)
    return (_version(names[0]) if names else None) or "installed"


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:
        return None
