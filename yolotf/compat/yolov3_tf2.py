"""Replaces `yolov3_tf2.utils` of zzh8829/yolov3-tf2."""

from __future__ import annotations

from yolotf import compat
from yolotf.files.paths import StrPath
from yolotf.interfaces import KerasModel


def load_darknet_weights(model: KerasModel, weights_file: StrPath, tiny: bool = False) -> None:
    """Loads `yolov3.weights` or `yolov3-tiny.weights` into `YoloV3()` or `YoloV3Tiny()`.

    Args:
        model: a model of either function, built for training or for inference.
        weights_file: a file with as many classes as the model.
        tiny: ignored, as the model determines it.

    Raises:
        AssertionError: the file does not match the model; raised as `WeightsMismatch`.
        OSError: the file cannot be read.
    """
    compat.load(model, weights_file)
