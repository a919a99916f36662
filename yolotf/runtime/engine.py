"""What computes a network, whoever wrote its kernels."""

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
    """The numbers of one file, ready to compute with; freed with their last request."""

    @property
    def path(self) -> str:
        """Of the file."""

    @property
    def header(self) -> Header:
        """Of the file."""


class Engine(Protocol):
    """Computes the raw heads of one network, with any number of sets of its weights.

    All methods may be called from several threads at once. `weights` is always what `load` of the
    same engine returned.
    """

    @property
    def network(self) -> cfg.Network:
        """What it computes."""

    @property
    def states(self) -> Mapping[str, tuple[int, ...]]:
        """What the network keeps from one frame to the next: shapes by key."""

    def load(self, weights: WeightsSource, *, verify: bool = True) -> Any:
        """Reads a file into `LoadedWeights`.

        Args:
            weights: the file.
            verify: see `load_darknet_weights`.

        Raises:
            WeightsMismatch: file and network do not belong together.
            OSError: the file cannot be read.
            OutOfMemoryError: there is no memory for them.
            ForkedProcessError: the process was forked after an engine had been started.
        """

    def raw_heads(self, inputs: Floats, weights: Any) -> list[Array]:
        """What enters each head, in cfg order, [batch, rows, columns, channels].

        Args:
            inputs: [batch, height, width, channels] float32, 0..1, of the network's size.
            weights: from `load`.

        Raises:
            OutOfMemoryError: there is no memory for the run.
            EngineError: the engine refuses to run it.
            ForkedProcessError: the process was forked after an engine had been started.
        """

    def step(
        self, frame: Floats, weights: Any, states: Mapping[str, Array]
    ) -> tuple[list[Array], Mapping[str, Array]]:
        """As `raw_heads`, for a network that keeps something from one frame to the next.

        Args:
            frame: [1, height, width, channels].
            weights: from `load`.
            states: what the step before returned, zeros at first; by the keys of `states`.

        Returns:
            What enters the heads, and the states for the next step.
        """

    def unblocked_weights(self, weights: Any) -> Mapping[str, Array]:
        """The arrays that `FoldedNetwork` computes with: batch norms folded, kernels HWIO."""
