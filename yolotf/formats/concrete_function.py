"""The model as a single graph of standard operations, for SavedModel and TensorFlow Lite."""

from __future__ import annotations

from typing import Any

from yolotf.darknet.graph_checks import check_stateless
from yolotf.formats.request import ConversionInput
from yolotf.graphs import raw_heads
from yolotf.models.variables import plain
from yolotf.onnx.model import Suppression


def traced(conversion: ConversionInput, *, batch_size: int | None) -> tuple[Any, Any]:
    """Returns a module with the model's variables, and its function from `images` to the outputs.

    The outputs are `output_0`, `output_1`, ...: the raw heads. With `decode` they are `boxes`
    [batch, boxes, 4] (left, top, right, bottom, relative to the input) and `scores` [batch, boxes,
    classes], for all boxes of all heads in cfg order, before thresholding and suppression. With
    `suppression` they are the outputs of `suppressed`.
    """
    check_stateless(
        conversion.network,
        "an exported graph is stateless; convert to .onnx, .keras or .safetensors",
    )
    import tensorflow as tf  # imported lazily: needed only while converting

    module = tf.Module()
    module.stored = [plain(variable) for variable in conversion.model.variables]

    def outputs(images: Any) -> dict[str, Any]:
        raws = conversion.model(images, training=False)
        raws = list(raws) if isinstance(raws, list | tuple) else [raws]
        if conversion.options.decode:
            if conversion.options.reverse_outputs:
                raws = raws[::-1]
            decoded_outputs = decoded(raws, conversion.network, images)
            if conversion.options.suppression is not None:
                return suppressed(**decoded_outputs, suppression=conversion.options.suppression)
            return decoded_outputs
        return {f"output_{number}": raw for number, raw in enumerate(raws)}

    shape = [batch_size, *conversion.model.inputs[0].shape[1:]]
    module.answer = tf.function(
        outputs, input_signature=[tf.TensorSpec(shape, tf.float32, "images")], autograph=False
    )
    return module, module.answer


def decoded(raws: list[Any], network: Any, images: Any) -> dict[str, Any]:
    """Decodes raw heads into the boxes and scores that `traced` describes."""
    import tensorflow as tf  # imported lazily: needed only while converting

    size = tuple(images.shape[1:3])
    if None in size:
        size = tuple(tf.unstack(tf.shape(images)[1:3]))
    grids = [raw.shape[1:3].as_list() for raw in raws]
    grids = [
        grid if None not in grid else tf.unstack(tf.shape(raw)[1:3])
        for raw, grid in zip(raws, grids, strict=True)
    ]
    boxes, scores = raw_heads.corners_and_scores(tf.raw_ops, raws, network, grids, size)
    return {"boxes": boxes, "scores": scores}


def suppressed(boxes: Any, scores: Any, suppression: Suppression) -> dict[str, Any]:
    """Returns the four outputs of TensorFlow Lite's detection models, as its samples expect them.

    Each box gets its most likely class; suppression works within each class.

    Args:
        boxes: [1, boxes, 4]: left, top, right, bottom, relative to the input.
        scores: [1, boxes, classes].
        suppression: the thresholds and the maximum number of detections.

    Returns:
        `locations` [1, max_boxes, 4] (top, left, bottom, right), `classes` and `scores`
        [1, max_boxes], all float32 and zero-padded after the last detection; `count` [1] float32.
    """
    import tensorflow as tf  # imported lazily: needed only while converting

    max_boxes = suppression.max_boxes
    locations = tf.gather(boxes[0], [1, 0, 3, 2], axis=1)
    best = tf.reduce_max(scores[0], axis=1)
    classes = tf.cast(tf.argmax(scores[0], axis=1, output_type=tf.int32), tf.float32)
    # Shifted apart by class, so that boxes of different classes never overlap.
    separated = locations + _CLASS_OFFSET * classes[:, None]
    selected, count = tf.raw_ops.NonMaxSuppressionV4(
        boxes=separated,
        scores=best,
        max_output_size=max_boxes,
        iou_threshold=suppression.iou,
        score_threshold=suppression.score,
        pad_to_max_output_size=True,
    )
    present = tf.cast(tf.range(max_boxes) < count, tf.float32)
    return {
        "locations": (tf.gather(locations, selected) * present[:, None])[None],
        "classes": (tf.gather(classes, selected) * present)[None],
        "scores": (tf.gather(best, selected) * present)[None],
        "count": tf.cast(count, tf.float32)[None],
    }


_CLASS_OFFSET = 4.0
"""In input widths; a box extends at most half of that beyond the image."""
