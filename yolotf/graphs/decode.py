"""Decoding of raw heads to detections by Darknet's rules, in TensorFlow operations.

Everything here can be traced into a `tf.function`, for any batch size and for grids known only at
run time, and uses standard TensorFlow operations only. Boxes are center x, center y, width, height,
relative to the network's input or to the image (0..1), as in Darknet. Sources: AlexeyAB/darknet
src/yolo_layer.c, region_layer.c, gaussian_yolo_layer.c, detection_layer.c, box.c, network.c,
detector.c.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from yolotf._public import public
from yolotf.darknet.cfg import Head, Network
from yolotf.darknet.class_tree import Tree
from yolotf.darknet.decoding import (
    Suppression,
    check_heads,
    suppression_of,
    tree_of_heads,
)
from yolotf.graphs import raw_heads, tf_operations
from yolotf.graphs.letter_box import Size, letter_box_size, to_corners, undo_letter_box
from yolotf.graphs.raw_heads import Decoded
from yolotf.graphs.suppression import Batch, Candidates, suppress
from yolotf.interfaces import Tensor as Tensor

__all__ = [
    "Batch",
    "Candidates",
    "Decoded",
    "Suppression",
    "check_heads",
    "decode",
    "decode_head",
    "find_candidates",
    "find_detections",
    "letter_box_size",
    "refuse_xla",
    "suppress",
    "suppression_of",
    "to_corners",
    "undo_letter_box",
]


def decode_head(raw: Tensor, head: Head, input_size: Size, tree: Tree | None = None) -> Decoded:
    """Returns the boxes and probabilities of one head.

    Args:
        raw: [B, rows, columns, anchors * (coords + 1 + classes)], the output of the layer before
            the head; for each anchor x, y, width, height, objectness, classes. For `[detection]`
            any shape that flattens to the head's size.
        head: `[yolo]`, `[Gaussian_yolo]`, `[region]` or `[detection]`.
        input_size: (height, width) of the network's input in this call, which `[yolo]` anchors are
            relative to.
        tree: the class tree that the head names. Probabilities are then scores: the last class
            whose probability, multiplied by those of its ancestors, is above 0.5 has this product
            as its score, and all other classes have 0.

    Returns:
        `Decoded`, as in yolo_layer.c:131 and 662, gaussian_yolo_layer.c:134 and 412,
        region_layer.c:86 and 187, detection_layer.c:49 and 288.

    Raises:
        UnsupportedSectionError: the head has a class tree, and `tree` is None.
        ValueError: `raw` has the wrong number of channels.
    """
    raw = _checked(tf.convert_to_tensor(raw), head)
    grid = _grid(raw) if head.reads_channels else (head.rule.side, head.rule.side)
    return raw_heads.decode(tf.raw_ops, raw, head, grid, input_size, tree)


def find_candidates(
    raws: Sequence[Tensor] | Tensor,
    network: Network,
    input_size: Size,
    *,
    score_threshold: float | Tensor,
    image_sizes: Tensor | None = None,
    unwanted: Sequence[int] = (),
) -> Candidates:
    """Returns all (box, class) pairs that Darknet passes to suppression.

    Objectness and objectness * probability must both be above the threshold; for `[region]` and
    `[detection]` only the product (yolo_layer.c:1103-1116, network.c:892, detection_layer.c:288).
    Boxes below the threshold by objectness alone are not decoded, which keeps large grids cheap.

    Args:
        raws: raw heads in cfg order, as in `decode_head`; a single head may be passed without a
            list.
        network: the network of the heads.
        input_size: (height, width) of the network's input in this call.
        score_threshold: in [0, 1).
        image_sizes: [B, 2] int, (height, width) of the original images, or [1, 2] if all have the
            same size. If given, boxes are relative to these images (`letter_box` undone), else to
            the input.
        unwanted: classes to drop.

    Returns:
        Pairs in Darknet's order for each image: by head, row, column and anchor.
    """
    refuse_xla()
    threshold = tf.convert_to_tensor(score_threshold, tf.float32)
    pairs = list(zip(_raw_heads(raws, network), network.heads, strict=True))
    tree = tree_of_heads(network)
    parts = []
    for _, same_decoding in itertools.groupby(pairs, key=lambda pair: pair[1].decoding_key):
        group = list(same_decoding)
        pictures, decoded = _decode_above(group, input_size, threshold, tree)
        scores = decoded.probabilities  # with a class tree these are scores already
        if tree is None:
            scores = decoded.objectness[:, None] * scores
        counts = scores > threshold
        if unwanted:
            counts &= ~np.isin(np.arange(group[0][1].classes), list(unwanted))
        index = _true_indices(counts)
        classes = max(1, group[0][1].classes)
        row = index // classes
        parts.append(
            Candidates(
                tf.gather(pictures, row),
                tf.gather(decoded.boxes, row),
                tf.cast(index % classes, tf.int32),
                tf.gather(tf.reshape(scores, [-1]), index),
            )
        )
    candidates = parts[0]
    if len(parts) > 1:
        candidates = Candidates(*(tf.concat(columns, 0) for columns in zip(*parts, strict=True)))
    if image_sizes is None or not network.letter_box:
        return candidates
    if image_sizes.shape[0] != 1:
        image_sizes = tf.gather(image_sizes, candidates.pictures)
    boxes = undo_letter_box(candidates.boxes, image_sizes, input_size)
    return candidates._replace(boxes=boxes)


@public
def decode(
    raws: Sequence[Tensor] | Tensor,
    network: Network,
    input_size: Size,
    *,
    score_threshold: float | Tensor,
    iou_threshold: float | Tensor,
    max_boxes: int,
    image_sizes: Tensor | None = None,
    suppression: Suppression | None = None,
    agnostic: bool = False,
    unwanted: Sequence[int] = (),
) -> Batch:
    """Returns the detections of raw heads: decodes, thresholds and suppresses as Darknet does.

    Letter boxes are undone before suppression, as in Darknet, so the center distance of `greedynms`
    and `diounms` depends on the image's proportions.

    Args:
        raws: raw heads in cfg order, as in `decode_head`; a single head may be passed without a
            list.
        network: the network of the heads.
        input_size: (height, width) of the network's input in this call.
        score_threshold: in [0, 1).
        iou_threshold: of boxes of one class that overlap more (IoU), only the best is kept.
        max_boxes: largest number of detections per image; the best are kept.
        image_sizes: see `find_candidates`.
        suppression: replaces the network's own rule; Darknet's Python interface, for example,
            always uses `default`.
        agnostic: suppress overlapping boxes of different classes too.
        unwanted: classes to drop; their boxes suppress nothing.

    Returns:
        `Batch`, boxes relative to the images.

    Raises:
        ValueError: XLA compiles the function that is being traced (`jit_compile=True`).
    """
    raws = _raw_heads(raws, network)
    with tf_operations.outside_of_xla():
        candidates = find_candidates(
            raws,
            network,
            input_size,
            score_threshold=score_threshold,
            image_sizes=image_sizes,
            unwanted=unwanted,
        )
        static_batch = raws[0].shape[0]
        return suppress(
            candidates,
            tf.shape(raws[0])[0] if static_batch is None else static_batch,
            suppression or suppression_of(network),
            iou_threshold=iou_threshold,
            max_boxes=max_boxes,
            agnostic=agnostic,
        )


find_detections = decode
"""Former name of `decode`."""


def refuse_xla() -> None:
    """Raises in a function that XLA compiles.

    XLA computes wrong indices for a `tf.where` of a tensor whose size comes from another `tf.where`
    (TensorFlow 2.21): here, of the scores of the boxes that are above the threshold.

    Raises:
        ValueError: the function has `jit_compile=True`, or runs on a TPU.
    """
    if tf_operations.is_compiled_by_xla():
        raise ValueError(  # AutoGraph keeps the type of Python's own errors only
            "XLA would compute wrong boxes, as it cannot select from boxes it has selected; leave "
            "the detection out of the function with jit_compile=True, and compile the network alone"
        )


def _raw_heads(raws: Sequence[Tensor] | Tensor, network: Network) -> list[Tensor]:
    """Returns a list of raw heads; a Keras model with one head outputs it without a list."""
    outputs = list(raws) if isinstance(raws, list | tuple) else [raws]
    if len(outputs) != len(network.heads):
        raise ValueError(f"{len(outputs)} raw outputs for {len(network.heads)} heads")
    return [tf.convert_to_tensor(raw) for raw in outputs]


def _checked(raw: Tensor, head: Head) -> Tensor:
    """Returns a raw head as float32 after checking its number of channels."""
    raw = tf.cast(raw, tf.float32)
    if not head.reads_channels:
        return raw
    channels = head.filters_for(head.classes)
    if raw.shape.rank != 4 or raw.shape[-1] != channels:
        raise ValueError(
            f"section {head.index} [{head.type}] takes [batch, rows, columns, {channels}], "
            f"not {raw.shape}"
        )
    return raw


def _grid(raw: Tensor) -> Size:
    """Returns rows and columns, as ints if they are static."""
    if None not in raw.shape[1:3]:
        return raw.shape[1], raw.shape[2]
    return tf.unstack(tf.shape(raw)[1:3], 2)


def _decode_above(
    pairs: Sequence[tuple[Tensor, Head]],
    input_size: Size,
    threshold: Tensor,
    tree: Tree | None = None,
) -> tuple[Tensor, Decoded]:
    """Returns the boxes that may be above `threshold`, without the batch axis, and their images.

    Heads are only filtered by objectness if it limits the score; for other heads, a class value can
    be above 1.

    Args:
        pairs: raw tensors and their heads, all with one `decoding_key`.
        input_size: see `decode_head`.
        threshold: for scores.
        tree: the class tree.
    """
    raw, head = pairs[0]
    if not head.objectness_limits:
        decoded = decode_head(raw, head, input_size)
        count = tf.shape(decoded.objectness)[1]
        pictures = tf.repeat(tf.range(tf.shape(decoded.objectness)[0]), count)
        return pictures, Decoded(
            tf.reshape(decoded.boxes, [-1, 4]),
            tf.reshape(decoded.objectness, [-1]),
            # Not -1, which cannot be inferred if there are no classes.
            tf.reshape(decoded.probabilities, [tf.size(decoded.objectness), head.classes]),
        )
    checked = [_checked(raw, head) for raw, head in pairs]
    grids = [_grid(raw) for raw in checked]
    rows = _joined(
        [
            raw_heads.rows_of(tf.raw_ops, raw, other, grid)
            for raw, (_, other), grid in zip(checked, pairs, grids, strict=True)
        ],
        1,
    )
    boxes = tf.shape(rows, tf.int64)[1] if rows.shape[1] is None else rows.shape[1]
    objectness = raw_heads.objectness_of(tf.raw_ops, rows[:, :, head.coords], head)
    above = _true_indices(objectness > threshold)
    rows = tf.gather(tf.reshape(rows, [-1, rows.shape[2]]), above)
    places = [
        raw_heads.places(tf.raw_ops, other, grid, input_size)
        for (_, other), grid in zip(pairs, grids, strict=True)
    ]
    # Constants are joined into one constant.
    table = np.concatenate(places) if isinstance(places[0], np.ndarray) else _joined(places, 0)
    table = tf.gather(table, above % boxes)
    decoded = raw_heads.decode_rows(tf.raw_ops, rows, table, head, tree)
    return tf.cast(above // boxes, tf.int32), decoded


def _true_indices(values: Tensor) -> Tensor:
    """Returns the flat (row-major) indices of the True values, [M] int64.

    Gathering with them uses a single axis: TensorFlow.js returns an invalid tensor for a gather
    along several axes without rows.
    """
    return tf.reshape(tf.where(tf.reshape(values, [-1])), [-1])


def _joined(tensors: Sequence[Tensor], axis: int) -> Tensor:
    return tensors[0] if len(tensors) == 1 else tf.concat(tensors, axis)
