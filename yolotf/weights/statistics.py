"""Statistics of the arrays in a file, and the rules that recognize damage.

csrc/content.cc applies the rules, both for loads and for `check`. They were tuned on real files,
in which no array has more than 5 zeros in a row:

* not finite: NaN or infinity, in any role.
* huge: a magnitude of 1e30 or more, in any role. The largest value in the real files is 365; a
  flipped highest exponent bit turns every value from 3e-9 up into 1e30 or more.
* negative variance: below zero. A subnormal of either sign counts as zero: dead depthwise channels
  store -7e-44.
* zeros: bytes that were never written; a subnormal counts as zero. A file of zeros alone is
  accepted: it is no evidence of damage. In other files, damage is:
  - a batch normalization whose gamma and variance are all zero (an untrained network has zero
    variances, but gammas of 1);
  - in a kernel, a run of at least 1,024 zeros (a page), or of 64 at the end of the file.
  A run that begins and ends between two filters can be dead filters. With batch normalization it
  counts as damage only if gamma and variance of the filters are not zero as well. A kernel without
  batch normalization may be all zero, or have such runs of fewer than 16,384 zeros (1,024 at the
  end of the file). In a pruned kernel, where more than half of the other values are zero, no run
  counts.
* repeated: the same 65,536 bytes or more in two places that do not overlap, a whole number of
  floats apart. A block that repeats itself (a constant, a pattern) does not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from yolotf import _core
from yolotf.files import detect as _file
from yolotf.weights import layout
from yolotf.weights import op_library as _native
from yolotf.weights.file import WeightsFile

TINIEST = 2.0**-126
"""The smallest normal float32; smaller magnitudes count as zero."""
HUGE = 1e30
"""No trained network has values this large."""


class Run(NamedTuple):
    """A run of `floats` floats of one role, `start` floats after the header."""

    layer: int
    role: str
    start: int
    floats: int

    @property
    def end(self) -> int:
        """Index of the first float after the run."""
        return self.start + self.floats


def runs_of(segments: Iterable[layout.Segment]) -> list[Run]:
    """Converts segments to runs."""
    return [
        Run(segment.layer, segment.role, segment.offset // layout.FLOAT_BYTES, segment.count)
        for segment in segments
    ]


class Stats(NamedTuple):
    """Statistics of a run of floats; the last four are over its finite values."""

    floats: int
    nonfinite: int
    negative: int
    zero: int
    minimum: float
    maximum: float
    mean: float
    std: float


def scan(file: WeightsFile, runs: Iterable[Run], header_bytes: int) -> list[Stats]:
    """Statistics of each of `runs`; floats beyond the end of the file are not counted.

    Raises:
        OSError: the file cannot be read, or was truncated while it was read.
    """
    import numpy as np  # imported lazily: costs 0.1 s, which an error about the file can do without

    requested = list(runs)
    starts = np.array([run.start for run in requested], np.int64)
    counts = np.array([run.floats for run in requested], np.int64)
    statistics = _core.scan(
        file.path,
        header_bytes + layout.FLOAT_BYTES * starts,
        counts,
        threads=_native.thread_count(),
    )
    columns = [statistics[name].tolist() for name in _COLUMNS]
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


def nonfinite(file: WeightsFile, header_bytes: int, floats: int) -> int:
    """How many of the first `floats` floats are NaN or infinite; holes of the file are skipped."""
    runs = []
    for start, end in _file.extents(file.path):
        first = max(0, start - header_bytes) // layout.FLOAT_BYTES
        last = min(floats, -(-(end - header_bytes) // layout.FLOAT_BYTES))
        if first < last:
            runs.append(Run(0, "", first, last - first))
    return sum(stats.nonfinite for stats in scan(file, runs, header_bytes))
