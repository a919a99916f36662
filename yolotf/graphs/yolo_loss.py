"""Darknet's loss of a `[yolo]` section, for training in TensorFlow (AlexeyAB src/yolo_layer.c).

Darknet does not differentiate a loss. It computes a *delta* for every input of the head, adds it to
the backpropagated gradient (`backward_yolo_layer`, line 889), and prints the sum of the squared
deltas as the loss. The deltas of objectness and classes are those of a cross-entropy; those of a
box are derivatives of an IoU, without the derivative of the sigmoid. `YoloLoss` has this sum as its
value and the negative delta as its gradient, so a model trains as in Darknet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import tensorflow as tf

from yolotf._public import public
from yolotf.darknet import cfg
from yolotf.darknet.decoding import GREEDY_BETA
from yolotf.darknet.graph_checks import refuse
from yolotf.darknet.options import Options
from yolotf.interfaces import Tensor

_IOU_LOSSES = ("mse", "giou", "diou", "ciou")
_MATCHES = 0.25
"""A prediction counts as a class if its probability is above this (yolo_layer.c:402)."""
_UNSUPPORTED = ("focal_loss", "counters_per_class", "map", "embedding_layer")


@dataclass(frozen=True)
class LossOptions:
    """The training options of a `[yolo]` section, with Darknet's defaults (parser.c:448-510).

    `cls_normalizer` is omitted: Darknet parses it but uses it only with `counters_per_class`
    (yolo_layer.c:316).
    """

    iou_loss: str
    iou_normalizer: float
    obj_normalizer: float
    ignore_thresh: float
    iou_thresh: float
    iou_thresh_kind: str
    label_smooth_eps: float
    max_delta: float
    objectness_smooth: bool
    all_anchors: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, network: cfg.Network, head: cfg.Yolo) -> LossOptions:
        """Reads the options of a head.

        Raises:
            UnsupportedSectionError: the section asks for a loss that is not implemented.
        """
        place = network.where(head) if network.name else None
        options = Options(head.section, network.source, place=place)
        if head.type != "yolo":
            raise refuse(
                network, head, f"the loss of [{head.type}] is not supported; only that of [yolo] is"
            )
        for key in _UNSUPPORTED:
            if options.text(key, "0") != "0":
                raise refuse(
                    network, head, f"the loss with {key}= is not supported; remove it", key
                )
        if options.float("truth_thresh", 1.0) < 1:
            raise refuse(
                network,
                head,
                "the loss with truth_thresh= below 1 is not supported; set truth_thresh=1",
                "truth_thresh",
            )
        numbers = options.floats("anchors") or []
        count = options.int("num", 1)
        numbers = (numbers + [0.5] * 2 * count)[: 2 * count]
        iou_loss = options.text("iou_loss", "mse")
        kind = options.text("iou_thresh_kind", "iou")
        return cls(
            iou_loss=iou_loss if iou_loss in _IOU_LOSSES else "iou",
            iou_normalizer=options.float("iou_normalizer", 0.75),
            obj_normalizer=options.float("obj_normalizer", 1.0),
            ignore_thresh=options.float("ignore_thresh", 0.5),
            iou_thresh=options.float("iou_thresh", 1.0),
            iou_thresh_kind=kind if kind in _IOU_LOSSES[1:] else "iou",
            label_smooth_eps=options.float("label_smooth_eps", 0.0),
            max_delta=options.float("max_delta", math.inf),
            objectness_smooth=options.flag("objectness_smooth"),
            all_anchors=tuple(zip(numbers[::2], numbers[1::2], strict=True)),
        )


@public
class YoloLoss:
    """The loss of a `[yolo]` head, called as `loss(truths, raw)`; see `yolo_losses`."""

    def __init__(self, network: cfg.Network, head: cfg.Yolo) -> None:
        self.head = head
        self.options = LossOptions.of(network, head)
        self._input = network.input_shape
        self.__name__ = f"yolo_{head.index}"

    def __call__(self, truths: Tensor, raw: Tensor) -> Tensor:
        """Returns the loss of each image.

        Args:
            truths: [batch, boxes, 5]: class, center x, center y, width, height, as in Darknet's
                label files (relative to the image); padded with rows of 0.
            raw: [batch, rows, columns, filters]: the model's output for this head.

        Returns:
            [batch] float32: the sum of the squares of Darknet's deltas. The gradient of `raw` is
            the negative delta.
        """
        truths = tf.cast(tf.stop_gradient(tf.convert_to_tensor(truths)), tf.float32)

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def cost(values: Tensor) -> tuple[Tensor, Tensor]:
            delta = self.delta(truths, values)

            def gradient(upstream: Tensor) -> Tensor:
                return -delta * tf.reshape(upstream, [-1, 1, 1, 1])

            return tf.reduce_sum(tf.square(delta), [1, 2, 3]), gradient

        return cost(tf.cast(tf.convert_to_tensor(raw), tf.float32))

    def delta(self, truths: Tensor, raw: Tensor) -> Tensor:
        """Returns Darknet's delta of every element of `raw`, in its shape."""
        options, head = self.options, self.head
        rows, columns = raw.shape[1], raw.shape[2]
        anchors = len(head.mask)
        shape = tf.shape(raw)
        grid = [shape[0], rows, columns, anchors, 5 + head.classes]
        output = self._activated(tf.reshape(raw, grid))
        valid, ids, boxes = self._truths(truths)

        # Predictions without an assigned truth (yolo_layer.c:375-465).
        objectness, classes = output[..., 4], output[..., 5:]
        overlap = _iou(self._boxes(output)[..., None, :], boxes[:, None, None, None])
        overlap = tf.where(valid[:, None, None, None], overlap, 0.0)
        certain = tf.reduce_any(classes > _MATCHES, -1)
        best = tf.where(certain, tf.reduce_max(overlap, -1), 0.0)
        object_delta = -objectness
        ignored = tf.maximum(object_delta, best - objectness) if options.objectness_smooth else 0.0
        object_delta = tf.where(best > options.ignore_thresh, ignored, object_delta)

        # Predictions with an assigned truth (yolo_layer.c:466-560).
        assigned, place, anchor = self._assigned(valid, boxes, rows, columns)
        predictions = tf.gather_nd(output, place)
        box_delta = self._box_delta(predictions, boxes[:, :, None], place, anchor, rows, columns)
        box_delta = tf.where(assigned[..., None], box_delta, 0.0)
        targets = (
            tf.one_hot(ids, head.classes)[:, :, None] * tf.cast(assigned, tf.float32)[..., None]
        )

        flat = tf.reshape(place, [-1, 4])
        box_delta = tf.scatter_nd(flat, tf.reshape(box_delta, [-1, 4]), [*grid[:4], 4])
        targets = tf.scatter_nd(flat, tf.reshape(targets, [-1, head.classes]), tf.shape(classes))
        taken = tf.reduce_sum(targets, -1) > 0
        targets = tf.minimum(targets, 1.0)
        if options.label_smooth_eps:
            smooth = options.label_smooth_eps
            targets = targets * (1 - smooth) + 0.5 * smooth
        class_delta = tf.where(taken[..., None], targets - classes, 0.0)
        full = 1 - objectness
        if options.objectness_smooth:  # only where there is no delta yet (yolo_layer.c:525)
            full = tf.where(object_delta == 0, full, object_delta)
        object_delta = tf.where(taken, full, object_delta) * options.obj_normalizer
        if options.iou_thresh < 1:  # `averages_yolo_deltas`
            several = tf.reduce_sum(tf.cast(class_delta > 0, tf.float32), -1)
            shared = (several > 0) & (object_delta != 0)
            box_delta /= tf.where(shared, several, 1.0)[..., None]
        delta = tf.concat([box_delta, object_delta[..., None], class_delta], -1)
        return tf.stop_gradient(tf.reshape(delta, shape))

    def _activated(self, x: Tensor) -> Tensor:
        """Returns the activated outputs of the head (yolo_layer.c:662-681)."""
        head = self.head
        if not head.new_coords:
            x = tf.concat([tf.sigmoid(x[..., :2]), x[..., 2:4], tf.sigmoid(x[..., 4:])], -1)
        centre = head.scale_x_y * x[..., :2] - 0.5 * (head.scale_x_y - 1)
        return tf.concat([centre, x[..., 2:]], -1)

    def _sizes(self, anchors: Tensor) -> Tensor:
        """Returns the sizes of anchors, given in pixels, relative to the network's input."""
        return tf.constant(anchors, tf.float32) / [self._input.width, self._input.height]

    def _boxes(self, output: Tensor) -> Tensor:
        """Returns the predicted boxes, `get_yolo_box` (yolo_layer.c:131-151)."""
        rows, columns = output.shape[1], output.shape[2]
        y, x = tf.meshgrid(tf.range(float(rows)), tf.range(float(columns)), indexing="ij")
        corner = tf.stack([x, y], -1)[:, :, None]
        return self._placed(output, corner, self._sizes(self.head.anchors), rows, columns)

    def _placed(
        self, output: Tensor, corner: Tensor, sizes: Tensor, rows: int, columns: int
    ) -> Tensor:
        centre = (output[..., :2] + corner) / [float(columns), float(rows)]
        stretch = (
            4 * tf.square(output[..., 2:4]) if self.head.new_coords else tf.exp(output[..., 2:4])
        )
        return tf.concat([centre, stretch * sizes], -1)

    def _truths(self, truths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns which rows are boxes of known classes, their classes, and the boxes."""
        boxes = truths[..., 1:]
        # The first box with x = 0 ends the list (yolo_layer.c:389).
        listed = tf.math.cumprod(tf.cast(boxes[..., 0] != 0, tf.int32), -1) > 0
        ids = tf.cast(truths[..., 0], tf.int32)
        known = (ids >= 0) & (ids < self.head.classes)
        return listed & known, ids, boxes

    def _assigned(
        self, valid: Tensor, boxes: Tensor, rows: int, columns: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns whether each truth is assigned to each anchor, its index, and anchor sizes.

        The first two have the shape [batch, truths, anchors, ...].
        """
        mask = list(self.head.mask)
        sizes = self._sizes(self.options.all_anchors)
        centered = tf.concat([tf.zeros_like(boxes[..., :2]), boxes[..., 2:]], -1)[:, :, None]
        centered_anchors = tf.concat([tf.zeros_like(sizes), sizes], -1)
        best = tf.argmax(_iou(centered_anchors, centered), -1, output_type=tf.int32)
        assigned = best[..., None] == tf.constant(mask)
        if self.options.iou_thresh < 1:
            similarity = _similarity(centered_anchors, centered, self.options.iou_thresh_kind)
            known = [number for number in mask if number < len(self.options.all_anchors)]
            similar = tf.gather(similarity, known, axis=-1) > self.options.iou_thresh
            # A mask beyond num= never matches (cspx-p7-mish.cfg has one).
            assigned |= tf.pad(similar, [[0, 0], [0, 0], [0, len(mask) - len(known)]])
        x = tf.clip_by_value(tf.cast(boxes[..., 0] * columns, tf.int32), 0, columns - 1)
        y = tf.clip_by_value(tf.cast(boxes[..., 1] * rows, tf.int32), 0, rows - 1)
        image = tf.range(tf.shape(boxes)[0])[:, None, None]
        indices = (image, y[..., None], x[..., None], tf.range(len(mask)))
        place = tf.stack([tf.broadcast_to(index, tf.shape(assigned)) for index in indices], -1)
        return assigned & valid[..., None], place, self._sizes(self.head.anchors)

    def _box_delta(
        self, output: Tensor, truth: Tensor, place: Tensor, sizes: Tensor, rows: int, columns: int
    ) -> Tensor:
        """Returns the deltas of boxes, `delta_yolo_box` (yolo_layer.c:171-283)."""
        options = self.options
        corner = tf.cast(tf.stack([place[..., 2], place[..., 1]], -1), tf.float32)
        if options.iou_loss == "mse":
            centre = truth[..., :2] * [float(columns), float(rows)] - corner
            stretch = truth[..., 2:] / sizes
            size = tf.sqrt(stretch / 4) if self.head.new_coords else tf.math.log(stretch)
            scale = 2 - truth[..., 2:3] * truth[..., 3:4]
            delta = scale * (tf.concat([centre, size], -1) - output[..., :4])
            return tf.where(tf.math.is_finite(delta), delta, 0.0) * options.iou_normalizer
        predicted = self._placed(output, corner, sizes, rows, columns)
        size = tf.where(predicted[..., 2:] == 0, 1.0, predicted[..., 2:])
        predicted = tf.concat([predicted[..., :2], size], -1)
        centre, size = tf.split(_slopes(predicted, truth, options.iou_loss), 2, -1)
        if not self.head.new_coords:
            size *= tf.exp(output[..., 2:4])
        delta = tf.concat([centre, size], -1) * options.iou_normalizer
        delta = tf.where(tf.math.is_finite(delta), delta, 0.0)
        return tf.clip_by_value(delta, -options.max_delta, options.max_delta)


@public
def yolo_losses(network: cfg.Network) -> list[YoloLoss]:
    """Returns Darknet's loss for each output of `build_model(network)`, in order.

    Args:
        network: a network whose heads are `[yolo]` sections.

    Returns:
        A `YoloLoss` for each head, ready for `model.compile(loss=...)`.

    Raises:
        UnsupportedSectionError: a head needs a loss that is not implemented, or there is no head.
    """
    if not network.heads:
        raise refuse(
            network,
            network.layers[-1],
            "no [yolo] section, so there is no loss; for a classifier use a loss of Keras",
        )
    return [YoloLoss(network, head) for head in network.heads]  # type: ignore[arg-type]


# Boxes are [..., 4]: center x, center y, width, height.


def _sides(box: Tensor) -> tuple[Tensor, Tensor]:
    """Returns (left, top) and (right, bottom)."""
    return box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2


def _area(box: Tensor) -> Tensor:
    return box[..., 2] * box[..., 3]


def _iou(box: Tensor, other: Tensor) -> Tensor:
    """Returns the IoU, `box_iou` (box.c:179)."""
    (start, end), (other_start, other_end) = _sides(box), _sides(other)
    shared = tf.minimum(end, other_end) - tf.maximum(start, other_start)
    inside = tf.where(tf.reduce_all(shared >= 0, -1), shared[..., 0] * shared[..., 1], 0.0)
    return tf.math.divide_no_nan(inside, _area(box) + _area(other) - inside)


def _similarity(box: Tensor, other: Tensor, kind: str) -> Tensor:
    """Returns the overlap of a kind, `box_iou_kind` (box.c:166-273)."""
    iou = _iou(box, other)
    if kind == "iou":
        return iou
    (start, end), (other_start, other_end) = _sides(box), _sides(other)
    enclosing = tf.maximum(end, other_end) - tf.minimum(start, other_start)
    if kind == "giou":
        hull = enclosing[..., 0] * enclosing[..., 1]
        union = tf.math.divide_no_nan(_area(box) + _area(other), 1 + iou)
        return iou - tf.math.divide_no_nan(hull - union, hull)
    distance = tf.reduce_sum(tf.square(box[..., :2] - other[..., :2]), -1)
    distance = tf.math.divide_no_nan(distance, tf.reduce_sum(tf.square(enclosing), -1))
    if kind == "diou":
        return iou - distance**GREEDY_BETA
    angle = tf.atan(other[..., 2] / other[..., 3]) - tf.atan(box[..., 2] / box[..., 3])
    shape = 4 / math.pi**2 * tf.square(angle)
    return iou - distance - shape * shape / (1 - iou + shape + 1e-6)


def _slopes(box: Tensor, truth: Tensor, kind: str) -> Tensor:
    """Returns the derivatives of the IoU by center x and y, width and height (box.c:275-440).

    As in Darknet, those by width and height are not halved.
    """
    (start, end), (truth_start, truth_end) = _sides(box), _sides(truth)
    shared = tf.minimum(end, truth_end) - tf.maximum(start, truth_start)
    inside = (shared[..., 0] * shared[..., 1])[..., None]
    union = (_area(box) + _area(truth))[..., None] - inside
    crossing = shared[..., ::-1]  # the factor of a side's length
    inside_start = tf.where(start > truth_start, -crossing, 0.0)
    inside_end = tf.where(end < truth_end, crossing, 0.0)
    union_start = -box[..., 3:1:-1] - inside_start
    union_end = box[..., 3:1:-1] - inside_end

    def slope(inside_slope: Tensor, union_slope: Tensor) -> Tensor:
        return tf.where(
            union > 0,
            (union * inside_slope - inside * union_slope) / tf.square(union),
            0.0,
        )

    at_start, at_end = slope(inside_start, union_start), slope(inside_end, union_end)
    disjoint = tf.reduce_any(shared <= 0, -1, keepdims=True)
    enclosing = tf.maximum(end, truth_end) - tf.minimum(start, truth_start)
    if kind == "giou":
        hull = (enclosing[..., 0] * enclosing[..., 1])[..., None]
        hull_start = tf.where(start < truth_start, -enclosing[..., ::-1], 0.0)
        hull_end = tf.where(end > truth_end, enclosing[..., ::-1], 0.0)
        more_start = (hull * union_start - union * hull_start) / tf.square(hull)
        more_end = (hull * union_end - union * hull_end) / tf.square(hull)
        at_start = tf.where(disjoint, more_start, at_start + more_start)
        at_end = tf.where(disjoint, more_end, at_end + more_end)
    centre, size = at_start + at_end, at_end - at_start
    if kind in ("diou", "ciou"):
        diagonal = tf.reduce_sum(tf.square(enclosing), -1, keepdims=True)
        distance = tf.reduce_sum(tf.square(box[..., :2] - truth[..., :2]), -1, keepdims=True)
        starts_before = tf.cast(start < truth_start, tf.float32)
        ends_after = tf.cast(end > truth_end, tf.float32)
        shift = (
            2 * (truth[..., :2] - box[..., :2]) * diagonal
            - 2 * enclosing * (ends_after - starts_before) * distance
        )
        more_centre = shift / tf.square(diagonal)
        more_size = enclosing * (ends_after + starts_before) * distance / tf.square(diagonal)
        if kind == "ciou":
            angle = tf.atan(truth[..., 2] / truth[..., 3]) - tf.atan(box[..., 2] / box[..., 3])
            shape = 4 / math.pi**2 * tf.square(angle)
            overlap = inside[..., 0] / union[..., 0]
            alpha = shape / (1 - overlap + shape + 1e-6)
            turn = tf.stack([box[..., 3], -box[..., 2]], -1)
            more_size += (alpha * 8 / math.pi**2 * angle)[..., None] * turn
        centre = tf.where(disjoint, more_centre, centre + more_centre)
        size = tf.where(disjoint, more_size, size + more_size)
    return tf.concat([centre, size], -1)
