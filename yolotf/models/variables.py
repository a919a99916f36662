"""A layer's variables, by the role of the array that Darknet stores for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from yolotf.models import undrawn
from yolotf.models.traversal import class_names, is_variable
from yolotf.weights.layout import Slot

# Attributes of Keras layers and plain tf.Modules by role.
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
    """Returns the `tf.Variable` of a Keras variable.

    Keras 3 wraps it in a `keras.Variable`, tf_keras in an `AutoCastVariable` under mixed
    precision. Distributed variables are returned as they are; see `plan.replicas`.
    """
    value = getattr(variable, "value", None)
    if value is not None and not callable(value):  # in a tf.Variable it is a method
        return value
    if type(variable).__name__.startswith("AutoCast"):
        return variable._variable
    return variable


def has_adapter(layer: Any) -> bool:
    """Returns whether the layer's kernel has a LoRA adapter of Keras 3 (`enable_lora`)."""
    return bool(getattr(layer, "lora_enabled", False))


def quantization(layer: Any) -> str | None:
    """Returns how a layer's kernel is quantized, as in "int8"; None if it holds floats.

    Recognizes Keras 3 and the wrappers of tfmot, whose float kernels are rounded in each call.
    """
    if type(layer).__name__.startswith("Quantize"):
        return "quantization-aware"
    mode = getattr(layer, "quantization_mode", None)
    return None if mode in (None, "float8") else str(mode)


def _attribute(layer: Any, name: str) -> Any:
    """Returns an attribute of a layer; for a kernel with an adapter, the kernel alone."""
    if name == "kernel" and has_adapter(layer):
        return layer._kernel
    return getattr(layer, name, None)


def slots(layer: Any) -> dict[str, Slot]:
    """Returns the variables of a layer by role."""
    by_role: dict[str, Slot] = {}
    for role, names in _ATTRIBUTES.items():
        for name in names:
            variable = _attribute(layer, name)
            if is_variable(variable):
                by_role[role] = slot_of(layer, layer.name, name, variable)
                break
    return by_role


def weight_attributes(layers: Iterable[Any]) -> list[Any]:
    """Returns every attribute of the layers that `slots` and `quantization` read, or None.

    This is much faster than `slots`: if the objects are the same as before, so are the slots.
    """
    layers = list(layers)
    policies = [getattr(layer, "dtype_policy", None) for layer in layers]
    values: list[Any] = [getattr(policy, "quantization_mode", None) for policy in policies]
    variables: list[Any] = []
    for layer in layers:
        if has_adapter(layer):
            variables += [_attribute(layer, name) for name in ROLE_OF]
        else:  # without a call of Python for each: most layers lack most attributes
            variables += [getattr(layer, name, None) for name in ROLE_OF]
    # The tf.Variable inside a keras.Variable could be replaced too.
    values += variables
    return values + [undrawn.beneath(value) for value in variables if value is not None]


def slot_of(layer: Any, prefix: str, name: str, variable: Any) -> Slot:
    """Returns the slot of a layer's variable `name`, without initializing an undrawn one."""
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
