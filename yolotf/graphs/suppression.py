"""Non-maximum suppression by Darknet's rules, in TensorFlow operations; see `decode`."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from yolotf.darknet.decoding import GREEDY_BETA, Suppression
from yolotf.interfaces import Tensor

_TILE = 128


class Candidates(NamedTuple):
    """(box, class) pairs above the score threshold; a box may occur with several classes."""

    pictures: Tensor
    """[M] int32: index of the image in the batch."""
    boxes: Tensor
    """[M, 4] float32."""
    classes: Tensor
    """[M] int32."""
    scores: Tensor
    """[M] float32: objectness times class probability."""


class Batch(NamedTuple):
    """Detections of a batch, best first, padded with zeros after `counts` rows."""

    boxes: Tensor
    """[B, max_boxes, 4] float32."""
    scores: Tensor
    """[B, max_boxes] float32."""
    classes: Tensor
    """[B, max_boxes] int32."""
    counts: Tensor
    """[B] int32: number of detections of each image."""


def suppress(
    candidates: Candidates,
    batch: int | Tensor,
    suppression: Suppression,
    *,
    iou_threshold: float | Tensor,
    max_boxes: int,
    agnostic: bool = False,
) -> Batch:
    """Runs greedy non-maximum suppression for each class of each image.

    The result equals do_nms_sort (box.c:812) or diounms_sort (box.c:868): of each class the best
    box is kept, the boxes it suppresses are removed, then the best of the rest is kept, and so on.
    `default` compares the overlap, `greedynms` the overlap minus (center distance / diagonal) to
    the power of 0.6, `diounms` the same with `beta` as the power.

    Candidates are processed in tiles of decreasing score. Boxes kept from earlier tiles suppress
    boxes of the tile; within the tile, `alive = not suppressed by an alive box` is iterated to its
    fixed point, which is the greedy result and is reached after at most as many iterations as the
    longest chain of suppressions. Processing stops once every image has `max_boxes`.

    Args:
        candidates: in any order, which decides between equal scores.
        batch: number of images.
        suppression: the rule.
        iou_threshold: an overlap strictly above it suppresses.
        max_boxes: number of rows for each image in the result.
        agnostic: suppress overlapping boxes of different classes too.
    """
    threshold = tf.convert_to_tensor(iou_threshold, tf.float32)
    by_score = _descending(candidates.scores)
    order = tf.gather(by_score, _descending(-tf.gather(candidates.pictures, by_score)))
    # TensorFlow.js lacks the segment sums.
    of_image = candidates.pictures == tf.range(batch)[:, None]
    counts = tf.reduce_sum(tf.cast(of_image, tf.int32), 1, keepdims=True)
    starts = tf.cumsum(counts, exclusive=True)
    # A row of zeros at the end, read at indices past an image's last candidate.
    blank = tf.size(order)
    sorted_boxes = tf.pad(tf.gather(candidates.boxes, order), [[0, 1], [0, 0]])
    sorted_classes = tf.pad(tf.gather(candidates.classes, order), [[0, 1]])
    # A kept box may suppress any box of the tile, and a box of the tile any later one.
    earlier = tf.range(max_boxes + _TILE)[:, None] < tf.range(max_boxes, max_boxes + _TILE)

    def unfinished(start: Tensor, kept: Tensor) -> Tensor:
        return tf.reduce_any((counts > start) & (kept[:, -1:] == blank))

    def take_tile(start: Tensor, kept: Tensor) -> tuple[Tensor, ...]:
        rank = start + tf.range(_TILE)
        tile = tf.where(rank < counts, starts + rank, blank)
        kept_and_tile = tf.concat([kept, tile], 1)
        boxes = tf.gather(sorted_boxes, kept_and_tile)
        classes = tf.gather(sorted_classes, kept_and_tile)
        measure = _overlap(boxes[:, :, None], boxes[:, None, max_boxes:], suppression)
        excludes = (measure > threshold) & earlier
        if not agnostic:
            excludes &= classes[:, :, None] == classes[:, None, max_boxes:]
        is_box = kept_and_tile < blank

        def survivors(alive: Tensor) -> Tensor:
            remaining = ~tf.reduce_any(excludes & alive[:, :, None], 1)
            return is_box & tf.concat([tf.ones_like(kept, tf.bool), remaining], 1)

        _, alive = tf.while_loop(
            lambda before, now: tf.reduce_any(before != now),
            lambda before, now: (now, survivors(now)),
            (is_box, survivors(is_box)),
        )
        # Indices rise as scores fall, so the lowest are the best.
        lowest, _ = tf.math.top_k(-tf.where(alive, kept_and_tile, blank), max_boxes)
        return start + _TILE, -lowest

    _, kept = tf.while_loop(
        unfinished,
        take_tile,
        (tf.constant(0), tf.fill([batch, max_boxes], blank)),
    )
    return Batch(
        tf.gather(sorted_boxes, kept),
        tf.gather(tf.pad(tf.gather(candidates.scores, order), [[0, 1]]), kept),
        tf.gather(sorted_classes, kept),
        tf.math.count_nonzero(kept < blank, 1, dtype=tf.int32),
    )


def _descending(values: Tensor) -> Tensor:
    """Returns the indices that sort `values` in descending order; the sort is stable."""
    return tf.math.top_k(values, tf.size(values)).indices


def _overlap(a: Tensor, b: Tensor, suppression: Suppression) -> Tensor:
    """Returns the value compared with `iou_threshold` (box_iou, box_diou..., box.c:163-230)."""
    centre_a, size_a = tf.split(a, 2, -1)
    centre_b, size_b = tf.split(b, 2, -1)
    low_a, high_a = centre_a - size_a / 2.0, centre_a + size_a / 2.0
    low_b, high_b = centre_b - size_b / 2.0, centre_b + size_b / 2.0
    side = tf.nn.relu(tf.minimum(high_a, high_b) - tf.maximum(low_a, low_b))
    intersection = tf.reduce_prod(side, -1)
    union = tf.reduce_prod(size_a, -1) + tf.reduce_prod(size_b, -1) - intersection
    iou = tf.math.divide_no_nan(intersection, union)
    if suppression.kind == "default":
        return iou
    beta = GREEDY_BETA if suppression.kind == "greedynms" else suppression.beta
    diagonal = tf.reduce_sum(tf.square(tf.maximum(high_a, high_b) - tf.minimum(low_a, low_b)), -1)
    distance = tf.reduce_sum(tf.square(centre_a - centre_b), -1)
    return iou - tf.pow(tf.math.divide_no_nan(distance, diagonal), beta)
