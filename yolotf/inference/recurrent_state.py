"""Recurrent state of a network across the frames of one video."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotf.runtime.engine import Engine

_Array = npt.NDArray[Any]


class StatefulRunner:
    """Computes raw heads, frame by frame if the network is recurrent.

    Images for other networks may come from many threads at once. For a recurrent network, a batch
    holds consecutive frames, and `with runner:` keeps the frames of other threads out until the
    block ends.
    """

    def __init__(self, engine: Engine) -> None:
        """Starts before the first frame.

        Args:
            engine: computes the heads.
        """
        self._engine = engine
        self._lock = threading.RLock()
        self._states: Mapping[str, _Array] | None = None
        self._weights: weakref.ref[Any] | None = None  # weak: freed with their last request

    @property
    def stateful(self) -> bool:
        """Whether the network is recurrent."""
        return bool(self._engine.states)

    def __enter__(self) -> StatefulRunner:
        if self.stateful:
            self._lock.acquire()
        return self

    def __exit__(self, *raised: object) -> None:
        if self.stateful:
            self._lock.release()

    def reset(self) -> None:
        """Resets the recurrent state."""
        with self:
            self._states = self._weights = None

    def raw_heads(self, inputs: npt.NDArray[np.float32], weights: Any) -> list[_Array]:
        """Returns the inputs of the heads; see `Engine.raw_heads`.

        State computed with other weights is reset.
        """
        if not self.stateful:
            return self._engine.raw_heads(inputs, weights)
        with self:
            if self._states is None or self._weights is None or self._weights() is not weights:
                shapes = self._engine.states
                self._states = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
                self._weights = weakref.ref(weights)
            heads_by_frame = []
            for number in range(len(inputs)):
                frame = np.ascontiguousarray(inputs[number : number + 1])
                heads, self._states = self._engine.step(frame, weights, self._states)
                heads_by_frame.append(heads)
        return [np.concatenate(frames) for frames in zip(*heads_by_frame, strict=True)]
