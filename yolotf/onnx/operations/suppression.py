"""Suppression of overlapping boxes."""

from __future__ import annotations

import numpy as np

from yolotf.onnx.operations.writer import Operations
from yolotf.onnx.proto import Dim
from yolotf.onnx.tensors import Tensor, Value


def suppress(
    ops: Operations, boxes: Tensor, scores: Tensor, most: int, iou: float, score: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Greedy suppression by overlap, picture by picture and class by class.

    Args:
        ops: where to write it.
        boxes: [batch, boxes, 4], corners.
        scores: [batch, boxes, classes].
        most: boxes of a class and picture that stay.
        iou: boxes that overlap more exclude each other.
        score: what is not above it is left out.

    Returns:
        [detections, 4] boxes, [detections] scores, int64 classes and int64 pictures: by
        picture, then class, the best first.
    """
    by_class = ops.in_order(scores, (0, 2, 1))
    inputs = [
        ops.in_order(boxes, (0, 1, 2)),
        by_class,
        ops.integers([most]),
        ops.constant(np.array([iou], np.float32)),
        ops.constant(np.array([score], np.float32)),
    ]
    (chosen,) = ops.write("NonMaxSuppression", inputs, dtype="int64")

    def columns(*wanted: int) -> Value:
        return ops.write("Gather", [chosen, ops.integers(wanted)], dtype="int64", axis=1)[0]

    count: Dim = "detections"
    (kept,) = ops.write("GatherND", [inputs[0], columns(0, 2)])
    (its_scores,) = ops.write("GatherND", [by_class, columns(0, 1, 2)])
    classes, pictures = (ops.viewed(columns(place), (count, 1), (count,)) for place in (1, 0))
    return (
        Tensor(kept, (count, 4), (0, 1)),
        Tensor(its_scores, (count,), (0,)),
        Tensor(classes, (count,), (0,)),
        Tensor(pictures, (count,), (0,)),
    )
