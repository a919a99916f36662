"""Loads Darknet `.weights` files into TensorFlow, and explains why a file does not match a model.

    import yolotf

    net = yolotf.network("yolov4", classes=80, size=416)   # or yolotf.parse_cfg("yolov4.cfg")
    model = yolotf.build_model(net)
    print(yolotf.load_darknet_weights(model, "yolov4.weights"))

Importing this package imports neither TensorFlow nor Keras; functions that need them import them
when called.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import lazy_loader

from yolotf import _moved

sys.meta_path.append(_moved.Finder())

__version__ = "0.2.0"

_get, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
# `from yolotf import *` must not need Ray.
__all__ = sorted({*__all__, "__version__"} - {"detect_dataset"})


class _Package(ModuleType):
    """The type of the module `yolotf`, whose functions no submodule of the same name replaces.

    Without it, `from yolotf.convert import format_of`, an old path, would set `yolotf.convert` to
    the module.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in __all__):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        # cloudpickle, as Ray and Dask use it, knows modules by their exact type.
        return importlib.import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package

_MODULES = {
    "compat",
    "errors",
    "inference",
    *(module for module in _moved.HOMES if "." not in module),
}
"""Submodules that need no import: `yolotf.inference.build_function` works by itself."""


def __getattr__(name: str) -> Any:
    try:
        if name in _MODULES and name not in __all__:
            return importlib.import_module(f"{__name__}.{name}")
        return _get(name)
    except ImportError as error:
        from yolotf.errors import with_install_advice  # imported lazily: only needed on failure

        raise with_install_advice(error) from error
