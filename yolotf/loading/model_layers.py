"""The layers of a model as they are paired with those of a file."""

from __future__ import annotations

from typing import Any

from yolotf.darknet import cfg
from yolotf.loading import partial
from yolotf.models import order_by_file
from yolotf.models.layer_names import by_section
from yolotf.models.readings import readings
from yolotf.weights import layout


def model_layers(
    model: Any, network: cfg.Network | None, *, skips_bare: bool
) -> list[list[partial.ModelLayer]]:
    """Returns the model's layers with weights, in each order that may be Darknet's.

    A batch normalization counts as a part of the layer before it.

    Args:
        model: the model.
        network: the network `build_model` built it from; None for any other model.
        skips_bare: whether to leave out, rather than refuse, kernels with neither a bias nor a
            batch normalization.
    """
    if network is not None:
        return named_layers(model, network)
    return [
        [
            partial.ModelLayer(unit.name, unit.slots, node)
            for unit, node in zip(order, partial.unit_nodes(structure, order), strict=True)
        ]
        for structure in readings(model, skips_bare=skips_bare)
        for order in order_by_file.likely(structure)
    ]


def named_layers(model: Any, network: cfg.Network | None) -> list[list[partial.ModelLayer]]:
    """Returns the same as `model_layers`, but in the model's order if Darknet's is not known."""
    if network is None:
        return [
            [partial.ModelLayer(unit.name, unit.slots) for unit in structure.units]
            for structure in readings(model, skips_bare=True)
        ]
    grouped: dict[tuple[int, str], dict[str, layout.Slot]] = {}
    for (index, place), slot in by_section(model, network).items():
        part, _, role = place.rpartition("/")
        grouped.setdefault((index, part), {})[role] = slot
    nodes = partial.section_nodes(network, list(grouped))
    return [
        [
            partial.ModelLayer(node.name, slots, node)
            for slots, node in zip(grouped.values(), nodes, strict=True)
        ]
    ]
