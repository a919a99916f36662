"""Loads Darknet `.weights` files into TensorFlow, and says exactly what does not fit and why.

    import yolotf

    net = yolotf.network("yolov4", classes=80, size=416)   # or yolotf.parse_cfg("yolov4.cfg")
    model = yolotf.build_model(net)
    print(yolotf.load_darknet_weights(model, "yolov4.weights"))

Importing this package imports neither TensorFlow nor Keras; what needs them does so when used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolotf.cfg import Network, parse_cfg
    from yolotf.detections import Detections
    from yolotf.diagnosis import Diagnosis, diagnose
    from yolotf.errors import (
        CfgError,
        ContentError,
        FileChangedError,
        HeaderError,
        PlanError,
        SizeMismatchError,
        TensorFlowVersionError,
        UnsupportedSectionError,
        WeightsMismatch,
        YolotfError,
    )
    from yolotf.inference import Detector
    from yolotf.keras_model import build_model
    from yolotf.load import LoadReport, load_darknet_weights
    from yolotf.networks import network
    from yolotf.save import save_darknet_weights

__version__ = "0.1.0"

_HOMES = {
    "CfgError": "errors",
    "ContentError": "errors",
    "Detections": "detections",
    "Detector": "inference",
    "Diagnosis": "diagnosis",
    "FileChangedError": "errors",
    "HeaderError": "errors",
    "LoadReport": "load",
    "Network": "cfg",
    "PlanError": "errors",
    "SizeMismatchError": "errors",
    "TensorFlowVersionError": "errors",
    "UnsupportedSectionError": "errors",
    "WeightsMismatch": "errors",
    "YolotfError": "errors",
    "build_model": "keras_model",
    "diagnose": "diagnosis",
    "load_darknet_weights": "load",
    "network": "networks",
    "parse_cfg": "cfg",
    "save_darknet_weights": "save",
}

__all__ = [
    "CfgError",
    "ContentError",
    "Detections",
    "Detector",
    "Diagnosis",
    "FileChangedError",
    "HeaderError",
    "LoadReport",
    "Network",
    "PlanError",
    "SizeMismatchError",
    "TensorFlowVersionError",
    "UnsupportedSectionError",
    "WeightsMismatch",
    "YolotfError",
    "__version__",
    "build_model",
    "diagnose",
    "load_darknet_weights",
    "network",
    "parse_cfg",
    "save_darknet_weights",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"yolotf.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
