"""Replaces `core.utils` of hunglc007/tensorflow-yolov4-tflite and its forks."""

from __future__ import annotations

from yolotf import compat
from yolotf.files.paths import StrPath
from yolotf.interfaces import KerasModel


def load_weights(
    model: KerasModel, weights_file: StrPath, model_name: str = "yolov4", is_tiny: bool = False
) -> None:
    """Loads a Darknet file into the model made from `YOLO(...)`.

    The old function stopped reading when all layers were filled, and so loaded wrong values from a
    file with more classes than the model. This function refuses such a file.

    Args:
        model: a model of any of the four networks; several in one process are fine.
        weights_file: a file with as many classes as the model.
        model_name: ignored, as the model determines it.
        is_tiny: ignored, as the model determines it.

    Raises:
        ValueError: the file does not match the model; raised as `WeightsMismatch`.
        OSError: the file cannot be read.
    """
    compat.load(model, weights_file)


def load_weights_v3(model: KerasModel, weights_file: StrPath) -> None:
    """Calls `load_weights`, which older copies of the project name so for YOLOv3."""
    compat.load(model, weights_file)


def load_weights_tiny(model: KerasModel, weights_file: StrPath) -> None:
    """Calls `load_weights`, which older copies of the project name so for tiny networks."""
    compat.load(model, weights_file)
