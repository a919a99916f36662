"""Loads Darknet `.weights` files into TensorFlow, and says exactly what does not fit and why.

    import yolotf

    net = yolotf.network("yolov4", classes=80, size=416)   # or yolotf.parse_cfg("yolov4.cfg")
    model = yolotf.build_model(net)
    print(yolotf.load_darknet_weights(model, "yolov4.weights"))

Importing this package imports neither TensorFlow nor Keras; what needs them does so when used.
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
# `from yolotf import *` should not need Ray.
__all__ = sorted({*__all__, "__version__"} - {"detect_dataset"})


class _Package(ModuleType):
    """The type of `yolotf`: its functions stay where an old module of the same name is imported.

    `from yolotf.convert import format_of` would set `yolotf.convert` to the module.
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
"""Found without an import of their own: `yolotf.inference.build_function`."""


def __getattr__(name: str) -> Any:
    try:
        if name in _MODULES and name not in __all__:
            return importlib.import_module(f"{__name__}.{name}")
        return _get(name)
    except ImportError as error:
        from yolotf.errors import explained_import  # not needed where all is installed

        raise explained_import(error) from error
