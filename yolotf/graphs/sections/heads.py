"""Decoding of the floats of heads, written with `ops`.

Sources: AlexeyAB/darknet src/yolo_layer.c, region_layer.c, gaussian_yolo_layer.c,
detection_layer.c.
"""

from __future__ import annotations

import numpy as np

from yolotf.darknet import cfg
from yolotf.darknet.class_tree import Tree
from yolotf.darknet.decoding import TREE_LIMIT
from yolotf.errors import UnsupportedSectionError
from yolotf.graphs.head_decoders import BoxParts, Decoded, Rows, decodes_image, decodes_rows
from yolotf.graphs.operations import Operations
from yolotf.graphs.sections.pointwise import tree_softmax
from yolotf.interfaces import Tensor


@decodes_rows(cfg.Yolo)
def _yolo(ops: Operations, head: cfg.Yolo, rows: Rows, tree: Tree | None) -> BoxParts:
    """`[yolo]` and `[Gaussian_yolo]` (yolo_layer.c:131, gaussian_yolo_layer.c:134)."""
    box, certainty = rows.box, None
    if head.type == "Gaussian_yolo":
        # x, its deviation, y, its deviation, and so on; deviations lower the score.
        deviations = ops.Sigmoid(x=ops.GatherV2(params=box, indices=[1, 3, 5, 7], axis=-1))
        mean = ops.Mean(input=deviations, axis=[-1], keep_dims=True)
        certainty = ops.AddV2(x=ops.Neg(x=mean), y=1.0)
        box = ops.GatherV2(params=box, indices=[0, 2, 4, 6], axis=-1)
    center, extent = ops.Split(axis=-1, value=box, num_split=2)
    if head.new_coords:
        probabilities = rows.classes
        size = ops.Mul(x=ops.Mul(x=ops.Square(x=extent), y=4.0), y=rows.anchor)
    else:
        center, probabilities = ops.Sigmoid(x=center), ops.Sigmoid(x=rows.classes)
        size = ops.Mul(x=ops.Exp(x=extent), y=rows.anchor)
    if certainty is not None:
        probabilities = ops.Mul(x=probabilities, y=certainty)
    if isinstance(rows.center_rule, np.ndarray):
        scale, offset = np.split(rows.center_rule, 2, -1)
    else:
        scale, offset = ops.Split(axis=-1, value=rows.center_rule, num_split=2)
    center = ops.Sub(x=ops.Mul(x=center, y=scale), y=offset)
    return BoxParts(center, size, probabilities)


@decodes_rows(cfg.Region)
def _region(ops: Operations, head: cfg.Region, rows: Rows, tree: Tree | None) -> BoxParts:
    """`[region]` (region_layer.c:86, 187)."""
    center, extent = ops.Split(axis=-1, value=rows.box, num_split=2)
    if head.tree and tree is None:
        raise UnsupportedSectionError(
            f"section {head.index} [region]: decoding needs the class tree of tree={head.tree}; "
            "pass tree=",
            line=head.line_of("tree"),
            section=head.type,
            layer=head.index,
        )
    # Without a class tree, Darknet's CPU code applies softmax or nothing, never a sigmoid.
    if tree is not None:
        probabilities = _deepest(ops, rows.classes, tree)
    else:
        probabilities = ops.Softmax(logits=rows.classes) if head.softmax else rows.classes
    center, size = ops.Sigmoid(x=center), ops.Mul(x=ops.Exp(x=extent), y=rows.anchor)
    return BoxParts(center, size, probabilities)


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


@decodes_image(cfg.Detection)
def _detection(ops: Operations, raw: Tensor, head: cfg.Detection) -> Decoded:
    """`[detection]` (detection_layer.c:49, 288): classes of all cells, confidences, then boxes."""
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
    center, size = ops.Split(axis=-1, value=boxes, num_split=2)
    center = ops.RealDiv(x=ops.AddV2(x=center, y=corner), y=float(head.side))
    if head.sqrt:
        size = ops.Square(x=size)
    boxes = ops.ConcatV2(values=[center, size], axis=-1)
    return Decoded(ops.Reshape(tensor=boxes, shape=[-1, cells * num, 4]), objectness, probabilities)
