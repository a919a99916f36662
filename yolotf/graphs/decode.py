"""Raw head -> boxes, and non-maximum suppression, by Darknet's rules in TensorFlow operations.

Everything here traces into a `tf.function`, for any batch and for grids known only at run
time, and consists of standard TensorFlow operations only. Boxes are `x, y, width, height`
with the centre first, relative to the network's input or to the picture (0..1), as Darknet
keeps them. Sources: AlexeyAB/darknet src/yolo_layer.c, region_layer.c, gaussian_yolo_layer.c,
detection_layer.c, box.c, network.c, detector.c.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from yolotf.darknet.cfg import Detection, Head, Network, Region, Yolo
from yolotf.darknet.class_tree import Tree
from yolotf.darknet.decoding import (
    GREEDY_BETA,
    TREE_LIMIT,
    Suppression,
    check_heads,
    has_class_fix,
    suppression_of,
    tree_of_heads,
    yolo_point,
)
from yolotf.errors import UnsupportedSectionError
from yolotf.graphs import operations

__all__ = [
    "Batch",
    "Candidates",
    "Decoded",
    "Suppression",
    "check_heads",
    "decode_head",
    "find_candidates",
    "find_detections",
    "letter_box_size",
    "suppress",
    "suppression_of",
    "to_corners",
    "undo_letter_box",
]

Tensor = Any
Size = Any
"""`(height, width)`: two ints, or two scalar int tensors."""

_TILE = 128


class Decoded(NamedTuple):
    """Every box of one head; N counts rows, then columns, then anchors, as Darknet does."""

    boxes: Tensor
    """[B, N, 4] float32: centre x, y, width, height relative to the network's input."""
    objectness: Tensor
    """[B, N] float32."""
    probabilities: Tensor
    """[B, N, C] float32: the classes' own, not yet multiplied by `objectness`."""


class Candidates(NamedTuple):
    """(box, class) pairs above the score threshold; a box may occur with several classes."""

    pictures: Tensor
    """[M] int32: which picture of the batch."""
    boxes: Tensor
    """[M, 4] float32."""
    classes: Tensor
    """[M] int32."""
    scores: Tensor
    """[M] float32: objectness times class probability."""


class Batch(NamedTuple):
    """Detections of a batch, best first, padded with zeros behind `counts`."""

    boxes: Tensor
    """[B, max_boxes, 4] float32."""
    scores: Tensor
    """[B, max_boxes] float32."""
    classes: Tensor
    """[B, max_boxes] int32."""
    counts: Tensor
    """[B] int32: how many rows of each picture are detections."""


def decode_head(raw: Tensor, head: Head, input_size: Size, tree: Tree | None = None) -> Decoded:
    """Boxes and probabilities of one head.

    Args:
        raw: [B, rows, columns, anchors * (coords + 1 + classes)], what the layer before the
            head puts out; for each anchor x, y, width, height, objectness, classes. For
            `[detection]` anything that flattens to the head's numbers.
        head: `[yolo]`, `[Gaussian_yolo]`, `[region]` or `[detection]`.
        input_size: (height, width) of the picture the network saw, which `[yolo]` anchors
            are relative to.
        tree: the class tree that the head names. The probabilities are then scores: that of the
            last class that is above a half, with all above it, and 0 for all others.

    Returns:
        `Decoded`, by yolo_layer.c:131 and 662, gaussian_yolo_layer.c:134 and
        412, region_layer.c:86 and 187, detection_layer.c:49 and 288.

    Raises:
        UnsupportedSectionError: the head has a class tree, and it is not given.
        ValueError: `raw` has another number of channels than the head takes.
    """
    raw = tf.convert_to_tensor(raw)
    if isinstance(head, Detection):
        return _decode_detection(raw, head)
    rows = _rows(raw, head)
    return _decode_rows(rows, _places(head, _grid(raw), input_size), head, tree)


def find_candidates(
    raws: Sequence[Tensor] | Tensor,
    network: Network,
    input_size: Size,
    *,
    score_threshold: float | Tensor,
    image_sizes: Tensor | None = None,
    unwanted: Sequence[int] = (),
) -> Candidates:
    """All (box, class) pairs Darknet lists before suppression.

    A pair counts if objectness and objectness * probability are both above the threshold;
    `[region]` and `[detection]` look at the product only (yolo_layer.c:1103-1116,
    network.c:892, detection_layer.c:288). Boxes whose objectness rules them out are not
    decoded, which makes this cheap for large grids.

    Args:
        raws: raw heads in cfg order, as `decode_head` takes them; a single one may come
            without its list.
        network: whose heads these are.
        input_size: (height, width) of what the network saw.
        score_threshold: in [0, 1).
        image_sizes: [B, 2] int, (height, width) of the pictures the input was made from, or
            [1, 2] if all have one size. With it boxes are relative to those pictures
            (`letter_box` undone), else to the input.
        unwanted: classes to leave out.

    Returns:
        Pairs in Darknet's order for each picture: by head, then by row, column and anchor.
    """
    threshold = tf.convert_to_tensor(score_threshold, tf.float32)
    pairs = list(zip(_raw_heads(raws, network), network.heads, strict=True))
    tree = tree_of_heads(network)
    parts = []
    for _, of_one_kind in itertools.groupby(pairs, key=lambda pair: _kind(pair[1])):
        group = list(of_one_kind)
        pictures, decoded = _likely(group, input_size, threshold, tree)
        scores = decoded.probabilities  # of a tree they are the scores
        if tree is None:
            scores = decoded.objectness[:, None] * scores
        counts = scores > threshold
        if unwanted:
            counts &= ~np.isin(np.arange(group[0][1].classes), list(unwanted))
        place = _true_places(counts)
        classes = max(1, group[0][1].classes)
        row = place // classes
        parts.append(
            Candidates(
                tf.gather(pictures, row),
                tf.gather(decoded.boxes, row),
                tf.cast(place % classes, tf.int32),
                tf.gather(tf.reshape(scores, [-1]), place),
            )
        )
    found = parts[0]
    if len(parts) > 1:
        found = Candidates(*(tf.concat(columns, 0) for columns in zip(*parts, strict=True)))
    if image_sizes is None or not network.letter_box:
        return found
    if image_sizes.shape[0] != 1:
        image_sizes = tf.gather(image_sizes, found.pictures)
    return found._replace(boxes=undo_letter_box(found.boxes, image_sizes, input_size))


def find_detections(
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
    """Raw heads to detections: decode, threshold and suppress as Darknet's detector does.

    Suppression follows the correction of letter-boxed boxes, as in Darknet: the centre
    distance of `greedynms` and `diounms` depends on the picture's proportions.

    Args:
        raws: raw heads in cfg order, as `decode_head` takes them; a single one may come
            without its list.
        network: whose heads these are.
        input_size: (height, width) of what the network saw.
        score_threshold: in [0, 1).
        iou_threshold: boxes of one class overlapping more than this exclude each other.
        max_boxes: detections kept per picture, the best ones.
        image_sizes: see `find_candidates`.
        suppression: used in place of the network's own rule; Darknet's Python interface, for
            one, always suppresses by `default`.
        agnostic: boxes of different classes exclude each other, too.
        unwanted: classes to leave out; their boxes exclude none.

    Returns:
        `Batch`, boxes relative to the pictures.
    """
    raws = _raw_heads(raws, network)
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


def suppress(
    candidates: Candidates,
    batch: int | Tensor,
    suppression: Suppression,
    *,
    iou_threshold: float | Tensor,
    max_boxes: int,
    agnostic: bool = False,
) -> Batch:
    """Greedy non-maximum suppression, class by class and picture by picture.

    The result is that of do_nms_sort (box.c:812) or diounms_sort (box.c:868): of each class
    the best box stays, boxes it excludes go, then the best of what is left, and so on.
    `default` excludes by overlap, `greedynms` by overlap minus (centre distance / diagonal)
    to the power 0.6, `diounms` likewise with `beta`.

    Candidates are taken in tiles of falling score. A tile loses what the boxes kept so far
    exclude; within it, `alive = not excluded by an alive one` is repeated until nothing
    changes, which is the greedy answer after as many rounds as the longest chain. It stops
    when every picture has its `max_boxes`.

    Args:
        candidates: in any order; equal scores keep it.
        batch: number of pictures.
        suppression: the rule.
        iou_threshold: exclusion is strictly above it.
        max_boxes: rows of the result for each picture.
        agnostic: not class by class: boxes of different classes exclude each other, too.
    """
    threshold = tf.convert_to_tensor(iou_threshold, tf.float32)
    by_score = _descending(candidates.scores)
    order = tf.gather(by_score, _descending(-tf.gather(candidates.pictures, by_score)))
    # Not a sum by segments, which TensorFlow.js lacks.
    theirs = candidates.pictures == tf.range(batch)[:, None]
    counts = tf.reduce_sum(tf.cast(theirs, tf.int32), 1, keepdims=True)
    starts = tf.cumsum(counts, exclusive=True)
    # One row of zeros behind: what places beyond a picture's last candidate read.
    blank = tf.size(order)
    sorted_boxes = tf.pad(tf.gather(candidates.boxes, order), [[0, 1], [0, 0]])
    sorted_classes = tf.pad(tf.gather(candidates.classes, order), [[0, 1]])
    # Every candidate may exclude a later one: a kept one any of the tile.
    earlier = tf.range(max_boxes + _TILE)[:, None] < tf.range(max_boxes, max_boxes + _TILE)

    def unfinished(start: Tensor, kept: Tensor) -> Tensor:
        return tf.reduce_any((counts > start) & (kept[:, -1:] == blank))

    def take_tile(start: Tensor, kept: Tensor) -> tuple[Tensor, ...]:
        place = start + tf.range(_TILE)
        tile = tf.where(place < counts, starts + place, blank)
        both = tf.concat([kept, tile], 1)
        boxes = tf.gather(sorted_boxes, both)
        classes = tf.gather(sorted_classes, both)
        measure = _overlap(boxes[:, :, None], boxes[:, None, max_boxes:], suppression)
        excludes = (measure > threshold) & earlier
        if not agnostic:
            excludes &= classes[:, :, None] == classes[:, None, max_boxes:]
        real = both < blank

        def again(alive: Tensor) -> Tensor:
            left = ~tf.reduce_any(excludes & alive[:, :, None], 1)
            return real & tf.concat([tf.ones_like(kept, tf.bool), left], 1)

        _, alive = tf.while_loop(
            lambda before, now: tf.reduce_any(before != now),
            lambda before, now: (now, again(now)),
            (real, again(real)),
        )
        # Places rise as scores fall, so the lowest are the best.
        lowest, _ = tf.math.top_k(-tf.where(alive, both, blank), max_boxes)
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
    """Indices that sort `values`, the largest first; equal ones keep their order."""
    return tf.math.top_k(values, tf.size(values)).indices


def letter_box_size(image_sizes: Tensor, input_size: Size) -> Tensor:
    """[..., 2] int32 (height, width) of the picture inside the letter box (image.c:1006).

    The longer side, measured against the input, fills it; the other is rounded down, but never
    to nothing.
    """
    sizes = tf.cast(image_sizes, tf.int32)
    height, width = sizes[..., 0], sizes[..., 1]
    box_height, box_width = _scalar(input_size[0]), _scalar(input_size[1])
    wide = tf.cast(box_width, tf.float32) / tf.cast(width, tf.float32) < tf.cast(
        box_height, tf.float32
    ) / tf.cast(height, tf.float32)
    return tf.stack(
        [
            tf.where(wide, tf.maximum(1, height * box_width // width), box_height),
            tf.where(wide, box_width, tf.maximum(1, width * box_height // height)),
        ],
        -1,
    )


def undo_letter_box(boxes: Tensor, image_sizes: Tensor, input_size: Size) -> Tensor:
    """Boxes relative to a letter-boxed input -> relative to the picture (yolo_layer.c:939).

    Args:
        boxes: [..., 4].
        image_sizes: [..., 2] int, (height, width) of the picture each box is in.
        input_size: (height, width) of the network's input.
    """
    # (width, height), as boxes have them.
    full = tf.cast(tf.stack([_scalar(input_size[1]), _scalar(input_size[0])]), tf.float32)
    inner = tf.cast(tf.reverse(letter_box_size(image_sizes, input_size), [-1]), tf.float32)
    ratio = inner / full
    centre = (boxes[..., :2] - (full - inner) / 2.0 / full) / ratio
    return tf.concat([centre, boxes[..., 2:] / ratio], -1)


def to_corners(boxes: Tensor, image_sizes: Tensor) -> Tensor:
    """Relative centre boxes -> left, top, right, bottom in pixels; not cut at the edges.

    A side that is infinite, or no number, reaches from edge to edge of the picture.

    Args:
        boxes: [..., 4].
        image_sizes: [..., 2], (height, width), broadcast against the boxes.
    """
    scale = tf.cast(tf.reverse(tf.convert_to_tensor(image_sizes), [-1]), tf.float32)
    centre, half = boxes[..., :2] * scale, boxes[..., 2:] * scale / 2.0
    low, high = centre - half, centre + half
    return tf.concat(
        [
            tf.where(tf.math.is_finite(low), low, 0.0),
            tf.where(tf.math.is_finite(high), high, scale),
        ],
        -1,
    )


def _scalar(value: int | Tensor) -> Tensor:
    return tf.cast(value, tf.int32)


def _raw_heads(raws: Sequence[Tensor] | Tensor, network: Network) -> list[Tensor]:
    """One raw tensor for each head; Keras gives a model of one head's output without the list."""
    found = list(raws) if isinstance(raws, list | tuple) else [raws]
    if len(found) != len(network.heads):
        raise ValueError(f"{len(found)} raw outputs for {len(network.heads)} heads")
    return [tf.convert_to_tensor(raw) for raw in found]


def _rows(raw: Tensor, head: Head) -> Tensor:
    """[B, rows * columns * anchors, entries]."""
    entries = head.coords + 1 + head.classes
    channels = len(head.anchors) * entries
    if raw.shape.rank != 4 or raw.shape[-1] != channels:
        raise ValueError(
            f"[{head.type}] in line {head.line} takes [batch, rows, columns, {channels}], "
            f"not {raw.shape}"
        )
    known = None not in raw.shape[1:3]
    boxes = raw.shape[1] * raw.shape[2] * len(head.anchors) if known else -1
    batch = -1 if known else tf.shape(raw)[0]
    return tf.reshape(tf.cast(raw, tf.float32), [batch, boxes, entries])


def _grid(raw: Tensor) -> Size:
    """Rows and columns: ints if they are known."""
    if None not in raw.shape[1:3]:
        return raw.shape[1], raw.shape[2]
    return tf.unstack(tf.shape(raw)[1:3], 2)


def _kind(head: Head) -> tuple[Any, ...]:
    """What heads have in common that are decoded as one."""
    if isinstance(head, Detection):
        return (head.index,)
    rule = (head.new_coords, yolo_point(head)) if isinstance(head, Yolo) else (head.index,)
    return (head.type, head.coords, head.classes, *rule)


def _likely(
    pairs: Sequence[tuple[Tensor, Head]],
    input_size: Size,
    threshold: Tensor,
    tree: Tree | None = None,
) -> tuple[Tensor, Decoded]:
    """Boxes that may hold a pair above `threshold`, without the batch dimension, and their picture.

    Only `[yolo]` and softmax heads can tell by objectness alone: elsewhere a class number may
    be above 1.

    Args:
        pairs: raw tensors and their heads, all of one `_kind`.
        input_size: see `decode_head`.
        threshold: of scores.
        tree: of the classes.
    """
    raw, head = pairs[0]
    decides = tree is not None or not isinstance(head, Region) or head.softmax
    if isinstance(head, Detection) or not decides:
        decoded = decode_head(raw, head, input_size)
        boxes = tf.shape(decoded.objectness)[1]
        pictures = tf.repeat(tf.range(tf.shape(decoded.objectness)[0]), boxes)
        return pictures, Decoded(
            tf.reshape(decoded.boxes, [-1, 4]),
            tf.reshape(decoded.objectness, [-1]),
            # Not -1: there may be no classes to count the rows by.
            tf.reshape(decoded.probabilities, [tf.size(decoded.objectness), head.classes]),
        )
    rows = _joined([_rows(raw, one) for raw, one in pairs], 1)
    boxes = tf.shape(rows, tf.int64)[1] if rows.shape[1] is None else rows.shape[1]
    likely = _true_places(_objectness(rows[:, :, head.coords], head) > threshold)
    rows = tf.gather(tf.reshape(rows, [-1, rows.shape[2]]), likely)
    places = [_places(one, _grid(raw), input_size) for raw, one in pairs]
    # Constants become one constant.
    table = np.concatenate(places) if isinstance(places[0], np.ndarray) else _joined(places, 0)
    decoded = _decode_rows(rows, tf.gather(table, likely % boxes), head, tree)
    return tf.cast(likely // boxes, tf.int32), decoded


def _true_places(values: Tensor) -> Tensor:
    """[M] int64: where there is a True, counted in row-major order.

    With these places one axis is gathered from, not several: what TensorFlow.js gathers by no row
    of several numbers is no tensor for its other operations.
    """
    return tf.reshape(tf.where(tf.reshape(values, [-1])), [-1])


def _joined(tensors: Sequence[Tensor], axis: int) -> Tensor:
    return tensors[0] if len(tensors) == 1 else tf.concat(tensors, axis)


def _objectness(raw: Tensor, head: Head) -> Tensor:
    if isinstance(head, Yolo) and head.new_coords:
        return raw
    objectness = tf.sigmoid(raw)
    if has_class_fix(head):
        objectness = tf.where(objectness < 0.5, 0.0, objectness)
    return objectness


def _places(head: Head, grid: Size, input_size: Size) -> Tensor:
    """Where each box of a head stands, and how large its anchor is.

    Args:
        head: `[yolo]`, `[Gaussian_yolo]` or `[region]`.
        grid: its rows and columns.
        input_size: see `decode_head`.

    Returns:
        [N, 8] float32: column and row; columns and rows in all; the anchor's width and height,
        relative to the input; what the centre in the cell is multiplied by, and what is then
        taken away. An array if all sizes are ints: a graph then holds it as one constant.
    """
    rows, columns = grid
    anchors = len(head.anchors)
    scale_x_y = head.scale_x_y if isinstance(head, Yolo) else 1.0
    rule = [scale_x_y, 0.5 * (scale_x_y - 1.0)]
    # The anchors of [region] are in cells.
    extents = [columns, rows] if isinstance(head, Region) else input_size[::-1]
    if all(isinstance(extent, int) for extent in (*grid, *input_size)):
        places = np.empty([rows, columns, anchors, 8], np.float32)
        places[..., 0] = np.arange(columns)[:, None]
        places[..., 1] = np.arange(rows)[:, None, None]
        places[..., 2:4] = columns, rows
        places[..., 4:6] = np.divide(head.anchors, extents, dtype=np.float32)
        places[..., 6:8] = rule
        return places.reshape(-1, 8)
    cell = tf.range(rows * columns * anchors) // anchors
    cells = tf.cast(tf.stack([columns, rows]), tf.float32)
    return tf.concat(
        [
            tf.cast(tf.stack([cell % columns, cell // columns], 1), tf.float32),
            tf.tile(cells[None], [rows * columns * anchors, 1]),
            tf.tile(head.anchors / tf.cast(tf.stack(extents), tf.float32), [rows * columns, 1]),
            tf.tile([rule], [rows * columns * anchors, 1]),
        ],
        1,
    )


def _decode_rows(rows: Tensor, places: Tensor, head: Head, tree: Tree | None = None) -> Decoded:
    """Decodes [..., entries] rows of a `[yolo]` or `[region]` head, given [..., 8] `_places`."""
    box, objectness, classes = tf.split(rows, [head.coords, 1, head.classes], -1)
    objectness = _objectness(tf.squeeze(objectness, -1), head)
    corner, cells, anchor, rule = tf.split(places, 4, -1)
    if head.type == "Gaussian_yolo":
        # x, its deviation, y, its deviation, and so on; deviations lower the score.
        uncertainty = tf.reduce_mean(tf.sigmoid(box[..., 1::2]), -1, keepdims=True)
        box = box[..., ::2]
    centre, extent = tf.split(box, 2, -1)
    if isinstance(head, Region):
        if head.tree and tree is None:
            raise UnsupportedSectionError(
                f"[region] in line {head.line}: tree={head.tree} has to be given to decode it",
                line=head.line_of("tree"),
                section=head.type,
                layer=head.index,
            )
        # Darknet's CPU code softmaxes in forward_region_layer and has no sigmoid otherwise.
        if tree is not None:
            probabilities = _deepest(classes, tree)
        else:
            probabilities = tf.nn.softmax(classes) if head.softmax else classes
        centre, size = tf.sigmoid(centre), tf.exp(extent) * anchor
    elif isinstance(head, Yolo):
        if head.new_coords:
            probabilities, size = classes, tf.square(extent) * 4.0 * anchor
        else:
            centre, probabilities = tf.sigmoid(centre), tf.sigmoid(classes)
            size = tf.exp(extent) * anchor
        if head.type == "Gaussian_yolo":
            probabilities *= 1.0 - uncertainty
        scale, offset = tf.split(rule, 2, -1)
        centre = centre * scale - offset
    else:
        raise TypeError(f"not a head with anchors: {type(head).__name__}")
    centre = (corner + centre) / cells
    point = yolo_point(head)
    if point:
        centre += size * point
    return Decoded(tf.concat([centre, size], -1), objectness, probabilities)


def _deepest(classes: Tensor, tree: Tree) -> Tensor:
    """Of each row the last class that is above a half, with all above it (region_layer.c:411-420).

    Args:
        classes: [..., classes], raw.
        tree: of the classes.
    """
    count = len(tree.parents)
    shape = tf.shape(classes)
    rows = tf.reshape(classes, [-1, 1, 1, count])
    values = tf.reshape(
        operations.tree_softmax(tf.raw_ops, rows, (1, 1, count), tree.groups), [-1, count]
    )
    for places in tree.branches():
        above = tf.pad(values, [[0, 0], [0, 1]], constant_values=1)
        values *= tf.gather(above, places[:-1], axis=1)
    numbers = tf.where(values > TREE_LIMIT, tf.range(1, count + 1), 0)
    last = tf.reduce_max(numbers, 1, keepdims=True)
    return tf.reshape(tf.where(numbers == tf.maximum(last, 1), values, 0.0), shape)


def _decode_detection(raw: Tensor, head: Detection) -> Decoded:
    """YOLO version 1: class numbers of all cells, then confidences, then boxes."""
    if raw.shape.rank == 4:
        raw = tf.transpose(raw, [0, 3, 1, 2])  # Darknet flattens channels first
    cells, classes, num = head.side**2, head.classes, head.num
    flat = tf.reshape(tf.cast(raw, tf.float32), [-1, cells * (classes + num * (1 + head.coords))])
    batch = tf.shape(flat)[0] if flat.shape[0] is None else flat.shape[0]
    probabilities = tf.reshape(flat[:, : cells * classes], [batch, cells, 1, classes])
    if head.softmax:
        probabilities = tf.nn.softmax(probabilities)
    objectness = flat[:, cells * classes : cells * (classes + num)]
    boxes = tf.reshape(flat[:, cells * (classes + num) :], [-1, cells, num, 4])
    cell = tf.range(cells)
    corner = tf.cast(tf.stack([cell % head.side, cell // head.side], 1), tf.float32)
    centre = (boxes[..., :2] + corner[:, None]) / head.side
    size = tf.square(boxes[..., 2:]) if head.sqrt else boxes[..., 2:]
    return Decoded(
        tf.reshape(tf.concat([centre, size], -1), [-1, cells * num, 4]),
        objectness,
        tf.reshape(tf.repeat(probabilities, num, 2), [batch, cells * num, classes]),
    )


def _overlap(a: Tensor, b: Tensor, suppression: Suppression) -> Tensor:
    """What `iou_threshold` is compared with: box_iou, box_diou or box_diounms (box.c:163-230)."""
    centre_a, size_a = tf.split(a, 2, -1)
    centre_b, size_b = tf.split(b, 2, -1)
    low_a, high_a = centre_a - size_a / 2.0, centre_a + size_a / 2.0
    low_b, high_b = centre_b - size_b / 2.0, centre_b + size_b / 2.0
    side = tf.nn.relu(tf.minimum(high_a, high_b) - tf.maximum(low_a, low_b))
    both = tf.reduce_prod(side, -1)
    union = tf.reduce_prod(size_a, -1) + tf.reduce_prod(size_b, -1) - both
    iou = tf.math.divide_no_nan(both, union)
    if suppression.kind == "default":
        return iou
    beta = GREEDY_BETA if suppression.kind == "greedynms" else suppression.beta
    diagonal = tf.reduce_sum(tf.square(tf.maximum(high_a, high_b) - tf.minimum(low_a, low_b)), -1)
    distance = tf.reduce_sum(tf.square(centre_a - centre_b), -1)
    return iou - tf.pow(tf.math.divide_no_nan(distance, diagonal), beta)
