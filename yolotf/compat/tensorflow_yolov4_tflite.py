"""Replaces `core.utils` of hunglc007/tensorflow-yolov4-tflite and the projects made from it."""

from __future__ import annotations

from yolotf import compat
from yolotf.files.sources import StrPath
from yolotf.interfaces import KerasModel


def load_weights(
    model: KerasModel, weights_file: StrPath, model_name: str = "yolov4", is_tiny: bool = False
) -> None:
    """Loads a Darknet file into the model made of `YOLO(...)`.

    The old function stopped reading when all layers were filled, and so loaded garbage from a file
    with more classes than the model. This one refuses such a file.

    Args:
        model: a model of any of the four networks, also a second one in a process.
        weights_file: a file with as many classes as the model.
        model_name: ignored; it follows from the model.
        is_tiny: ignored; it follows from the model.

    Raises:
        ValueError: as `WeightsMismatch`: file and model do not belong together.
        OSError: the file cannot be read.
    """
    compat.load(model, weights_file)


def load_weights_v3(model: KerasModel, weights_file: StrPath) -> None:
    """`load_weights` under its name for YOLOv3 in older copies."""
    compat.load(model, weights_file)


def load_weights_tiny(model: KerasModel, weights_file: StrPath) -> None:
    """`load_weights` under its name for the tiny networks in older copies."""
    compat.load(model, weights_file)
