"""Decides which arrays of a file go into which variables, before anything is written.

There are four cases, and `plan_load` picks one: a model from `build_model` (`_in_order`), a model
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
from yolotf.loading.plan import cached_plan_for, network_for, plan_for
from yolotf.loading.refusals import (
    note_of_doubts,
    refuse_names,
    refuse_quantized,
    refuse_unpaired,
)
from yolotf.models import order_by_file
from yolotf.models.layer_names import network_of, network_of_layers, part_name, parts_of
from yolotf.models.leaves import unsupported_layers
from yolotf.models.readings import reading_of_size, readings
from yolotf.models.stock import stock_networks
from yolotf.models.traversal import name_of
from yolotf.text import plural
from yolotf.weights import layout, refusal
from yolotf.weights.file import ParsedFile, WeightsFile
from yolotf.weights.plan import layer_names

ENDS_AFTER = "the file ends after "
"""The start of the note about a file that ends after a network's first layers."""


@dataclass(frozen=True)
class Job:
    """A plan, and the layers it leaves out.

    Attributes:
        file: the file, with the header that the plan goes with.
        plan: which floats of the file go into which variables.
        loaded: names of the model's layers that are written.
        skipped: layers whose shapes differ between file and model.
        untouched: layers of the model that have no weights in the file.
        unused: layers of the file that the model does not have.
        notes: warnings for the caller.
        complete: whether the file is a complete file of the model's own network.
    """

    file: ParsedFile
    plan: layout.Plan
    loaded: tuple[str, ...]
    skipped: tuple[partial.Skipped, ...] = ()
    untouched: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    complete: bool = True


def plan_load(
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
        network = source_network or _network_of_size(file, network_of_layers(model))
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
            job = _part_of_network(model, network, file, strict) or _all_but_heads(
                model, network, file, strict
            )
            if job is not None:
                return job
            if "skip_mismatch" in error.message or not shared_layers(model, network, file):
                raise
            raise ModelMismatchError(
                f"{error.message}; pass skip_mismatch=True to load the layers that match",
                **error.facts,
            ) from None
    stored = _FileLayers.read(network, file, strict)
    stored.check_size()
    pairing = _aligned(model, own, stored)
    outputs = [own.layers[index] for index in output_layers(own)] if own.heads else []
    excused = {part_name(layer, part) for layer in outputs for part in parts_of(layer)}
    skipped = [layer for layer in pairing.skipped if layer.name not in excused]
    refuse_unpaired(file, network, skipped, pairing, stored.beyond)
    return _pairing_job(model, own, network, stored, pairing)


def _foreign(model: Any, file: WeightsFile, strict: bool) -> Job:
    """Plans for a model of unknown origin: the file's values decide the order of its layers."""
    layouts = list(file.layouts())
    if not strict or file.backbone_layers is not None:
        for structure, parsed in itertools.product(readings(model), layouts):
            order = order_by_file.beginning(structure, parsed.floats)
            if order is not None:
                transposed = parsed.header.transposed
                assignments = order_by_file.assignments(order, transposed=transposed)
                uncovered = (unit.name for unit in structure.units if unit not in order)
                return Job(
                    parsed,
                    layout.Plan(assignments, parsed.floats, None),
                    layer_names(assignments),
                    untouched=(*uncovered, *structure.unsupported),
                    notes=(f"{ENDS_AFTER}{plural(len(order), 'layer')}",),
                    complete=False,
                )
    structure = reading_of_size(model, [parsed.floats for parsed in layouts])
    parsed = file.parsed(structure.floats)
    if parsed.size_bytes != parsed.size_of(structure.floats):
        for network in enclosing_networks(model, file):
            job = _part_of_network(model, network, file, strict)
            if job is not None:
                return job
    order = order_by_file.arrange(structure, parsed)
    assignments = order_by_file.assignments(order, transposed=parsed.header.transposed)
    plan = layout.Plan(assignments, structure.floats, None)
    return Job(parsed, plan, layer_names(assignments), untouched=tuple(structure.unsupported))


def _part_of_network(
    model: Any, network: cfg.Network, file: WeightsFile, strict: bool
) -> Job | None:
    """Plans for a model that is a part of the file's network; returns None if it is not.

    It is a part if each of its layers has a counterpart of the same name, or if the counterparts
    are the first layers of the network.
    """
    stored = _FileLayers.read(network, file, strict)
    pairing = _aligned_if_readable(model, stored, skips_bare=False)
    if pairing is None or pairing.skipped or pairing.unpaired_in_model:
        return None
    if not pairing.unpaired_in_file:
        return None
    sections = [layer for layer in stored.layers if layer not in pairing.unpaired_in_file]
    if sections != stored.layers[: len(sections)] and {layer.name for layer in sections} != set(
        pairing.loaded
    ):
        return None
    job = _pairing_job(model, None, network, stored, pairing)
    count = plural(len(stored.layers), "layer")
    note = f"{name_of(model)} is {len(sections)} of the {count} of {network.source}"
    return replace(job, notes=(note, *job.notes))


def _all_but_heads(model: Any, network: cfg.Network, file: WeightsFile, strict: bool) -> Job | None:
    """Plans for a model that differs only right before the heads; returns None for others."""
    stored = _FileLayers.read(network, file, strict)
    pairing = _aligned_if_readable(model, stored, skips_bare=False)
    if pairing is None or pairing.unpaired_in_model or pairing.unpaired_in_file:
        return None
    if not network.heads:
        return None
    loaded = {assignment.segment.layer for assignment in pairing.assignments}
    if not {layer.index for layer in stored.layers} <= loaded | set(output_layers(network)):
        return None
    return _pairing_job(model, None, network, stored, pairing)


def is_part(model: Any, file: WeightsFile) -> bool:
    """Returns whether a model of unknown origin is a part of the file's network."""
    if network_of(model) is not None:
        return False
    return any(
        _part_of_network(model, network, file, strict=True)
        for network in enclosing_networks(model, file)
    )


def shared_layers(model: Any, network: cfg.Network, file: WeightsFile) -> int:
    """Returns the number of the model's layers that a file of `network` has weights for."""
    stored = _FileLayers.read(network, file, strict=True)
    pairing = _aligned_if_readable(model, stored, skips_bare=True)
    return len(pairing.loaded) if pairing else 0


def _aligned_if_readable(
    model: Any, stored: _FileLayers, *, skips_bare: bool
) -> partial.Pairing | None:
    """Returns `_aligned`; None if the model cannot be split into units."""
    try:
        return _aligned(model, None, stored, skips_bare=skips_bare)
    except ModelMismatchError:
        return None


def enclosing_networks(model: Any, file: WeightsFile) -> Iterable[cfg.Network]:
    """Yields the networks that the file may hold and the model may be a part of.

    These are the network the model's layers were built from, and stock networks of the file's
    size.
    """
    built_from = network_of_layers(model)
    if built_from is not None:
        yield built_from
    for parsed in file.layouts():
        yield from stock_networks(parsed.floats)


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
    stored.check_size()
    if by_name:
        pairings = [
            partial.pairing_of(partial.by_name(stored.layers, layers))
            for layers in named_layers(model, own)
        ]
        pairing = max(pairings, key=lambda pairing: len(pairing.loaded))
    else:
        pairing = _aligned(model, own, stored)
    if by_name and not skip_mismatch:
        refuse_names(file, network, pairing, stored.beyond, strict)
    return _pairing_job(model, own, network, stored, pairing)


# Loads in file order


def _in_order(model: Any, network: cfg.Network, file: WeightsFile, strict: bool) -> Job:
    plan = _plan_in_order(model, network, file)
    parsed = file.parsed(plan.floats)
    if parsed.header.transposed:
        plan = _plan_in_order(model, network, file, transposed=True)
    backbone = _backbone(parsed, layout.segments(network), strict)
    unsupported = () if network_of(model) is not None else tuple(unsupported_layers(model))
    if backbone is None:
        return Job(parsed, plan, plan.layer_names, untouched=unsupported)
    covered: list[layout.Assignment] = []
    uncovered: list[layout.Assignment] = []
    for assignment in plan.assignments:
        is_covered = assignment.segment.layer < backbone.layers
        (covered if is_covered else uncovered).append(assignment)
    return Job(
        backbone.file,
        layout.Plan(tuple(covered), backbone.file.floats, network),
        layer_names(covered),
        untouched=(*layer_names(uncovered), *unsupported),
        notes=(backbone.note,),
    )


def _plan_in_order(
    model: Any, network: cfg.Network, file: WeightsFile, *, transposed: bool = False
) -> layout.Plan:
    if network_of(model) is network:
        return cached_plan_for(model, network, file, transposed=transposed)
    return plan_for(model, network, transposed=transposed)


@dataclass(frozen=True)
class _Backbone:
    """A backbone file, with the header that its size means, and its number of layers."""

    file: ParsedFile
    layers: int

    @property
    def note(self) -> str:
        return f"{ENDS_AFTER}{plural(self.layers, 'layer')}"


def _backbone(
    file: ParsedFile, segments: Sequence[layout.Segment], strict: bool
) -> _Backbone | None:
    """Returns what a backbone file holds; None for any other file."""
    if strict and file.backbone_layers is None:
        return None
    if segments and file.size_bytes - file.header.size_bytes == segments[-1].end:
        return None
    for parsed in file.layouts():
        layers = partial.layers_in_backbone(segments, parsed.floats, file.backbone_layers)
        if layers is not None:
            return _Backbone(parsed, layers)
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
    best = partial.pairing_of(ranked[0].pairs, ranked[0].doubts)
    for other in ranked[1:]:
        if other.score < ranked[0].score:
            break
        if _destinations(partial.pairing_of(other.pairs)) != _destinations(best):
            # Raises an error that describes both orders.
            order_by_file.preferred(readings(model, skips_bare=True)[0])
    return best


def _destinations(pairing: partial.Pairing) -> set[tuple[int, int]]:
    """Returns (offset in the file, id of the variable) of each assignment."""
    return {
        (assignment.segment.offset, id(assignment.slot.variable))
        for assignment in pairing.assignments
    }


@dataclass(frozen=True)
class _FileLayers:
    """The layers of a network that a file holds.

    Attributes:
        file: the file, with the header that goes with these layers.
        floats: number of floats of these layers.
        layers: the layers, in file order.
        notes: a note about a backbone file, which ends early.
        beyond: names of the network's layers after the end of a backbone file.
    """

    file: ParsedFile
    floats: int
    layers: list[partial.FileLayer]
    notes: tuple[str, ...] = ()
    beyond: frozenset[str] = frozenset()

    @classmethod
    def read(cls, network: cfg.Network, file: WeightsFile, strict: bool) -> _FileLayers:
        floats = layout.floats(network)
        parsed = file.parsed(floats)
        segments = layout.segments(network, transposed=parsed.header.transposed)
        layers = partial.file_layers(network, segments)
        backbone = _backbone(parsed, segments, strict)
        if backbone is None:
            return cls(parsed, floats, layers)
        covered = [layer for layer in layers if layer.index < backbone.layers]
        beyond = frozenset(layer.name for layer in layers[len(covered) :])
        return cls(backbone.file, backbone.file.floats, covered, (backbone.note,), beyond)

    def check_size(self) -> None:
        """Raises `SizeMismatchError` if the file has another size than these layers."""
        expected = self.file.size_of(self.floats)
        if self.file.size_bytes != expected:
            raise refusal.wrong_size(self.file.name, self.file.size_bytes, expected)


def _pairing_job(
    model: Any,
    own: cfg.Network | None,
    network: cfg.Network,
    stored: _FileLayers,
    pairing: partial.Pairing,
) -> Job:
    unsupported = () if own is not None else readings(model, skips_bare=True)[0].unsupported
    if not pairing.assignments:
        raise ModelMismatchError(
            f"{stored.file.name}: no layer of {network.source} matches a layer of "
            f"{name_of(model)}; pass the network that the file was trained as with network=",
            path=stored.file.name,
        )
    return Job(
        stored.file,
        layout.Plan(pairing.assignments, stored.floats, network),
        pairing.loaded,
        pairing.skipped,
        (*pairing.untouched, *unsupported),
        pairing.unused,
        (*stored.notes, *note_of_doubts(pairing.doubts, network)),
        complete=False,
    )


def _network_of_size(file: WeightsFile, own: cfg.Network | None) -> cfg.Network:
    """Infers the file's network from its size: the model's own, or a stock network.

    Raises:
        ModelMismatchError: no known network has this size.
    """
    file.parsed()  # raises if the file is shorter than a header
    counts = [parsed.floats for parsed in file.layouts()]
    if own is not None and layout.floats(own) in counts:
        return own
    for floats in counts:
        for network in stock_networks(floats):
            return network
    if own is not None:
        return own
    raise ModelMismatchError(
        f"{file.name}: {file.size_bytes} bytes match no stock network; pass the network that the "
        "file was trained as with network=",
        path=file.name,
        found=file.size_bytes,
    )
