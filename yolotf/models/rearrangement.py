"""Recognizes calls that move rows and columns into channels, as `[reorg]` does, by running them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from yolotf.darknet import cfg
from yolotf.graphs.sections import resampling
from yolotf.models.keras_calls import effect, function_name, has_weights, run_call
from yolotf.models.keras_graph import Call

_MOST_CALLS = 64
_MOVES = frozenset(
    {"transpose", "permute", "reshape", "getitem", "stridedslice", "extract_patches"}
)


@dataclass(frozen=True)
class Rearrangement:
    """Calls without weights that rearrange a tensor.

    Attributes:
        start: the call that computes the tensor.
        region: the calls, in order of computation; the last one gives the result.
    """

    start: Call
    region: tuple[Call, ...]

    @property
    def shrinks(self) -> bool:
        """Whether the shapes show that rows and columns may have become channels."""
        before, after = self.start.shape, self.region[-1].shape
        if len(before) != 4 or len(after) != 4 or None in (before[3], after[3]):
            return False
        channels, more = int(before[3] or 0), int(after[3] or 0)
        stride = math.isqrt(more // channels) if channels and more % channels == 0 else 1
        return stride > 1 and stride * stride * channels == more

    def run(self, values: Any) -> Any:
        """Runs the calls on `values`, the output of `start`."""
        results = {id(self.start): values}
        for call in self.region:
            results[id(call)] = run_call(call, results)
        return results[id(self.region[-1])]


class Rearrangements:
    """Finds rearrangements as the calls of a graph are visited, producers first."""

    def __init__(self) -> None:
        self._known: dict[int, Rearrangement] = {}

    def ending_with(self, call: Call) -> Rearrangement | None:
        """Returns the rearrangement that ends with `call`, or None.

        A call that has weights, pools or reads tensors from several sources ends none.
        """
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
        calls = dict.fromkeys(call for known in before if known for call in known.region)
        if len(calls) >= _MOST_CALLS:
            return None
        extended = Rearrangement(starts[0], (*calls, call))
        self._known[id(call)] = extended
        return extended


def _moves(call: Call) -> bool:
    """Returns whether a call may begin a rearrangement; a pointwise call does not."""
    return tuple(call.shape) != tuple(call.inputs[0].shape) or (
        function_name(call.layer).lower() in _MOVES
    )


def different_order(
    run: Callable[[Any], Any], section: cfg.Reorg, shape: Sequence[int | None]
) -> str | None:
    """Returns how the order of `run` differs from the section's.

    Args:
        run: the model's function, for an image NHWC.
        section: the section it corresponds to.
        shape: (batch, rows, columns, channels) in the model; the section's replace None.

    Returns:
        The order in words; None if it is the same, or `run` does not rearrange.
    """
    import tensorflow as tf  # imported here: slow

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
    # Positive values, which activations in between usually do not change.
    values = np.random.default_rng(0).random((1, *extents)).astype(np.float32) + 1
    try:
        answer = np.asarray(run(tf.constant(values)), np.float32)
    except Exception:  # a user's layer may raise anything
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
