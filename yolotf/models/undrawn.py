"""Kernels whose first numbers are drawn when somebody looks at them.

Drawing those of YOLOv4 takes half as long as building the rest of its model, and for most models
a file replaces them at once. So `build_model` leaves them undrawn. Everything that reads or writes
a variable of Keras 3 gets at it through its attribute `_value`; an undrawn one is of a class in
which that is a property that first draws. What a load fills never is.

The numbers are those that Keras would have drawn, whenever it is done: an initializer has its seed
from its creation on. Variables of tf_keras are TensorFlow's own, whose values every kernel reads
without asking; they are drawn when they are made, unless a file follows.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable
from typing import Any

from yolotf.models.keras_module import keras

_lock = threading.RLock()


class Kernels:
    """The kernels of layers that are being built."""

    def __init__(self, *, filled: bool) -> None:
        """None yet.

        Args:
            filled: whether a file follows, so that even what cannot wait for a first look is not
                drawn until `draw_rest`.
        """
        import tensorflow as tf  # slow to import

        waits = filled or keras().__name__ != "tf_keras"
        # A replica's variables are read by TensorFlow itself, a graph's belong to its session.
        self._wait = waits and tf.executing_eagerly() and not tf.distribute.has_strategy()
        self._layers: list[tuple[Any, str, Any]] = []

    def hold(self, layer: Any) -> Any:
        """The layer, which is not built yet and then draws nothing."""
        if self._wait:
            for attribute in ("kernel_initializer", "depthwise_initializer"):
                initializer = getattr(layer, attribute, None)
                if isinstance(initializer, keras().initializers.RandomUniform):
                    setattr(layer, attribute, _nothing)
                    self._layers.append((layer, attribute, initializer))
        return layer

    def release(self) -> None:
        """Gives the built layers their initializers back; their kernels draw when looked at."""
        for layer, attribute, initializer in self._layers:
            setattr(layer, attribute, initializer)
            if keras().__name__ != "tf_keras":
                _put_off(_kernel(layer), initializer)

    def draw_rest(self, filled: Iterable[str]) -> None:
        """Draws what could not wait for a first look, but for the layers called `filled`."""
        names = set(filled)
        for layer, _, initializer in self._layers:
            kernel = _kernel(layer)
            if layer.name not in names and not is_undrawn(kernel):
                kernel.assign(initializer(kernel.shape, dtype=kernel.dtype))


def beneath(variable: Any) -> Any:
    """The `tf.Variable` of a variable, or None; what an undrawn one holds is not to be read."""
    return getattr(variable, "__dict__", {}).get("_value")


def is_undrawn(variable: Any) -> bool:
    """Whether nobody has looked at it yet."""
    return getattr(type(variable), "undrawn", False)


def draw(variables: Iterable[Any]) -> None:
    """Draws those that are not drawn."""
    for variable in variables:
        if is_undrawn(variable):
            _draw(variable)


def filled(variables: Iterable[Any]) -> None:
    """Notes that all of each was written, so that none is drawn any more."""
    for variable in variables:
        if is_undrawn(variable):
            _settle(variable)


def _nothing(shape: Any, dtype: Any = None, **_: Any) -> Any:
    """An initializer: memory that holds whatever it held."""
    import tensorflow as tf  # see above

    return tf.raw_ops.Empty(shape=shape, dtype=tf.as_dtype(dtype), init=False)


def _kernel(layer: Any) -> Any:
    kernel = getattr(layer, "kernel", None)
    return layer.depthwise_kernel if kernel is None else kernel


@functools.cache
def _undrawn(base: Any) -> Any:
    """The class of the undrawn variables of `base`."""

    def value(self: Any) -> Any:
        _draw(self)
        return self._value

    def set_value(self: Any, new: Any) -> None:
        _settle(self)
        self._value = new

    attributes = {
        "__doc__": base.__doc__,
        "__module__": base.__module__,
        # In the dictionary of an instance the attribute goes on below the property.
        "_value": property(value, set_value),
        "undrawn": True,
    }
    return type(base.__name__, (base,), attributes)


def _put_off(variable: Any, initializer: Any) -> None:
    # Where Keras itself keeps the initializer of a variable that has no value yet.
    variable._initializer = initializer
    base: Any = type(variable)
    variable.__class__ = _undrawn(base)


def _settle(variable: Any) -> None:
    with _lock:
        if is_undrawn(variable):
            variable._initializer = None
            variable.__class__ = type(variable).__base__


def _draw(variable: Any) -> None:
    import tensorflow as tf  # see above

    with _lock:
        if is_undrawn(variable):  # not drawn by another thread while this one waited
            with tf.init_scope():
                values = variable._initializer(tuple(variable.shape), dtype=variable._dtype)
                beneath(variable).assign(values)
            _settle(variable)
