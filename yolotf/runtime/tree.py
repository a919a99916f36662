"""Heads with a class tree: which one class each box is of, before the native decoding."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from yolotf.darknet.cfg import Region
from yolotf.darknet.head_rules import TREE_LIMIT, has_class_fix
from yolotf.darknet.tree import Tree

_Floats = npt.NDArray[np.float32]
_Run = tuple[int, int, np.float32]
"""Classes with one parent, from and to, and what they are multiplied with."""

_SURE = np.float32(100)
"""A logistic makes it 1."""


class TreeDecoder:
    """Puts in place of a tree's numbers those of the few classes that boxes are of.

    By get_region_boxes (region_layer.c:379-420): a softmax for each run of classes with one
    parent, each class times all above it; a box is of the last class that is above a half, which is
    the deepest one, and that number is its score. Its objectness is only compared.
    """

    def __init__(self, tree: Tree) -> None:
        """Looks at the runs."""
        ends = list(itertools.accumulate(tree.groups))
        self._roots: list[tuple[int, int]] = []
        self._below: dict[int, list[tuple[int, int]]] = {}
        for start, end in zip([0, *ends], ends, strict=False):
            parent = tree.parents[start]
            runs = self._roots if parent < 0 else self._below.setdefault(parent, [])
            runs.append((start, end))

    def __call__(
        self, raws: Sequence[_Floats], heads: Sequence[Region], score: float
    ) -> tuple[list[_Floats], list[int]]:
        """Heads of few classes, and which classes of the tree those are.

        Args:
            raws: what enters each head, [pictures, rows, columns, channels].
            heads: of one tree.
            score: lowest score of a detection.

        Returns:
            [pictures, rows, columns, anchors * (5 + classes)]: for `[region]` without softmax,
            each class number a score.
        """
        found = [self._find(raw, head, score) for raw, head in zip(raws, heads, strict=True)]
        classes = sorted({one[1] for boxes in found for one in boxes}) or [0]
        column = {class_id: 5 + place for place, class_id in enumerate(classes)}
        outputs = []
        for raw, head, boxes in zip(raws, heads, found, strict=True):
            rows = _rows(raw, head)
            few = np.zeros([len(rows), 5 + len(classes)], np.float32)
            few[:, :4], few[:, 4] = rows[:, :4], _SURE
            for box, class_id, likely in boxes:
                few[box, column[class_id]] = likely
            outputs.append(few.reshape([*raw.shape[:3], -1]))
        return outputs, classes

    def _find(self, raw: _Floats, head: Region, score: float) -> list[tuple[int, int, np.float32]]:
        """Box, class and score of what may be a detection."""
        rows = _rows(raw, head)
        with np.errstate(all="ignore"):
            objectness = 1 / (1 + np.exp(-rows[:, 4]))
            if has_class_fix(head):
                objectness[objectness < 0.5] = 0
            found = []
            for box in np.flatnonzero(objectness > np.float32(score)).tolist():
                class_id, likely = self._deepest(rows[box, 5:])
                if class_id >= 0:
                    found.append((box, class_id, likely))
        return found

    def _deepest(self, numbers: _Floats) -> tuple[int, np.float32]:
        """The last class that is above a half, and how likely it is; -1 if none is."""
        found, likely = -1, np.float32(0)
        waiting: list[_Run] = [(*run, np.float32(1)) for run in self._roots]
        while waiting:
            start, end, above = waiting.pop()
            part = numbers[start:end]
            powers = np.exp(part - part.max())
            shares = powers / powers.sum() * above
            place = int(shares.argmax())  # two cannot be above a half
            if not shares[place] > TREE_LIMIT:
                continue
            class_id = start + place
            if class_id > found:
                found, likely = class_id, shares[place]
            waiting += ((*run, shares[place]) for run in self._below.get(class_id, []))
        return found, likely


def _rows(raw: _Floats, head: Region) -> _Floats:
    """[pictures * rows * columns * anchors, 5 + classes]."""
    return raw.reshape(-1, 5 + head.classes)
