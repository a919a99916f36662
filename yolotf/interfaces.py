"""Types of what other libraries make: Keras models, arrays, tensors.

Type checkers see TensorFlow's own `Tensor` where it is installed; nothing is imported at run time.
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
    """A built Keras model, of Keras 3 or tf_keras."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def layers(self) -> Sequence[Any]:
        """Its layers."""

    @property
    def weights(self) -> Sequence[Any]:
        """Its variables."""


class SupportsArray(Protocol):
    """What NumPy converts to an array, such as a `tf.Tensor`."""

    def __array__(self) -> npt.NDArray[Any]:
        """Returns the array."""
