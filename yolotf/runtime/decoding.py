"""Native decoding of raw heads to detections; graphs/decode.py does the same in TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from yolotf import _core
from yolotf._public import renamed
from yolotf.darknet.cfg import Head, Network
from yolotf.darknet.decoding import (
    Suppression,
    check_heads,
    suppression_of,
    tree_of_heads,
)
from yolotf.darknet.detection_options import DetectionOptions

Order = Literal["score", "alexeyab", "hank-ai"]
"""One of `_core.ORDERS`."""


class DecodedImage(NamedTuple):
    """Detections of one image, best first unless another order was asked for."""

    boxes: npt.NDArray[np.float32]
    """[N, 4]: left, top, right, bottom in pixels of the image."""
    scores: npt.NDArray[np.float32]
    """[N]."""
    classes: npt.NDArray[np.int32]
    """[N]."""


class Decoder:
    """Decodes the raw heads of a network; thread-safe."""

    def __init__(
        self, network: Network, suppression: Suppression | None = None, order: Order = "score"
    ) -> None:
        """Passes the heads' parameters to the native code.

        Args:
            network: the network of the heads.
            suppression: replaces the network's own rule.
            order: the order of the detections: best first, or as a Darknet leaves them for its
                `detector map`. Both Darknets sort the boxes by their score in each class, one class
                after the other; AlexeyAB's with a stable sort (box.c:812), hank-ai's with std::sort
                (box.cpp:249).

        Raises:
            UnsupportedSectionError: a head cannot be decoded (see `check_heads`).
            OSError: the heads' class tree cannot be read.
            YolotfError: the class tree is invalid, or belongs to another network.
        """
        check_heads(network)
        heads = network.heads
        self._head_integers = np.array([HeadFields.of(head) for head in heads], np.int64)
        most_anchors = max(len(head.anchors) for head in heads)
        self._head_floats = np.zeros([len(heads), 2 + 2 * most_anchors], np.float64)
        for row, head in zip(self._head_floats, heads, strict=True):
            row[:2] = head.rule.scale_x_y, head.rule.shift
            row[2 : 2 + 2 * len(head.anchors)] = np.ravel(head.anchors)
        tree = tree_of_heads(network)
        self._tree = None if tree is None else _core.ClassTree(tree.parents, tree.groups)
        self._letter_box = network.letter_box
        self._suppression = suppression or suppression_of(network)
        self._order = _core.ORDERS.index(order)

    @renamed(score="score_threshold", iou="iou_threshold")
    def __call__(
        self,
        raws: Sequence[npt.NDArray[np.float32]],
        input_size: tuple[int, int],
        image_sizes: npt.ArrayLike,
        *,
        score_threshold: float = DetectionOptions.score_threshold,
        iou_threshold: float = DetectionOptions.iou_threshold,
        max_boxes: int = DetectionOptions.max_boxes,
        letter_box: bool | None = None,
        agnostic: bool = False,
        unwanted: Iterable[int] = (),
        threads: int = 1,
    ) -> list[DecodedImage]:
        """Returns the detections of raw heads: decodes, thresholds and suppresses as Darknet does.

        Args:
            raws: the inputs of the heads, in cfg order, [images, rows, columns, channels] float32
                in C order; not copied.
            input_size: (height, width) of the network's input in this call.
            image_sizes: [images, 2], (height, width) of the original images, in whose pixels boxes
                are returned.
            score_threshold: lowest score of a detection, in [0, 1).
            iou_threshold: of boxes of one class that overlap more (IoU), only the best is kept;
                in [0, 1).
            max_boxes: largest number of detections per image; the best are kept.
            letter_box: whether images were resized with their proportions kept; None: as in the
                cfg.
            agnostic: suppress overlapping boxes of different classes too.
            unwanted: classes to drop; their boxes suppress nothing.
            threads: number of images decoded in parallel.

        Returns:
            A `DecodedImage` for each image.

        Raises:
            ValueError: an argument has the wrong shape or type.
        """
        boxes, scores, classes, counts = _core.detections(
            list(raws),
            self._head_integers,
            self._head_floats,
            input_size,
            np.asarray(image_sizes, np.int64),
            score=score_threshold,
            iou=iou_threshold,
            max_boxes=max_boxes,
            suppression=_core.SUPPRESSION_KINDS.index(self._suppression.kind),
            beta=self._suppression.beta,
            letter_box=self._letter_box if letter_box is None else letter_box,
            agnostic=agnostic,
            unwanted=list(unwanted),
            tree=self._tree,
            threads=threads,
            order=self._order,
        )
        ends = np.cumsum(counts)[:-1]
        columns = (np.split(column, ends) for column in (boxes, scores, classes))
        return [DecodedImage(*image) for image in zip(*columns, strict=True)] if len(counts) else []


class HeadFields(NamedTuple):
    """A row of the `heads` argument of `_core.detections`: `HEAD_FIELDS`."""

    kind: int
    """Index into `_core.HEAD_KINDS`."""
    classes: int
    boxes: int
    new_coords: bool
    softmax: bool
    class_fix: bool
    sqrt: bool
    side: int

    @classmethod
    def of(cls, head: Head) -> HeadFields:
        """Returns the row of a head."""
        rule = head.rule
        return cls(
            kind=_core.HEAD_KINDS.index(head.type),
            classes=head.classes,
            boxes=rule.boxes,
            new_coords=rule.new_coords,
            softmax=rule.softmax,
            class_fix=rule.class_fix,
            sqrt=rule.sqrt,
            side=rule.side,
        )
