"""Decides which arrays of a file go into which variables, before anything is written.

There are four cases, and `job_for` picks one: a model from `build_model` (`_built_here`), a model
whose network the caller passes (`_told_by_cfg`), any other model (`_foreign`), and a load that
matches layers by name or shape (`_paired`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from yolotf.darknet import cfg, stock
from yolotf.darknet.graph_checks import output_layers, used_layers
from yolotf.errors import ModelMismatchError
from yolotf.loading import partial, remembered
from yolotf.loading.argument_checks import check_source
from yolotf.models import order_by_file, order_by_network
from yolotf.models.layer_names import (
    by_section,
    every_layer,
    network_around,
    network_of,
    part_name,
    parts_of,
    place_of,
)
from yolotf.models.stock import stock_networks
from yolotf.models.traversal import name_of
from yolotf.models.units import other_layers, reading_of_size, readings
from yolotf.models.variables import quantization
from yolotf.text import listed, plural
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
    _refuse_quantized(model, file)
    own = network_of(model)
    told = None if source is None else network_for(model, source)
    if by_name or skip_mismatch:
        network = told or _network_of_size(file, network_around(model))
        return _paired(model, own, network, file, strict, by_name, skip_mismatch)
    if own is not None and (told is None or layout.segments(told) == layout.segments(own)):
        return _built_here(model, own, file, strict)
    if told is not None:
        return _told_by_cfg(model, own, told, file, strict)
    return _foreign(model, file, strict)


def expected_network(model: Any, source: Any) -> cfg.Network | None:
    """Returns the network whose complete file is to be loaded; None if not known in advance."""
    return network_of(model) if source is None else network_for(model, source)


def _refuse_quantized(model: Any, file: WeightsFile) -> None:
    """Raises `ModelMismatchError` for a layer whose kernel is quantized."""
    for layer in every_layer(model):
        if (how := quantization(layer)) is not None:
            raise ModelMismatchError(
                f"{file.name}: layer {layer.name} of {name_of(model)} is quantized ({how}), "
                "and the file holds float32; load the file before the model is quantized",
                path=file.name,
                layer=layer.name,
                quantization=how,
            )


def _built_here(model: Any, own: cfg.Network, file: WeightsFile, strict: bool) -> Job:
    """Plans for a model from `build_model`, whose layers are named after the sections."""
    return _in_order(model, own, file, strict)


def _told_by_cfg(
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
    found = _aligned(model, own, stored)
    outputs = [own.layers[index] for index in output_layers(own)] if own.heads else []
    excused = {part_name(layer, part) for layer in outputs for part in parts_of(layer)}
    _refuse(file, network, [one for one in found.skipped if one.name not in excused], found)
    return _pairing_job(model, own, network, file, stored, found)


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
    found = _fitting(model, stored, skips_bare=False)
    if found is None or found.skipped or found.left or not found.spare:
        return None
    sections = [layer for layer in stored.layers if layer not in found.spare]
    if sections != stored.layers[: len(sections)] and {layer.name for layer in sections} != set(
        found.loaded
    ):
        return None
    job = _pairing_job(model, None, network, file, stored, found)
    count = plural(len(stored.layers), "layer")
    note = f"{name_of(model)} is {len(sections)} of the {count} of {network.source}"
    return replace(job, notes=(note, *job.notes))


def _but_for_heads(model: Any, network: cfg.Network, file: WeightsFile, strict: bool) -> Job | None:
    """Plans for a model that differs only right before the heads; returns None for any other."""
    stored = _FileLayers.read(network, file, strict)
    found = _fitting(model, stored, skips_bare=False)
    if found is None or found.left or found.spare or not network.heads:
        return None
    loaded = {assignment.segment.layer for assignment in found.assignments}
    if not {layer.index for layer in stored.layers} <= loaded | set(output_layers(network)):
        return None
    return _pairing_job(model, None, network, file, stored, found)


def is_part(model: Any, file: WeightsFile) -> bool:
    """Returns whether a model of unknown origin is a part of the file's network."""
    if network_of(model) is not None:
        return False
    return any(_part(model, network, file, strict=True) for network in networks_around(model, file))


def shared_layers(model: Any, network: cfg.Network, file: WeightsFile) -> int:
    """Returns the number of the model's layers that a file of `network` has weights for."""
    found = _fitting(model, _FileLayers.read(network, file, strict=True), skips_bare=True)
    return len(found.loaded) if found else 0


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
        found = max(pairings, key=lambda pairing: len(pairing.loaded))
    else:
        found = _aligned(model, own, stored)
    if by_name and not skip_mismatch:
        _refuse_names(file, network, found, strict)
    return _pairing_job(model, own, network, file, stored, found)


# Loads in file order


def _in_order(model: Any, network: cfg.Network, file: WeightsFile, strict: bool) -> Job:
    find = _remembered_plan_for if network_of(model) is network else plan_for
    plan = find(model, network)
    header = file.header(plan.floats)
    if header.transposed:
        plan = find(model, network, transposed=True)
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


def _targets(found: partial.Pairing) -> set[tuple[int, int]]:
    """Returns (offset in the file, id of the variable) of each assignment."""
    return {(one.segment.offset, id(one.slot.variable)) for one in found.assignments}


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
    found: partial.Pairing,
) -> Job:
    others = () if own is not None else readings(model, skips_bare=True)[0].others
    if not found.assignments:
        raise ModelMismatchError(
            f"{file.name}: no layer of {network.source} fits one of {name_of(model)}; "
            "is it another network?",
            path=file.name,
        )
    return Job(
        stored.header,
        layout.Plan(found.assignments, stored.floats, network),
        found.loaded,
        found.skipped,
        (*found.untouched, *others),
        found.unused,
        (*stored.notes, *_doubts(found.doubts, network)),
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


def _refuse_names(
    file: WeightsFile, network: cfg.Network, found: partial.Pairing, strict: bool
) -> None:
    """Raises if layers of the same name differ in shape or, if `strict`, a name has no partner."""
    unpaired = [*found.untouched, *found.unused] if strict else []
    if not found.skipped and not unpaired:
        return
    problems, fixes = [], []
    if found.skipped:
        count = len(found.skipped)
        problems.append(
            f"{plural(count, 'layer')} of the same name "
            f"{'have' if count > 1 else 'has'} another shape: {_some(map(str, found.skipped))}"
        )
        fixes.append("pass skip_mismatch=True to load the others")
    if unpaired:
        theirs = partial.likely_meant(found.spare, found.left)
        ours = {name: meant for meant, name in theirs.items()}
        lines = [
            f"{name}: no such layer in {network.source}{_meant(ours.get(name))}"
            for name in found.untouched
        ]
        lines += [
            f"{name}: no such layer in the model{_meant(theirs.get(name))}" for name in found.unused
        ]
        count = len(lines)
        problems.append(f"{plural(count, 'name has', 'names have')} no partner: {_some(lines)}")
        fixes.append("rename them, or pass strict=False to load the others")
    raise ModelMismatchError(
        f"{file.name}: {'; '.join((*problems, *fixes))}",
        path=file.name,
        skipped=found.skipped,
        untouched=found.untouched,
        unused=found.unused,
    )


def _meant(name: str | None) -> str:
    return f"; did you mean {name}?" if name else ""


def _refuse(
    file: WeightsFile,
    network: cfg.Network,
    skipped: Sequence[partial.Skipped],
    found: partial.Pairing,
) -> None:
    """Raises if layers differ in shape, or only one side has them."""
    problems = [str(one) for one in skipped]
    problems += [f"{name}: nothing in {network.source} for it" for name in found.untouched]
    problems += [f"{name} of {network.source}: no place in the model" for name in found.unused]
    if not problems:
        return
    raise ModelMismatchError(
        f"{file.name}: {plural(len(problems), 'layer does', 'layers do')} not fit: "
        f"{_some(problems)}; pass "
        "skip_mismatch=True to load the others",
        path=file.name,
        skipped=found.skipped,
        untouched=found.untouched,
        unused=found.unused,
    )


def _doubts(doubts: Sequence[partial.Doubt], network: cfg.Network) -> tuple[str, ...]:
    """Returns the note about layers left unchanged because several sections match equally well."""
    if not doubts:
        return ()
    layers = [f"{one.layer} ({' or '.join(one.sections)})" for one in doubts]
    count = plural(len(layers), "layer")
    return (
        f"{count} {'was' if len(layers) == 1 else 'were'} left unchanged because more than one "
        f"pairing with {network.source} is equally likely: {_some(layers)}; name "
        f"{'it' if len(layers) == 1 else 'them'} after the sections (conv_17) to decide",
    )


def _some(texts: Iterable[str], most: int = 6) -> str:
    return listed(texts, most, "; ")


# Networks and models


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
            f"{name_of(model)}: has no variables yet; call it once on a picture, or "
            "model.build(...)"
        )
    built_here = network_of(model) is not None
    slots = by_section(model, network)
    used = used_layers(network)
    segments = layout.segments(network, transposed=transposed)
    missing = [one for one in segments if one.layer in used and place_of(one) not in slots]
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
        layout.assignment(one, slots[place_of(one)]) for one in segments if place_of(one) in slots
    )
    if not built_here:
        _refuse_more(model, network, assignments)
    return layout.Plan(assignments, layout.floats(network), network)


def _remembered_plan_for(
    model: Any, network: cfg.Network, *, transposed: bool = False
) -> layout.Plan:
    """Returns `plan_for` of a model from `build_model`, cached while the model is unchanged."""
    sight = remembered.Sight.of(model, network)
    plan = remembered.plan_of(model, sight, transposed=transposed)
    if plan is None:
        plan = plan_for(model, network, transposed=transposed)
        remembered.note(model, sight, plan, transposed=transposed)
    return plan


def _refuse_more(
    model: Any, network: cfg.Network, assignments: Sequence[layout.Assignment]
) -> None:
    """Raises if the model has a layer with weights that the network does not have."""
    bound = {id(assignment.slot.variable) for assignment in assignments}
    structure = readings(model, skips_bare=True)[0]
    if structure.bare:
        name = structure.bare[0]
        raise ModelMismatchError(
            f"{name_of(model)}: {network.source} has nothing for layer {name}, which has neither a "
            "bias nor a batch normalization; pass skip_mismatch=True to leave it unchanged",
            variable=name,
        )
    for unit in structure.units:
        if not any(id(slot.variable) in bound for slot in unit.slots.values()):
            shape = partial.ModelLayer(unit.name, unit.slots).shape
            raise ModelMismatchError(
                f"{name_of(model)}: {network.source} has nothing for layer {unit.name}, whose "
                f"shape is {shape}; pass skip_mismatch=True to leave it unchanged",
                variable=unit.name,
            )
