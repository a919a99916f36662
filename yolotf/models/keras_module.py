"""Which Keras this process works with."""

from __future__ import annotations

import functools
import os
from types import ModuleType


@functools.cache
def keras() -> ModuleType:
    """Keras as `tf.keras` would choose it: Keras 3, or tf_keras with TF_USE_LEGACY_KERAS=1.

    Raises:
        ImportError: that Keras is not installed, or Keras 3 runs on another backend than
            TensorFlow.
    """
    # The values tensorflow/__init__.py accepts.
    if os.environ.get("TF_USE_LEGACY_KERAS") in ("true", "True", "1"):
        import tf_keras  # optional

        legacy: ModuleType = tf_keras
        return legacy
    import keras as current  # slow to import

    backend = current.backend.backend()
    if backend != "tensorflow":
        raise ImportError(
            f"keras runs on {backend}, yolotf needs tensorflow; set KERAS_BACKEND=tensorflow"
        )
    module: ModuleType = current
    return module
