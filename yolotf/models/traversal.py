"""Walks through a model: layers inside layers, lists, dictionaries and tf.Modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def class_names(value: Any) -> set[str]:
    """Returns the names of a value's class and base classes, the same in Keras 3 and tf_keras."""
    return {base.__name__ for base in type(value).__mro__}


def is_variable(value: Any) -> bool:
    """Returns whether a value is a variable of TensorFlow or Keras."""
    return value is not None and hasattr(value, "shape") and hasattr(value, "assign")


def layers(model: Any) -> Iterator[Any]:
    """Yields every layer of a model once, including layers inside layers."""
    seen: set[int] = set()
    stack = list(reversed(children(model)))
    while stack:
        layer = stack.pop()
        if id(layer) not in seen:
            seen.add(id(layer))
            yield layer
            stack += reversed(children(layer))


def own_weights(layer: Any) -> list[Any]:
    """Returns a layer's variables, without its recurrent state and the layers inside it."""
    states = getattr(layer, "states", None)
    state_ids = set(map(id, states)) if isinstance(states, (list, tuple)) else set()
    variables = {
        id(variable): variable for name in _WEIGHTS for variable in getattr(layer, name, ())
    }
    return [variable for key, variable in variables.items() if key not in state_ids]


# The attributes of Keras 3 and tf_keras.
_WEIGHTS = (
    "_trainable_variables",
    "_trainable_weights",
    "_non_trainable_variables",
    "_non_trainable_weights",
)


def children(container: Any) -> list[Any]:
    """Returns the layers, modules and containers in a container, in the container's order."""
    if isinstance(container, (list, tuple)):
        return list(filter(_may_hold_layers, container))
    if isinstance(container, dict):
        return list(filter(_may_hold_layers, container.values()))
    bases = class_names(container)
    if "Model" in bases:
        return list(container.layers)
    if "Layer" in bases:
        return list(container._flatten_layers(recursive=False, include_self=False))
    if "Module" in bases:
        return list(filter(_may_hold_layers, vars(container).values()))
    return []


def _may_hold_layers(value: Any) -> bool:
    """Returns whether a value is a layer, a module or a container."""
    return isinstance(value, (list, tuple, dict)) or bool(
        {"Layer", "Module"} & class_names(value) and not is_variable(value)
    )


def name_of(model: Any) -> str:
    """Returns the name of a model, or of its class."""
    name = getattr(model, "name", None)
    return str(name) if name else type(model).__name__
