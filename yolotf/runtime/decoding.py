"""Raw heads -> detections, natively: what graphs/decode.py does in TensorFlow's operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yolotf import _core
from yolotf.darknet.cfg import Detection, Head, Network, Region, Yolo
from yolotf.darknet.decoding import (
    NMS_KINDS,
    Suppression,
    check_heads,
    has_class_fix,
    suppression_of,
    tree_of_heads,
    yolo_point,
)
from yolotf.darknet.detection_options import DetectionOptions

_KINDS = ("yolo", "Gaussian_yolo", "region", "detection")
"""By value of HeadKind, decode.h."""


class Found(NamedTuple):
    """Detections of one picture, best first."""

    boxes: npt.NDArray[np.float32]
    """[N, 4]: left, top, right, bottom in pixels of the picture."""
    scores: npt.NDArray[np.float32]
    """[N]."""
    classes: npt.NDArray[np.int32]
    """[N]."""


class Decoder:
    """Decodes what enters a network's heads; made once, called from any thread."""

    def __init__(self, network: Network, suppression: Suppression | None = None) -> None:
        """Describes the heads to the native code.

        Args:
            network: whose heads they are.
            suppression: used in place of the network's own rule.

        Raises:
            UnsupportedSectionError: heads that cannot be decoded (see `check_heads`).
            OSError: the heads' class tree cannot be read.
            YolotfError: it is none, or another network's.
        """
        check_heads(network)
        heads = network.heads
        self._heads = np.array([_integers(head) for head in heads], np.int64)
        most = max(len(head.anchors) for head in heads)
        self._numbers = np.zeros([len(heads), 2 + 2 * most], np.float64)
        for row, head in zip(self._numbers, heads, strict=True):
            row[:2] = head.scale_x_y if isinstance(head, Yolo) else 1.0, yolo_point(head)
            row[2 : 2 + 2 * len(head.anchors)] = np.ravel(head.anchors)
        tree = tree_of_heads(network)
        self._tree = None if tree is None else _core.ClassTree(tree.parents, tree.groups)
        self._letter_box = network.letter_box
        self._suppression = suppression or suppression_of(network)

    def __call__(
        self,
        raws: Sequence[npt.NDArray[np.float32]],
        input_size: tuple[int, int],
        image_sizes: npt.ArrayLike,
        *,
        score: float = DetectionOptions.score_threshold,
        iou: float = DetectionOptions.iou_threshold,
        max_boxes: int = DetectionOptions.max_boxes,
        letter_box: bool | None = None,
        agnostic: bool = False,
        unwanted: Iterable[int] = (),
        threads: int = 1,
    ) -> list[Found]:
        """Decodes, thresholds and suppresses as Darknet's detector does.

        Args:
            raws: what enters each head, in cfg order, [pictures, rows, columns, channels]
                float32 in C order; read where it is.
            input_size: (height, width) of what the network saw.
            image_sizes: [pictures, 2], (height, width) of the pictures the input was made from, in
                whose pixels the answer is.
            score: lowest score of a detection; at least 0, below 1.
            iou: boxes of one class that overlap more exclude each other; likewise.
            max_boxes: detections for a picture, the best ones.
            letter_box: whether the pictures were fitted with their proportions kept; None: as the
                cfg says.
            agnostic: boxes of different classes exclude each other, too.
            unwanted: classes to leave out; their boxes exclude none.
            threads: pictures decoded at once.

        Returns:
            One `Found` for each picture.

        Raises:
            ValueError: an argument has another form.
        """
        boxes, scores, classes, counts = _core.detections(
            list(raws),
            self._heads,
            self._numbers,
            input_size,
            np.asarray(image_sizes, np.int64),
            score=score,
            iou=iou,
            max_boxes=max_boxes,
            suppression=NMS_KINDS.index(self._suppression.kind),
            beta=self._suppression.beta,
            letter_box=self._letter_box if letter_box is None else letter_box,
            agnostic=agnostic,
            unwanted=list(unwanted),
            tree=self._tree,
            threads=threads,
        )
        ends = np.cumsum(counts)[:-1]
        columns = (np.split(column, ends) for column in (boxes, scores, classes))
        return [Found(*picture) for picture in zip(*columns, strict=True)] if len(counts) else []


def _integers(head: Head) -> list[int]:
    """A row of what `_core.detections` calls `heads`."""
    return [
        _KINDS.index(head.type),
        head.classes,
        head.num if isinstance(head, Detection) else len(head.anchors),
        isinstance(head, Yolo) and head.new_coords,
        isinstance(head, Region | Detection) and head.softmax,
        has_class_fix(head),
        isinstance(head, Detection) and head.sqrt,
        head.side if isinstance(head, Detection) else 0,
    ]
