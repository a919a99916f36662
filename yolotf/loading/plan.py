"""The plan of a load in file order: which segment of a network goes into which variable."""

from __future__ import annotations

from typing import Any

from yolotf.darknet import cfg, stock
from yolotf.darknet.graph_checks import used_layers
from yolotf.errors import ModelMismatchError
from yolotf.loading import remembered
from yolotf.loading.argument_checks import check_source
from yolotf.loading.refusals import refuse_more, refuse_quantized
from yolotf.models import order_by_network
from yolotf.models.layer_names import by_section, network_of, place_of
from yolotf.models.traversal import name_of
from yolotf.models.units import readings
from yolotf.weights import layout
from yolotf.weights.file import WeightsFile


def network_for(model: Any, source: Any) -> cfg.Network:
    """Returns the network of a `cfg=` argument, or the one `model` was built from.

    Raises:
        ModelMismatchError: neither is known.
        CfgError: the argument is not a network.
        TypeError: the argument has the wrong type.
    """
    if isinstance(source, cfg.Network):
        return source
    if source is not None:
        check_source(source)
        return stock.as_network(source)
    network = network_of(model)
    if network is None:
        raise ModelMismatchError(
            f"{name_of(model)}: not built by yolotf.build_model, so the order of its layers is not "
            "known; pass cfg="
        )
    return network


def plan_for(model: Any, network: cfg.Network, *, transposed: bool = False) -> layout.Plan:
    """Returns the plan that assigns every segment of the file to its variable.

    If the model's layers are not named after the sections, its structure is matched to them.

    Raises:
        ModelMismatchError: a section that stores floats has no layer in the model.
    """
    if not getattr(model, "built", True):
        raise ModelMismatchError(
            f"{name_of(model)}: has no variables yet; call it once on an image, or model.build(...)"
        )
    built_here = network_of(model) is not None
    slots = by_section(model, network)
    used = used_layers(network)
    segments = layout.segments(network, transposed=transposed)
    missing = [
        segment for segment in segments if segment.layer in used and place_of(segment) not in slots
    ]
    if missing and not built_here:
        assignments = order_by_network.bind(readings(model), network, transposed=transposed)
        return layout.Plan(assignments, layout.floats(network), network)
    if missing:
        section = network.layers[missing[0].layer]
        raise ModelMismatchError(
            f"{name_of(model)}: no variable for the {missing[0].role} of {network.where(section)}; "
            "the model has no such layer, or its name is different",
            section=section.index,
            role=missing[0].role,
        )
    assignments = tuple(
        layout.assignment(segment, slots[place_of(segment)])
        for segment in segments
        if place_of(segment) in slots
    )
    if not built_here:
        refuse_more(model, network, assignments)
    return layout.Plan(assignments, layout.floats(network), network)


def remembered_plan_for(
    model: Any, network: cfg.Network, file: WeightsFile, *, transposed: bool = False
) -> layout.Plan:
    """Returns `plan_for` of a model from `build_model`, cached while the model is unchanged.

    Raises:
        ModelMismatchError: see `plan_for`; also for layers that have been quantized.
    """
    sight = remembered.Sight.of(model, network)
    plan = remembered.plan_of(model, sight, transposed=transposed)
    if plan is None:
        refuse_quantized(model, file)
        plan = plan_for(model, network, transposed=transposed)
        remembered.note(model, sight, plan, transposed=transposed)
    return plan
