"""Replaces `yolov4.tf.weights` of hhk7734/tensorflow-yolov4 (version 2).

The method `YOLOv4.load_weights(path, weights_type="yolo")` becomes
`load_weights(yolo.model, path)`.
"""

from __future__ import annotations

from yolotf import compat
from yolotf.files.paths import StrPath
from yolotf.interfaces import KerasModel
from yolotf.loading.save import save_darknet_weights

_SEEN = 32_032_000
"""The number of images seen that the old function wrote into every file."""


def load_weights(model: KerasModel, weights_file: StrPath, tiny: bool = False) -> bool:
    """Loads a Darknet file into `YOLOv4` or `YOLOv4Tiny`; a shorter file into the first layers.

    Args:
        model: the model, after `make_model()`.
        weights_file: a file with as many classes as the model, or a backbone file such as
            `yolov4.conv.137`.
        tiny: ignored, as the model determines it.

    Returns:
        Whether the file has weights for all layers.

    Raises:
        ValueError: the file does not match the model; raised as `WeightsMismatch`.
        OSError: the file cannot be read.
    """
    report = compat.load(model, weights_file, strict=False)
    return not report.untouched


def save_weights(model: KerasModel, weights_file: StrPath, tiny: bool = False) -> None:
    """Writes the model as a Darknet file, with the header that the old function wrote.

    Args:
        model: the model, after `make_model()`.
        weights_file: the file to write, written atomically.
        tiny: ignored, as the model determines it.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.
    """
    save_darknet_weights(model, weights_file, seen=_SEEN, version=(0, 2, 5))
