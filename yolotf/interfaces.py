"""Types of objects of other libraries: Keras models, arrays, tensors.

Type checkers see TensorFlow's `Tensor` if it is installed; nothing is imported at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt

if TYPE_CHECKING:
    from tensorflow import Tensor as Tensor
else:
    Tensor = Any


class KerasModel(Protocol):
    """A built model of Keras 3 or tf_keras."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def layers(self) -> Sequence[Any]:
        """Layers of the model."""

    @property
    def weights(self) -> Sequence[Any]:
        """Variables of the model."""


class SupportsArray(Protocol):
    """An object that NumPy converts to an array, such as a `tf.Tensor`."""

    def __array__(self) -> npt.NDArray[Any]:
        """Returns the array."""
