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
from typing import TYPE_CHECKING, Any

from yolotf import _moved

if TYPE_CHECKING:
    from yolotf.darknet.cfg import Network, parse_cfg
    from yolotf.darknet.stock import network
    from yolotf.diagnosis.result import Diagnosis
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
    from yolotf.loading.diagnosing import diagnose
    from yolotf.loading.load import LoadReport, load_darknet_weights
    from yolotf.loading.save import save_darknet_weights
    from yolotf.models.build import build_model
    from yolotf.serving.classifier import Classification, Classifier
    from yolotf.serving.detections import Detections
    from yolotf.serving.detector import Detector

sys.meta_path.append(_moved.Finder())

__version__ = "0.1.0"

_HOMES = {
    "CfgError": "errors",
    "Classification": "serving.classifier",
    "Classifier": "serving.classifier",
    "ContentError": "errors",
    "Detections": "serving.detections",
    "Detector": "serving.detector",
    "Diagnosis": "diagnosis.result",
    "FileChangedError": "errors",
    "HeaderError": "errors",
    "LoadReport": "loading.load",
    "Network": "darknet.cfg",
    "PlanError": "errors",
    "SizeMismatchError": "errors",
    "TensorFlowVersionError": "errors",
    "UnsupportedSectionError": "errors",
    "WeightsMismatch": "errors",
    "YolotfError": "errors",
    "build_model": "models.build",
    "diagnose": "loading.diagnosing",
    "load_darknet_weights": "loading.load",
    "network": "darknet.stock",
    "parse_cfg": "darknet.cfg",
    "save_darknet_weights": "loading.save",
}

__all__ = [
    "CfgError",
    "Classification",
    "Classifier",
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
