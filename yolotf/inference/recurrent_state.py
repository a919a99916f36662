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


class Stream:
    """Computes raw heads, frame by frame if the network is recurrent.

    Other networks take any images from many threads at once. For a recurrent one, a batch holds
    consecutive frames, and `with stream:` keeps other threads' frames from coming in between.
    """

    def __init__(self, engine: Engine) -> None:
        """Starts before the first frame.

        Args:
            engine: computes the heads.
        """
        self._engine = engine
        self._turn = threading.RLock()
        self._states: Mapping[str, _Array] | None = None
        self._weights: weakref.ref[Any] | None = None  # weak: freed with their last request

    @property
    def keeps(self) -> bool:
        """Whether the network is recurrent."""
        return bool(self._engine.states)

    def __enter__(self) -> Stream:
        if self.keeps:
            self._turn.acquire()
        return self

    def __exit__(self, *raised: object) -> None:
        if self.keeps:
            self._turn.release()

    def reset(self) -> None:
        """Resets the recurrent state."""
        with self:
            self._states = self._weights = None

    def raw_heads(self, inputs: npt.NDArray[np.float32], weights: Any) -> list[_Array]:
        """Returns the inputs of the heads; see `Engine.raw_heads`.

        State computed with other weights is reset.
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
