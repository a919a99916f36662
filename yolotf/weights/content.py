"""How well the numbers of a file suit a layout.

A layout says which floats are beta, gamma, mean, variance and kernel. Trained numbers show it: a
variance is never negative, gammas are hardly ever, and within one array all numbers have one
scale, while a boundary put in the wrong place mixes two. `Evidence` turns that into one number,
the log-likelihood of the floats under the layout less their log-likelihood as one endless kernel,
in nats: larger is better, 0 says nothing. Zeros, NaN and infinity say nothing.

The alternative that every float is compared with is that it belongs to a kernel: 0 on average,
of the magnitude of its neighbours. So the inside of kernels weighs nothing and is not read, and
the cost does not grow with the file.

Damage shows without another layout to compare with. Held against every real file at hand (in none
of them stand more than 5 zeros in a row in any array), the rules are:

* not finite: NaN or infinity, in any role.
* negative variance: below zero; a subnormal of either sign is a zero (dead depthwise channels
  store -7e-44).
* zeros, bytes that were never written; a subnormal is a zero. A file of nothing but zeros is left
  alone, it says nothing either way. Otherwise:
  a batch norm whose gamma and variance are zero throughout (an untrained network has zero
  variances, but gammas of 1);
  in a kernel of `filters` rows a run of 1,024 zeros (a page) or more, or of 64 if it reaches the
  file's end, that does not begin and end between two filters: filters die whole;
  a run of 16,384 zeros (64 KiB) or more that does, if the variances of these filters are not
  all zero, or there are none: a dead filter has no variance left.
  Neither run counts in a kernel in which more than half of all other numbers are zero (pruned).
* repeated: the same 65,536 bytes or more in two places that do not overlap, at a distance of whole
  floats. A block that repeats inside itself (a constant, a pattern) is not meant.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yolotf import _core
from yolotf.weights import contents as _file
from yolotf.weights import layout
from yolotf.weights import native as _native

Floats = npt.NDArray[np.float32]
_Doubles = npt.NDArray[np.float64]

_NEAR = 16
"""Floats on either side whose magnitude a kernel's float is expected to have."""
_LONGEST = 4096
"""Floats looked at in one array."""
_SPREAD = 25.0
"""Width in nats of the magnitudes that floats of any role have, 1e-8 to 1e3."""
_OUTLIERS = 0.1
"""Share of floats that may come from anywhere: dead filters, clipped values."""
_IMPOSSIBLE = -12.0
_NEGATIVE_GAMMA = math.log(0.03)
_TINIEST_SIGMA = 0.02
_TINIEST_SCALE = 1e-12


class Run(NamedTuple):
    """Some floats of one role, `start` floats after the header."""

    layer: int
    role: str
    start: int
    floats: int

    @property
    def end(self) -> int:
        """The float after the last."""
        return self.start + self.floats


def runs_of(segments: Iterable[layout.Segment]) -> list[Run]:
    """Segments as runs."""
    return [
        Run(segment.layer, segment.role, segment.offset // layout.FLOAT_BYTES, segment.count)
        for segment in segments
    ]


class Stats(NamedTuple):
    """What a run of floats looks like; the last four over its finite numbers."""

    floats: int
    nonfinite: int
    negative: int
    zero: int
    minimum: float
    maximum: float
    mean: float
    std: float


def scan(path: str | os.PathLike[str], runs: Iterable[Run], header_bytes: int) -> list[Stats]:
    """Statistics of `runs`; what lies beyond the end of the file is left out of `floats`.

    Raises:
        OSError: the file cannot be read, or was cut short while it was.
    """
    wanted = list(runs)
    starts = np.array([run.start for run in wanted], np.int64)
    counts = np.array([run.floats for run in wanted], np.int64)
    found = _core.scan(
        path,
        header_bytes + layout.FLOAT_BYTES * starts,
        counts,
        threads=_native.thread_count(),
    )
    columns = [found[name].tolist() for name in _COLUMNS]
    return [_stats(*row) for row in zip(*columns, strict=True)]


_COLUMNS = (
    "count",
    "nonfinite",
    "negative",
    "zero",
    "minimum",
    "maximum",
    "sum",
    "sum_of_squares",
)


def _stats(
    count: int,
    nonfinite: int,
    negative: int,
    zero: int,
    minimum: float,
    maximum: float,
    total: float,
    squares: float,
) -> Stats:
    finite = count - nonfinite
    if not finite:
        return Stats(count, nonfinite, 0, 0, math.nan, math.nan, math.nan, math.nan)
    mean = total / finite
    std = math.sqrt(max(0.0, squares / finite - mean * mean))
    return Stats(count, nonfinite, negative, zero, minimum, maximum, mean, std)


def _read(descriptor: int, offset: int, count: int) -> Floats:
    raw = os.pread(descriptor, layout.FLOAT_BYTES * count, offset)
    return np.frombuffer(raw, "<f4", len(raw) // layout.FLOAT_BYTES)


_PIECE = 1 << 18


def total(path: str | os.PathLike[str], header_bytes: int) -> float:
    """The sum of all floats: finite only if all of them are, at a sixth of the cost of `scan`.

    Huge finite numbers can overflow it too; `scan` tells which it was.
    """
    with Path(path).open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        threads = _native.thread_count()
        step = -(-(size - header_bytes) // (layout.FLOAT_BYTES * threads)) * layout.FLOAT_BYTES
        # What a thread could not read stays NaN, and is met again by the exact scan.
        sums = [math.nan] * threads

        def add(number: int) -> None:
            raw = bytearray(layout.FLOAT_BYTES * _PIECE)
            buffer, view = np.frombuffer(raw, "<f4"), memoryview(raw)
            start = header_bytes + number * step
            end = min(size, start + step)
            found = 0.0
            with np.errstate(all="ignore"):
                while start < end:
                    got = os.preadv(file.fileno(), [view[: end - start]], start)
                    got -= got % layout.FLOAT_BYTES
                    if not got:
                        break
                    found += float(buffer[: got // layout.FLOAT_BYTES].sum())
                    start += got
            sums[number] = found

        workers = [threading.Thread(target=add, args=(number,)) for number in range(1, threads)]
        for worker in workers:
            worker.start()
        add(0)
        for worker in workers:
            worker.join()
        return sum(sums)


def nonfinite(path: str | os.PathLike[str], header_bytes: int, floats: int) -> int:
    """How many of the first `floats` floats are NaN or infinite; holes are not read."""
    pieces = []
    for start, end in _file.extents(path):
        first = max(0, start - header_bytes) // layout.FLOAT_BYTES
        last = min(floats, -(-(end - header_bytes) // layout.FLOAT_BYTES))
        if first < last:
            pieces.append(Run(0, "", first, last - first))
    return sum(found.nonfinite for found in scan(path, pieces, header_bytes))


class Evidence:
    """Weighs layouts against the floats of one open file; a context manager.

    Attributes:
        header_bytes: where the floats start.
        floats: whole ones in the file.
        rest: bytes after the last of them.
    """

    def __init__(self, path: str | os.PathLike[str], header_bytes: int) -> None:
        self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed in __exit__
        self.header_bytes = header_bytes
        size = os.fstat(self._file.fileno()).st_size
        self.floats, self.rest = divmod(max(0, size - header_bytes), layout.FLOAT_BYTES)
        self._gains: dict[tuple[str, int, int], float] = {}
        self._impossible: dict[tuple[int, int], int] = {}

    def __enter__(self) -> Evidence:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def read(self, start: int, count: int) -> Floats:
        """Floats from `start`, fewer at the end of the file."""
        return _read(self._file.fileno(), self.header_bytes + 4 * start, count)

    def impossible(self, run: Run) -> int:
        """How many floats of a variance are negative; NaN and infinity are damage anywhere."""
        key = (run.start, run.floats)
        if key not in self._impossible:
            values = self.read(max(0, run.start), run.floats)
            count = run.floats if run.start < 0 else int(np.count_nonzero(values < 0))
            self._impossible[key] = count
        return self._impossible[key]

    def weigh(self, runs: Iterable[Run]) -> float:
        """The sum of `gain` over `runs`; what lies beyond the file is left out."""
        return sum(self.gain(run.role, run.start, run.floats) for run in runs)

    def gain(self, role: str, start: int, count: int) -> float:
        """Nats in favour of `count` floats at `start` being one array of `role`."""
        count = min(count, self.floats - start)
        if count <= 0 or start < 0 or role == "weights":
            return 0.0
        key = (role, start, count)
        if key not in self._gains:
            weigh = self._kernel_gain if role == "kernel" else self._small_gain
            self._gains[key] = weigh(role, start, count)
        return self._gains[key]

    def _kernel_gain(self, role: str, start: int, count: int) -> float:
        """Of a kernel only its two ends weigh: beyond them other magnitudes begin."""
        whole = count <= 4 * _NEAR
        head = self._end_gain(
            start, count if whole else 2 * _NEAR, slice(0, None if whole else _NEAR)
        )
        if whole:
            return head
        return head + self._end_gain(start + count - 2 * _NEAR, 2 * _NEAR, slice(_NEAR, None))

    def _end_gain(self, start: int, count: int, ends: slice) -> float:
        """Nats for `count` floats having one magnitude, summed over those in `ends`."""
        around, own = self._around(start, count)
        usable = around[own] != 0
        usable[: ends.start] = False
        if ends.stop is not None:
            usable[ends.stop :] = False
        if not usable.any():
            return 0.0
        magnitudes = np.abs(around[own])
        scales = (magnitudes.sum() - magnitudes) / max(1, magnitudes.size - 1)
        kept, scale = magnitudes[usable], np.maximum(scales, _TINIEST_SCALE)[usable]
        nearby = _local_scales(around)[own][usable]
        gains = _with_outliers(_laplace(kept, scale)) - _with_outliers(_laplace(kept, nearby))
        return float(gains.sum()) - 0.5 * math.log(kept.size)

    def _around(self, start: int, count: int) -> tuple[_Doubles, slice]:
        """Floats and their neighbours, 0 for what is not finite; and where they are among them."""
        before = min(_NEAR, start)
        with np.errstate(invalid="ignore"):  # signalling NaNs
            around = self.read(start - before, before + count + _NEAR).astype(np.float64)
        around[~np.isfinite(around)] = 0.0
        return around, slice(before, before + count)

    def _small_gain(self, role: str, start: int, count: int) -> float:
        """Of any other array all floats weigh."""
        around, own = self._around(start, min(count, _LONGEST))
        usable = around[own] != 0
        if not usable.any():
            return 0.0
        scales = _local_scales(around)[own][usable]
        kept = around[own][usable]
        magnitudes = np.abs(kept)
        logs = np.log(magnitudes)
        nearby = _laplace(magnitudes, scales)
        if role == "moving_variance":
            model = _positive(kept, logs, _IMPOSSIBLE, middle=-0.5, width=2.5)
        elif role == "gamma":
            model = _positive(kept, logs, _NEGATIVE_GAMMA, middle=0.0, width=1.0)
        else:
            model = _normal(kept, magnitudes) + logs
        gains = _with_outliers(model) - _with_outliers(nearby)
        if role == "moving_variance":
            # No outlier is a negative variance.
            gains[kept < 0] = _IMPOSSIBLE
        # Fitting two numbers to the floats costs what it does in a minimum description length.
        return float(gains.sum()) - math.log(kept.size)


_LOG_NORMAL = 0.5 * math.log(2 * math.pi)


def _laplace(magnitudes: _Doubles, scales: _Doubles) -> _Doubles:
    """Log-density over log |x| of numbers around 0, as in kernels."""
    densities: _Doubles = np.log(magnitudes) - magnitudes / scales - np.log(2 * scales)
    return densities


def _local_scales(values: _Doubles) -> _Doubles:
    """Mean magnitude of the `_NEAR` floats on either side of each, itself left out."""
    magnitudes = np.abs(values)
    sums = np.concatenate([[0.0], np.cumsum(magnitudes)])
    places = np.arange(values.size)
    low, high = np.maximum(places - _NEAR, 0), np.minimum(places + _NEAR + 1, values.size)
    means = (sums[high] - sums[low] - magnitudes) / np.maximum(high - low - 1, 1)
    floored: _Doubles = np.maximum(means, _TINIEST_SCALE)
    return floored


def _middle(values: _Doubles) -> float:
    """The median, the upper one of two: np.median takes longer than all the rest."""
    return float(np.partition(values, values.size // 2)[values.size // 2])


def _with_outliers(densities: _Doubles) -> _Doubles:
    """Each float may come from anywhere with some probability: dead filters, clipped values."""
    anywhere = math.log(_OUTLIERS / (2 * _SPREAD))
    mixed: _Doubles = np.logaddexp(densities + math.log(1 - _OUTLIERS), anywhere)
    return mixed


def _normal(values: _Doubles, magnitudes: _Doubles) -> _Doubles:
    """Log-density of numbers of one scale around one centre: beta, mean, bias."""
    deviations = values - _middle(values)
    sigma = 1.2533 * float(np.abs(deviations).mean())
    sigma = max(sigma, _TINIEST_SIGMA * float(magnitudes.mean()))
    z = deviations / sigma
    return -0.5 * z * z - math.log(sigma) - _LOG_NORMAL


def _positive(
    values: _Doubles, logs: _Doubles, negative: float, *, middle: float, width: float
) -> _Doubles:
    """Log-density over log |x| of positive numbers of one magnitude: gamma, variance."""
    centre = _middle(logs)
    sigma = max(_TINIEST_SIGMA, 1.2533 * float(np.abs(logs - centre).mean()))
    z = (logs - centre) / sigma
    prior = -0.5 * ((centre - middle) / width) ** 2 / values.size
    signs: _Doubles = np.where(values < 0, negative, 0.0)
    densities: _Doubles = signs + (prior - math.log(sigma) - _LOG_NORMAL) - 0.5 * z * z
    return densities
