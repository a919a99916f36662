"""`load_darknet_weights`: a `.weights` file into the variables of a Keras model."""

from __future__ import annotations

import os
import re
import struct
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from yolotf import _core, _native, cfg, errors, layout, model_order, partial
from yolotf._file import Header

Path = str | os.PathLike[str]

BN_EPSILON = 1e-5
"""Darknet's, blas.c:292. Keras' default is 1e-3."""


@dataclass(frozen=True)
class LoadReport:
    """What a load did; printing it gives one block of text.

    Attributes:
        path: the file.
        header: its header.
        layers: sections whose floats were written.
        variables: variables written, replicas counted.
        floats: floats written, replicas not counted.
        size_bytes: of the file.
        seconds: the whole call, the walk of the model included.
        native_seconds: the native part: checking, reading and writing.
        path_taken: `op`, or `portable` for variables or a TensorFlow that the op cannot serve.
        mapped: whether the file was read through a mapping; if not, through a private copy,
            because another process could have changed it meanwhile.
        threads: that wrote.
        loaded: names of the model's layers that were written, in file order.
        skipped: layers that file and model both have, in different shapes; left as they were.
        untouched: layers of the model that the file has nothing for.
        unused: layers of the file that the model has no place for.
        warnings: it loaded, but.
    """

    path: str
    header: Header
    layers: int
    variables: int
    floats: int
    size_bytes: int
    seconds: float
    native_seconds: float
    path_taken: str
    mapped: bool
    threads: int
    loaded: tuple[str, ...] = field(default=(), repr=False)
    skipped: tuple[partial.Skipped, ...] = ()
    untouched: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def gb_per_second(self) -> float:
        """Bytes of floats written in the native part, in 10^9 bytes per second."""
        return 4e-9 * self.floats / self.native_seconds if self.native_seconds else 0.0

    def __str__(self) -> str:
        header = self.header
        source = "mapping" if self.mapped else "private copy"
        lines = [
            f"{self.path}: loaded {self.layers} layers, {self.floats:,} floats, "
            f"{self.size_bytes:,} bytes",
            f"  header   version {header.major}.{header.minor}.{header.revision}, "
            f"seen {header.seen:,} pictures, {header.size_bytes} bytes",
            f"  time     {1e3 * self.seconds:.1f} ms, of which native "
            f"{1e3 * self.native_seconds:.1f} ms ({self.gb_per_second:.1f} GB/s)",
            f"  path     {self.path_taken}, {source}, {self.threads} "
            f"thread{'s' if self.threads != 1 else ''}, {self.variables} variables",
        ]
        lines += [f"  skipped  {skipped}" for skipped in self.skipped]
        for heading, names in (("untouched", self.untouched), ("unused", self.unused)):
            if names:
                lines.append(f"  {heading}: {_listed(names)}")
        lines += [f"  warning  {warning}" for warning in self.warnings]
        return "\n".join(lines)


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def load_darknet_weights(
    model: Any,
    weights_file: Path,
    tiny: bool = False,
    *,
    cfg: Any = None,
    strict: bool = True,
    by_name: bool = False,
    skip_mismatch: bool = False,
    cast: bool = False,
    verify: bool = True,
    bn_epsilon: str = "keep",
    progress: Callable[[int, int], None] | None = None,
) -> LoadReport:
    """Loads a Darknet `.weights` file into a built Keras model, all of it or nothing.

    Everything is checked natively before the first byte is written: the file's size, the dtype
    and shape of every variable, and, with `verify`, the content. Values read from variables
    before the call keep their numbers; functions traced before it see the new weights.

    Args:
        model: built by `build_model`, or with layers called after their sections.
        weights_file: the file; float32, little-endian, header of 16 or 20 bytes.
        tiny: ignored; older loaders need it.
        cfg: the network the file was trained as, if that is not the model's: a `Network`, a
            cfg's path or text, or a stock name. Its layers fill the model's; only those right
            before a head may differ, as they do with another class count, and stay as they
            were.
        strict: refuse a file that ends early at the end of a layer, unless it is called
            `*.conv.N`, and, with `by_name`, names without a partner.
        by_name: pair the file's sections with the model's layers by name (`conv_17`), in
            whatever order the model has them.
        skip_mismatch: load what fits and leave the rest; extra or missing layers are stepped
            over. The report lists what was loaded, skipped and left untouched.
        cast: also allow float16 and bfloat16 variables; the floats are rounded to nearest even.
        verify: refuse a file with moving variances that are negative or not finite: its size
            fits, its layout does not.
        bn_epsilon: `darknet` sets every batch normalization's epsilon to Darknet's 1e-5 (before
            the model is traced); `keep` leaves them and warns where they differ.
        progress: called with (bytes done, bytes in all) at the beginning and the end.

    Returns:
        What was loaded, from where, and how fast.

    Raises:
        WeightsMismatch: file and model do not belong together; no variable was changed.
        OSError: the file cannot be read.
    """
    started = time.perf_counter()
    import tensorflow as tf

    from yolotf import save

    if bn_epsilon not in ("keep", "darknet"):
        raise ValueError(f"bn_epsilon is {bn_epsilon!r}, must be 'keep' or 'darknet'")
    path = os.fsdecode(weights_file)
    try:
        job = _job(model, path, cfg, strict=strict, by_name=by_name, skip_mismatch=skip_mismatch)
        if progress:
            progress(0, job.size_bytes)
        with tf.init_scope():
            stats = write(path, job.header, job.plan, cast=cast, verify=verify)
        if job.whole:
            save.remember(model, job.header, job.plan)
    except errors.WeightsMismatch as error:
        raise _diagnosed(error, path, model, cfg) from None
    notes = [*_header_warnings(job.header), *job.notes, *_epsilons(model, bn_epsilon)]
    if progress:
        progress(job.size_bytes, job.size_bytes)
    return LoadReport(
        path=str(path),
        header=job.header,
        layers=len({move.segment.layer for move in job.plan.moves}),
        variables=stats.variables,
        floats=sum(move.segment.count for move in job.plan.moves),
        size_bytes=job.size_bytes,
        seconds=time.perf_counter() - started,
        native_seconds=stats.nanoseconds / 1e9,
        path_taken=stats.path_taken,
        mapped=stats.mapped,
        threads=stats.threads,
        loaded=job.loaded,
        skipped=job.skipped,
        untouched=job.untouched,
        unused=job.unused,
        warnings=tuple(notes),
    )


def _diagnosed(
    error: errors.WeightsMismatch, path: Path, model: Any, source: Any
) -> errors.WeightsMismatch:
    """The same error with a diagnosis; its message where the file is what does not fit."""
    from yolotf import diagnosis
    from yolotf.model_network import network_like

    if isinstance(error, errors.FileChangedError):
        return error
    try:
        network = network_like(model) if source is None else network_for(model, source)
        found = diagnosis.diagnose(path, network)
    except errors.YolotfError:  # nothing to compare with; the first error says what is wrong
        return error
    facts = {**error.facts, "diagnosis": found}
    about_file = (errors.SizeMismatchError, errors.ContentError, errors.HeaderError)
    message = found.summary() if found.causes and isinstance(error, about_file) else error.message
    return type(error)(message, **facts)


@dataclass(frozen=True)
class _Job:
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


def _job(
    model: Any, path: Path, source: Any, *, strict: bool, by_name: bool, skip_mismatch: bool
) -> _Job:
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
            return _Job(header, size_bytes, plan, _names(plan.moves))
        kept = tuple(move for move in plan.moves if move.segment.layer < cut.layers)
        left = tuple(move for move in plan.moves if move.segment.layer >= cut.layers)
        return _Job(
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
    return _Job(
        header,
        size_bytes,
        layout.Plan(found.moves, floats, network),
        found.loaded,
        found.skipped,
        found.untouched,
        found.unused,
        notes,
    )


def _arranged(model: Any, path: Path, strict: bool) -> _Job:
    """For a model of unknown origin: the file decides which order of its layers is the cfg's."""
    structure = model_order.Structure(model)
    header, size_bytes = read_header(path, structure.floats)
    others = tuple(structure.others)
    if not strict or partial.is_backbone_name(os.fspath(path)):
        for width in (header.version_size_bytes, 36 - header.version_size_bytes):
            floats, rest = divmod(size_bytes - width, layout.FLOAT_BYTES)
            order = None if rest else model_order.beginning(structure, floats)
            if order is not None:
                header, _ = read_header(path, floats)
                moves = model_order.moves(order, transposed=header.transposed)
                return _Job(
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
    return _Job(header, size_bytes, plan, _names(moves), untouched=others)


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
    for width in (header.version_size_bytes, 36 - header.version_size_bytes):
        floats, rest = divmod(size_bytes - width, layout.FLOAT_BYTES)
        layers = None if rest else partial.cut_of(segments, floats)
        if layers is not None:
            return _Cut(layers, floats, read_header(path, floats)[0])
    return None


def _source_network(
    model: Any, path: Path, source: Any, own: cfg.Network | None, *, guess: bool
) -> cfg.Network:
    """What the file was trained as: as said, the model's own, or by the file's size."""
    from yolotf.model_network import stock_networks

    if source is not None:
        return network_for(model, source)
    if not guess:
        return network_for(model, None)
    header, size_bytes = read_header(path, layout.floats(own) if own else None)
    if own is not None and size_bytes == layout.size_bytes(own, header.size_bytes):
        return own
    for width in (header.version_size_bytes, 36 - header.version_size_bytes):
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
    from yolotf.graph_rules import output_layers
    from yolotf.keras_model import layer_name

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
    from yolotf.keras_model import network_of

    return network_of(model)


def model_layers(model: Any, network: cfg.Network | None) -> list[partial.ModelLayer]:
    """The model's layers that hold weights, in Darknet order, batch norms with their layers."""
    from yolotf.keras_model import layer_name

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
        from yolotf.networks import find

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
    from yolotf.graph_rules import used_layers

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


def read_header(path: Path, floats: int | None) -> tuple[Header, int]:
    """The header, its width chosen by the file's size if `floats` is known; and the file's size.

    Raises:
        HeaderError: the file is shorter than a header.
        OSError: it cannot be read, or is not a regular file.
    """
    try:
        fields = _core.read_header(path, -1 if floats is None else floats)
    except _core.NativeError as error:
        raise errors.HeaderError(
            f"{os.fspath(path)}: {error}; a .weights file starts with 16 or 20 bytes of header",
            path=os.fspath(path),
            expected=error.expected,
            found=error.found,
        ) from None
    return Header(*fields[:5]), fields[7]


@dataclass(frozen=True)
class WriteStats:
    """How `write` went."""

    path_taken: str
    mapped: bool
    threads: int
    nanoseconds: int
    variables: int


def write(path: Path, header: Header, plan: layout.Plan, *, cast: bool, verify: bool) -> WriteStats:
    """Checks the whole plan and then writes it: by the op where it can, else portably.

    Raises:
        WeightsMismatch: nothing was written.
    """
    moves: list[layout.Move] = []
    variables: list[Any] = []
    for move in plan.moves:
        for variable in model_order.replicas(move.slot.variable):
            moves.append(move)
            variables.append(variable)
    import tensorflow as tf

    for move, variable in zip(moves, variables, strict=True):
        if tf.is_symbolic_tensor(variable.handle):
            raise errors.PlanError(
                f"{os.fspath(path)}: variable {move.slot.name} belongs to a TensorFlow graph and "
                f"has no memory of its own; {_where(plan, move.segment)}; build the model with "
                "eager execution on and outside of tf.Graph",
                path=os.fspath(path),
                variable=move.slot.name,
                section=move.segment.layer,
                role=move.segment.role,
            )
    scatter = _scatter_with_op if _op_can(variables) else _scatter_portably
    return scatter(path, header, plan, moves, variables, cast, verify)


def _op_can(variables: Sequence[Any]) -> bool:
    """Whether the op can be loaded and all variables are on one CPU of this process.

    With several devices (MirroredStrategy) it would have to be called once for each, and the file
    could be replaced in between: one replica would have the old weights, one the new.
    """
    devices = {variable.device for variable in variables}
    if len(devices) != 1 or not re.match(r"/job:localhost/.*device:CPU:\d+$", devices.pop()):
        return False
    try:
        _native.op_library()
    except errors.TensorFlowVersionError as error:
        _warn_once(str(error))
        return False
    return True


_warned: set[str] = set()


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        warnings.warn(f"{text}; loading without it", RuntimeWarning, stacklevel=2)


def _scatter_with_op(
    path: Path,
    header: Header,
    plan: layout.Plan,
    moves: Sequence[layout.Move],
    variables: Sequence[Any],
    cast: bool,
    verify: bool,
) -> WriteStats:
    import tensorflow as tf

    with tf.device(variables[0].device):
        try:
            stats = _native.op_library().yolotf_scatter(
                path=os.fsencode(path),
                header=_header_content(header),
                expected_bytes=plan.expected_bytes(header.size_bytes),
                plan=plan.rows(header.size_bytes, moves),
                resources=[variable.handle for variable in variables],
                cast=cast,
                verify=verify,
            )
        except tf.errors.InvalidArgumentError as error:
            _raise_from_op(error, path, plan, moves, variables)
    mapped, threads, checking, writing = stats.numpy().tolist()
    return WriteStats(
        path_taken="op",
        mapped=bool(mapped),
        threads=threads,
        nanoseconds=checking + writing,
        variables=len(variables),
    )


def _header_content(header: Header) -> bytes:
    """The bytes the file must begin with: those the plan was made for."""
    seen = header.seen.to_bytes(header.size_bytes - 12, "little")
    return struct.pack("<3i", header.major, header.minor, header.revision) + seen


def _scatter_portably(
    path: Path,
    header: Header,
    plan: layout.Plan,
    moves: Sequence[layout.Move],
    variables: Sequence[Any],
    cast: bool,
    verify: bool,
) -> WriteStats:
    started = time.perf_counter_ns()
    owners: dict[int, int] = {}
    for index, variable in enumerate(variables):
        owner = owners.setdefault(id(variable), index)
        if owner != index:
            _mismatch(_Failure("shared", index, expected=owner), path, plan, moves, variables)
        if not bool(variable.is_initialized()):
            _mismatch(_Failure("uninitialized", index), path, plan, moves, variables)
    arrays: list[np.ndarray[Any, np.dtype[np.generic]]] = [
        np.empty(tuple(variable.shape), variable.dtype.as_numpy_dtype) for variable in variables
    ]
    try:
        mapped, threads, _, _ = _core.scatter(
            path,
            _header_content(header),
            plan.expected_bytes(header.size_bytes),
            plan.rows(header.size_bytes, moves),
            arrays,
            cast=cast,
            verify=verify,
            threads=_native.thread_count(),
        )
    except _core.NativeError as error:
        failure = _Failure(
            error.code, error.segment, error.axis, error.offset, error.expected, error.found
        )
        _mismatch(failure, path, plan, moves, variables)
    before = [variable.read_value() for variable in variables]
    try:
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
    except BaseException:  # memory that ran out, Ctrl-C: no model half of this, half of that
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        raise
    return WriteStats(
        path_taken="portable",
        mapped=bool(mapped),
        threads=threads,
        nanoseconds=time.perf_counter_ns() - started,
        variables=len(variables),
    )


@dataclass(frozen=True)
class _Failure:
    """`Error` of weights.h."""

    code: str
    segment: int = -1
    axis: int = -1
    offset: int = 0
    expected: int = 0
    found: int = 0


_IN_BRACKETS = re.compile(
    r"\[yolotf code=(\d+) segment=(-?\d+) axis=(-?\d+) offset=(\d+) expected=(\d+) found=(\d+)\]"
)
_FILE_IN_BRACKETS = re.compile(r"\[yolotf file=(\d+) errno=(\d+)\]")


def _raise_from_op(
    error: Exception,
    path: Path,
    plan: layout.Plan,
    moves: Sequence[layout.Move],
    variables: Sequence[Any],
) -> NoReturn:
    found = _IN_BRACKETS.search(str(error))
    if found:
        code, *numbers = map(int, found.groups())
        _mismatch(_Failure(_core.CODES[code], *numbers), path, plan, moves, variables)
    found = _FILE_IN_BRACKETS.search(str(error))
    if found and found.group(2) != "0":
        number = int(found.group(2))
        raise OSError(number, os.strerror(number), os.fspath(path)) from None
    if found:
        _mismatch(_Failure("changed"), path, plan, moves, variables)
    raise error


def _mismatch(
    failure: _Failure,
    path: Path,
    plan: layout.Plan,
    moves: Sequence[layout.Move],
    variables: Sequence[Any],
) -> NoReturn:
    """Raises what a failed native check means, in the terms of cfg and model."""
    name = os.fspath(path)
    if failure.code == "changed":
        raise errors.FileChangedError(
            f"{name}: changed by another process while it was read; load it again", path=name
        ) from None
    if failure.code == "wrong_size":
        left = failure.found - failure.expected
        where = f" after {_where(plan, plan.moves[-1].segment)}" if plan.moves else ""
        what = f"{left} bytes left{where}" if left > 0 else f"{-left} bytes too short"
        raise errors.SizeMismatchError(
            f"{name}: {what}: it has {failure.found} bytes, the network "
            f"{failure.expected}; cfg and weights do not belong together",
            path=name,
            expected=failure.expected,
            found=failure.found,
        ) from None
    move = moves[failure.segment]
    segment, slot = move.segment, move.slot
    where = _where(plan, segment)
    if failure.code == "file_too_short":
        shape = "x".join(map(str, segment.shape))
        start = failure.expected - segment.size_bytes
        raise errors.SizeMismatchError(
            f"{name}: too short: {where} wants {segment.role} {shape} at bytes "
            f"{start}..{failure.expected}, file ends at {failure.found}; cfg and weights do not "
            "belong together, or the file is cut",
            path=name,
            section=segment.layer,
            role=segment.role,
            offset=start,
            expected=failure.expected,
            found=failure.found,
        ) from None
    if failure.code == "bad_variance":
        raise errors.ContentError(
            f"{name}: moving_variance of {where} is negative or not finite at byte "
            f"{failure.offset}; the size fits but the floats belong to another network, or the "
            "file is damaged",
            path=name,
            section=segment.layer,
            layer=segment.layer,
            role=segment.role,
            offset=failure.offset,
        ) from None
    variable = variables[failure.segment]
    facts = {"path": name, "variable": slot.name, "section": segment.layer, "role": segment.role}
    if failure.code in ("wrong_shape", "wrong_rank"):
        order = " HWIO" if len(move.shape) == 4 and not slot.depthwise else ""
        raise errors.PlanError(
            f"{name}: variable {slot.name} is {tuple(variable.shape)}, the file has{order} "
            f"{move.shape} for it; {where}",
            expected=move.shape,
            found=tuple(variable.shape),
            **facts,
        ) from None
    if failure.code == "wrong_dtype":
        fix = "; pass cast=True to round" if slot.dtype in ("float16", "bfloat16") else ""
        raise errors.PlanError(
            f"{name}: variable {slot.name} is {slot.dtype}, the file holds float32; {where}{fix}",
            expected="float32",
            found=slot.dtype,
            **facts,
        ) from None
    if failure.code == "shared":
        other = moves[failure.expected]
        raise errors.PlanError(
            f"{name}: variable {slot.name} is meant for the {segment.role} of {where} and for the "
            f"{other.segment.role} of {_where(plan, other.segment)}",
            **facts,
        ) from None
    if failure.code == "uninitialized":
        raise errors.PlanError(
            f"{name}: variable {slot.name} is not initialized; {where}; initialize it first",
            **facts,
        ) from None
    raise errors.PlanError(
        f"{name}: {segment.role} {segment.shape} describes no array ({failure.code}); {where}",
        **facts,
    ) from None


def _where(plan: layout.Plan, segment: layout.Segment) -> str:
    if plan.network is not None:
        return plan.network.where(plan.network.layers[segment.layer])
    return f"layer {segment.layer}"


def _header_warnings(header: Header) -> Iterable[str]:
    if header.size_bytes != header.version_size_bytes:
        yield (
            f"version {header.major}.{header.minor} asks for a header of "
            f"{header.version_size_bytes} bytes, the size fits one of {header.size_bytes}"
        )


def _epsilons(model: Any, bn_epsilon: str) -> list[str]:
    """Sets or compares the epsilon of every batch normalization."""
    different: dict[float, int] = {}
    layers = model_order.layers(model) if own_network(model) is None else model.layers
    for layer in layers:
        if not hasattr(layer, "epsilon") or not hasattr(layer, "moving_variance"):
            continue
        epsilon = float(layer.epsilon)
        if abs(epsilon - BN_EPSILON) <= 1e-9:
            continue
        if bn_epsilon == "darknet":
            layer.epsilon = BN_EPSILON
        else:
            different[epsilon] = different.get(epsilon, 0) + 1
    return [
        f"{count} batch normalizations have epsilon {epsilon:g}, Darknet {BN_EPSILON:g}; "
        'set with bn_epsilon="darknet"'
        for epsilon, count in different.items()
    ]
