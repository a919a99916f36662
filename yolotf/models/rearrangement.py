"""Calls that move rows and columns into channels, as `[reorg]` does, told by their numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from yolotf.darknet import cfg
from yolotf.graphs.sections import resampling
from yolotf.models.keras_calls import called, effect, function_name, has_weights
from yolotf.models.keras_graph import Call

_MOST_CALLS = 64
_MOVES = frozenset(
    {"transpose", "permute", "reshape", "getitem", "stridedslice", "extract_patches"}
)


@dataclass(frozen=True)
class Rearrangement:
    """Calls without weights that one tensor goes through.

    Attributes:
        start: what it comes from.
        region: the calls, in the order of computation; the last gives the result.
    """

    start: Call
    region: tuple[Call, ...]

    @property
    def shrinks(self) -> bool:
        """Whether rows and columns may have become channels."""
        before, after = self.start.shape, self.region[-1].shape
        if len(before) != 4 or len(after) != 4 or None in (before[3], after[3]):
            return False
        channels, more = int(before[3] or 0), int(after[3] or 0)
        stride = math.isqrt(more // channels) if channels and more % channels == 0 else 1
        return stride > 1 and stride * stride * channels == more

    def run(self, values: Any) -> Any:
        """What comes out for `values`."""
        results = {id(self.start): values}
        for call in self.region:
            results[id(call)] = called(call, results)
        return results[id(self.region[-1])]


class Rearrangements:
    """Finds them while the calls of a graph are gone through, producers first."""

    def __init__(self) -> None:
        self._known: dict[int, Rearrangement] = {}

    def through(self, call: Call) -> Rearrangement | None:
        """The one that ends with `call`; None if it has weights or pools, or reads two tensors."""
        if not call.inputs or has_weights(call.layer) or effect(call) is not None:
            return None
        before = [self._known.get(id(source)) for source in call.inputs]
        starts = [
            known.start if known else source
            for known, source in zip(before, call.inputs, strict=True)
        ]
        if any(start is not starts[0] for start in starts):
            return None
        if not any(before) and not _moves(call):
            return None
        calls = dict.fromkeys(one for known in before if known for one in known.region)
        if len(calls) >= _MOST_CALLS:
            return None
        found = Rearrangement(starts[0], (*calls, call))
        self._known[id(call)] = found
        return found


def _moves(call: Call) -> bool:
    """Whether a call may begin a rearrangement: what works on each number alone does not."""
    return tuple(call.shape) != tuple(call.inputs[0].shape) or (
        function_name(call.layer).lower() in _MOVES
    )


def unlike(
    run: Callable[[Any], Any], section: cfg.Reorg, shape: Sequence[int | None]
) -> str | None:
    """What `run` does that the section does not; None if it does the same, or something else.

    Args:
        run: of the model, for one picture.
        section: what it stands for.
        shape: [batch, rows, columns, channels] in the model; the section's where it is open.
    """
    import tensorflow as tf  # only models that need it come here

    extents = (
        section.input_shape
        if len(shape) != 4
        else cfg.Shape(
            *(known or own for known, own in zip(shape[1:], section.input_shape, strict=True))
        )
    )
    rows, columns, channels = extents
    stride = section.stride
    if rows % stride or columns % stride or channels != section.input_shape.channels:
        return None
    output = cfg.Shape(rows // stride, columns // stride, channels * stride**2)
    if section.reverse:
        output = cfg.Shape(rows * stride, columns * stride, channels // stride**2)
    # Above zero, where activations that may be on the way change nothing.
    values = np.random.default_rng(0).random((1, *extents)).astype(np.float32) + 1
    try:
        answer = np.asarray(run(tf.constant(values)), np.float32)
    except Exception:  # anything may be in a user's layer
        return None
    darknet = replace(section, input_shape=extents, output_shape=output)
    wanted = np.asarray(resampling.reorg(tf.raw_ops, tf.constant(values), darknet))
    if answer.shape != wanted.shape or np.array_equal(answer, wanted):
        return None
    if not np.array_equal(np.sort(answer, axis=None), np.sort(wanted, axis=None)):
        return None
    if np.array_equal(answer, np.asarray(tf.nn.space_to_depth(values, stride))):
        return "space_to_depth"
    return "another order"
