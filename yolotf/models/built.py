"""What is known of a model that `build_model` made: its network, and its layers' names."""

from __future__ import annotations

import weakref
from typing import Any

from yolotf.darknet import cfg
from yolotf.models.variables import slots
from yolotf.models.walk import layers
from yolotf.weights.layout import Segment, Slot

_SHORT_TYPES = {"convolutional": "conv"}

_networks: weakref.WeakKeyDictionary[Any, cfg.Network] = weakref.WeakKeyDictionary()


def layer_name(layer: cfg.Layer) -> str:
    """The name of the Keras layer that holds the section's kernel: `conv_17`."""
    return f"{_SHORT_TYPES.get(layer.type, layer.type)}_{layer.index}"


def remember_network(model: Any, network: cfg.Network) -> None:
    """Notes that `model` was built from `network`."""
    _networks[model] = network


def network_of(model: Any) -> cfg.Network | None:
    """The network `model` was built from; None for a model that `build_model` did not make.

    A model that was saved and loaded again is not known.
    """
    try:
        return _networks.get(model)
    except TypeError:  # not hashable, or no weak references
        return None


def part_name(layer: cfg.Layer, part: str) -> str:
    """The name of the Keras layer that holds a part's kernel, `crnn_7_input`; "": the section's."""
    return f"{layer_name(layer)}_{part}" if part else layer_name(layer)


def parts_of(layer: cfg.Layer) -> tuple[str, ...]:
    """The names of what a section stores; "" for one that has no parts."""
    if isinstance(layer, cfg.Recurrent):
        return tuple(part.name for part in layer.sublayers)
    return ("",)


def place_of(segment: Segment) -> tuple[int, str]:
    """Its key in `by_section`."""
    role = f"{segment.part}/{segment.role}" if segment.part else segment.role
    return segment.layer, role


def by_section(model: Any, network: cfg.Network) -> dict[tuple[int, str], Slot]:
    """The variables of a model whose layers are called after sections, by (section, role).

    In recurrent sections the role has its part before it, `input/kernel`.
    """
    named = {getattr(layer, "name", None): layer for layer in layers(model)}
    found: dict[tuple[int, str], Slot] = {}
    for section in network.layers:
        for part in parts_of(section):
            name = part_name(section, part)
            for candidate in (name, f"{name}_bn"):
                if candidate in named:
                    for role, slot in slots(named[candidate]).items():
                        found[section.index, f"{part}/{role}" if part else role] = slot
    return found
