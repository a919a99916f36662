"""What a network keeps from one frame to the next, for one video."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotf.runtime.engine import Engine

_Array = npt.NDArray[Any]


class Stream:
    """Raw heads of frames in their order.

    Of a network without a memory, those of any pictures, from many threads at once. One with a
    memory is asked frame by frame: a batch is frames in their order. `with stream:` keeps other
    threads' frames out of the middle of a call's.
    """

    def __init__(self, engine: Engine) -> None:
        """Before the first frame.

        Args:
            engine: computes the heads.
        """
        self._engine = engine
        self._turn = threading.RLock()
        self._states: Mapping[str, _Array] | None = None
        self._weights: weakref.ref[Any] | None = None  # they go with their last request

    @property
    def keeps(self) -> bool:
        """Whether the network has a memory."""
        return bool(self._engine.states)

    def __enter__(self) -> Stream:
        if self.keeps:
            self._turn.acquire()
        return self

    def __exit__(self, *raised: object) -> None:
        if self.keeps:
            self._turn.release()

    def reset(self) -> None:
        """Forgets all frames."""
        with self:
            self._states = self._weights = None

    def raw_heads(self, inputs: npt.NDArray[np.float32], weights: Any) -> list[_Array]:
        """What enters the heads; see `Engine.raw_heads`.

        What other weights have left behind is forgotten.
        """
        if not self.keeps:
            return self._engine.raw_heads(inputs, weights)
        with self:
            if self._states is None or self._weights is None or self._weights() is not weights:
                shapes = self._engine.states
                self._states = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
                self._weights = weakref.ref(weights)
            found = []
            for place in range(len(inputs)):
                frame = np.ascontiguousarray(inputs[place : place + 1])
                heads, self._states = self._engine.step(frame, weights, self._states)
                found.append(heads)
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]
