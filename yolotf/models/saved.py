"""Reads saved Keras models without running code that they contain.

A `Lambda` layer contains marshalled Python code, which Keras 2 (tf_keras), and older Keras 3 for
.h5 files, run when they load the file. Importing a module that the config names runs code too.
The config of a file is therefore checked before Keras loads it.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from yolotf.errors import YolotfError
from yolotf.files import opening
from yolotf.files.paths import StrPath
from yolotf.models.keras_module import keras
from yolotf.text import printable

_CONFIG_MOST = 64 << 20
"""The largest config in bytes; that of YOLOv4 has 200 kB."""
_CODE_LAYERS = {
    *("Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
    *("TensorFlowOpLayer", "ClassMethod", "InstanceMethod", "InstanceProperty"),
}
_FUNCTION_MODULES = (
    *("activations", "constraints", "initializers", "losses", "metrics", "regularizers"),
)
"""Modules of Keras with functions that a config may name; all of them only compute."""
_BUILDERS = {"get", "deserialize", "serialize"}
"""Functions of these modules that build an object from a config."""
_READS_FILES = {"StringLookup", "IntegerLookup", "TextVectorization"}
_TRUSTED_MODULES = re.compile(r"(builtins|keras|keras\..+|tf_keras|tf_keras\..+|yolotf|yolotf\..+)")
_TRUSTED_FUNCTIONS = re.compile(
    r"(compat\.v1\.)?((math|nn|linalg|__operators__|keras\.(activations|backend))\.\w+"
    r"|image\.(resize\w*|crop_and_resize|combined_non_max_suppression|non_max_suppression)"
    r"|abs|add|argmax|boolean_mask|broadcast_to|cast|clip_by_value|concat|convert_to_tensor|cos|exp"
    r"|expand_dims|eye|fill|gather|gather_nd|identity|matmul|maximum|meshgrid|minimum|multiply"
    r"|one_hot|ones|ones_like|pad|pow|range|rank|reduce_\w+|reshape|reverse|round|shape|sigmoid"
    r"|sin|size|slice|space_to_depth|split|sqrt|square|squeeze|stack|strided_slice|subtract|tanh"
    r"|tile|transpose|unstack|where|zeros|zeros_like)"
)
"""TensorFlow functions that a `TFOpLambda` of Keras 2 may call: those that only compute."""


def read_model(path: StrPath, *, trust: bool = False) -> Any:
    """Reads a saved Keras model, which may have yolotf's layers, without compiling it.

    Args:
        path: a .keras or .h5 file; a folder too, if trusted.
        trust: whether code in the file may run.

    Returns:
        The Keras model.

    Raises:
        OSError: the file does not exist, or is not a regular file.
        YolotfError: the file contains code, was written by the other major version of Keras, or
            Keras cannot load it.
    """
    name = os.fspath(path)
    if not Path(path).is_dir():
        opening.check_regular(path)
        _check_writer(path)
        if not trust:
            for config in _configs(path):
                _check(config, name)
    elif not trust:
        raise YolotfError(
            f"{name}: a folder, whose model may contain code; pass trust=True, or --trust-model, "
            "if you trust its author",
            path=name,
        )
    options = {"safe_mode": False} if trust else {}
    try:
        return keras().models.load_model(path, compile=False, **options)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # an invalid file may make Keras raise anything
        reason = " ".join(str(error).split())[:300]
        raise YolotfError(
            printable(f"{name}: Keras {keras().__version__} cannot load it: {reason}"), path=name
        ) from error


def _configs(path: StrPath) -> Iterator[Any]:
    """Yields the configs in a file, of each format that it could be read as.

    Left out is how a model was compiled, which Keras does not read with `compile=False`.
    """
    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            if "model_config" in file.attrs:
                yield _parsed(file.attrs["model_config"], path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            config = _parsed(_member(archive, "config.json", path), path)
            if isinstance(config, dict):
                config.pop("compile_config", None)
            yield config


def _member(archive: zipfile.ZipFile, member: str, path: StrPath) -> bytes:
    try:
        if archive.getinfo(member).file_size > _CONFIG_MOST:
            size = archive.getinfo(member).file_size
            raise YolotfError(
                f"{os.fspath(path)}: {member} has {size} bytes, the limit is {_CONFIG_MOST}",
                path=os.fspath(path),
            )
        return archive.read(member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise YolotfError(
            f"{os.fspath(path)}: not a Keras model: {member} cannot be read", path=os.fspath(path)
        ) from error


def _parsed(text: Any, path: StrPath) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise YolotfError(
            f"{os.fspath(path)}: not a Keras model: its configuration is not JSON",
            path=os.fspath(path),
        ) from error


def _check_writer(path: StrPath) -> None:
    """Refuses a .keras file that another major version of Keras has written."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        metadata = _parsed(_member(archive, "metadata.json", path), path)
    version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
    running = str(keras().__version__)
    if version and version.split(".")[0] != running.split(".")[0]:
        fix = "0" if version.startswith("3") else "1, with tf_keras installed"
        raise YolotfError(
            printable(
                f"{os.fspath(path)}: written by Keras {version}, but Keras {running} is running; "
                f"set TF_USE_LEGACY_KERAS={fix}, or save the model as .h5"
            ),
            path=os.fspath(path),
            found=version,
            expected=running,
        )


def _check(config: Any, path: str) -> None:
    """Raises `YolotfError` if building the model would run code or read other files."""
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        if not isinstance(value, dict):
            continue
        pending += value.values()
        if danger := _danger(value):
            raise YolotfError(
                printable(
                    f"{path}: {danger}, which may run code from the file; pass trust=True, or "
                    "--trust-model, if you trust its author"
                ),
                path=path,
            )


def _danger(value: dict[str, Any]) -> str | None:
    """Returns in words why a layer's config may run code or read files; None if it may not."""
    # Keras also finds a class by its registered name, and by a path from its module.
    names = (str(value.get(key, "")) for key in ("class_name", "registered_name"))
    kinds = [re.split("[>.]", name)[-1] for name in names]
    inner = value.get("config")
    options = inner if isinstance(inner, dict) else {}
    name = str(options.get("name", value.get("name", "")))[:60]
    for kind in kinds:
        if kind == "TFOpLambda":
            function = str(options.get("function"))
            if not _TRUSTED_FUNCTIONS.fullmatch(function):
                return f"layer {name!r} calls tf.{function[:60]}"
        elif kind in _CODE_LAYERS:
            return f"layer {name!r} is a {kind}"
        elif kind in _READS_FILES:
            return f"layer {name!r} is a {kind}, which reads a file"
    module = value.get("module")
    if "function" in kinds and not _is_computing(str(inner)):
        return f"it names the function {str(module)[:60]}.{str(inner)[:60]}"
    if "class_name" in value and module is not None and not _TRUSTED_MODULES.fullmatch(str(module)):
        return f"it names the module {str(module)[:60]!r}"
    return None


def _is_computing(function: str) -> bool:
    """Whether a function is one of Keras' that only compute, or registered in this process."""
    if keras().saving.get_registered_object(function) is not None:
        return True
    if function in _BUILDERS or function.startswith("_"):
        return False
    return any(function in vars(getattr(keras(), module)) for module in _FUNCTION_MODULES)
