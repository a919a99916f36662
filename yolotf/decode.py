"""Raw head -> boxes, and non-maximum suppression, by Darknet's rules in TensorFlow operations.

Everything here traces into a `tf.function`, for any batch and for grids known only at run
time, and consists of standard TensorFlow operations only. Boxes are `x, y, width, height`
with the centre first, relative to the network's input or to the picture (0..1), as Darknet
keeps them. Sources: AlexeyAB/darknet src/yolo_layer.c, region_layer.c, gaussian_yolo_layer.c,
detection_layer.c, box.c, network.c, detector.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from yolotf.cfg import Detection, Head, Network, Region, Yolo
from yolotf.errors import UnsupportedSectionError

Tensor = Any
Size = Any
"""`(height, width)`: two ints, or two scalar int tensors."""

_TILE = 128
_GREEDY_BETA = 0.6  # box_diou's own exponent, box.c:206; greedynms ignores beta_nms


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


class Suppression(NamedTuple):
    """Which pairs of boxes exclude each other."""

    kind: str
    """`default`, `greedynms` or `diounms`."""
    beta: float
    """Exponent of the centre distance in `diounms`."""


def check_heads(network: Network) -> None:
    """Raises for heads that cannot be decoded here.

    Raises:
        UnsupportedSectionError: no head at all, a class tree (`tree=`), or `coords` other
            than 4 in `[region]` or `[detection]`.
    """
    if not network.heads:
        raise UnsupportedSectionError(
            f"{network.source}: no detection head; [yolo], [Gaussian_yolo], [region] or "
            "[detection] is needed to find boxes",
            source=network.source,
        )
    for head in network.heads:
        problem = key = ""
        if isinstance(head, Region) and head.tree:
            key, problem = "tree", f"tree={head.tree}: class trees (yolo9000) cannot be decoded"
        elif isinstance(head, Region | Detection) and head.coords != 4:
            key, problem = "coords", f"coords={head.coords}: only boxes of 4 can be decoded"
        if problem:
            raise UnsupportedSectionError(
                f"{network.source}: {problem}; {network.where(head)}",
                source=network.source,
                line=head.line_of(key),
                section=head.type,
                layer=head.index,
            )


def suppression_of(network: Network) -> Suppression:
    """What Darknet's detector uses for `network`: the rule of the last head (detector.c:1679)."""
    last = network.heads[-1]
    if not isinstance(last, Yolo):
        return Suppression("default", _GREEDY_BETA)
    # Words Darknet does not know are its default (parser.c:494-499); so is cornersnms, which
    # suppresses by plain overlap (box.c:894).
    kind = last.nms_kind if last.nms_kind in ("greedynms", "diounms") else "default"
    return Suppression(kind, last.beta_nms)


def decode_head(raw: Tensor, head: Head, input_size: Size) -> Decoded:
    """Boxes and probabilities of one head.

    Args:
        raw: [B, rows, columns, anchors * (coords + 1 + classes)], what the layer before the
            head puts out; for each anchor x, y, width, height, objectness, classes. For
            `[detection]` anything that flattens to the head's numbers.
        head: `[yolo]`, `[Gaussian_yolo]`, `[region]` or `[detection]`.
        input_size: (height, width) of the picture the network saw, which `[yolo]` anchors
            are relative to.

    Returns:
        `Decoded`, by yolo_layer.c:131 and 662, gaussian_yolo_layer.c:134 and
        412, region_layer.c:86 and 187, detection_layer.c:49 and 288.

    Raises:
        UnsupportedSectionError: the head has a class tree.
        ValueError: `raw` has another number of channels than the head takes.
    """
    raw = tf.convert_to_tensor(raw)
    if isinstance(head, Detection):
        return _decode_detection(raw, head)
    rows, grid = _rows(raw, head)
    decoded = _decode_rows(rows, tf.range(tf.shape(rows)[0]), head, grid, input_size)
    known = [extent for extent in raw.shape[1:3] if extent is not None]
    boxes_each = known[0] * known[1] * len(head.anchors) if len(known) == 2 else -1
    batch = raw.shape[0] if boxes_each == -1 and raw.shape[0] else tf.shape(raw)[0]
    lead = [-1 if boxes_each != -1 else batch, boxes_each]
    return Decoded(
        tf.reshape(decoded.boxes, [*lead, 4]),
        tf.reshape(decoded.objectness, lead),
        tf.reshape(decoded.probabilities, [*lead, head.classes]),
    )


def find_candidates(
    raws: Sequence[Tensor] | Tensor,
    network: Network,
    input_size: Size,
    *,
    score_threshold: float | Tensor,
    image_sizes: Tensor | None = None,
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
        image_sizes: [B, 2] int, (height, width) of the pictures the input was made from. With
            it boxes are relative to those pictures (`letter_box` undone), else to the input.

    Returns:
        Pairs grouped by head, in Darknet's order in each.
    """
    threshold = tf.convert_to_tensor(score_threshold, tf.float32)
    parts = []
    for raw, head in zip(_raw_heads(raws, network), network.heads, strict=True):
        pictures, decoded = _likely(raw, head, input_size, threshold)
        scores = decoded.objectness[:, None] * decoded.probabilities
        pairs = tf.where(scores > threshold)
        row = pairs[:, 0]
        parts.append(
            Candidates(
                tf.gather(pictures, row),
                tf.gather(decoded.boxes, row),
                tf.cast(pairs[:, 1], tf.int32),
                tf.gather_nd(scores, pairs),
            )
        )
    found = parts[0]
    if len(parts) > 1:
        found = Candidates(*(tf.concat(columns, 0) for columns in zip(*parts, strict=True)))
    if image_sizes is None or not network.letter_box:
        return found
    sizes = tf.gather(image_sizes, found.pictures)
    return found._replace(boxes=undo_letter_box(found.boxes, sizes, input_size))


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

    Returns:
        `Batch`, boxes relative to the pictures.
    """
    raws = _raw_heads(raws, network)
    candidates = find_candidates(
        raws, network, input_size, score_threshold=score_threshold, image_sizes=image_sizes
    )
    static_batch = raws[0].shape[0]
    return suppress(
        candidates,
        tf.shape(raws[0])[0] if static_batch is None else static_batch,
        suppression or suppression_of(network),
        iou_threshold=iou_threshold,
        max_boxes=max_boxes,
    )


def suppress(
    candidates: Candidates,
    batch: int | Tensor,
    suppression: Suppression,
    *,
    iou_threshold: float | Tensor,
    max_boxes: int,
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
    """
    threshold = tf.convert_to_tensor(iou_threshold, tf.float32)
    order = tf.argsort(candidates.scores, direction="DESCENDING", stable=True)
    order = tf.gather(order, tf.argsort(tf.gather(candidates.pictures, order), stable=True))
    counts = tf.math.unsorted_segment_sum(
        tf.ones_like(candidates.pictures), candidates.pictures, batch
    )
    starts = tf.cumsum(counts, exclusive=True)
    # One row of zeros behind: what places beyond a picture's last candidate read.
    blank = tf.shape(order)[0]
    sorted_boxes = tf.pad(tf.gather(candidates.boxes, order), [[0, 1], [0, 0]])
    sorted_scores = tf.pad(tf.gather(candidates.scores, order), [[0, 1]])
    sorted_classes = tf.pad(tf.gather(candidates.classes, order), [[0, 1]])
    earlier = tf.constant([[i < j for j in range(_TILE)] for i in range(_TILE)])

    def excludes(boxes_a: Tensor, classes_a: Tensor, boxes_b: Tensor, classes_b: Tensor) -> Tensor:
        measure = _overlap(boxes_a[:, :, None], boxes_b[:, None], suppression)
        return (measure > threshold) & (classes_a[:, :, None] == classes_b[:, None])

    def unfinished(start: Tensor, boxes: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
        del boxes, classes
        return tf.reduce_any((counts > start) & (scores[:, -1] == 0))

    def take_tile(
        start: Tensor, boxes: Tensor, scores: Tensor, classes: Tensor
    ) -> tuple[Tensor, ...]:
        place = start + tf.range(_TILE)
        index = tf.where(place < counts[:, None], starts[:, None] + place, blank)
        tile_boxes = tf.gather(sorted_boxes, index)
        tile_scores = tf.gather(sorted_scores, index)
        tile_classes = tf.gather(sorted_classes, index)
        by_kept = excludes(boxes, classes, tile_boxes, tile_classes) & (scores > 0)[:, :, None]
        left = (tile_scores > 0) & ~tf.reduce_any(by_kept, 1)
        by_tile = excludes(tile_boxes, tile_classes, tile_boxes, tile_classes) & earlier

        def again(alive: Tensor) -> Tensor:
            return left & ~tf.reduce_any(by_tile & alive[:, :, None], 1)

        _, alive = tf.while_loop(
            lambda before, now: tf.reduce_any(before != now),
            lambda before, now: (now, again(now)),
            (left, again(left)),
        )
        # Kept ones stand before the tile and score at least as much: top_k keeps their order.
        merged = tf.concat([scores, tf.where(alive, tile_scores, 0.0)], 1)
        scores, best = tf.math.top_k(merged, max_boxes)
        boxes = tf.gather(tf.concat([boxes, tile_boxes], 1), best, batch_dims=1)
        classes = tf.gather(tf.concat([classes, tile_classes], 1), best, batch_dims=1)
        return start + _TILE, boxes, scores, classes

    static_batch = batch if isinstance(batch, int) else None
    _, boxes, scores, classes = tf.while_loop(
        unfinished,
        take_tile,
        (
            tf.constant(0),
            tf.zeros([batch, max_boxes, 4]),
            tf.zeros([batch, max_boxes]),
            tf.zeros([batch, max_boxes], tf.int32),
        ),
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape([static_batch, max_boxes, 4]),
            tf.TensorShape([static_batch, max_boxes]),
            tf.TensorShape([static_batch, max_boxes]),
        ),
    )
    kept = scores > 0
    return Batch(
        tf.where(kept[:, :, None], boxes, 0.0),
        scores,
        tf.where(kept, classes, 0),
        tf.math.count_nonzero(kept, 1, dtype=tf.int32),
    )


def letter_box_size(image_sizes: Tensor, input_size: Size) -> Tensor:
    """[..., 2] int32 (height, width) of the picture inside the letter box (image.c:1006).

    The longer side, measured against the input, fills it; the other is rounded down.
    """
    sizes = tf.cast(image_sizes, tf.int32)
    height, width = sizes[..., 0], sizes[..., 1]
    box_height, box_width = _scalar(input_size[0]), _scalar(input_size[1])
    wide = tf.cast(box_width, tf.float32) / tf.cast(width, tf.float32) < tf.cast(
        box_height, tf.float32
    ) / tf.cast(height, tf.float32)
    return tf.stack(
        [
            tf.where(wide, height * box_width // width, box_height),
            tf.where(wide, box_width, width * box_height // height),
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

    Args:
        boxes: [..., 4].
        image_sizes: [..., 2], (height, width), broadcast against the boxes.
    """
    scale = tf.cast(tf.reverse(tf.convert_to_tensor(image_sizes), [-1]), tf.float32)
    centre, half = boxes[..., :2] * scale, boxes[..., 2:] * scale / 2.0
    return tf.concat([centre - half, centre + half], -1)


def _scalar(value: int | Tensor) -> Tensor:
    return tf.cast(value, tf.int32)


def _raw_heads(raws: Sequence[Tensor] | Tensor, network: Network) -> list[Tensor]:
    """One raw tensor for each head; Keras gives a model of one head's output without the list."""
    found = list(raws) if isinstance(raws, list | tuple) else [raws]
    if len(found) != len(network.heads):
        raise ValueError(f"{len(found)} raw outputs for {len(network.heads)} heads")
    return [tf.convert_to_tensor(raw) for raw in found]


def _rows(raw: Tensor, head: Head) -> tuple[Tensor, Tensor]:
    """[B * rows * columns * anchors, entries] and the grid's (rows, columns)."""
    channels = len(head.anchors) * (head.coords + 1 + head.classes)
    if raw.shape.rank != 4 or raw.shape[-1] != channels:
        raise ValueError(
            f"[{head.type}] in line {head.line} takes [batch, rows, columns, {channels}], "
            f"not {raw.shape}"
        )
    rows = tf.reshape(tf.cast(raw, tf.float32), [-1, head.coords + 1 + head.classes])
    return rows, tf.shape(raw)[1:3]


def _likely(raw: Tensor, head: Head, input_size: Size, threshold: Tensor) -> tuple[Tensor, Decoded]:
    """Boxes that may hold a pair above `threshold`, without the batch dimension, and their picture.

    Only `[yolo]` and softmax heads can tell by objectness alone: elsewhere a class number may
    be above 1.
    """
    if isinstance(head, Detection):
        decoded = _decode_detection(raw, head)
        total = head.side**2 * head.num
        pictures = tf.repeat(tf.range(tf.shape(raw)[0]), total)
        return pictures, Decoded(
            tf.reshape(decoded.boxes, [-1, 4]),
            tf.reshape(decoded.objectness, [-1]),
            tf.reshape(decoded.probabilities, [-1, head.classes]),
        )
    rows, grid = _rows(raw, head)
    if isinstance(head, Region) and not head.softmax:
        index = tf.range(tf.shape(rows)[0])
    else:
        objectness = _objectness(rows[:, head.coords], head)
        index = tf.cast(tf.where(objectness > threshold)[:, 0], tf.int32)
        rows = tf.gather(rows, index)
    pictures = index // (grid[0] * grid[1] * len(head.anchors))
    return pictures, _decode_rows(rows, index, head, grid, input_size)


def _objectness(raw: Tensor, head: Head) -> Tensor:
    if isinstance(head, Yolo) and head.new_coords:
        return raw
    objectness = tf.sigmoid(raw)
    classfix = head.section.option("classfix")
    if isinstance(head, Region) and classfix and classfix.value == "-1":
        objectness = tf.where(objectness < 0.5, 0.0, objectness)  # region_layer.c:389
    return objectness


def _decode_rows(
    rows: Tensor, index: Tensor, head: Head, grid: Tensor, input_size: Size
) -> Decoded:
    """Decodes [P, entries] rows standing at `index` of the flattened [yolo] or [region] head."""
    anchors = tf.constant(head.anchors, tf.float32)
    cell = index // len(head.anchors)
    corner = tf.stack([cell % grid[1], cell // grid[1] % grid[0]], 1)
    cells = tf.cast(tf.reverse(grid, [0]), tf.float32)
    anchor = tf.gather(anchors, index % len(head.anchors))
    objectness = _objectness(rows[:, head.coords], head)
    classes = rows[:, head.coords + 1 :]
    uncertainty = None
    if isinstance(head, Region):
        if head.tree:
            raise UnsupportedSectionError(
                f"[region] in line {head.line}: tree={head.tree}: class trees (yolo9000) "
                "cannot be decoded",
                line=head.line_of("tree"),
                section=head.type,
                layer=head.index,
            )
        # Darknet's CPU code softmaxes in forward_region_layer and has no sigmoid otherwise.
        probabilities = tf.nn.softmax(classes) if head.softmax else classes
        centre, extent = tf.sigmoid(rows[:, 0:2]), tf.exp(rows[:, 2:4])
        size = extent * anchor / cells
    elif isinstance(head, Yolo):
        full = tf.stack([_scalar(input_size[1]), _scalar(input_size[0])])
        anchor = anchor / tf.cast(full, tf.float32)
        if head.type == "Gaussian_yolo":
            # x, its deviation, y, its deviation, and so on; deviations lower the score.
            uncertainty = tf.reduce_mean(tf.sigmoid(rows[:, 1:8:2]), 1, keepdims=True)
            centre, size = tf.sigmoid(rows[:, 0:4:2]), tf.exp(rows[:, 4:8:2]) * anchor
            probabilities = tf.sigmoid(classes) * (1.0 - uncertainty)
        elif head.new_coords:
            centre, probabilities = rows[:, 0:2], classes
            size = tf.square(rows[:, 2:4]) * 4.0 * anchor
        else:
            centre, probabilities = tf.sigmoid(rows[:, 0:2]), tf.sigmoid(classes)
            size = tf.exp(rows[:, 2:4]) * anchor
        centre = centre * head.scale_x_y - 0.5 * (head.scale_x_y - 1.0)
    else:
        raise TypeError(f"not a head with anchors: {type(head).__name__}")
    centre = (tf.cast(corner, tf.float32) + centre) / cells
    if head.type == "Gaussian_yolo":
        centre += size * _POINTS.get(_yolo_point(head), 0.0)
    return Decoded(tf.concat([centre, size], 1), objectness, probabilities)


_POINTS = {"left_top": 0.5, "right_bottom": -0.5}
"""Where the predicted point lies in the box, gaussian_yolo_layer.c:143."""


def _yolo_point(head: Head) -> str:
    option = head.section.option("yolo_point")
    return option.value if option else "center"


def _decode_detection(raw: Tensor, head: Detection) -> Decoded:
    """YOLO version 1: class numbers of all cells, then confidences, then boxes."""
    if raw.shape.rank == 4:
        raw = tf.transpose(raw, [0, 3, 1, 2])  # Darknet flattens channels first
    cells, classes, num = head.side**2, head.classes, head.num
    flat = tf.reshape(tf.cast(raw, tf.float32), [-1, cells * (classes + num * (1 + head.coords))])
    probabilities = tf.reshape(flat[:, : cells * classes], [-1, cells, 1, classes])
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
        tf.reshape(tf.repeat(probabilities, num, 2), [-1, cells * num, classes]),
    )


def _overlap(a: Tensor, b: Tensor, suppression: Suppression) -> Tensor:
    """What `iou_threshold` is compared with: box_iou, box_diou or box_diounms (box.c:163-230)."""
    half_a, half_b = a[..., 2:] / 2.0, b[..., 2:] / 2.0
    low_a, high_a = a[..., :2] - half_a, a[..., :2] + half_a
    low_b, high_b = b[..., :2] - half_b, b[..., :2] + half_b
    side = tf.maximum(tf.minimum(high_a, high_b) - tf.maximum(low_a, low_b), 0.0)
    both = side[..., 0] * side[..., 1]
    union = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - both
    iou = tf.math.divide_no_nan(both, union)
    if suppression.kind == "default":
        return iou
    beta = _GREEDY_BETA if suppression.kind == "greedynms" else suppression.beta
    diagonal = tf.reduce_sum(tf.square(tf.maximum(high_a, high_b) - tf.minimum(low_a, low_b)), -1)
    distance = tf.reduce_sum(tf.square(a[..., :2] - b[..., :2]), -1)
    return iou - tf.pow(tf.math.divide_no_nan(distance, diagonal), beta)
