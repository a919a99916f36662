"""What the floats of a file are like: statistics of its arrays, and the rules of damage.

Damage shows in the numbers themselves; csrc/content.cc looks for it, for loads and for `check`.
Held against every real file at hand (in none of them stand more than 5 zeros in a row in any
array), the rules are:

* not finite: NaN or infinity, in any role.
* huge: a magnitude of 1e30 or more, in any role. The largest of the real files is 365; a turned
  highest bit of the exponent makes 1e30 and more of all numbers but those below 3e-9.
* negative variance: below zero; a subnormal of either sign is a zero (dead depthwise channels
  store -7e-44).
* zeros: bytes that were never written; a subnormal is a zero. A file of nothing but zeros is left
  alone, it says nothing either way. Otherwise: a batch norm whose gamma and variance are zero
  throughout (an untrained network has zero variances, but gammas of 1); in a kernel, a run of
  1,024 zeros (a page) or more, or of 64 if it reaches the file's end. Where a run begins and ends
  between two filters it may be filters that have died, which they do whole: then only those count
  whose gamma and variance are not zero, as a dead filter's are; a kernel without batch norm may
  be zero throughout, and in runs of less than 16,384 (at the file's end 1,024). No run counts in
  a kernel in which more than half of all other numbers are zero (pruned).
* repeated: the same 65,536 bytes or more in two places that do not overlap, at a distance of whole
  floats. A block that repeats inside itself (a constant, a pattern) is not meant.
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
"""The smallest normal float32; what is nearer to zero counts as zero."""
HUGE = 1e30
"""As large is no number of a network."""


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


def scan(file: WeightsFile, runs: Iterable[Run], header_bytes: int) -> list[Stats]:
    """Statistics of `runs`; what lies beyond the end of the file is left out of `floats`.

    Raises:
        OSError: the file cannot be read, or was cut short while it was.
    """
    import numpy as np  # an eighth of a second that an unreadable file does not wait for

    wanted = list(runs)
    starts = np.array([run.start for run in wanted], np.int64)
    counts = np.array([run.floats for run in wanted], np.int64)
    found = _core.scan(
        file.path,
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


def nonfinite(file: WeightsFile, header_bytes: int, floats: int) -> int:
    """How many of the first `floats` floats are NaN or infinite; holes are not read."""
    pieces = []
    for start, end in _file.extents(file.path):
        first = max(0, start - header_bytes) // layout.FLOAT_BYTES
        last = min(floats, -(-(end - header_bytes) // layout.FLOAT_BYTES))
        if first < last:
            pieces.append(Run(0, "", first, last - first))
    return sum(found.nonfinite for found in scan(file, pieces, header_bytes))
