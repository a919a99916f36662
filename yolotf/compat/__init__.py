"""The loading functions of older projects, by their names and signatures.

* zzh8829/yolov3-tf2: `yolov3_tf2.utils` becomes `yolotf.compat.yolov3_tf2`, with
  `load_darknet_weights`;
* hunglc007/tensorflow-yolov4-tflite and the projects made from it: `core.utils` becomes
  `yolotf.compat.tensorflow_yolov4_tflite`, with `load_weights`;
* sicara/tf2-yolov4: `tf2_yolov4.tools.weights` becomes `yolotf.compat.tf2_yolov4`, with
  `load_darknet_weights_in_yolo`;
* hhk7734/tensorflow-yolov4: `yolov4.tf.weights` becomes `yolotf.compat.tensorflow_yolov4`, with
  `load_weights` and `save_weights`;
* pythonlessons/TensorFlow-2.x-YOLOv3: `yolov3.utils` becomes `yolotf.compat.yolov3_tf2x`, with
  `load_yolo_weights`.

They take the projects' own models, return what the old functions returned, and fill the same
variables with the same bits. Where the old ones failed or loaded something wrong without a word,
they raise `yolotf.WeightsMismatch`, which is the `AssertionError` and the `ValueError` that the
old ones raised at best. No variable is changed then. What a load did is logged to the logger
`yolotf`, at level INFO.
"""

from __future__ import annotations

import logging
from typing import Any

from yolotf.files.sources import StrPath
from yolotf.loading.load import LoadReport, load_darknet_weights

logger = logging.getLogger("yolotf")


def load(model: Any, weights_file: StrPath, *, strict: bool = True) -> LoadReport:
    """Loads as all the old functions do: the order of the layers is found in the model.

    Raises:
        WeightsMismatch: file and model do not belong together.
        OSError: the file cannot be read.
    """
    report = load_darknet_weights(model, weights_file, strict=strict)
    logger.info("%s", report)
    return report
