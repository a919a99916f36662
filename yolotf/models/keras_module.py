"""Which Keras this process works with."""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path
from types import ModuleType

from yolotf.errors import KerasBackendError
from yolotf.files.home import home


@functools.cache
def keras() -> ModuleType:
    """Keras as `tf.keras` would choose it: Keras 3, or tf_keras with TF_USE_LEGACY_KERAS=1.

    Raises:
        ImportError: that Keras is not installed.
        KerasBackendError: Keras 3 runs on another backend than TensorFlow, or would.
    """
    if _is_legacy():
        import tf_keras  # optional

        legacy: ModuleType = tf_keras
        return legacy
    check_backend()
    import keras as current  # slow to import

    backend = current.backend.backend()
    if backend != "tensorflow":
        raise KerasBackendError(
            f"keras runs on {backend}, yolotf needs tensorflow; set KERAS_BACKEND=tensorflow "
            "before keras is imported"
        )
    module: ModuleType = current
    return module


def _is_legacy() -> bool:
    # The values tensorflow/__init__.py accepts.
    return os.environ.get("TF_USE_LEGACY_KERAS") in ("true", "True", "1")


def check_backend() -> None:
    """Refuses another backend than TensorFlow, before Keras is imported and looks for its package.

    Keras asks the variable, then its file (keras/src/backend/config.py).

    Raises:
        KerasBackendError: Keras is told to use another one.
    """
    if "keras" in sys.modules or _is_legacy():
        return
    told = os.environ.get("KERAS_BACKEND")
    where = f"KERAS_BACKEND={told}"
    if not told:
        file = _home() / "keras.json"
        try:
            told = json.loads(file.read_text(encoding="utf-8")).get("backend")
        except (OSError, ValueError, AttributeError):  # Keras does without
            return
        where = f'"backend": "{told}" in {file}'
    if told not in (None, "tensorflow"):
        raise KerasBackendError(
            f"{where}: yolotf needs Keras on TensorFlow; set the environment variable "
            "KERAS_BACKEND=tensorflow"
        )


def _home() -> Path:
    """The folder of Keras' file."""
    told = os.environ.get("KERAS_HOME")
    if told is not None:
        return Path(told).expanduser()
    user = home()
    return (user if user and os.access(user, os.W_OK) else Path("/tmp")) / ".keras"
