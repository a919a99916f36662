"""What is known of a model that `build_model` made: its network, and its layers' names."""

from __future__ import annotations

import weakref
from typing import Any

from yolotf.darknet import cfg
from yolotf.models.variables import slots
from yolotf.models.walk import layers
from yolotf.weights.layout import Slot

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


def by_section(model: Any, network: cfg.Network) -> dict[tuple[int, str], Slot]:
    """The variables of a model whose layers are called after sections, by (section, role)."""
    # What build_model makes has no layers in layers.
    all_layers = model.layers if network_of(model) is not None else layers(model)
    named = {getattr(layer, "name", None): layer for layer in all_layers}
    found: dict[tuple[int, str], Slot] = {}
    for section in network.layers:
        name = layer_name(section)
        for candidate in (name, f"{name}_bn"):
            if candidate in named:
                for role, slot in slots(named[candidate]).items():
                    found[section.index, role] = slot
    return found
