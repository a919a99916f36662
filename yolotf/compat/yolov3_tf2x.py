"""Replaces `yolov3.utils` of pythonlessons/TensorFlow-2.x-YOLOv3."""

from __future__ import annotations

from yolotf import compat
from yolotf.files.paths import StrPath
from yolotf.interfaces import KerasModel


def load_yolo_weights(model: KerasModel, weights_file: StrPath) -> None:
    """Loads a Darknet file into the model of `Create_Yolo(...)`.

    The old function took the network from the project's configuration, and cleared the Keras
    session so that the layer names of the next model started at `conv2d` again. Neither is needed
    here.

    Args:
        model: a model of any of the four networks.
        weights_file: a file with as many classes as the model.

    Raises:
        AssertionError: the file does not match the model; raised as `WeightsMismatch`.
        OSError: the file cannot be read.
    """
    compat.load(model, weights_file)
