"""A layer's variables, by the role of what Darknet stores for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from yolotf.models import undrawn
from yolotf.models.traversal import class_names, is_variable
from yolotf.weights.layout import Slot

# Attributes of Keras layers and of plain tf.Modules, by the role of what Darknet stores.
_ATTRIBUTES = {
    "beta": ("beta",),
    "bias": ("bias", "b"),
    "gamma": ("gamma",),
    "kernel": ("kernel", "depthwise_kernel", "w"),
    "moving_mean": ("moving_mean",),
    "moving_variance": ("moving_variance",),
    "weights": ("implicit", "shortcut"),
}


ROLE_OF = {name: role for role, names in _ATTRIBUTES.items() for name in names}


def plain(variable: Any) -> Any:
    """The `tf.Variable` behind what a Keras layer holds.

    Keras 3 wraps it in a `keras.Variable`, tf_keras under mixed precision in an
    `AutoCastVariable`. Distributed variables stay as they are: see `write.replicas`.
    """
    value = getattr(variable, "value", None)
    if value is not None and not callable(value):  # of a tf.Variable it is a method
        return value
    if type(variable).__name__.startswith("AutoCast"):
        return variable._variable
    return variable


def has_adapter(layer: Any) -> bool:
    """Whether Keras 3 adds a trained product to the layer's kernel (`enable_lora`)."""
    return bool(getattr(layer, "lora_enabled", False))


def quantization(layer: Any) -> str | None:
    """What a layer's kernel is quantized to, as in "int8"; None where it holds floats.

    By Keras 3, or by wrappers of tfmot, whose kernels are floats that are rounded when called.
    """
    if type(layer).__name__.startswith("Quantize"):
        return "quantization-aware"
    mode = getattr(layer, "quantization_mode", None)
    return None if mode in (None, "float8") else str(mode)


def _attribute(layer: Any, name: str) -> Any:
    """An attribute of a layer; of a kernel with an adapter the kernel alone."""
    if name == "kernel" and has_adapter(layer):
        return layer._kernel
    return getattr(layer, name, None)


def slots(layer: Any) -> dict[str, Slot]:
    """The variables of one layer by role."""
    found: dict[str, Slot] = {}
    for role, names in _ATTRIBUTES.items():
        for name in names:
            variable = _attribute(layer, name)
            if is_variable(variable):
                found[role] = slot_of(layer, layer.name, name, variable)
                break
    return found


def held(layers: Iterable[Any]) -> list[Any]:
    """All that `slots` looks at in each of some layers, None where a layer has nothing.

    Much sooner than those: where two answers are the same objects, so are the slots.
    """
    values = [_attribute(layer, name) for layer in layers for name in ROLE_OF]
    # keras.Variable has the tf.Variable there, which nobody exchanges, but could.
    return values + [undrawn.beneath(value) for value in values]


def slot_of(layer: Any, prefix: str, name: str, variable: Any) -> Slot:
    """The slot of the variable that `layer` calls `name`; one that is undrawn stays so."""
    raw = undrawn.beneath(variable) if undrawn.is_undrawn(variable) else plain(variable)
    return Slot(
        name=f"{prefix}/{name}",
        role=ROLE_OF[name],
        variable=raw,
        shape=tuple(int(extent) for extent in raw.shape),
        dtype=_dtype_name(raw.dtype),
        depthwise=name == "depthwise_kernel"
        or (ROLE_OF[name] == "kernel" and "DepthwiseConv2D" in class_names(layer)),
        holder=variable,
    )


def _dtype_name(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))
