"""The interface of inference engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from yolotf.darknet import cfg
from yolotf.weights.file import WeightsSource
from yolotf.weights.header import Header

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


class LoadedWeights(Protocol):
    """The weights of a file, ready for inference; freed with their last request."""

    @property
    def path(self) -> str:
        """Path of the file."""

    @property
    def header(self) -> Header:
        """Header of the file."""


class Engine(Protocol):
    """Computes the raw heads of a network, with any number of sets of weights.

    All methods are thread-safe. `weights` is always a result of `load` of the same engine.
    """

    @property
    def network(self) -> cfg.Network:
        """The network."""

    @property
    def states(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the recurrent state, by key."""

    def load(self, weights: WeightsSource, *, verify: bool = True) -> Any:
        """Reads a file into `LoadedWeights`.

        Args:
            weights: the file.
            verify: see `load_darknet_weights`.

        Raises:
            WeightsMismatch: the file does not match the network.
            OSError: the file cannot be read.
            OutOfMemoryError: there is not enough memory for the weights.
            ForkedProcessError: the process was forked after an engine had been started.
        """

    def raw_heads(self, inputs: Floats, weights: Any) -> list[Array]:
        """Returns the inputs of the heads, in cfg order, [batch, rows, columns, channels].

        Args:
            inputs: [batch, height, width, channels] float32, 0..1, of the network's size.
            weights: from `load`.

        Raises:
            OutOfMemoryError: the run needs more memory than the process may use.
            EngineError: inference fails.
            ForkedProcessError: the process was forked after an engine had been started.
        """

    def step(
        self, frame: Floats, weights: Any, states: Mapping[str, Array]
    ) -> tuple[list[Array], Mapping[str, Array]]:
        """Computes one frame with explicit recurrent state; otherwise like `raw_heads`.

        Args:
            frame: [1, height, width, channels].
            weights: from `load`.
            states: the states returned for the previous frame, zeros at first; keys as in `states`.

        Returns:
            The inputs of the heads, and the states for the next frame.
        """

    def hwio_weights(self, weights: Any) -> Mapping[str, Array]:
        """Returns the arrays of `FoldedNetwork`: batch normalization folded, kernels HWIO."""
