"""Replaces `tf2_yolov4.tools.weights` of sicara/tf2-yolov4."""

from __future__ import annotations

from typing import TypeVar

from yolotf import compat
from yolotf.files.paths import StrPath
from yolotf.interfaces import KerasModel

_Model = TypeVar("_Model", bound=KerasModel)


def load_darknet_weights_in_yolo(yolo_model: _Model, darknet_weights_path: StrPath) -> _Model:
    """Loads `yolov4.weights` into `YOLOv4(...)`.

    Args:
        yolo_model: the model, built with `weights=None`.
        darknet_weights_path: a file with as many classes as the model.

    Returns:
        `yolo_model`.

    Raises:
        AssertionError: the file does not match the model; raised as `WeightsMismatch`.
        OSError: the file cannot be read.
    """
    compat.load(yolo_model, darknet_weights_path)
    return yolo_model
