"""Inference: `Detector`, and the TensorFlow functions of `build_function`.

`Detector` needs no TensorFlow Python; accessing the other names imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yolotf.darknet.class_names import read_names
from yolotf.images.detections import Detections
from yolotf.images.read import ImageLike, open_picture
from yolotf.images.read import ImageLike as Picture
from yolotf.inference.detector import Detector

if TYPE_CHECKING:
    from yolotf.inference.classifier_function import ClassifierFunction
    from yolotf.inference.detector_function import InferenceFunction
    from yolotf.inference.function_builder import build_function
    from yolotf.inference.image_operations import fit, to_float

__all__ = [
    "ClassifierFunction",
    "Detections",
    "Detector",
    "ImageLike",
    "InferenceFunction",
    "Picture",
    "build_function",
    "fit",
    "open_picture",
    "read_names",
    "to_float",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from yolotf.inference import function_builder  # imports TensorFlow

    return getattr(function_builder, name)
