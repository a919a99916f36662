"""Chooses between Keras 3 and tf_keras, and checks the backend."""

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
    """Returns the Keras that `tf.keras` uses: Keras 3, or tf_keras with TF_USE_LEGACY_KERAS=1.

    Raises:
        ImportError: this Keras is not installed.
        KerasBackendError: Keras 3 uses, or is set to use, another backend than TensorFlow.
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
    # The values that tensorflow/__init__.py accepts.
    return os.environ.get("TF_USE_LEGACY_KERAS") in ("true", "True", "1")


def check_backend() -> None:
    """Checks the backend setting before Keras is imported, which would import that backend.

    Like Keras (keras/src/backend/config.py), it reads the environment variable, then keras.json.

    Raises:
        KerasBackendError: Keras is set to use another backend than TensorFlow.
    """
    if "keras" in sys.modules or _is_legacy():
        return
    backend = os.environ.get("KERAS_BACKEND")
    setting = f"KERAS_BACKEND={backend}"
    if not backend:
        file = _home() / "keras.json"
        try:
            backend = json.loads(file.read_text(encoding="utf-8")).get("backend")
        except (OSError, ValueError, AttributeError):  # Keras ignores such a file too
            return
        setting = f'"backend": "{backend}" in {file}'
    if backend not in (None, "tensorflow"):
        raise KerasBackendError(
            f"{setting}: yolotf needs Keras on TensorFlow; set the environment variable "
            "KERAS_BACKEND=tensorflow"
        )


def _home() -> Path:
    """Returns the folder of keras.json, as Keras determines it."""
    folder = os.environ.get("KERAS_HOME")
    if folder is not None:
        return Path(folder).expanduser()
    user = home()
    return (user if user and os.access(user, os.W_OK) else Path("/tmp")) / ".keras"
