"""Checks a file and reads it into NumPy arrays, without TensorFlow."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from yolotf import _core
from yolotf.weights import layout
from yolotf.weights.file import ParsedFile, WeightsFile
from yolotf.weights.refusal import Failure, refusal

Array = NDArray[np.generic]


def check_size(file: ParsedFile, plan: layout.Plan) -> None:
    """Checks that the file has the size that the plan expects.

    Raises:
        SizeMismatchError: it does not.
    """
    expected = plan.expected_bytes(file.header.size_bytes)
    if expected not in (-1, file.size_bytes):
        failure = Failure("wrong_size", expected=expected, actual=file.size_bytes)
        raise refusal(failure, file, plan, plan.assignments)


def fill_arrays(
    file: ParsedFile,
    plan: layout.Plan,
    arrays: Sequence[Array],
    *,
    verify: bool,
    threads: int,
) -> None:
    """Checks a file and reads it into new NumPy arrays.

    Args:
        file: the file.
        plan: which segment goes into which array.
        arrays: one for each assignment of the plan.
        verify: see `load_darknet_weights`.
        threads: number of threads that read and write.

    Raises:
        WeightsMismatch: the arrays may be half written.
        OSError: the file cannot be read.
    """
    scatter(file, plan, plan.assignments, arrays, cast=False, verify=verify, threads=threads)


def check_content(file: ParsedFile, plan: layout.Plan, *, threads: int) -> None:
    """Checks the content of a file for damage, as `fill_arrays` with `verify` does.

    Raises:
        WeightsMismatch: the content is damaged, or another process changed the file.
        OSError: the file cannot be read.
    """
    header_bytes = file.header.size_bytes
    rows = plan.rows(header_bytes)
    try:
        damage = _core.examine_content(file.path, header_bytes, rows, threads=threads)
    except _core.NativeError as error:
        raise refusal(Failure.of(error), file, plan, plan.assignments) from None
    if damage:
        code, segment, role, *numbers = damage[0]
        raise refusal(Failure(code, segment, -1, role, *numbers), file, plan, plan.assignments)


_PIECE = 32 << 20
"""Largest buffer of `Pieces` in bytes, unless a single array is larger."""


class Pieces:
    """Reads a file's arrays a few at a time, to avoid having all of them in memory.

    Attributes:
        nanoseconds: time spent reading so far.
        mapped: whether the file was memory-mapped, see `LoadReport`.
    """

    def __init__(self, file: ParsedFile, plan: layout.Plan, *, threads: int) -> None:
        """Reads nothing yet.

        Args:
            file: the file; its content is not checked (`check_content` does that).
            plan: which segments the file has.
            threads: number of threads that read and write.
        """
        self._file, self._plan, self._threads = file, plan, threads
        self._version = _version(file)
        self.nanoseconds = 0
        self.mapped = True

    def of(self, assignments: Sequence[layout.Assignment]) -> Iterator[Array]:
        """Yields the float32 array of each assignment; it is valid until the next is requested.

        Args:
            assignments: some of the plan's, in file order.

        Raises:
            WeightsMismatch: another process changed the file.
            OSError: the file cannot be read.
        """
        memory = np.empty(0, np.float32)
        for group in _groups(assignments):
            counts = [assignment.segment.count for assignment in group]
            if memory.size < sum(counts):
                memory = np.empty(sum(counts), np.float32)
            ends = itertools.accumulate(counts)
            arrays = [
                memory[end - count : end].reshape(assignment.shape)
                for assignment, count, end in zip(group, counts, ends, strict=True)
            ]
            self._read(group, arrays)
            yield from arrays

    def _read(self, group: Sequence[layout.Assignment], arrays: Sequence[Array]) -> None:
        mapped, _, checking, writing = scatter(
            self._file,
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
    """Splits assignments into groups of at most `_PIECE` bytes; a larger array is a group."""
    group: list[layout.Assignment] = []
    size = 0
    for assignment in assignments:
        if group and size + assignment.segment.size_bytes > _PIECE:
            yield group
            group, size = [], 0
        group.append(assignment)
        size += assignment.segment.size_bytes
    if group:
        yield group


def _version(file: WeightsFile) -> tuple[int, ...]:
    """Returns device, inode, size and time, which change if the file is modified or replaced."""
    status = os.stat(file.path)  # noqa: PTH116 - the path as given
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def scatter(
    file: ParsedFile,
    plan: layout.Plan,
    assignments: Sequence[layout.Assignment],
    arrays: Sequence[Array],
    *,
    cast: bool,
    verify: bool,
    threads: int,
) -> tuple[int, int, int, int]:
    """Reads segments into arrays whose old values are not needed, so that one pass is enough.

    Returns:
        (mapped, threads, nanoseconds of checking, nanoseconds of writing).
    """
    header_bytes = file.header.size_bytes
    try:
        return _core.scatter(
            file.path,
            file.header.to_bytes(),
            plan.expected_bytes(header_bytes),
            plan.rows(header_bytes, None if assignments is plan.assignments else assignments),
            list(arrays),
            cast=cast,
            verify=verify,
            threads=threads,
        )
    except _core.NativeError as error:
        raise refusal(Failure.of(error), file, plan, assignments) from None
