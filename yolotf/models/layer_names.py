"""What is known of a model that `build_model` made: its network, and its layers' names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from yolotf.darknet import cfg
from yolotf.models import notes
from yolotf.models.traversal import layers
from yolotf.models.variables import slots
from yolotf.weights.layout import Segment, Slot
from yolotf.weights.once import once_each


def layer_name(layer: cfg.Layer) -> str:
    """The name of the Keras layer that holds the section's kernel: `conv_17`."""
    return layer.name


def remember_network(model: Any, network: cfg.Network) -> None:
    """Notes that `model` was built from `network`."""
    notes.edit(model).network = network
    for layer in model.layers:
        notes.edit(layer).layer_network = network


def network_of(model: Any) -> cfg.Network | None:
    """The network `model` was built from; None for a model that `build_model` did not make.

    A model that was saved and loaded again is not known.
    """
    return notes.read(model).network


def network_around(model: Any) -> cfg.Network | None:
    """The network that some of a model's layers were built for; None without one, or with several.

    That of `keras.Model(model.input, model.get_layer("conv_28").output)`, for instance.
    """
    if network_of(model) is not None:
        return network_of(model)
    found = {
        id(network): network
        for layer in layers(model)
        if (network := notes.read(layer).layer_network) is not None
    }
    return next(iter(found.values())) if len(found) == 1 else None


def part_name(layer: cfg.Layer, part: str) -> str:
    """The name of the Keras layer that holds a part's kernel, `crnn_7_input`; "": the section's."""
    return f"{layer_name(layer)}_{part}" if part else layer_name(layer)


def parts_of(layer: cfg.Layer) -> tuple[str, ...]:
    """The names of what a section stores; "" for one that has no parts."""
    return tuple(layer.parts)


def place_of(segment: Segment) -> tuple[int, str]:
    """Its key in `by_section`."""
    role = f"{segment.part}/{segment.role}" if segment.part else segment.role
    return segment.layer, role


def named_after_sections(model: Any, network: cfg.Network) -> dict[str, Any]:
    """The layers of a model that are called after sections that may have weights, by name."""
    named = {getattr(layer, "name", None): layer for layer in every_layer(model)}
    return {name: named[name] for name in _names_in(network) if name in named}


def every_layer(model: Any) -> Iterable[Any]:
    """Every layer of a model, those inside other layers too."""
    network = network_of(model)
    # What build_model makes has layers in layers for parts of sections only.
    flat = network is not None and not any(
        part for section in network.layers for part in section.parts
    )
    return model.layers if flat else layers(model)


def by_section(model: Any, network: cfg.Network) -> dict[tuple[int, str], Slot]:
    """The variables of a model whose layers are called after sections, by (section, role).

    In recurrent sections the role has its part before it, `input/kernel`.
    """
    named = named_after_sections(model, network)
    return {
        (section.index, f"{part}/{role}" if part else role): slot
        for section in network.layers
        for part in parts_of(section)
        for name in _names(section, part)
        if name in named
        for role, slot in slots(named[name]).items()
    }


@once_each
def _names_in(network: cfg.Network) -> tuple[str, ...]:
    """What layers are called that may have weights, in the order of the sections."""
    return tuple(
        name
        for section in network.layers
        for part in parts_of(section)
        for name in _names(section, part)
    )


def _names(section: cfg.Layer, part: str) -> tuple[str, str]:
    """What a part's layers are called: the one with the kernel, its batch normalization."""
    name = part_name(section, part)
    return name, f"{name}_bn"
