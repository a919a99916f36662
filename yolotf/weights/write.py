"""A plan into variables: by the op where it can, else portably."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolotf import _core, errors
from yolotf.weights import layout
from yolotf.weights import op_library as _native
from yolotf.weights.file import WeightsFile
from yolotf.weights.header import Header
from yolotf.weights.once import once_each
from yolotf.weights.refusal import Failure, refusal, role_name

_Array = NDArray[np.generic]


@dataclass(frozen=True)
class WriteStats:
    """How `write` went."""

    path_taken: str
    mapped: bool
    threads: int
    nanoseconds: int
    variables: int


def write(
    file: WeightsFile,
    header: Header,
    plan: layout.Plan,
    *,
    cast: bool,
    verify: bool,
    contents_disposable: bool = False,
) -> WriteStats:
    """Checks the whole plan and then writes it: by the op where it can, else portably.

    Args:
        file: the file.
        header: what it begins with.
        plan: what to write where.
        cast: see `load_darknet_weights`.
        verify: see `load_darknet_weights`.
        contents_disposable: what the variables hold is of no use: writing may begin before all
            of the file is read and its content checked.

    Raises:
        WeightsMismatch: nothing was written, unless `contents_disposable`.
        OSError: the file cannot be read.
    """
    targets = _targets(plan)
    if targets.symbolic is not None:
        raise refusal(Failure("symbolic", targets.symbolic), file, plan, targets.assignments)
    job = _Job(file, header, plan, targets, cast, verify)
    return job.with_op(contents_disposable) if _op_can(targets) else job.portably()


def check_size(file: WeightsFile, plan: layout.Plan, header: Header) -> None:
    """Refuses a file of another size than the plan's.

    Raises:
        SizeMismatchError: it is.
    """
    expected = plan.expected_bytes(header.size_bytes)
    if expected not in (-1, file.size_bytes):
        failure = Failure("wrong_size", expected=expected, found=file.size_bytes)
        raise refusal(failure, file, plan, plan.assignments)


def write_arrays(
    file: WeightsFile,
    header: Header,
    plan: layout.Plan,
    arrays: Sequence[_Array],
    *,
    verify: bool,
    threads: int,
) -> None:
    """Checks and writes a plan into new NumPy arrays; no TensorFlow.

    Args:
        file: the file.
        header: what it begins with.
        plan: what to write where.
        arrays: one an assignment of the plan.
        verify: see `load_darknet_weights`.
        threads: that read and write.

    Raises:
        WeightsMismatch: the arrays may be half written.
        OSError: the file cannot be read.
    """
    _scatter(
        file, header, plan, plan.assignments, arrays, cast=False, verify=verify, threads=threads
    )


def check_content(file: WeightsFile, header: Header, plan: layout.Plan, *, threads: int) -> None:
    """Refuses a file whose numbers show damage, as `write_arrays` with `verify` does.

    Raises:
        WeightsMismatch: they do, or another process changed the file.
        OSError: the file cannot be read.
    """
    rows = plan.rows(header.size_bytes)
    try:
        found = _core.examine_content(file.path, header.size_bytes, rows, threads=threads)
    except _core.NativeError as error:
        raise refusal(Failure.of(error), file, plan, plan.assignments) from None
    if found:
        code, segment, role, *numbers = found[0]
        raise refusal(Failure(code, segment, -1, role, *numbers), file, plan, plan.assignments)


_PIECE = 32 << 20
"""Bytes that `Pieces` keeps in memory; more only for an array that is larger."""


class Pieces:
    """A file's arrays, a few at a time, for what need not have all of them in memory.

    Attributes:
        nanoseconds: that reading them has taken so far.
        mapped: whether the file was read through a mapping, see `LoadReport`.
    """

    def __init__(
        self, file: WeightsFile, header: Header, plan: layout.Plan, *, threads: int
    ) -> None:
        """Nothing is read yet.

        Args:
            file: the file; its content is not looked at (`check_content`).
            header: what it begins with.
            plan: what is where in it.
            threads: that read and write.
        """
        self._file, self._header, self._plan, self._threads = file, header, plan, threads
        self._version = _version(file)
        self.nanoseconds = 0
        self.mapped = True

    def of(self, assignments: Sequence[layout.Assignment]) -> Iterator[_Array]:
        """The float32 array of each assignment, which is good until the next is asked for.

        Args:
            assignments: some of the plan's, in file order.

        Raises:
            WeightsMismatch: another process changed the file.
            OSError: the file cannot be read.
        """
        memory = np.empty(0, np.float32)
        for group in _groups(assignments):
            counts = [one.segment.count for one in group]
            if memory.size < sum(counts):
                memory = np.empty(sum(counts), np.float32)
            ends = itertools.accumulate(counts)
            arrays = [
                memory[end - count : end].reshape(one.shape)
                for one, count, end in zip(group, counts, ends, strict=True)
            ]
            self._read(group, arrays)
            yield from arrays

    def _read(self, group: Sequence[layout.Assignment], arrays: Sequence[_Array]) -> None:
        mapped, _, checking, writing = _scatter(
            self._file,
            self._header,
            self._plan,
            group,
            arrays,
            cast=False,
            verify=False,
            threads=self._threads,
        )
        self.mapped &= bool(mapped)
        self.nanoseconds += checking + writing
        if _version(self._file) != self._version:
            raise refusal(Failure("changed"), self._file, self._plan, self._plan.assignments)


def _groups(assignments: Sequence[layout.Assignment]) -> Iterator[list[layout.Assignment]]:
    """Neighbours that are no more than a piece together."""
    group: list[layout.Assignment] = []
    size = 0
    for one in assignments:
        if group and size + one.segment.size_bytes > _PIECE:
            yield group
            group, size = [], 0
        group.append(one)
        size += one.segment.size_bytes
    if group:
        yield group


def _version(file: WeightsFile) -> tuple[int, ...]:
    """What changes with a file's content, or with the file itself."""
    status = os.stat(file.path)  # noqa: PTH116 - a path as it was given
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _scatter(
    file: WeightsFile,
    header: Header,
    plan: layout.Plan,
    assignments: Sequence[layout.Assignment],
    arrays: Sequence[_Array],
    *,
    cast: bool,
    verify: bool,
    threads: int,
) -> tuple[int, int, int, int]:
    """Into arrays that hold nothing yet, so that they are written while the file is read."""
    try:
        return _core.scatter(
            file.path,
            header.to_bytes(),
            plan.expected_bytes(header.size_bytes),
            plan.rows(header.size_bytes, None if assignments is plan.assignments else assignments),
            list(arrays),
            cast=cast,
            verify=verify,
            contents_disposable=True,
            threads=threads,
        )
    except _core.NativeError as error:
        raise refusal(Failure.of(error), file, plan, assignments) from None


def replicas(variable: Any) -> list[Any]:
    """The variables of every replica; the variable itself if it is not distributed."""
    import tensorflow as tf  # not with `import yolotf`

    if isinstance(variable, tf.distribute.DistributedValues):
        return list(variable.values)
    return [variable]


class _Targets:
    """The variables of a plan, one an assignment, so that replicas each have theirs.

    Attributes:
        assignments: of the plan; more where variables are distributed.
        variables: that they go to.
        symbolic: the first that belongs to a graph and has no memory; None if none does.
    """

    def __init__(self, plan: layout.Plan) -> None:
        """Looks the variables up."""
        import tensorflow as tf  # not with `import yolotf`

        found = [replicas(assignment.slot.variable) for assignment in plan.assignments]
        self.variables = [variable for one in found for variable in one]
        self.assignments = plan.assignments  # whose rows the plan knows
        if len(self.variables) != len(self.assignments):
            self.assignments = tuple(
                one for one, its in zip(self.assignments, found, strict=True) for _ in its
            )
        symbolic = (
            index
            for index, variable in enumerate(self.variables)
            if tf.is_symbolic_tensor(variable.handle)
        )
        self.symbolic = next(symbolic, None)

    @functools.cached_property
    def cpu(self) -> str | None:
        """The one CPU of this process that they are all on; None if they are elsewhere."""
        devices = {variable.device for variable in self.variables}
        if len(devices) != 1 or not re.match(r"/job:localhost/.*device:CPU:\d+$", min(devices)):
            return None
        return str(devices.pop())

    @functools.cached_property
    def wide(self) -> bool:
        """Whether some are float64, which native code does not write."""
        return any(one.slot.dtype == "float64" for one in self.assignments)

    @functools.cached_property
    def handles(self) -> Any:
        """All handles in one tensor."""
        import tensorflow as tf  # not with `import yolotf`

        with tf.device(self.cpu):
            return tf.raw_ops.Pack(values=[variable.handle for variable in self.variables], axis=0)


@once_each
def _targets(plan: layout.Plan) -> _Targets:
    return _Targets(plan)


def _op_can(targets: _Targets) -> bool:
    """Whether the op can be loaded and write all variables: on one CPU of this process.

    With several devices (MirroredStrategy) it would have to be called once for each, and the file
    could be replaced in between: one replica would have the old weights, one the new.
    """
    if targets.cpu is None or targets.wide:
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
        warnings.warn(
            f"{text}; loading without it, which takes longer", RuntimeWarning, stacklevel=2
        )


@dataclass(frozen=True)
class _Job:
    """One call of `write`."""

    file: WeightsFile
    header: Header
    plan: layout.Plan
    targets: _Targets
    cast: bool
    verify: bool

    def with_op(self, contents_disposable: bool) -> WriteStats:
        import tensorflow as tf  # not with `import yolotf`

        with tf.device(self.targets.cpu):
            result = _native.op_library().yolotf_scatter(
                path=os.fsencode(self.file.path),
                header=self.header.to_bytes(),
                expected_bytes=self.plan.expected_bytes(self.header.size_bytes),
                # A tensor: the op would take the array apart number by number.
                plan=tf.constant(self._rows()),
                resources=self.targets.handles,
                cast=self.cast,
                verify=self.verify,
                contents_disposable=contents_disposable,
            )
        numbers: list[int] = result.numpy().tolist()
        code, file_code, system_error, segment, axis, role, *places = numbers[:10]
        if system_error or file_code == _NOT_REGULAR:
            raise _os_error(system_error, self.file)
        if file_code:
            raise self.refused(Failure("changed"))
        if code:
            raise self.refused(Failure(_core.CODES[code], segment, axis, role_name(role), *places))
        mapped, threads, checking, writing = numbers[10:]
        count = len(self.targets.variables)
        return WriteStats("op", bool(mapped), threads, checking + writing, count)

    def _rows(self) -> NDArray[np.int64]:
        own = self.targets.assignments is self.plan.assignments
        return self.plan.rows(self.header.size_bytes, None if own else self.targets.assignments)

    def portably(self) -> WriteStats:
        """Fills memory of its own, which the variables take over without a copy."""
        import tensorflow as tf  # not with `import yolotf`

        started = time.perf_counter_ns()
        before = self._values()
        # Every float32 is a float64, so that these are not rounded, but take a copy.
        arrays = [
            _aligned(
                tuple(value.shape),
                np.dtype(np.float32 if value.dtype == tf.float64 else value.dtype.as_numpy_dtype),
            )
            for value in before
        ]
        mapped, threads, _, _ = _scatter(
            self.file,
            self.header,
            self.plan,
            self.targets.assignments,
            arrays,
            cast=self.cast,
            verify=self.verify,
            threads=_native.thread_count(),
        )
        tensors = [
            tf.cast(_adopted(array), value.dtype)
            for array, value in zip(arrays, before, strict=True)
        ]
        try:
            for variable, tensor in zip(self.targets.variables, tensors, strict=True):
                tf.raw_ops.AssignVariableOp(resource=variable.handle, value=tensor)
        except BaseException:  # memory that ran out, Ctrl-C: no model half of this, half of that
            for variable, value in zip(self.targets.variables, before, strict=True):
                tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)
            raise
        return WriteStats(
            path_taken="portable",
            mapped=bool(mapped),
            threads=threads,
            nanoseconds=time.perf_counter_ns() - started,
            variables=len(self.targets.variables),
        )

    def _values(self) -> list[Any]:
        """What the variables hold, without a copy."""
        import tensorflow as tf  # not with `import yolotf`

        owners: dict[int, int] = {}
        values = []
        for index, variable in enumerate(self.targets.variables):
            owner = owners.setdefault(id(variable), index)
            if owner != index:
                raise self.refused(Failure("shared", index, expected=owner))
            value = tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
            # An operation more, so only where there may be nothing.
            if tuple(value.shape) != tuple(variable.shape) and not variable.is_initialized():
                raise self.refused(Failure("uninitialized", index))
            values.append(value)
        return values

    def refused(self, failure: Failure) -> errors.WeightsMismatch:
        return refusal(failure, self.file, self.plan, self.targets.assignments)


_NOT_REGULAR = 2
"""FileCode in csrc/mapped_file.h."""


def _os_error(number: int, file: WeightsFile) -> OSError:
    if number:
        return OSError(number, os.strerror(number), file.name)
    return OSError(errno.EINVAL, "not a regular file", file.name)


_ALIGNMENT = 64
"""Of TensorFlow's own tensors: memory that has less is copied."""


def _aligned(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> _Array:
    """Memory that holds whatever it held."""
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _adopted(array: Any) -> Any:
    """A tensor in the memory of an array."""
    import tensorflow as tf  # not with `import yolotf`

    if not array.size:
        return tf.constant(array)
    if array.dtype.kind == "f":
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    # bfloat16, which NumPy has no name for.
    raw = tf.experimental.dlpack.from_dlpack(array.view(np.uint16).__dlpack__())
    return tf.bitcast(raw, tf.as_dtype(array.dtype))
