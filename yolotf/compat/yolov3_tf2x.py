"""In place of `yolov3.utils` of pythonlessons/TensorFlow-2.x-YOLOv3."""

from __future__ import annotations

from typing import Any

from yolotf import compat
from yolotf.files.sources import StrPath


def load_yolo_weights(model: Any, weights_file: StrPath) -> None:
    """Loads a Darknet file into the model of `Create_Yolo(...)`.

    The old function asked the project's configuration which network the model is, and cleared
    the Keras session so that the names of the next model would begin at `conv2d` again. Neither
    is needed here, nor done.

    Args:
        model: of any of the four networks.
        weights_file: with as many classes as the model.

    Raises:
        AssertionError: as `WeightsMismatch`: file and model do not belong together.
        OSError: the file cannot be read.
    """
    compat.load(model, weights_file)
