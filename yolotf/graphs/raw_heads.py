"""Decoding of raw heads to boxes and probabilities by Darknet's rules, written with `ops`.

As in `operations`, the first argument is where operations are written. Boxes are center x, center
y, width, height, relative to the network's input (0..1). Sources: AlexeyAB/darknet
src/yolo_layer.c, region_layer.c, gaussian_yolo_layer.c, detection_layer.c. TensorFlow is not
imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from yolotf.darknet.cfg import Head, Network
from yolotf.darknet.class_tree import Tree
from yolotf.darknet.decoding import tree_of_heads
from yolotf.graphs import sections  # noqa: F401  registers the decoders
from yolotf.graphs.head_decoders import IMAGE_DECODERS, ROW_DECODERS, Decoded, Rows
from yolotf.graphs.operations import Operations
from yolotf.interfaces import Tensor

__all__ = [
    "Decoded",
    "corners_and_scores",
    "decode",
    "decode_rows",
    "objectness_of",
    "places",
    "rows_of",
]

Size = Sequence[Any]
"""`(height, width)`: two ints, or two scalar int32 tensors."""


def decode(
    ops: Operations,
    raw: Tensor,
    head: Head,
    grid: Size,
    input_size: Size,
    tree: Tree | None = None,
) -> Decoded:
    """Returns the boxes and probabilities of a head; see `decode.decode_head`.

    Args:
        ops: where to write the operations.
        raw: the input of the head, [batch, rows, columns, channels]; for `[detection]` it may be
            flat.
        head: the head.
        grid: its rows and columns.
        input_size: (height, width) of the network's input in this call.
        tree: the class tree that the head names.
    """
    if type(head) in IMAGE_DECODERS:
        return IMAGE_DECODERS[type(head)](ops, raw, head)
    return decode_rows(
        ops, rows_of(ops, raw, head, grid), places(ops, head, grid, input_size), head, tree
    )


def corners_and_scores(
    ops: Operations, raws: Sequence[Tensor], network: Network, grids: Sequence[Size], size: Size
) -> tuple[Tensor, Tensor]:
    """Returns all boxes of all heads, in cfg order, without threshold or suppression.

    Args:
        ops: where to write the operations.
        raws: the inputs of the heads, in cfg order.
        network: the network of the heads.
        grids: rows and columns of each head.
        size: (height, width) of the network's input in this call.

    Returns:
        [batch, boxes, 4]: left, top, right, bottom, relative to the input; and [batch, boxes,
        classes]: scores; with a class tree, a single class of each box has a score above 0.
    """
    tree = tree_of_heads(network)
    corners, scores = [], []
    for raw, head, grid in zip(raws, network.heads, grids, strict=True):
        decoded = decode(ops, raw, head, grid, size, tree)
        center, extent = ops.Split(axis=-1, value=decoded.boxes, num_split=2)
        half = ops.Mul(x=extent, y=0.5)
        sides = [ops.Sub(x=center, y=half), ops.AddV2(x=center, y=half)]
        corners.append(ops.ConcatV2(values=sides, axis=-1))
        scores_of_head = decoded.probabilities
        if tree is None:
            objectness = ops.ExpandDims(input=decoded.objectness, axis=-1)
            scores_of_head = ops.Mul(x=objectness, y=scores_of_head)
        scores.append(scores_of_head)
    return _joined(ops, corners), _joined(ops, scores)


def _joined(ops: Operations, tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else ops.ConcatV2(values=list(tensors), axis=1)


def rows_of(ops: Operations, raw: Tensor, head: Head, grid: Size) -> Tensor:
    """Returns a row for each box, [batch, boxes, entries], by row, column and anchor."""
    entries = head.entries
    rows, columns = grid
    if isinstance(rows, int) and isinstance(columns, int):
        boxes = rows * columns * len(head.anchors)
        return ops.Reshape(tensor=raw, shape=[-1, boxes, entries])
    batch = ops.Slice(input=ops.Shape(input=raw), begin=[0], size=[1])
    return ops.Reshape(tensor=raw, shape=ops.ConcatV2(values=[batch, [-1, entries]], axis=0))


def places(ops: Operations, head: Head, grid: Size, input_size: Size) -> Tensor:
    """Returns the cell and the anchor of each box of a head.

    Args:
        ops: where to write the operations.
        head: `[yolo]`, `[Gaussian_yolo]` or `[region]`.
        grid: its rows and columns.
        input_size: see `decode`.

    Returns:
        [N, 8] float32: column and row; number of columns and rows; the anchor's width and height,
        relative to the input; the factor of the center in its cell, and the offset subtracted from
        the product. A NumPy array if all sizes are ints, which a graph holds as one constant.
    """
    rows, columns = grid
    anchors = len(head.anchors)
    scale_x_y = head.rule.scale_x_y
    rule = [scale_x_y, 0.5 * (scale_x_y - 1.0)]
    extents = [columns, rows] if head.anchors_in_cells else [input_size[1], input_size[0]]
    if all(isinstance(extent, int) for extent in (*grid, *input_size)):
        table = np.empty([rows, columns, anchors, 8], np.float32)
        table[..., 0] = np.arange(columns)[:, None]
        table[..., 1] = np.arange(rows)[:, None, None]
        table[..., 2:4] = columns, rows
        table[..., 4:6] = np.divide(head.anchors, extents, dtype=np.float32)
        table[..., 6:8] = rule
        return table.reshape(-1, 8)
    cells = ops.Mul(x=rows, y=columns)
    number = ops.Range(start=0, limit=cells, delta=1)  # of the cell
    corner = [ops.FloorMod(x=number, y=columns), ops.FloorDiv(x=number, y=columns)]
    corner = [_float(ops, column_or_row) for column_or_row in corner]
    # One row per cell, with the cell's anchors one after another.
    width, height = (_float(ops, extent) for extent in (columns, rows))
    across, down = (_float(ops, extent) for extent in extents)
    ones = ops.OnesLike(x=corner[0])
    of_anchors = []
    for anchor in head.anchors:
        of_cell = [
            *corner,
            ops.Mul(x=ones, y=width),
            ops.Mul(x=ones, y=height),
            ops.RealDiv(x=ops.Mul(x=ones, y=float(anchor[0])), y=across),
            ops.RealDiv(x=ops.Mul(x=ones, y=float(anchor[1])), y=down),
            *(ops.Mul(x=ones, y=number) for number in rule),
        ]
        of_anchors.append(ops.Pack(values=of_cell, axis=1))
    return ops.Reshape(tensor=ops.Pack(values=of_anchors, axis=1), shape=[-1, 8])


def _float(ops: Operations, values: Any) -> Tensor:
    """Returns sizes as float32."""
    return float(values) if isinstance(values, int) else ops.Cast(x=values, DstT="float32")


def objectness_of(ops: Operations, raw: Tensor, head: Head) -> Tensor:
    """Returns the objectness of each box."""
    if head.rule.new_coords:
        return raw
    objectness = ops.Sigmoid(x=raw)
    if head.rule.class_fix:
        low = ops.Less(x=objectness, y=0.5)
        zeros = ops.ZerosLike(x=objectness)
        objectness = ops.SelectV2(condition=low, t=zeros, e=objectness)
    return objectness


def decode_rows(
    ops: Operations, rows: Tensor, places: Tensor, head: Head, tree: Tree | None = None
) -> Decoded:
    """Decodes [..., entries] rows of a head with anchors, given their [..., 8] `places`."""
    box, objectness, classes = ops.SplitV(
        value=rows, size_splits=[head.coords, 1, head.classes], axis=-1, num_split=3
    )
    objectness = objectness_of(ops, ops.Squeeze(input=objectness, axis=[-1]), head)
    if isinstance(places, np.ndarray):
        corner, cells, anchor, rule = np.split(places, 4, -1)
    else:
        corner, cells, anchor, rule = ops.Split(axis=-1, value=places, num_split=4)
    if type(head) not in ROW_DECODERS:
        raise TypeError(f"not a head with anchors: {type(head).__name__}")
    center, size, probabilities = ROW_DECODERS[type(head)](
        ops, head, Rows(box, classes, anchor, rule), tree
    )
    center = ops.RealDiv(x=ops.AddV2(x=center, y=corner), y=cells)
    if head.rule.shift:
        center = ops.AddV2(x=center, y=ops.Mul(x=size, y=head.rule.shift))
    boxes = ops.ConcatV2(values=[center, size], axis=-1)
    return Decoded(boxes, objectness, probabilities)
