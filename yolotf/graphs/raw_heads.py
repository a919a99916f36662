"""Decoding of raw heads to boxes and probabilities by Darknet's rules, written with `ops`.

As in `operations`, the first argument is where operations are written. Boxes are center x, center
y, width, height, relative to the network's input (0..1). Sources: AlexeyAB/darknet
src/yolo_layer.c, region_layer.c, gaussian_yolo_layer.c, detection_layer.c. TensorFlow is not
imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from yolotf.darknet.cfg import Detection, Head, Network, Region, Yolo
from yolotf.darknet.class_tree import Tree
from yolotf.darknet.decoding import (
    TREE_LIMIT,
    has_class_fix,
    tree_of_heads,
    yolo_point,
)
from yolotf.errors import UnsupportedSectionError
from yolotf.graphs.operations import Operations
from yolotf.graphs.sections.pointwise import tree_softmax

Tensor = Any
Size = Sequence[Any]
"""`(height, width)`: two ints, or two scalar int32 tensors."""


class Decoded(NamedTuple):
    """All N boxes of a head, ordered by row, column and anchor as in Darknet."""

    boxes: Tensor
    """[B, N, 4] float32: center x, y, width, height relative to the network's input."""
    objectness: Tensor
    """[B, N] float32."""
    probabilities: Tensor
    """[B, N, C] float32: class probabilities, not multiplied by `objectness`."""


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
    if isinstance(head, Detection):
        return _decode_detection(ops, raw, head)
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
        centre, extent = ops.Split(axis=-1, value=decoded.boxes, num_split=2)
        half = ops.Mul(x=extent, y=0.5)
        sides = [ops.Sub(x=centre, y=half), ops.AddV2(x=centre, y=half)]
        corners.append(ops.ConcatV2(values=sides, axis=-1))
        found = decoded.probabilities
        if tree is None:
            objectness = ops.ExpandDims(input=decoded.objectness, axis=-1)
            found = ops.Mul(x=objectness, y=found)
        scores.append(found)
    return _joined(ops, corners), _joined(ops, scores)


def _joined(ops: Operations, tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else ops.ConcatV2(values=list(tensors), axis=1)


def rows_of(ops: Operations, raw: Tensor, head: Head, grid: Size) -> Tensor:
    """Returns a row for each box, [batch, boxes, entries], by row, column and anchor."""
    entries = head.coords + 1 + head.classes
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
    scale_x_y = head.scale_x_y if isinstance(head, Yolo) else 1.0
    rule = [scale_x_y, 0.5 * (scale_x_y - 1.0)]
    # Anchors of [region] are in cells.
    extents = [columns, rows] if isinstance(head, Region) else [input_size[1], input_size[0]]
    if all(isinstance(extent, int) for extent in (*grid, *input_size)):
        found = np.empty([rows, columns, anchors, 8], np.float32)
        found[..., 0] = np.arange(columns)[:, None]
        found[..., 1] = np.arange(rows)[:, None, None]
        found[..., 2:4] = columns, rows
        found[..., 4:6] = np.divide(head.anchors, extents, dtype=np.float32)
        found[..., 6:8] = rule
        return found.reshape(-1, 8)
    cells = ops.Mul(x=rows, y=columns)
    number = ops.Range(start=0, limit=cells, delta=1)  # of the cell
    corner = [ops.FloorMod(x=number, y=columns), ops.FloorDiv(x=number, y=columns)]
    corner = [_float(ops, one) for one in corner]
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
    if isinstance(head, Yolo) and head.new_coords:
        return raw
    objectness = ops.Sigmoid(x=raw)
    if has_class_fix(head):
        none = ops.Less(x=objectness, y=0.5)
        zeros = ops.ZerosLike(x=objectness)
        objectness = ops.SelectV2(condition=none, t=zeros, e=objectness)
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
    certainty = None
    if head.type == "Gaussian_yolo":
        # x, its deviation, y, its deviation, and so on; deviations lower the score.
        deviations = ops.Sigmoid(x=ops.GatherV2(params=box, indices=[1, 3, 5, 7], axis=-1))
        mean = ops.Mean(input=deviations, axis=[-1], keep_dims=True)
        certainty = ops.AddV2(x=ops.Neg(x=mean), y=1.0)
        box = ops.GatherV2(params=box, indices=[0, 2, 4, 6], axis=-1)
    centre, extent = ops.Split(axis=-1, value=box, num_split=2)
    if isinstance(head, Region):
        if head.tree and tree is None:
            raise UnsupportedSectionError(
                f"section {head.index} [region]: tree={head.tree} has to be given to decode it",
                line=head.line_of("tree"),
                section=head.type,
                layer=head.index,
            )
        # Without a class tree, Darknet's CPU code applies softmax or nothing, never a sigmoid.
        if tree is not None:
            probabilities = _deepest(ops, classes, tree)
        else:
            probabilities = ops.Softmax(logits=classes) if head.softmax else classes
        centre, size = ops.Sigmoid(x=centre), ops.Mul(x=ops.Exp(x=extent), y=anchor)
    elif isinstance(head, Yolo):
        if head.new_coords:
            probabilities = classes
            size = ops.Mul(x=ops.Mul(x=ops.Square(x=extent), y=4.0), y=anchor)
        else:
            centre, probabilities = ops.Sigmoid(x=centre), ops.Sigmoid(x=classes)
            size = ops.Mul(x=ops.Exp(x=extent), y=anchor)
        if certainty is not None:
            probabilities = ops.Mul(x=probabilities, y=certainty)
        if isinstance(rule, np.ndarray):
            scale, offset = np.split(rule, 2, -1)
        else:
            scale, offset = ops.Split(axis=-1, value=rule, num_split=2)
        centre = ops.Sub(x=ops.Mul(x=centre, y=scale), y=offset)
    else:
        raise TypeError(f"not a head with anchors: {type(head).__name__}")
    centre = ops.RealDiv(x=ops.AddV2(x=centre, y=corner), y=cells)
    if point := yolo_point(head):
        centre = ops.AddV2(x=centre, y=ops.Mul(x=size, y=point))
    boxes = ops.ConcatV2(values=[centre, size], axis=-1)
    return Decoded(boxes, objectness, probabilities)


def _deepest(ops: Operations, classes: Tensor, tree: Tree) -> Tensor:
    """Returns scores: only the last class above 0.5 has one (region_layer.c:411-420).

    Probabilities are multiplied by those of all ancestors first.

    Args:
        ops: where to write the operations.
        classes: [..., classes], raw.
        tree: the class tree.
    """
    count = len(tree.parents)
    rows = ops.Reshape(tensor=classes, shape=[-1, 1, 1, count])
    values = tree_softmax(ops, rows, (1, 1, count), tree.groups)
    values = ops.Reshape(tensor=values, shape=[-1, count])
    for branch in tree.branches():
        above = ops.PadV2(input=values, paddings=[[0, 0], [0, 1]], constant_values=1.0)
        above = ops.GatherV2(params=above, indices=list(map(int, branch[:-1])), axis=1)
        values = ops.Mul(x=values, y=above)
    likely = ops.Greater(x=values, y=TREE_LIMIT)
    zeros = ops.ZerosLike(x=values)
    numbers = [[float(number) for number in range(1, count + 1)]]
    numbers = ops.SelectV2(condition=likely, t=numbers, e=zeros)
    last = ops.Maximum(x=ops.Max(input=numbers, axis=[1], keep_dims=True), y=1.0)
    values = ops.SelectV2(condition=ops.Equal(x=numbers, y=last), t=values, e=zeros)
    return ops.Reshape(tensor=values, shape=ops.Shape(input=classes))


def _decode_detection(ops: Operations, raw: Tensor, head: Detection) -> Decoded:
    """Decodes YOLO version 1: classes of all cells, then confidences, then boxes."""
    if len(raw.shape) == 4:
        raw = ops.Transpose(x=raw, perm=[0, 3, 1, 2])  # Darknet flattens channels first
    cells, classes, num = head.side**2, head.classes, head.num
    ends = [cells * classes, cells * (classes + num), cells * (classes + num * (1 + head.coords))]
    flat = ops.Reshape(tensor=raw, shape=[-1, ends[2]])
    probabilities, objectness, boxes = ops.SplitV(
        value=flat,
        size_splits=[ends[0], ends[1] - ends[0], ends[2] - ends[1]],
        axis=1,
        num_split=3,
    )
    batch = ops.Slice(input=ops.Shape(input=flat), begin=[0], size=[1])
    # Not -1, which cannot be inferred if there are no classes.
    shape = ops.ConcatV2(values=[batch, [cells, 1, classes]], axis=0)
    probabilities = ops.Reshape(tensor=probabilities, shape=shape)
    if head.softmax:
        probabilities = ops.Softmax(logits=probabilities)
    probabilities = ops.Tile(input=probabilities, multiples=[1, 1, num, 1])
    shape = ops.ConcatV2(values=[batch, [cells * num, classes]], axis=0)
    probabilities = ops.Reshape(tensor=probabilities, shape=shape)
    boxes = ops.Reshape(tensor=boxes, shape=[-1, cells, num, 4])
    cell = np.arange(cells)
    corner = np.stack([cell % head.side, cell // head.side], 1).astype(np.float32)[:, None]
    centre, size = ops.Split(axis=-1, value=boxes, num_split=2)
    centre = ops.RealDiv(x=ops.AddV2(x=centre, y=corner), y=float(head.side))
    if head.sqrt:
        size = ops.Square(x=size)
    boxes = ops.ConcatV2(values=[centre, size], axis=-1)
    return Decoded(ops.Reshape(tensor=boxes, shape=[-1, cells * num, 4]), objectness, probabilities)
