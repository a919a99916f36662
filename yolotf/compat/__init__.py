"""Drop-in replacements for the loading functions of older projects.

* zzh8829/yolov3-tf2: `yolov3_tf2.utils` becomes `yolotf.compat.yolov3_tf2`, with
  `load_darknet_weights`;
* hunglc007/tensorflow-yolov4-tflite and its forks: `core.utils` becomes
  `yolotf.compat.tensorflow_yolov4_tflite`, with `load_weights`;
* sicara/tf2-yolov4: `tf2_yolov4.tools.weights` becomes `yolotf.compat.tf2_yolov4`, with
  `load_darknet_weights_in_yolo`;
* hhk7734/tensorflow-yolov4: `yolov4.tf.weights` becomes `yolotf.compat.tensorflow_yolov4`, with
  `load_weights` and `save_weights`;
* pythonlessons/TensorFlow-2.x-YOLOv3: `yolov3.utils` becomes `yolotf.compat.yolov3_tf2x`, with
  `load_yolo_weights`.

They take the models of those projects, return what the old functions returned, and load the same
values into the same variables. Where the old functions failed, or silently loaded wrong weights,
they raise `yolotf.WeightsMismatch`, and no variable is changed. It is also an `AssertionError` and
a `ValueError`, which the old functions raised. The report of a load is logged to the logger
`yolotf` at level INFO, and its warnings at level WARNING, which Python prints by default.
"""

from __future__ import annotations

import logging
from typing import Any

from yolotf.files.paths import StrPath
from yolotf.loading.load import LoadReport, load_darknet_weights

logger = logging.getLogger("yolotf")


def load(model: Any, weights_file: StrPath, *, strict: bool = True) -> LoadReport:
    """Loads a file as the old functions do, with the layer order inferred from the model.

    Raises:
        WeightsMismatch: the file does not match the model.
        OSError: the file cannot be read.
    """
    report = load_darknet_weights(model, weights_file, strict=strict)
    logger.info("%s", report)
    for warning in report.warnings:
        logger.warning("%s: %s", report.path, warning)
    return report
