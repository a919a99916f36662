"""The plan of a load in file order: which segment of a network goes into which variable."""

from __future__ import annotations

from typing import Any

from yolotf.darknet import cfg, stock
from yolotf.darknet.graph_checks import used_layers
from yolotf.errors import ModelMismatchError
from yolotf.loading.argument_checks import check_network
from yolotf.loading.plan_cache import ModelFingerprint, cache_plan, cached_plan
from yolotf.loading.refusals import refuse_extra_layers, refuse_quantized
from yolotf.models import order_by_network
from yolotf.models.layer_names import by_section, network_of, place_of
from yolotf.models.readings import readings
from yolotf.models.traversal import name_of
from yolotf.weights import layout
from yolotf.weights.file import WeightsFile


def network_for(model: Any, network: Any) -> cfg.Network:
    """Returns the `Network` of a `network=` argument, or by default the one of `model`.

    Raises:
        ModelMismatchError: `network` is None and `model` is not from `build_model`.
        CfgError: the argument is not a network.
        TypeError: the argument has the wrong type.
    """
    if isinstance(network, cfg.Network):
        return network
    if network is not None:
        check_network(network)
        return stock.as_network(network)
    own = network_of(model)
    if own is None:
        raise ModelMismatchError(
            f"{name_of(model)}: the order of its layers is not known, because it was not built by "
            "yolotf.build_model; pass network="
        )
    return own


def plan_for(model: Any, network: cfg.Network, *, transposed: bool = False) -> layout.Plan:
    """Returns the plan that assigns every segment of the file to its variable.

    If the model's layers are not named after the sections, its structure is matched to them.

    Raises:
        ModelMismatchError: a section that stores floats has no layer in the model.
    """
    if not getattr(model, "built", True):
        raise ModelMismatchError(
            f"{name_of(model)}: has no variables yet; call the model once on an image, or call "
            "model.build(...)"
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
            "the model has no layer for this section, or the layer has another name",
            section=section.index,
            role=missing[0].role,
        )
    assignments = tuple(
        layout.assignment(segment, slots[place_of(segment)])
        for segment in segments
        if place_of(segment) in slots
    )
    if not built_here:
        refuse_extra_layers(model, network, assignments)
    return layout.Plan(assignments, layout.floats(network), network)


def cached_plan_for(
    model: Any, network: cfg.Network, file: WeightsFile, *, transposed: bool = False
) -> layout.Plan:
    """Returns `plan_for` of a model from `build_model`, cached while the model is unchanged.

    Raises:
        ModelMismatchError: see `plan_for`; also for layers that have been quantized.
    """
    fingerprint = ModelFingerprint.of(model, network)
    plan = cached_plan(model, fingerprint, transposed=transposed)
    if plan is None:
        refuse_quantized(model, file)
        plan = plan_for(model, network, transposed=transposed)
        cache_plan(model, fingerprint, plan, transposed=transposed)
    return plan
