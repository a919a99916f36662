"""`yolotf.diagnose`: what the diagnosis says of a network, for Keras models too."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from yolotf.darknet import cfg
from yolotf.diagnosis import findings, result
from yolotf.diagnosis.result import Diagnosis
from yolotf.errors import PlanError
from yolotf.loading.planning import plan_for
from yolotf.models import arithmetic
from yolotf.models.network_like import network_like
from yolotf.weights import layout, sources

Source = str | os.PathLike[str]


def diagnose(
    weights: sources.Weights,
    network: cfg.Network | Source | Any,
    *,
    classes: int | None = None,
    progress: sources.Progress | None = None,
) -> Diagnosis:
    """Says whether a `.weights` file belongs to a network or model, and if not, why.

    Args:
        weights: the file, as `load_darknet_weights` takes it. It may be anything: damaged, no
            weights at all, or not even there.
        network: a `Network`, a cfg's path or text, a stock name, or a Keras model.
        classes: the network with another number of classes.
        progress: called with (bytes done, bytes in all) of what comes over a network.

    Returns:
        The diagnosis; a file that cannot be read gives one too, with `readable` False.

    Raises:
        CfgError: the cfg is broken, or there is no such network.
        PlanError: the model has no layer with weights that Darknet has too.
        TypeError: an argument is nothing of the above.
    """
    model = None
    if hasattr(network, "layers") and hasattr(network, "weights"):
        model, found = network, network_like(network)
        network = found if classes is None else found.with_classes(classes)
        classes = None
    elif not isinstance(network, (cfg.Network, str, os.PathLike)):
        raise TypeError(
            "network must be a Network, a cfg's path or text, a stock name or a model, "
            f"not {type(network).__name__}"
        )
    try:
        with sources.opened(weights, progress) as source:
            diagnosis = source.renamed(result.diagnose(source.path, network, classes=classes))
    except OSError as error:
        return result.unreadable(sources.name_of(weights), error, network, classes)
    return diagnosis if model is None else _with_differences(diagnosis, model)


def _with_differences(
    diagnosis: Diagnosis,
    model: Any,
    network: cfg.Network | None = None,
    moves: Sequence[layout.Move] = (),
) -> Diagnosis:
    """Adds a warning for every kind in which the model computes otherwise than Darknet."""
    warnings = [
        findings.ModelDifference(
            path=diagnosis.path, kind=one.kind, layers=one.layers, sentence=one.message
        )
        for one in arithmetic.differences(model, network, moves)
    ]
    return replace(diagnosis, warnings=(*diagnosis.warnings, *warnings))


def against_model(diagnosis: Diagnosis, model: Any) -> Diagnosis:
    """Adds what of the file would not fit into `model`, a Keras model meant for the network.

    And warnings where it fits and the model computes otherwise than the network.
    """
    network = diagnosis.subject.network
    try:
        moves = plan_for(model, network).moves
    except PlanError as error:
        finding = findings.Unknown(
            path=diagnosis.path, story=str(error), remedy="build the model from the cfg"
        )
        return replace(diagnosis, causes=(*diagnosis.causes, finding))
    causes: list[findings.Finding] = list(diagnosis.causes)
    for move in moves:
        if move.shape == move.slot.shape:
            continue
        layer = network.layers[move.segment.layer]
        difference = move.segment.count - int(np.prod(move.slot.shape, dtype=np.int64))
        causes.append(
            findings.LayerShape(
                path=diagnosis.path,
                layer=layer.index,
                section=layer.type,
                cfg_line=diagnosis.subject.line(layer),
                file_floats_minus_model=difference,
                where=f"variable {move.slot.name}",
                story=f"is {move.slot.shape}, {diagnosis.subject.where(layer.index)} has "
                f"{move.shape} for it",
                remedy=f"build the model with {move.shape} there",
            )
        )
    diagnosis = replace(diagnosis, causes=tuple(causes))
    return _with_differences(diagnosis, model, network, moves)
