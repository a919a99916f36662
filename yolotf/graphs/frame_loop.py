"""A TensorFlow loop over the frames of a video; imports TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from yolotf.interfaces import Tensor

Step = Callable[[Tensor, Sequence[Tensor]], tuple[Sequence[Tensor], Sequence[Tensor]]]
"""Maps a frame [1, ...] and the state to outputs [1, ...] and the next state."""


def run_in_order(
    step: Step, frames: Tensor, states: Sequence[Tensor], shapes: Sequence[Sequence[int]]
) -> tuple[list[Tensor], list[Tensor]]:
    """Runs `step` on each of `frames`, a batch of consecutive frames.

    Args:
        step: see `Step`.
        frames: [frames, ...].
        states: the state before the first frame.
        shapes: of the outputs, without the batch axis.

    Returns:
        The outputs, [frames, ...] each, and the state after the last frame.
    """
    if frames.shape[0] == 1:
        outputs, states = step(frames, states)
        return list(outputs), list(states)
    count = tf.shape(frames)[0]
    arrays = [
        tf.TensorArray(frames.dtype, size=count, element_shape=tuple(shape)) for shape in shapes
    ]

    def body(number: Tensor, arrays: list[Any], states: list[Tensor]) -> tuple[Any, ...]:
        outputs, after = step(frames[number][None], states)
        written = [
            array.write(number, output[0]) for array, output in zip(arrays, outputs, strict=True)
        ]
        return number + 1, written, list(after)

    start = (tf.constant(0), arrays, list(states))
    _, arrays, after = tf.while_loop(
        lambda number, *_: number < count, body, start, parallel_iterations=1
    )
    stacked = [array.stack() for array in arrays]
    outputs = [
        tf.ensure_shape(output, [None, *shape])
        for output, shape in zip(stacked, shapes, strict=True)
    ]
    return outputs, after
