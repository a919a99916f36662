"""`yolotf.diagnose`: diagnoses a file against a network or a Keras model."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from yolotf._public import public
from yolotf.darknet import cfg, stock
from yolotf.darknet.dialects import Dialect
from yolotf.darknet.python_call import python_call
from yolotf.diagnosis import causes as findings
from yolotf.diagnosis import file_diagnosis
from yolotf.diagnosis.file_diagnosis import Diagnosis
from yolotf.errors import FileChangedError, ModelMismatchError, WeightsMismatch, YolotfError
from yolotf.files.fetching import TIMEOUT
from yolotf.interfaces import KerasModel
from yolotf.loading import job
from yolotf.loading.plan import network_for, plan_for
from yolotf.models import differences
from yolotf.models.difference_messages import separable_message
from yolotf.models.layer_names import network_of, part_name, parts_of
from yolotf.models.network_like import network_like
from yolotf.models.readings import reading_of_size, readings
from yolotf.models.traversal import name_of
from yolotf.progress import Progress, as_progress
from yolotf.text import plural
from yolotf.weights import layout
from yolotf.weights.file import WeightsFile, WeightsSource


@public
def diagnose(
    weights: WeightsSource,
    network: cfg.Network | cfg.Source | KerasModel,
    *,
    classes: int | None = None,
    dialect: Dialect | None = None,
    progress: Progress | None = None,
    timeout: float | None = TIMEOUT,
) -> Diagnosis:
    """Explains whether a `.weights` file matches a network or model, and if not, why.

    Args:
        weights: the file, in any form that `load_darknet_weights` accepts. It may be damaged,
            not a weights file at all, or missing.
        network: a `Network`, a cfg's path or text, a stock name, or a Keras model.
        classes: compare with the network with this number of classes.
        dialect: the fork of Darknet that reads the cfg, see `parse_cfg`.
        progress: called as `progress("downloading", bytes_done, bytes_in_total)` during a
            download.
        timeout: seconds without data after which a download fails; None waits forever.

    Returns:
        The diagnosis. For a file that cannot be read, its `readable` is False.

    Raises:
        CfgError: the cfg is invalid, or there is no such network.
        ModelMismatchError: the model has no layer whose weights Darknet would store.
        TypeError: an argument has the wrong type.
        ValueError: `dialect` is unknown, or was passed with a model.
    """
    progress = as_progress(progress, "done, total")
    if isinstance(network, (cfg.Network, str, os.PathLike)):
        return file_diagnosis.diagnose(
            weights,
            network,
            classes=classes,
            dialect=dialect,
            progress=progress,
            timeout=timeout,
        )
    if not (hasattr(network, "layers") and hasattr(network, "weights")):
        raise TypeError(
            "network must be a Network, a cfg's path or text, a stock name or a model, "
            f"not {type(network).__name__}"
        )
    if dialect is not None:
        raise ValueError(f"dialect={dialect!r} is for the path or text of a cfg; leave it out")
    model: Any = network
    expected = network_of(model)
    try:
        with WeightsFile.open(weights, progress, network=expected, timeout=timeout) as file:
            diagnosis = file_diagnosis.diagnose(file, _compared(model, file, classes))
            if diagnosis.header is not None and diagnosis.causes:
                if job.is_part(model, file):
                    diagnosis = replace(diagnosis, causes=(), first_divergence=None)
                diagnosis = _of_a_part(diagnosis, model)
                if classes is None:
                    diagnosis = _with_advice_for_models(diagnosis, model)
    except OSError as error:
        return file_diagnosis.unreadable(weights, error, _compared(model, None, classes))
    return _with_bare_kernels(_with_differences(diagnosis, model), model)


def _compared(model: Any, file: WeightsFile | None, classes: int | None) -> cfg.Network:
    """Returns a network with the model's layers, in the variant that has the file's size if any."""
    floats: list[int] = []
    if file is not None:
        with contextlib.suppress(OSError):  # the diagnosis reports it
            floats = [parsed.floats for parsed in file.layouts()]
    network = network_like(model, floats)
    return network if classes is None else network.with_classes(classes)


def _with_bare_kernels(diagnosis: Diagnosis, model: Any) -> Diagnosis:
    """Adds a cause for kernels without bias and batch normalization, which loads refuse."""
    if network_of(model) is not None or not diagnosis.readable:
        return diagnosis
    try:
        readings(model)
    except ModelMismatchError as error:
        cause = findings.Unknown(path=diagnosis.path, problem=error.message, remedy=_SKIPPING)
        return replace(diagnosis, causes=(*diagnosis.causes, cause))
    return diagnosis


def with_diagnosis(
    error: WeightsMismatch, file: WeightsFile, model: Any, source: Any
) -> WeightsMismatch:
    """Returns the error with a diagnosis; if the file is at fault, its summary is the message.

    Args:
        error: the error of a load.
        file: the file that was loaded.
        model: the model it was loaded into.
        source: the `network=` of the load.
    """
    if isinstance(error, FileChangedError):
        return error
    known = None if source is None else network_for(model, source)
    try:
        network = _compared(model, file, None) if known is None else known
    except YolotfError:  # nothing in the model to compare with
        network = cfg.Network(name_of(model), cfg.Section("net", 0), (), cfg.Shape(0, 0, 0))
    diagnosis = file_diagnosis.diagnose(file, network)
    about_file = error.is_about_file
    if about_file and source is None:
        diagnosis = _with_advice_for_models(_of_a_part(diagnosis, model), model)
    elif source is not None:
        diagnosis = diagnosis.with_argument(f"pass network={python_call(network, '{classes}')}")
    # The message of a pairing says more about the two sides than their sizes do.
    is_pairing = "untouched" in error.facts
    separable = differences.separable_layers(model) if network_of(model) is None else []
    note = f"; {separable_message(separable)}" if separable else ""
    at_fault = about_file or (known is not None and not is_pairing)
    if diagnosis.causes and network.layers and at_fault:
        return type(error)(diagnosis.summary() + note, **{**error.facts, "diagnosis": diagnosis})
    if not diagnosis.causes or not network.layers:
        cause = _cause_in_model(error, diagnosis, has_network=known is not None)
        diagnosis = replace(diagnosis, causes=(cause,), first_divergence=None)
    return type(error)(error.message + note, **{**error.facts, "diagnosis": diagnosis})


def _with_advice_for_models(diagnosis: Diagnosis, model: Any) -> Diagnosis:
    """Rewrites the advice for a model, whose load takes no `classes`."""
    network = diagnosis.subject.network
    is_ours = network_of(model) is not None
    causes = []
    for cause in diagnosis.causes:
        if isinstance(cause, findings.ClassCount) and cause.argument:
            trained = python_call(network, cause.file)
            advice = f"build the model with {plural(cause.file, 'class', 'classes')}"
            if is_ours:
                advice += f", yolotf.build_model({trained})"
            training = ""
            if not network.heads:
                training = (
                    "load the other layers, yolotf.load_darknet_weights(model, file, "
                    f"network={trained}, skip_mismatch=True)"
                )
            elif is_ours or network.name is not None:
                kept = "the model" if cause.model is None else f"its {cause.model}"
                training = (
                    f"keep {kept} and load all layers but those right before its heads, "
                    f"yolotf.load_darknet_weights(model, file, network={trained})"
                )
            cause = replace(cause, argument=advice, training=training)
        causes.append(cause)
    return replace(diagnosis, causes=tuple(causes))


def _cause_in_model(
    error: WeightsMismatch, diagnosis: Diagnosis, *, has_network: bool
) -> findings.Finding:
    """Returns the cause for a file that matches its network when the model does not.

    Args:
        error: the error of the load.
        diagnosis: the diagnosis of the file against the network.
        has_network: whether `network=` was passed to the load.
    """
    problem = error.message.removeprefix(f"{diagnosis.path}: ")
    remedy = "change the model"
    if not has_network:
        remedy += ", or pass the network that the file was trained as with network="
    network = diagnosis.subject.network
    for skipped in error.facts.get("skipped", ()):
        for layer in network.layers:
            if skipped.name in [part_name(layer, part) for part in parts_of(layer)]:
                return findings.LayerShape(
                    path=diagnosis.path,
                    layer=layer.index,
                    section=layer.type,
                    cfg_line=diagnosis.subject.line(layer),
                    file_floats_minus_model=(
                        math.prod(skipped.file_shape) - math.prod(skipped.model_shape)
                    ),
                    where=f"layer {skipped.name}",
                    problem=f"is {skipped.model_shape} in the model, "
                    f"{diagnosis.subject.where(layer.index)} has {skipped.file_shape} for it",
                    remedy=f"build the model with {skipped.file_shape} there, or "
                    f"{_SKIPPING} to load the other layers",
                )
    return findings.Unknown(path=diagnosis.path, problem=problem, remedy=remedy)


@dataclass(frozen=True, kw_only=True, eq=False)
class PartOfNetwork(findings.OtherArchitecture):
    """The file holds a whole network, the model only some layers of it.

    Attributes:
        sections: number of layers of the network that store floats.
        floats: number of floats in the file.
        contents: what the model has, in words.
        shared: number of the model's layers that the file has weights for.
        network: a Python expression for the network.
    """

    _old_fields: ClassVar[Mapping[str, str]] = {"facts": "contents"}

    sections: int = field(metadata=findings.MESSAGE_ONLY)
    floats: int = field(metadata=findings.MESSAGE_ONLY)
    contents: str = field(metadata=findings.MESSAGE_ONLY)
    shared: int = field(metadata=findings.MESSAGE_ONLY)
    network: str = field(metadata=findings.MESSAGE_ONLY)

    def _sentence(self) -> str:
        count = self.file_classes
        counted = f" with {plural(count, 'class', 'classes')}" if count else ""
        return (
            f"holds all {self.sections} layers of {self.file}{counted}, {self.floats} floats; "
            f"{self.model} has {self.contents}, and the file has weights for "
            f"{plural(self.shared, 'layer')} of it; {_WHY_NO_PART}"
        )

    @property
    def fix(self) -> str:
        """Build the whole network, or load the layers that match."""
        return (
            f"build the whole network, yolotf.build_model({self.network}); or {_SKIPPING} and "
            f"network={self.network} to load the layers that match"
        )


def _of_a_part(diagnosis: Diagnosis, model: Any) -> Diagnosis:
    """Replaces the causes if the model is a part of the file's network."""
    cause = _cause_of_a_part(diagnosis, model) if diagnosis.causes else None
    if cause is None:
        return diagnosis
    return replace(diagnosis, causes=(cause,), first_divergence=None)


def _cause_of_a_part(diagnosis: Diagnosis, model: Any) -> findings.Finding | None:
    """Returns the cause if the file holds a whole network and the model a few layers of it."""
    if network_of(model) is not None or diagnosis.header is None:
        return None
    structure = reading_of_size(model, [diagnosis.floats], skips_bare=True)
    few_layers = len(structure.units) <= _FEW_UNITS
    precise = _PRECISE if few_layers else (*_PRECISE, "channels")
    if any(cause.kind in precise for cause in diagnosis.causes):
        return None
    for network in _likely_networks(job.enclosing_networks(model, diagnosis.file)):
        if layout.floats(network) != diagnosis.floats:
            continue
        sections = len({segment.layer for segment in layout.segments(network)})
        shared = job.shared_layers(model, network, diagnosis.file)
        is_small_part = 2 * len(structure.units) <= sections
        if not is_small_part and 2 * shared < len(structure.units):
            continue
        return PartOfNetwork(
            path=diagnosis.path,
            file=network.name or network.source,
            file_classes=network.classes,
            model=structure.name,
            sections=sections,
            floats=diagnosis.floats,
            contents=f"{structure.unit_counts()}, {structure.floats} floats",
            shared=shared,
            network=python_call(network),
        )
    far_apart = layout.FLOAT_BYTES * abs(diagnosis.floats - structure.floats) > _FAR_APART
    if few_layers and far_apart and all(map(_only_says_size, diagnosis.causes)):
        return findings.Unknown(
            path=diagnosis.path,
            problem=(
                f"holds {diagnosis.floats} floats, which match no stock network; {structure.name} "
                f"has {structure.unit_counts()}, {structure.floats} floats; {_WHY_NO_PART}"
            ),
            remedy=(
                "build the whole network from the cfg it was trained with, "
                f"yolotf.build_model(yolotf.parse_cfg('yours.cfg')); or {_SKIPPING} and "
                "network='yours.cfg' to load the layers that match"
            ),
        )
    return None


_SKIPPING = "call load_darknet_weights with skip_mismatch=True"

_WHY_NO_PART = (
    "a .weights file has no layer names and is read from its first float, so a layer's floats are "
    "found only after those of all layers before it"
)

_PRECISE = ("class_count", "head_filters", "folded", "layer_shape", "damaged")
"""Kinds of causes that say exactly what differs between the model and the file.

`channels` does too, unless the model has only a few layers: its first layer may be one from the
middle of the network, with other input channels.
"""


def _likely_networks(networks: Iterable[cfg.Network]) -> Iterator[cfg.Network]:
    """Filters networks of a file's size: after a stock network with its own classes, only those."""
    as_shipped = False
    for network in networks:
        ships = network.name is not None and network.classes == stock.network(network.name).classes
        if ships or not as_shipped:
            yield network
        as_shipped = as_shipped or ships


_FEW_UNITS = 5
"""A model with at most this many convolutions and dense layers is taken for a part of a network."""
_FAR_APART = 1 << 20
"""Sizes that differ by more than this number of bytes are far apart."""


def _only_says_size(cause: findings.Finding) -> bool:
    """Returns whether a cause says only that the sizes are far apart."""
    match cause:
        case findings.Truncated():
            return not cause.cut
        case findings.Trailing():
            return cause.bytes > _FAR_APART
    return cause.kind == "unknown"


def _with_differences(
    diagnosis: Diagnosis,
    model: Any,
    network: cfg.Network | None = None,
    assignments: Sequence[layout.Assignment] = (),
) -> Diagnosis:
    """Adds a warning for each way in which the model computes something different from Darknet."""
    warnings = [
        findings.ModelDifference(
            path=diagnosis.path,
            kind=difference.kind,
            layers=difference.layers,
            sentence=difference.message,
        )
        for difference in differences.differences(model, network, assignments)
    ]
    return replace(diagnosis, warnings=(*diagnosis.warnings, *warnings))


def against_model(diagnosis: Diagnosis, model: Any) -> Diagnosis:
    """Adds causes for variables of `model`, a Keras model of the network, with another shape.

    If the shapes match, it adds warnings where the model's results differ from the network's.
    """
    network = diagnosis.subject.network
    try:
        assignments = plan_for(model, network).assignments
    except ModelMismatchError as error:
        finding = findings.Unknown(
            path=diagnosis.path, problem=str(error), remedy="build the model from the cfg"
        )
        return replace(diagnosis, causes=(*diagnosis.causes, finding))
    causes: list[findings.Finding] = list(diagnosis.causes)
    for assignment in assignments:
        if assignment.shape == assignment.slot.shape:
            continue
        layer = network.layers[assignment.segment.layer]
        difference = assignment.segment.count - int(np.prod(assignment.slot.shape, dtype=np.int64))
        causes.append(
            findings.LayerShape(
                path=diagnosis.path,
                layer=layer.index,
                section=layer.type,
                cfg_line=diagnosis.subject.line(layer),
                file_floats_minus_model=difference,
                where=f"variable {assignment.slot.name}",
                problem=f"is {assignment.slot.shape}, {diagnosis.subject.where(layer.index)} has "
                f"{assignment.shape} for it",
                remedy=f"build the model with {assignment.shape} there",
            )
        )
    diagnosis = replace(diagnosis, causes=tuple(causes))
    return _with_differences(diagnosis, model, network, assignments)
