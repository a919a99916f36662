"""Bytes that were never written, or written twice: the rules of `weights.content`, for `check`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yolotf.weights import layout
from yolotf.weights.content import TINIEST
from yolotf.weights.segments import Segment

_ZERO_RUN = 1024
_ZERO_TAIL = 64
_DEAD_RUN = 16 * 1024
_REPEAT = 16 * 1024
_PIECE = 1 << 20
_KEY = 8
"""Floats that a sample is compared by."""
_RARITY = 1024
"""One float in so many is sampled, chosen by its own bits: copies are sampled alike."""

_Floats = npt.NDArray[np.float32]
_Reader = Callable[[int, int], _Floats]
"""(start, count) -> floats of the file."""


class Damage(NamedTuple):
    """A stretch of bytes.

    Attributes:
        detected: zeros or repeated.
        start: its first byte.
        end: the byte after its last.
        repeats: for `repeated`, the first byte of the same bytes before it.
    """

    detected: str
    start: int
    end: int
    repeats: int | None = None


def find(
    path: str | os.PathLike[str], segments: Sequence[Segment], header_bytes: int
) -> list[Damage]:
    """All damage of a file that has exactly the network's size; it is not all zeros.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb", buffering=0) as file:

        def read(start: int, count: int) -> _Floats:
            raw = os.pread(file.fileno(), 4 * count, header_bytes + 4 * start)
            return np.frombuffer(raw, "<f4", len(raw) // 4)

        floats = segments[-1].end // layout.FLOAT_BYTES if segments else 0
        suspects: list[tuple[int, int]] = []
        samples = [np.zeros(0, np.int64)]
        for start in range(0, floats, _PIECE):
            piece = read(start, min(_PIECE + _KEY, floats - start))
            if not np.abs(piece[:: _ZERO_RUN // 4]).min(initial=1) >= TINIEST:
                suspects.append((start, start + piece.size))
            samples.append(_sampled(piece[:_PIECE]) + start)
        found = [
            Damage("zeros", header_bytes + 4 * start, header_bytes + 4 * end)
            for start, end in _zeros(read, segments, floats, suspects)
        ]
        found += [
            Damage(
                "repeated",
                header_bytes + 4 * start,
                header_bytes + 4 * end,
                header_bytes + 4 * before,
            )
            for start, end, before in _repeats(read, np.concatenate(samples), floats)
        ]
    return sorted(found, key=lambda damage: damage.start)


def _runs_of_zeros(values: _Floats) -> Iterator[tuple[int, int]]:
    zero = np.concatenate([[False], np.abs(values) < TINIEST, [False]])
    edges = np.flatnonzero(zero[1:] != zero[:-1])
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _zeros(
    read: _Reader, segments: Sequence[Segment], floats: int, suspects: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Floats that were never written, by the rules."""
    norms: dict[tuple[int, str], dict[str, Segment]] = {}
    for segment in segments:
        norms.setdefault((segment.layer, segment.part), {})[segment.role] = segment
    for roles in norms.values():
        gamma, variance = roles.get("gamma"), roles.get("moving_variance")
        if gamma and variance:
            both = [read(one.offset // 4, one.count) for one in (gamma, variance)]
            if all((np.abs(values) < TINIEST).all() for values in both):
                yield gamma.offset // 4, variance.end // 4
    for segment in segments:
        start, end = segment.offset // 4, segment.end // 4
        tail = end == floats
        if segment.role != "kernel" or not (
            tail or any(first < end and start < last for first, last in suspects)
        ):
            continue
        values = read(start, segment.count)
        row = max(1, segment.count // segment.shape[0])
        variance = norms[segment.layer, segment.part].get("moving_variance")
        living = None if variance is None else read(variance.offset // 4, variance.count)
        bad = [
            (first, last)
            for first, last in _runs_of_zeros(values)
            if _counts(first, last, values.size, row, tail, living)
        ]
        rest = values.size - sum(last - first for first, last in bad)
        zeros = int((np.abs(values) < TINIEST).sum()) - (values.size - rest)
        if 2 * zeros <= rest and rest:
            yield from ((start + first, start + last) for first, last in bad)


def _counts(
    first: int, last: int, count: int, row: int, tail: bool, variances: _Floats | None
) -> bool:
    """Whether a run of zeros in a kernel of `count` floats is a hole."""
    length = last - first
    if length < (_ZERO_TAIL if tail and last == count else _ZERO_RUN) or length == count:
        return False
    if first % row or last % row:
        return True
    if length < _DEAD_RUN:
        return False
    return variances is None or bool((variances[first // row : last // row] >= TINIEST).any())


def _sampled(piece: _Floats) -> npt.NDArray[np.int64]:
    """Places of the floats whose bits make them samples."""
    mixed = piece.view(np.uint32) * np.uint32(2_654_435_761)
    places: npt.NDArray[np.int64] = np.flatnonzero(mixed < np.uint32(2**32 // _RARITY))
    # Of a constant stretch, which does not count, all would be.
    return places if places.size < 8 * piece.size // _RARITY else places[:0]


def _repeats(
    read: _Reader, places: npt.NDArray[np.int64], floats: int
) -> Iterator[tuple[int, int, int]]:
    """(start, end, start of the same before) of blocks that stand twice."""
    first_of: dict[bytes, int] = {}
    covered = 0
    for place in places.tolist():
        if place < covered:
            continue
        key = read(place, _KEY).tobytes()
        before = first_of.setdefault(key, place)
        if before == place:
            continue
        start, end = _extended(read, before, place, floats)
        same = read(start, end - start)
        # A block that repeats inside itself is a pattern.
        inside = same.size >= _REPEAT and any(
            np.array_equal(same[shift : shift + _KEY], same[:_KEY])
            and np.array_equal(same[shift:], same[:-shift])
            for shift in np.flatnonzero(same[1 : _REPEAT // 2] == same[0]) + 1
        )
        if end - start >= _REPEAT and not inside:
            yield start, end, start - (place - before)
            covered = end


def _extended(read: _Reader, before: int, place: int, floats: int) -> tuple[int, int]:
    """The whole stretch around `place` that equals the one around `before`, not overlapping it."""
    distance = place - before
    start, end = place, place
    while end < floats:
        step = min(_REPEAT, floats - end, before + distance - (end - distance))
        if step <= 0:
            break
        equal = read(end, step).view(np.uint32) == read(end - distance, step).view(np.uint32)
        if not equal.all():
            end += int(np.argmin(equal))
            break
        end += step
    while start - distance > 0 and end - start < distance:
        step = min(_REPEAT, start - distance)
        equal = (
            read(start - step, step).view(np.uint32)
            == read(start - distance - step, step).view(np.uint32)
        )[::-1]
        if not equal.all():
            start -= int(np.argmin(equal))
            break
        start -= step
    return start, end
