"""Loads a file into variables as a plan says: with the op if possible, else portably."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolotf import _core, errors
from yolotf._public import warn_caller
from yolotf.weights import layout, op_library
from yolotf.weights.arrays import Array, scatter
from yolotf.weights.file import ParsedFile, WeightsFile
from yolotf.weights.plan import Targets
from yolotf.weights.refusal import Failure, refusal, role_name


@dataclass(frozen=True)
class WriteStats:
    """Statistics of a call of `write`.

    Attributes:
        path_taken: `op` or `portable`.
        mapped: whether the file was memory-mapped.
        threads: number of threads that read and wrote.
        nanoseconds: time spent checking and writing.
        variables: number of variables written, replicas included.
    """

    path_taken: str
    mapped: bool
    threads: int
    nanoseconds: int
    variables: int


def write(
    file: ParsedFile,
    plan: layout.Plan,
    *,
    cast: bool,
    verify: bool,
    contents_disposable: bool = False,
) -> WriteStats:
    """Checks the whole plan, then writes it: with the op if possible, else portably.

    Args:
        file: the file.
        plan: which segment goes into which variable.
        cast: see `load_darknet_weights`.
        verify: see `load_darknet_weights`.
        contents_disposable: the variables' current values are not needed: writing may begin before
            the whole file is read and its content checked.

    Raises:
        WeightsMismatch: the file does not match, or its content is damaged; no variable was
            changed, unless `contents_disposable`.
        OSError: the file cannot be read.
    """
    targets = plan.targets
    if targets.symbolic is not None:
        raise refusal(Failure("symbolic", targets.symbolic), file, plan, targets.assignments)
    job = _Job(file, plan, targets, cast, verify)
    return job.with_op(contents_disposable) if _op_can(targets) else job.portably()


def _op_can(targets: Targets) -> bool:
    """Returns whether the op can be loaded and all variables are on one CPU of this process.

    With several devices (MirroredStrategy) the op would have to run once on each, and if the file
    were replaced in between, replicas would get different weights.
    """
    if targets.cpu is None or targets.wide:
        return False
    try:
        op_library.op_library()
    except errors.TensorFlowVersionError as error:
        _warn_once(str(error))
        return False
    return True


_warned: set[str] = set()


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        warn_caller(f"{text}; loading without it, which takes longer", RuntimeWarning)


@dataclass(frozen=True)
class _Job:
    """One call of `write`."""

    file: ParsedFile
    plan: layout.Plan
    targets: Targets
    cast: bool
    verify: bool

    def with_op(self, contents_disposable: bool) -> WriteStats:
        import tensorflow as tf  # not with `import yolotf`

        with tf.device(self.targets.cpu):
            result = op_library.op_library().yolotf_scatter(
                path=os.fsencode(self.file.path),
                header=self.file.header.to_bytes(),
                expected_bytes=self.plan.expected_bytes(self.file.header.size_bytes),
                # A tensor, because TensorFlow converts an array value by value.
                plan=tf.constant(self._rows()),
                resources=self.targets.handles,
                cast=self.cast,
                verify=self.verify,
                contents_disposable=contents_disposable,
            )
        outcome = Result(*result.numpy().tolist())
        file_code = _core.FILE_CODES[outcome.file_code]
        if outcome.system_error or file_code == "not_regular":
            raise _os_error(outcome.system_error, self.file)
        if file_code == "changed":
            raise self.refusal(Failure("changed"))
        if outcome.code:
            raise self.refusal(
                Failure(
                    _core.CODES[outcome.code],
                    outcome.segment,
                    outcome.axis,
                    role_name(outcome.role),
                    outcome.offset,
                    outcome.end,
                    outcome.expected,
                    outcome.found,
                )
            )
        return WriteStats(
            path_taken="op",
            mapped=bool(outcome.mapped),
            threads=outcome.threads,
            nanoseconds=outcome.checking_ns + outcome.writing_ns,
            variables=len(self.targets.variables),
        )

    def _rows(self) -> NDArray[np.int64]:
        assignments = self.targets.assignments
        cached = assignments is self.plan.assignments
        return self.plan.rows(self.file.header.size_bytes, None if cached else assignments)

    def portably(self) -> WriteStats:
        """Reads into new arrays, which the variables then adopt without a copy."""
        import tensorflow as tf  # not with `import yolotf`

        started = time.perf_counter_ns()
        before = self._values()
        # Native code writes no float64: those are read as float32 and converted, which is exact.
        arrays = [
            _aligned(
                tuple(value.shape),
                np.dtype(np.float32 if value.dtype == tf.float64 else value.dtype.as_numpy_dtype),
            )
            for value in before
        ]
        mapped, threads, _, _ = scatter(
            self.file,
            self.plan,
            self.targets.assignments,
            arrays,
            cast=self.cast,
            verify=self.verify,
            threads=op_library.thread_count(),
        )
        tensors = [
            tf.cast(_adopted(array), value.dtype)
            for array, value in zip(arrays, before, strict=True)
        ]
        try:
            for variable, tensor in zip(self.targets.variables, tensors, strict=True):
                tf.raw_ops.AssignVariableOp(resource=variable.handle, value=tensor)
        except BaseException:  # out of memory, Ctrl-C: restore all, so that no weights are mixed
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
        """Returns the current values of the variables, without a copy."""
        import tensorflow as tf  # not with `import yolotf`

        owners: dict[int, int] = {}
        values = []
        for index, variable in enumerate(self.targets.variables):
            owner = owners.setdefault(id(variable), index)
            if owner != index:
                raise self.refusal(Failure("shared", index, expected=owner))
            value = tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
            # Checked last, because `is_initialized` runs another operation.
            if tuple(value.shape) != tuple(variable.shape) and not variable.is_initialized():
                raise self.refusal(Failure("uninitialized", index))
            values.append(value)
        return values

    def refusal(self, failure: Failure) -> errors.WeightsMismatch:
        return refusal(failure, self.file, self.plan, self.targets.assignments)


class Result(NamedTuple):
    """The numbers that the op returns, in the order of `RESULT_FIELDS`."""

    code: int
    """Index into `_core.CODES`; 0 if everything was written."""
    file_code: int
    """Index into `_core.FILE_CODES`."""
    system_error: int
    """The errno of reading the file; 0 if there was no error."""
    segment: int
    axis: int
    role: int
    """Index into `_core.ROLES`."""
    offset: int
    end: int
    expected: int
    found: int
    mapped: int
    threads: int
    checking_ns: int
    writing_ns: int


def _os_error(number: int, file: WeightsFile) -> OSError:
    if number:
        return OSError(number, os.strerror(number), file.name)
    return OSError(errno.EINVAL, "not a regular file", file.name)


_ALIGNMENT = 64
"""In bytes, as TensorFlow aligns tensors: it copies memory that is less aligned."""


def _aligned(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """Returns an uninitialized array whose memory is aligned to `_ALIGNMENT`."""
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _adopted(array: Any) -> Any:
    """Returns a tensor that shares the memory of an array."""
    import tensorflow as tf  # not with `import yolotf`

    if not array.size:
        return tf.constant(array)
    if array.dtype.kind == "f":
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    # bfloat16: DLPack cannot export it, because NumPy has no such dtype.
    raw = tf.experimental.dlpack.from_dlpack(array.view(np.uint16).__dlpack__())
    return tf.bitcast(raw, tf.as_dtype(array.dtype))
