"""A plan into variables: by the op where it can, else portably; and what a refusal means.

Native code does the work and the checks. What it refuses comes back as a code with numbers, and
is put here into the terms of cfg and model.
"""

from __future__ import annotations

import os
import re
import struct
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from yolotf import _core, errors
from yolotf.weights import layout
from yolotf.weights import native as _native
from yolotf.weights.contents import Header

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class WriteStats:
    """How `write` went."""

    path_taken: str
    mapped: bool
    threads: int
    nanoseconds: int
    variables: int


def write(
    path: Path,
    header: Header,
    plan: layout.Plan,
    *,
    cast: bool,
    verify: bool,
    fresh: bool = False,
) -> WriteStats:
    """Checks the whole plan and then writes it: by the op where it can, else portably.

    Args:
        path: the file.
        header: what it begins with.
        plan: what to write where.
        cast: see `load_darknet_weights`.
        verify: see `load_darknet_weights`.
        fresh: what the variables hold is of no use: writing may begin before all of the file is
            read and its content checked.

    Raises:
        WeightsMismatch: nothing was written, unless `fresh`.
    """
    moves: list[layout.Move] = []
    variables: list[Any] = []
    for move in plan.moves:
        for variable in replicas(move.slot.variable):
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
    if _op_can(variables):
        return _scatter_with_op(path, header, plan, moves, variables, cast, verify, fresh)
    return _scatter_portably(path, header, plan, moves, variables, cast, verify)


def check_size(path: Path, plan: layout.Plan, header: Header, size_bytes: int) -> None:
    """Refuses a file of another size than the plan's.

    Raises:
        SizeMismatchError: it is.
    """
    expected = plan.expected_bytes(header.size_bytes)
    if expected not in (-1, size_bytes):
        failure = _Failure("wrong_size", expected=expected, found=size_bytes)
        _mismatch(failure, path, plan, plan.moves, ())


def write_arrays(
    path: Path, header: Header, plan: layout.Plan, *, verify: bool, threads: int
) -> None:
    """Likewise, into the NumPy arrays that the plan's slots hold; no TensorFlow.

    Args:
        path: the file.
        header: what it begins with.
        plan: what to write where.
        verify: see `load_darknet_weights`.
        threads: that read and write.

    Raises:
        WeightsMismatch: nothing was written.
    """
    arrays = [move.slot.variable for move in plan.moves]
    try:
        _core.scatter(
            path,
            _header_content(header),
            plan.expected_bytes(header.size_bytes),
            plan.rows(header.size_bytes),
            arrays,
            verify=verify,
            threads=threads,
        )
    except _core.NativeError as error:
        failure = _Failure(
            error.code, error.segment, error.axis, error.offset, error.expected, error.found
        )
        _mismatch(failure, path, plan, plan.moves, arrays)


def replicas(variable: Any) -> list[Any]:
    """The variables of every replica; the variable itself if it is not distributed."""
    import tensorflow as tf

    if isinstance(variable, tf.distribute.DistributedValues):
        return list(variable.values)
    return [variable]


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
    fresh: bool,
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
                fresh=fresh,
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
