"""What of a file goes where in a model, decided before anything is written.

A model from `build_model` has its network's order, another is taken apart by `model_order`; loads
that are not the whole file into the whole model are paired by `partial`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from yolotf import errors
from yolotf.darknet import cfg
from yolotf.loading import partial
from yolotf.models import order as model_order
from yolotf.weights import layout
from yolotf.weights.header import Header, read_header

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Job:
    """A plan, and what it leaves out."""

    header: Header
    size_bytes: int
    plan: layout.Plan
    loaded: tuple[str, ...]
    skipped: tuple[partial.Skipped, ...] = ()
    untouched: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    whole: bool = True


def job_for(
    model: Any, path: Path, source: Any, *, strict: bool, by_name: bool, skip_mismatch: bool
) -> Job:
    """Decides what of the file goes where in the model."""
    own = own_network(model)
    if own is None and source is None and not (by_name or skip_mismatch):
        return _arranged(model, path, strict)
    network = _source_network(model, path, source, own, guess=by_name or skip_mismatch)
    whole = network is own or (own is None and source is not None)
    if not (by_name or skip_mismatch) and (whole or _same_layout(network, own)):
        network = own or network
        plan = plan_for(model, network)
        header, size_bytes = read_header(path, plan.floats)
        if header.transposed:
            plan = plan_for(model, network, transposed=True)
        cut = _cut(path, header, size_bytes, layout.segments(network), strict)
        if cut is None:
            return Job(header, size_bytes, plan, _names(plan.moves))
        kept = tuple(move for move in plan.moves if move.segment.layer < cut.layers)
        left = tuple(move for move in plan.moves if move.segment.layer >= cut.layers)
        return Job(
            cut.header,
            size_bytes,
            layout.Plan(kept, cut.floats, network),
            _names(kept),
            untouched=_names(left),
            notes=(f"the file ends after {cut.layers} layers",),
        )
    segments = layout.segments(network)
    floats = segments[-1].end // layout.FLOAT_BYTES if segments else 0
    header, size_bytes = read_header(path, floats)
    if header.transposed:
        segments = layout.segments(network, transposed=True)
    notes: tuple[str, ...] = ()
    cut = _cut(path, header, size_bytes, segments, strict)
    if cut is not None:
        segments = [segment for segment in segments if segment.layer < cut.layers]
        header, floats = cut.header, cut.floats
        notes = (f"the file ends after {cut.layers} layers",)
    sources = partial.file_layers(network, segments)
    targets = model_layers(model, own)
    pairs = (partial.by_name if by_name else partial.align)(sources, targets)
    found = partial.pair(pairs)
    if by_name and strict and not skip_mismatch:
        _refuse_unpaired(path, network, found, sources, targets)
    if not skip_mismatch:
        _refuse_skipped(path, network, own, found, transfer=own is not None and not by_name)
    if not found.moves:
        raise errors.PlanError(
            f"{os.fspath(path)}: no layer of {network.source} fits one of {model.name}; "
            "is it another network?",
            path=os.fspath(path),
        )
    return Job(
        header,
        size_bytes,
        layout.Plan(found.moves, floats, network),
        found.loaded,
        found.skipped,
        found.untouched,
        found.unused,
        notes,
    )


def _arranged(model: Any, path: Path, strict: bool) -> Job:
    """For a model of unknown origin: the file decides which order of its layers is the cfg's."""
    structure = model_order.Structure(model)
    header, size_bytes = read_header(path, structure.floats)
    others = tuple(structure.others)
    if not strict or partial.is_backbone_name(os.fspath(path)):
        for width in header.widths:
            floats, rest = divmod(size_bytes - width, layout.FLOAT_BYTES)
            order = None if rest else model_order.beginning(structure, floats)
            if order is not None:
                header, _ = read_header(path, floats)
                moves = model_order.moves(order, transposed=header.transposed)
                return Job(
                    header,
                    size_bytes,
                    layout.Plan(moves, floats, None),
                    _names(moves),
                    untouched=(*(one.name for one in structure.units if one not in order), *others),
                    notes=(f"the file ends after {len(order)} layers",),
                    whole=False,
                )
    order = model_order.arrange(
        structure, path, header.size_bytes, size_bytes, transposed=header.transposed
    )
    moves = model_order.moves(order, transposed=header.transposed)
    plan = layout.Plan(moves, structure.floats, None)
    return Job(header, size_bytes, plan, _names(moves), untouched=others)


def _names(moves: Iterable[layout.Move]) -> tuple[str, ...]:
    """The Keras layers of `moves`, a batch normalization counted with its convolution."""
    names = (move.slot.name.rpartition("/")[0].removesuffix("_bn") for move in moves)
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class _Cut:
    layers: int
    floats: int
    header: Header


def _cut(
    path: Path,
    header: Header,
    size_bytes: int,
    segments: Sequence[layout.Segment],
    strict: bool,
) -> _Cut | None:
    """Where a file ends that is meant to end early; None for all others."""
    if strict and not partial.is_backbone_name(os.fspath(path)):
        return None
    if segments and size_bytes - header.size_bytes == segments[-1].end:
        return None
    for width in header.widths:
        floats, rest = divmod(size_bytes - width, layout.FLOAT_BYTES)
        layers = None if rest else partial.cut_of(segments, floats, os.fspath(path))
        if layers is not None:
            return _Cut(layers, floats, read_header(path, floats)[0])
    return None


def _source_network(
    model: Any, path: Path, source: Any, own: cfg.Network | None, *, guess: bool
) -> cfg.Network:
    """What the file was trained as: as said, the model's own, or by the file's size."""
    from yolotf.models.network_like import stock_networks

    if source is not None:
        return network_for(model, source)
    if not guess:
        return network_for(model, None)
    header, size_bytes = read_header(path, layout.floats(own) if own else None)
    if own is not None and size_bytes == layout.size_bytes(own, header.size_bytes):
        return own
    for width in header.widths:
        floats, rest = divmod(size_bytes - width, layout.FLOAT_BYTES)
        for network in () if rest else stock_networks(floats):
            return network
    if own is not None:
        return own
    raise errors.PlanError(
        f"{os.fspath(path)}: {size_bytes} bytes are no stock network's; pass cfg= with the network "
        "it was trained as",
        path=os.fspath(path),
        found=size_bytes,
    )


def _same_layout(network: cfg.Network, own: cfg.Network | None) -> bool:
    """Whether two networks store the same, and so a file of the one is one of the other."""
    return own is not None and layout.segments(network) == layout.segments(own)


def _refuse_unpaired(
    path: Path,
    network: cfg.Network,
    found: partial.Pairing,
    sources: Sequence[partial.FileLayer],
    targets: Sequence[partial.ModelLayer],
) -> None:
    if not found.untouched and not found.unused:
        return
    theirs = [source.name for source in sources]
    ours = [target.name for target in targets]
    lines = [
        f"{name}: no such layer in {network.source}{partial.suggestion(name, found.unused, theirs)}"
        for name in found.untouched
    ]
    lines += [
        f"{name}: no such layer in the model{partial.suggestion(name, found.untouched, ours)}"
        for name in found.unused
    ]
    shown = "; ".join(lines[:6]) + (f"; and {len(lines) - 6} more" if len(lines) > 6 else "")
    raise errors.PlanError(
        f"{os.fspath(path)}: {len(lines)} names have no partner: {shown}; rename them, or pass "
        "strict=False to load the others",
        path=os.fspath(path),
        untouched=found.untouched,
        unused=found.unused,
    )


def _refuse_skipped(
    path: Path,
    network: cfg.Network,
    own: cfg.Network | None,
    found: partial.Pairing,
    *,
    transfer: bool,
) -> None:
    """Raises for what does not fit; with `transfer` the layers before the heads need not."""
    from yolotf.darknet.rules import output_layers
    from yolotf.models.build import layer_name

    excused: set[str] = set()
    if transfer and own is not None and own.heads:
        excused = {layer_name(own.layers[index]) for index in output_layers(own)}
    skipped = [one for one in found.skipped if one.name not in excused]
    untouched = [] if own is None or not transfer else list(found.untouched)
    unused = list(found.unused) if transfer else []
    if not skipped and not untouched and not unused:
        return
    problems = [str(one) for one in skipped]
    problems += [f"{name}: nothing in {network.source} for it" for name in untouched]
    problems += [f"{name} of {network.source}: no place in the model" for name in unused]
    shown = "; ".join(problems[:6])
    more = f"; and {len(problems) - 6} more" if len(problems) > 6 else ""
    raise errors.PlanError(
        f"{os.fspath(path)}: {len(problems)} layers do not fit: {shown}{more}; pass "
        "skip_mismatch=True to load the others",
        path=os.fspath(path),
        skipped=found.skipped,
        untouched=found.untouched,
        unused=found.unused,
    )


def own_network(model: Any) -> cfg.Network | None:
    """The network `model` was built from by `build_model`."""
    from yolotf.models.build import network_of

    return network_of(model)


def model_layers(model: Any, network: cfg.Network | None) -> list[partial.ModelLayer]:
    """The model's layers that hold weights, in Darknet order, batch norms with their layers."""
    from yolotf.models.build import layer_name

    if network is None:
        order = model_order.preferred(model_order.Structure(model))
        return [partial.ModelLayer(unit.name, unit.slots) for unit in order]
    grouped: dict[int, dict[str, layout.Slot]] = {}
    for (index, role), slot in model_order.by_section(model, network).items():
        grouped.setdefault(index, {})[role] = slot
    return [
        partial.ModelLayer(layer_name(network.layers[index]), slots)
        for index, slots in sorted(grouped.items())
    ]


def network_for(model: Any, source: Any) -> cfg.Network:
    """The network of a `cfg=` argument, or the one `model` was built from.

    Raises:
        PlanError: neither is known.
        CfgError: the argument names no network.
    """
    if isinstance(source, cfg.Network):
        return source
    if source is not None:
        from yolotf.darknet.stock import find

        return find(source)
    network = own_network(model)
    if network is None:
        raise errors.PlanError(
            f"{getattr(model, 'name', model)}: not built by yolotf.build_model, so the order of "
            "its layers is not known; pass cfg="
        )
    return network


def _named_layers(model: Any) -> list[partial.ModelLayer]:
    """The layers of a model that `build_model` did not make, batch norms with what they follow.

    A batch normalization belongs to the layer it is called after (`conv_17_bn`), or else to the
    one before it.
    """
    found: dict[str, dict[str, layout.Slot]] = {}
    for layer in model_order.layers(model):
        slots = model_order.slots(layer)
        if "moving_variance" not in slots:
            if slots:
                found[layer.name] = slots
            continue
        owner = layer.name.removesuffix("_bn")
        if owner not in found:
            owner = next(reversed(found), layer.name)
        if "gamma" in found.get(owner, {}) or owner not in found:
            found[layer.name] = slots
        else:
            found[owner].update(slots)
    return [partial.ModelLayer(name, slots) for name, slots in found.items()]


def plan_for(model: Any, network: cfg.Network, *, transposed: bool = False) -> layout.Plan:
    """Binds every segment of the file to its variable.

    A model whose layers are not called after the sections is matched to them by its structure.

    Raises:
        PlanError: a section that stores floats has no layer in the model.
    """
    from yolotf.darknet.rules import used_layers

    if not getattr(model, "built", True):
        raise errors.PlanError(
            f"{model.name}: has no variables yet; call it once on a picture, or model.build(...)"
        )
    slots = model_order.by_section(model, network)
    used = used_layers(network)
    segments = layout.segments(network, transposed=transposed)
    if own_network(model) is None and any(
        segment.layer in used and (segment.layer, segment.role) not in slots for segment in segments
    ):
        structure = model_order.Structure(model)
        bound_moves = model_order.bind(structure, network, transposed=transposed)
        return layout.Plan(bound_moves, layout.floats(network), network)
    moves = []
    for segment in segments:
        slot = slots.get((segment.layer, segment.role))
        if slot is not None:
            moves.append(layout.move(segment, slot))
        elif segment.layer in used:
            layer = network.layers[segment.layer]
            raise errors.PlanError(
                f"{model.name}: no variable for the {segment.role} of {network.where(layer)}; "
                "the model has no such layer, or it is called otherwise",
                section=segment.layer,
                role=segment.role,
            )
    bound = {move.slot.name for move in moves}
    for target in _named_layers(model) if own_network(model) is None else ():
        if not any(slot.name in bound for slot in target.slots.values()):
            raise errors.PlanError(
                f"{model.name}: {network.source} has nothing for layer {target.name}, whose shape "
                f"is {target.shape}; pass skip_mismatch=True to leave it as it is",
                variable=target.name,
            )
    floats = segments[-1].end // layout.FLOAT_BYTES if segments else 0
    return layout.Plan(tuple(moves), floats, network)
