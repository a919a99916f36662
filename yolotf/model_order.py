"""Keras model -> its weight-bearing layers in Darknet order, and the variables they hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from yolotf import cfg
from yolotf.layout import Slot

# Attributes of Keras layers, by the role of what Darknet stores.
_ATTRIBUTES = {
    "beta": ("beta",),
    "bias": ("bias",),
    "gamma": ("gamma",),
    "kernel": ("kernel", "depthwise_kernel"),
    "moving_mean": ("moving_mean",),
    "moving_variance": ("moving_variance",),
    "weights": ("implicit", "shortcut"),
}


def plain(variable: Any) -> Any:
    """The `tf.Variable` behind what a Keras layer holds.

    Keras 3 wraps it in a `keras.Variable`, tf_keras under mixed precision in an
    `AutoCastVariable`. Distributed variables stay as they are: see `replicas`.
    """
    value = getattr(variable, "value", None)
    if value is not None and not callable(value):  # of a tf.Variable it is a method
        return value
    if type(variable).__name__.startswith("AutoCast"):
        return variable._variable
    return variable


def replicas(variable: Any) -> list[Any]:
    """The variables of every replica; the variable itself if it is not distributed."""
    import tensorflow as tf

    if isinstance(variable, tf.distribute.DistributedValues):
        return list(variable.values)
    return [variable]


def slots(layer: Any) -> dict[str, Slot]:
    """The variables of one Keras layer by role."""
    found: dict[str, Slot] = {}
    for role, names in _ATTRIBUTES.items():
        for name in names:
            variable = getattr(layer, name, None)
            if variable is None or not hasattr(variable, "shape"):
                continue
            raw = plain(variable)
            found[role] = Slot(
                name=f"{layer.name}/{name}",
                role=role,
                variable=raw,
                shape=tuple(int(extent) for extent in raw.shape),
                dtype=_dtype_name(raw.dtype),
                depthwise=name == "depthwise_kernel",
            )
    return found


def _dtype_name(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))


def layers(model: Any) -> Iterator[Any]:
    """Every layer of a model, those inside other layers too, each once."""
    seen: set[int] = set()

    def walk(layer: Any) -> Iterator[Any]:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        yield layer
        for inner in getattr(layer, "layers", None) or getattr(layer, "_layers", None) or ():
            yield from walk(inner)

    for layer in model.layers:
        yield from walk(layer)


def by_section(model: Any, network: cfg.Network) -> dict[tuple[int, str], Slot]:
    """The variables of a model whose layers are called after sections, by (section, role)."""
    from yolotf.keras_model import layer_name

    named = {layer.name: layer for layer in layers(model)}
    found: dict[tuple[int, str], Slot] = {}
    for section in network.layers:
        name = layer_name(section)
        for candidate in (name, f"{name}_bn"):
            if candidate in named:
                for role, slot in slots(named[candidate]).items():
                    found[section.index, role] = slot
    return found
