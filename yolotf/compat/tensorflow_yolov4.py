"""In place of `yolov4.tf.weights` of hhk7734/tensorflow-yolov4 (version 2).

The method `YOLOv4.load_weights(path, weights_type="yolo")` becomes
`load_weights(yolo.model, path)`.
"""

from __future__ import annotations

from typing import Any

from yolotf import compat
from yolotf.files.sources import StrPath
from yolotf.loading.save import save_darknet_weights

_SEEN = 32_032_000
"""The picture count that the old function wrote into every file."""


def load_weights(model: Any, weights_file: StrPath, tiny: bool = False) -> bool:
    """Loads a Darknet file into `YOLOv4` or `YOLOv4Tiny`, or the first layers from a shorter one.

    Args:
        model: after `make_model()`.
        weights_file: with as many classes as the model, or one that ends after some layer,
            such as `yolov4.conv.137`.
        tiny: not needed; the model says what it is.

    Returns:
        Whether the file went to the end of the model.

    Raises:
        ValueError: as `WeightsMismatch`: file and model do not belong together.
        OSError: the file cannot be read.
    """
    report = compat.load(model, weights_file, strict=False)
    return not report.untouched


def save_weights(model: Any, weights_file: StrPath, tiny: bool = False) -> None:
    """Writes a Darknet file of the model, with the header that the old function wrote.

    Args:
        model: after `make_model()`.
        weights_file: where to; it appears when it is complete.
        tiny: not needed; the model says what it is.

    Raises:
        OSError: the file cannot be written; an old one is as it was.
    """
    save_darknet_weights(model, weights_file, seen=_SEEN, version=(0, 2, 5))
