"""Statistics of the arrays in a file.

csrc/weights/damage.h has the rules that recognize damage by its values, for loads and for `check`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from yolotf import _core
from yolotf.files import detect
from yolotf.weights import layout, op_library
from yolotf.weights.file import ParsedFile

TINIEST = 2.0**-126
"""The smallest normal float32; smaller magnitudes count as zero."""
HUGE = _core.HUGE
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


def scan(file: ParsedFile, runs: Iterable[Run]) -> list[Stats]:
    """Returns the statistics of each of `runs`; floats beyond the file's end are not counted.

    Raises:
        OSError: the file cannot be read, or was truncated while it was read.
    """
    import numpy as np  # imported lazily: costs 0.1 s, which an error about the file can do without

    requested = list(runs)
    starts = np.array([run.start for run in requested], np.int64)
    counts = np.array([run.floats for run in requested], np.int64)
    statistics = _core.scan(
        file.path,
        file.header.size_bytes + layout.FLOAT_BYTES * starts,
        counts,
        threads=op_library.thread_count(),
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


def nonfinite(file: ParsedFile, floats: int) -> int:
    """Returns how many of the first `floats` floats are NaN or infinite; skips the file's holes."""
    header_bytes = file.header.size_bytes
    runs = []
    for start, end in detect.extents(file.path):
        first = max(0, start - header_bytes) // layout.FLOAT_BYTES
        last = min(floats, -(-(end - header_bytes) // layout.FLOAT_BYTES))
        if first < last:
            runs.append(Run(0, "", first, last - first))
    return sum(stats.nonfinite for stats in scan(file, runs))
