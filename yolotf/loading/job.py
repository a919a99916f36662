"""Decides which arrays of a file go into which variables, before anything is written.

There are four cases, and `job_for` picks one: a model from `build_model` (`_in_order`), a model
whose network the caller passes (`_of_network`), any other model (`_foreign`), and a load that
matches layers by name or shape (`_paired`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from yolotf.darknet import cfg
from yolotf.darknet.graph_checks import output_layers
from yolotf.errors import ModelMismatchError
from yolotf.loading import partial
from yolotf.loading.model_layers import model_layers, named_layers
from yolotf.loading.plan import network_for, plan_for, remembered_plan_for
from yolotf.loading.refusals import (
    note_of_doubts,
    refuse_names,
    refuse_quantized,
    refuse_unpaired,
)
from yolotf.models import order_by_file
from yolotf.models.layer_names import network_around, network_of, part_name, parts_of
from yolotf.models.stock import stock_networks
from yolotf.models.traversal import name_of
from yolotf.models.units import other_layers, reading_of_size, readings
from yolotf.text import plural
from yolotf.weights import layout
from yolotf.weights.file import WeightsFile
from yolotf.weights.header import Header
from yolotf.weights.plan import layer_names

ENDS_AFTER = "the file ends after "
"""The start of the note about a file that ends after a network's first layers."""


@dataclass(frozen=True)
class Job:
    """A plan, and the layers it leaves out.

    Attributes:
        header: the header of the file.
        plan: which floats of the file go into which variables.
        loaded: names of the model's layers that are written.
        skipped: layers whose shapes differ between file and model.
        untouched: layers of the model that have no weights in the file.
        unused: layers of the file that the model does not have.
        notes: warnings for the caller.
        complete: whether the file is a complete file of the model's own network.
    """

    header: Header
    plan: layout.Plan
    loaded: tuple[str, ...]
    skipped: tuple[partial.Skipped, ...] = ()
    untouched: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    complete: bool = True


def job_for(
    model: Any, file: WeightsFile, source: Any, *, strict: bool, by_name: bool, skip_mismatch: bool
) -> Job:
    """Plans the load of `file` into `model`.

    Args:
        model: a built Keras model.
        file: the opened file.
        source: the caller's `network=`, or None.
        strict: see `load_darknet_weights`, as for `by_name` and `skip_mismatch`.
        by_name: match layers by name.
        skip_mismatch: load only the layers that match.

    Raises:
        WeightsMismatch: file and model do not match.
        CfgError: `source` is not a network.
        OSError: the file cannot be read.
    """
    own = network_of(model)
    source_network = None if source is None else network_for(model, source)
    by_layer = by_name or skip_mismatch
    if own is not None and not by_layer and _same_layout(own, source_network):
        return _in_order(model, own, file, strict)
    refuse_quantized(model, file)
    if by_layer:
        network = source_network or _network_of_size(file, network_around(model))
        return _paired(model, own, network, file, strict, by_name, skip_mismatch)
    if source_network is not None:
        return _of_network(model, own, source_network, file, strict)
    return _foreign(model, file, strict)


def expected_network(model: Any, source: Any) -> cfg.Network | None:
    """Returns the network whose complete file is to be loaded; None if not known in advance."""
    return network_of(model) if source is None else network_for(model, source)


def _same_layout(own: cfg.Network, source_network: cfg.Network | None) -> bool:
    """Returns whether files of the caller's network, if any, have the layout of the model's own."""
    return source_network is None or layout.segments(source_network) == layout.segments(own)


def _of_network(
    model: Any, own: cfg.Network | None, network: cfg.Network, file: WeightsFile, strict: bool
) -> Job:
    """Plans for a model of unknown origin, or a file of another network than the model's.

    The layers right before the heads may differ in a model from `build_model`, as they do with
    another class count.
    """
    if own is None:
        try:
            return _in_order(model, network, file, strict)
        except ModelMismatchError as error:
            part = _part(model, network, file, strict) or _but_for_heads(
                model, network, file, strict
            )
            if part is not None:
                return part
            if "skip_mismatch" in error.message or not shared_layers(model, network, file):
                raise
            raise ModelMismatchError(
                f"{error.message}; pass skip_mismatch=True to load the layers that fit",
                **error.facts,
            ) from None
    stored = _FileLayers.read(network, file, strict)
    pairing = _aligned(model, own, stored)
    outputs = [own.layers[index] for index in output_layers(own)] if own.heads else []
    excused = {part_name(layer, part) for layer in outputs for part in parts_of(layer)}
    refuse_unpaired(
        file, network, [layer for layer in pairing.skipped if layer.name not in excused], pairing
    )
    return _pairing_job(model, own, network, file, stored, pairing)


def _foreign(model: Any, file: WeightsFile, strict: bool) -> Job:
    """Plans for a model of unknown origin: the file's values decide the order of its layers."""
    layouts = list(file.layouts())
    if not strict or file.backbone_layers is not None:
        for structure, (header, floats) in itertools.product(readings(model), layouts):
            order = order_by_file.beginning(structure, floats)
            if order is not None:
                assignments = order_by_file.assignments(order, transposed=header.transposed)
                left = (unit.name for unit in structure.units if unit not in order)
                return Job(
                    header,
                    layout.Plan(assignments, floats, None),
                    layer_names(assignments),
                    untouched=(*left, *structure.others),
                    notes=(f"{ENDS_AFTER}{plural(len(order), 'layer')}",),
                    complete=False,
                )
    structure = reading_of_size(model, [floats for _, floats in layouts])
    header = file.header(structure.floats)
    if file.size_bytes != header.size_bytes + layout.FLOAT_BYTES * structure.floats:
        for network in networks_around(model, file):
            part = _part(model, network, file, strict)
            if part is not None:
                return part
    order = order_by_file.arrange(structure, file, header)
    assignments = order_by_file.assignments(order, transposed=header.transposed)
    plan = layout.Plan(assignments, structure.floats, None)
    return Job(header, plan, layer_names(assignments), untouched=tuple(structure.others))


def _part(model: Any, network: cfg.Network, file: WeightsFile, strict: bool) -> Job | None:
    """Plans for a model that is a part of the file's network; returns None if it is not.

    It is a part if each of its layers has a counterpart of the same name, or if the counterparts
    are the first layers of the network.
    """
    stored = _FileLayers.read(network, file, strict)
    pairing = _fitting(model, stored, skips_bare=False)
    if pairing is None or pairing.skipped or pairing.left or not pairing.spare:
        return None
    sections = [layer for layer in stored.layers if layer not in pairing.spare]
    if sections != stored.layers[: len(sections)] and {layer.name for layer in sections} != set(
        pairing.loaded
    ):
        return None
    job = _pairing_job(model, None, network, file, stored, pairing)
    count = plural(len(stored.layers), "layer")
    note = f"{name_of(model)} is {len(sections)} of the {count} of {network.source}"
    return replace(job, notes=(note, *job.notes))


def _but_for_heads(model: Any, network: cfg.Network, file: WeightsFile, strict: bool) -> Job | None:
    """Plans for a model that differs only right before the heads; returns None for any other."""
    stored = _FileLayers.read(network, file, strict)
    pairing = _fitting(model, stored, skips_bare=False)
    if pairing is None or pairing.left or pairing.spare or not network.heads:
        return None
    loaded = {assignment.segment.layer for assignment in pairing.assignments}
    if not {layer.index for layer in stored.layers} <= loaded | set(output_layers(network)):
        return None
    return _pairing_job(model, None, network, file, stored, pairing)


def is_part(model: Any, file: WeightsFile) -> bool:
    """Returns whether a model of unknown origin is a part of the file's network."""
    if network_of(model) is not None:
        return False
    return any(_part(model, network, file, strict=True) for network in networks_around(model, file))


def shared_layers(model: Any, network: cfg.Network, file: WeightsFile) -> int:
    """Returns the number of the model's layers that a file of `network` has weights for."""
    pairing = _fitting(model, _FileLayers.read(network, file, strict=True), skips_bare=True)
    return len(pairing.loaded) if pairing else 0


def _fitting(model: Any, stored: _FileLayers, *, skips_bare: bool) -> partial.Pairing | None:
    """Returns the layers that match; None if the model's structure cannot be read."""
    try:
        return _aligned(model, None, stored, skips_bare=skips_bare)
    except ModelMismatchError:
        return None


def networks_around(model: Any, file: WeightsFile) -> Iterable[cfg.Network]:
    """Yields networks that a file may belong to if it holds more than the model.

    These are the network the model's layers were built from, and stock networks of the file's
    size.
    """
    around = network_around(model)
    if around is not None:
        yield around
    for _, floats in file.layouts():
        yield from stock_networks(floats)


def _paired(
    model: Any,
    own: cfg.Network | None,
    network: cfg.Network,
    file: WeightsFile,
    strict: bool,
    by_name: bool,
    skip_mismatch: bool,
) -> Job:
    """Plans a load that matches the file's layers to the model's by name, or by shape."""
    stored = _FileLayers.read(network, file, strict)
    if by_name:
        pairings = [
            partial.pair(partial.by_name(stored.layers, layers))
            for layers in named_layers(model, own)
        ]
        pairing = max(pairings, key=lambda pairing: len(pairing.loaded))
    else:
        pairing = _aligned(model, own, stored)
    if by_name and not skip_mismatch:
        refuse_names(file, network, pairing, strict)
    return _pairing_job(model, own, network, file, stored, pairing)


# Loads in file order


def _in_order(model: Any, network: cfg.Network, file: WeightsFile, strict: bool) -> Job:
    plan = _plan_in_order(model, network, file)
    header = file.header(plan.floats)
    if header.transposed:
        plan = _plan_in_order(model, network, file, transposed=True)
    cut = _cut(file, header, layout.segments(network), strict)
    others = _others(model, network_of(model))
    if cut is None:
        return Job(header, plan, plan.layer_names, untouched=others)
    kept = tuple(
        assignment for assignment in plan.assignments if assignment.segment.layer < cut.layers
    )
    left = tuple(
        assignment for assignment in plan.assignments if assignment.segment.layer >= cut.layers
    )
    return Job(
        cut.header,
        layout.Plan(kept, cut.floats, network),
        layer_names(kept),
        untouched=(*layer_names(left), *others),
        notes=(cut.note,),
    )


def _plan_in_order(
    model: Any, network: cfg.Network, file: WeightsFile, *, transposed: bool = False
) -> layout.Plan:
    if network_of(model) is network:
        return remembered_plan_for(model, network, file, transposed=transposed)
    return plan_for(model, network, transposed=transposed)


def _others(model: Any, own: cfg.Network | None) -> tuple[str, ...]:
    """Returns layers with weights that no section stores; a model from `build_model` has none."""
    return () if own is not None else tuple(other_layers(model))


@dataclass(frozen=True)
class _Cut:
    """The end of a backbone file: its number of layers and floats, and its header."""

    layers: int
    floats: int
    header: Header

    @property
    def note(self) -> str:
        return f"{ENDS_AFTER}{plural(self.layers, 'layer')}"


def _cut(
    file: WeightsFile, header: Header, segments: Sequence[layout.Segment], strict: bool
) -> _Cut | None:
    """Returns where a backbone file ends; None for any other file."""
    if strict and file.backbone_layers is None:
        return None
    if segments and file.size_bytes - header.size_bytes == segments[-1].end:
        return None
    for likely, floats in file.layouts():
        layers = partial.cut_of(segments, floats, file.backbone_layers)
        if layers is not None:
            return _Cut(layers, floats, likely)
    return None


# Loads that match layers


def _aligned(
    model: Any, own: cfg.Network | None, stored: _FileLayers, *, skips_bare: bool = True
) -> partial.Pairing:
    """Aligns the file's layers with the model's, in the order of the model that scores best."""
    orders = model_layers(model, own, skips_bare=skips_bare)
    ranked = sorted(
        (partial.align(stored.layers, layers) for layers in orders),
        key=lambda aligned: -aligned.score,
    )
    best = partial.pair(ranked[0].pairs, ranked[0].doubts)
    for other in ranked[1:]:
        if other.score < ranked[0].score:
            break
        if _targets(partial.pair(other.pairs)) != _targets(best):
            # Raises an error that describes both orders.
            order_by_file.preferred(readings(model, skips_bare=True)[0])
    return best


def _targets(pairing: partial.Pairing) -> set[tuple[int, int]]:
    """Returns (offset in the file, id of the variable) of each assignment."""
    return {(entry.segment.offset, id(entry.slot.variable)) for entry in pairing.assignments}


@dataclass(frozen=True)
class _FileLayers:
    """The layers of a network that a file holds; a backbone file ends early."""

    header: Header
    floats: int
    layers: list[partial.FileLayer]
    notes: tuple[str, ...]

    @classmethod
    def read(cls, network: cfg.Network, file: WeightsFile, strict: bool) -> _FileLayers:
        floats = layout.floats(network)
        header = file.header(floats)
        segments = layout.segments(network, transposed=header.transposed)
        cut = _cut(file, header, segments, strict)
        if cut is None:
            layers = partial.file_layers(network, segments)
            return cls(header, floats, layers, ())
        kept = [segment for segment in segments if segment.layer < cut.layers]
        layers = partial.file_layers(network, kept)
        return cls(cut.header, cut.floats, layers, (cut.note,))


def _pairing_job(
    model: Any,
    own: cfg.Network | None,
    network: cfg.Network,
    file: WeightsFile,
    stored: _FileLayers,
    pairing: partial.Pairing,
) -> Job:
    others = () if own is not None else readings(model, skips_bare=True)[0].others
    if not pairing.assignments:
        raise ModelMismatchError(
            f"{file.name}: no layer of {network.source} fits one of {name_of(model)}; "
            "is it another network?",
            path=file.name,
        )
    return Job(
        stored.header,
        layout.Plan(pairing.assignments, stored.floats, network),
        pairing.loaded,
        pairing.skipped,
        (*pairing.untouched, *others),
        pairing.unused,
        (*stored.notes, *note_of_doubts(pairing.doubts, network)),
        complete=False,
    )


def _network_of_size(file: WeightsFile, own: cfg.Network | None) -> cfg.Network:
    """Infers the file's network from its size: the model's own, or a stock network.

    Raises:
        ModelMismatchError: no known network has this size.
    """
    file.header()  # raises if the file is shorter than a header
    layouts = list(file.layouts())
    if own is not None and layout.floats(own) in [floats for _, floats in layouts]:
        return own
    for _, floats in layouts:
        for network in stock_networks(floats):
            return network
    if own is not None:
        return own
    raise ModelMismatchError(
        f"{file.name}: {file.size_bytes} bytes match no stock network; pass cfg= with the network "
        "it was trained as",
        path=file.name,
        found=file.size_bytes,
    )
