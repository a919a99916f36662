"""Non-maximum suppression."""

from __future__ import annotations

import numpy as np

from yolotf.onnx.operations.writer import Operations
from yolotf.onnx.proto import Dim
from yolotf.onnx.tensors import Tensor, Value


def suppress(
    ops: Operations, boxes: Tensor, scores: Tensor, max_boxes: int, iou: float, score: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Writes greedy non-maximum suppression for each class of each image.

    Args:
        ops: where to write the operations.
        boxes: [batch, boxes, 4], corners.
        scores: [batch, boxes, classes].
        max_boxes: largest number of boxes for each class of an image.
        iou: of boxes that overlap more, only the best is kept.
        score: only boxes with a higher score are kept.

    Returns:
        [detections, 4] boxes, [detections] scores, int64 classes and int64 image indices, sorted
        by image, class and descending score.
    """
    by_class = ops.in_order(scores, (0, 2, 1))
    inputs = [
        ops.in_order(boxes, (0, 1, 2)),
        by_class,
        ops.integers([max_boxes]),
        ops.constant(np.array([iou], np.float32)),
        ops.constant(np.array([score], np.float32)),
    ]
    (selected,) = ops.write("NonMaxSuppression", inputs, dtype="int64")

    def columns(*numbers: int) -> Value:
        return ops.write("Gather", [selected, ops.integers(numbers)], dtype="int64", axis=1)[0]

    count: Dim = "detections"
    (kept_boxes,) = ops.write("GatherND", [inputs[0], columns(0, 2)])
    (kept_scores,) = ops.write("GatherND", [by_class, columns(0, 1, 2)])
    classes, image_indices = (
        ops.reshaped(columns(number), (count, 1), (count,)) for number in (1, 0)
    )
    return (
        Tensor(kept_boxes, (count, 4), (0, 1)),
        Tensor(kept_scores, (count,), (0,)),
        Tensor(classes, (count,), (0,)),
        Tensor(image_indices, (count,), (0,)),
    )
