"""Kernels that are initialized on first use.

Initializing the kernels of YOLOv4 takes half as long as building the rest of the model, and most
models get their weights from a file right away. So `build_model` leaves kernels uninitialized
("undrawn"). All reads and writes of a Keras 3 variable go through its attribute `_value`; an
undrawn variable has a class in which `_value` is a property that first initializes it. Variables
that a load writes are never initialized.

The values do not depend on when a kernel is initialized, because an initializer gets its seed when
it is created. Variables of tf_keras are plain TensorFlow variables, which operations read directly;
they are initialized when they are created, unless a file follows.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable
from typing import Any

from yolotf.models.keras_module import keras

_lock = threading.RLock()


class Kernels:
    """The kernels of a model that is being built."""

    def __init__(self, *, filled: bool) -> None:
        """Starts without kernels.

        Args:
            filled: whether a file is loaded next. If so, variables that cannot be initialized on
                first use are left until `draw_rest` as well.
        """
        import tensorflow as tf  # imported here: slow

        waits = filled or keras().__name__ != "tf_keras"
        # TensorFlow reads replicas directly, and in graph mode variables belong to a session.
        self._wait = waits and tf.executing_eagerly() and not tf.distribute.has_strategy()
        self._layers: list[tuple[Any, str, Any]] = []

    def hold(self, layer: Any) -> Any:
        """Returns the layer, with an initializer that does nothing when the layer is built."""
        if self._wait:
            for attribute in ("kernel_initializer", "depthwise_initializer"):
                initializer = getattr(layer, attribute, None)
                if isinstance(initializer, keras().initializers.RandomUniform):
                    setattr(layer, attribute, _nothing)
                    self._layers.append((layer, attribute, initializer))
        return layer

    def release(self) -> None:
        """Restores the layers' initializers; their kernels are now initialized on first use."""
        for layer, attribute, initializer in self._layers:
            setattr(layer, attribute, initializer)
            if keras().__name__ != "tf_keras":
                _put_off(_kernel(layer), initializer)

    def draw_rest(self, filled: Iterable[str]) -> None:
        """Initializes kernels that cannot wait for first use, except of the layers `filled`."""
        names = set(filled)
        for layer, _, initializer in self._layers:
            kernel = _kernel(layer)
            if layer.name not in names and not is_undrawn(kernel):
                kernel.assign(initializer(kernel.shape, dtype=kernel.dtype))


def beneath(variable: Any) -> Any:
    """Returns the `tf.Variable` of a Keras variable, or None; an undrawn one has no valid value."""
    return getattr(variable, "__dict__", {}).get("_value")


def is_undrawn(variable: Any) -> bool:
    """Returns whether a variable is not initialized yet."""
    return getattr(type(variable), "undrawn", False)


def draw(variables: Iterable[Any]) -> None:
    """Initializes the variables that are not initialized yet."""
    for variable in variables:
        if is_undrawn(variable):
            _draw(variable)


def filled(variables: Iterable[Any]) -> None:
    """Marks variables as completely written, so that they are not initialized any more."""
    for variable in variables:
        if is_undrawn(variable):
            _settle(variable)


def _nothing(shape: Any, dtype: Any = None, **_: Any) -> Any:
    """Returns uninitialized memory; used as an initializer."""
    import tensorflow as tf  # imported here: slow

    return tf.raw_ops.Empty(shape=shape, dtype=tf.as_dtype(dtype), init=False)


def _kernel(layer: Any) -> Any:
    kernel = getattr(layer, "kernel", None)
    return layer.depthwise_kernel if kernel is None else kernel


@functools.cache
def _undrawn(base: Any) -> Any:
    """Returns a subclass of the variable class `base` for undrawn variables."""

    def value(self: Any) -> Any:
        _draw(self)
        return self._value

    def set_value(self: Any, new: Any) -> None:
        _settle(self)
        self._value = new

    attributes = {
        "__doc__": base.__doc__,
        "__module__": base.__module__,
        # The property hides the attribute in the instance's dictionary, which remains.
        "_value": property(value, set_value),
        "undrawn": True,
    }
    return type(base.__name__, (base,), attributes)


def _put_off(variable: Any, initializer: Any) -> None:
    # Keras itself keeps the initializer of a variable without a value here.
    variable._initializer = initializer
    base: Any = type(variable)
    variable.__class__ = _undrawn(base)


def _settle(variable: Any) -> None:
    with _lock:
        if is_undrawn(variable):
            variable._initializer = None
            variable.__class__ = type(variable).__base__


def _draw(variable: Any) -> None:
    import tensorflow as tf  # imported here: slow

    with _lock:
        if is_undrawn(variable):  # another thread may have initialized it in the meantime
            with tf.init_scope():
                values = variable._initializer(tuple(variable.shape), dtype=variable._dtype)
                beneath(variable).assign(values)
            _settle(variable)
