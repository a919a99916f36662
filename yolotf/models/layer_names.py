"""The network and the layer names of a model from `build_model`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from yolotf.darknet import cfg
from yolotf.darknet.network import cached_on_network
from yolotf.models import notes
from yolotf.models.traversal import layers
from yolotf.models.variables import slots
from yolotf.weights.layout import Segment, Slot


def layer_name(layer: cfg.Layer) -> str:
    """Returns the name of the Keras layer with the section's kernel: `conv_17`."""
    return layer.name


def remember_network(model: Any, network: cfg.Network) -> None:
    """Remembers that `model` was built from `network`."""
    notes.edit(model).network = network
    for layer in model.layers:
        notes.edit(layer).layer_network = network


def network_of(model: Any) -> cfg.Network | None:
    """Returns the network `model` was built from; None for a model not from `build_model`.

    The network of a model that was saved and loaded again is not known.
    """
    return notes.read(model).network


def network_of_layers(model: Any) -> cfg.Network | None:
    """Returns the network that the model's layers were built from; None if there is no single one.

    For example, that of `keras.Model(model.input, model.get_layer("conv_28").output)`.
    """
    if network_of(model) is not None:
        return network_of(model)
    networks = {
        id(network): network
        for layer in layers(model)
        if (network := notes.read(layer).layer_network) is not None
    }
    return next(iter(networks.values())) if len(networks) == 1 else None


def part_name(layer: cfg.Layer, part: str) -> str:
    """Returns the name of the Keras layer with the kernel of a part: `crnn_7_input`.

    The part is "" in sections without parts.
    """
    return f"{layer_name(layer)}_{part}" if part else layer_name(layer)


def parts_of(layer: cfg.Layer) -> tuple[str, ...]:
    """Returns the names of a section's parts; ("",) for a section that has no parts."""
    return tuple(layer.parts)


def place_of(segment: Segment) -> tuple[int, str]:
    """Returns the key of a segment in `by_section`."""
    role = f"{segment.part}/{segment.role}" if segment.part else segment.role
    return segment.layer, role


def named_after_sections(model: Any, network: cfg.Network) -> dict[str, Any]:
    """Returns the layers, by name, that are named after sections that may have weights."""
    named = {getattr(layer, "name", None): layer for layer in every_layer(model)}
    return {name: named[name] for name in _names_in(network) if name in named}


def every_layer(model: Any) -> Iterable[Any]:
    """Returns every layer of a model, including layers inside layers."""
    network = network_of(model)
    # Models from `build_model` have layers inside layers only for parts of recurrent sections.
    flat = network is not None and not _has_parts(network)
    return model.layers if flat else layers(model)


@cached_on_network
def _has_parts(network: cfg.Network) -> bool:
    return any(part for section in network.layers for part in section.parts)


def by_section(model: Any, network: cfg.Network) -> dict[tuple[int, str], Slot]:
    """Returns the variables of layers named after sections, by (section index, role).

    In a recurrent section, the role is prefixed by the part, `input/kernel`.
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


@cached_on_network
def _names_in(network: cfg.Network) -> tuple[str, ...]:
    """Returns the names of layers that may have weights, in the order of the sections."""
    return tuple(
        name
        for section in network.layers
        for part in parts_of(section)
        for name in _names(section, part)
    )


def _names(section: cfg.Layer, part: str) -> tuple[str, str]:
    """Returns the names of a part's layers: with the kernel, and with its batch normalization."""
    name = part_name(section, part)
    return name, f"{name}_bn"
