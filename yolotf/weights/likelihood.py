"""How likely a layout is, given the values in a file.

A layout says which floats are beta, gamma, mean, variance and kernel. Trained values show whether
it is right: variances are never negative, gammas rarely are, and the values of an array share one
scale, so a misplaced boundary mixes two scales. `Evidence` expresses this as a log-likelihood
ratio in nats: the floats under the layout against the floats as one endless kernel. Positive
values support the layout, 0 is no evidence. Zeros, NaN and infinity are ignored.

In the alternative, each float is drawn from a distribution with mean 0 and the magnitude of its
neighbours. The inside of a kernel therefore contributes nothing and is not read, and the cost does
not grow with the size of the file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from yolotf.weights import layout
from yolotf.weights.file import ParsedFile
from yolotf.weights.statistics import TINIEST, Run

_Floats = npt.NDArray[np.float32]
_Doubles = npt.NDArray[np.float64]

_NEAR = 16
"""Neighbours on either side that a kernel value's expected magnitude is taken from."""
_LONGEST = 4096
"""Largest number of floats read from one array."""
_SPREAD = 25.0
"""Range of log magnitudes over all roles: ln(1e3 / 1e-8)."""
_OUTLIERS = 0.1
"""Share of floats that are outliers: dead filters, clipped values."""
_IMPOSSIBLE = -12.0
_NEGATIVE_GAMMA = math.log(0.03)
_TINIEST_SIGMA = 0.02
_TINIEST_SCALE = 1e-12


def _read(descriptor: int, offset: int, count: int) -> _Floats:
    raw = os.pread(descriptor, layout.FLOAT_BYTES * count, offset)
    return np.frombuffer(raw, "<f4", len(raw) // layout.FLOAT_BYTES)


class Evidence:
    """Scores layouts against the floats of a file, which it keeps open; a context manager.

    Attributes:
        header_bytes: offset of the first float.
        floats: number of whole floats in the file.
        rest: bytes after the last whole float.
    """

    def __init__(self, file: ParsedFile) -> None:
        self._file = Path(file.path).open("rb", buffering=0)  # noqa: SIM115 - closed in __exit__
        self.header_bytes = file.header.size_bytes
        size = os.fstat(self._file.fileno()).st_size
        self.floats, self.rest = divmod(max(0, size - self.header_bytes), layout.FLOAT_BYTES)
        self._ratios: dict[tuple[str, int, int], float] = {}
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

    def read(self, start: int, count: int) -> _Floats:
        """Returns `count` floats from float `start` on, or fewer at the end of the file."""
        return _read(self._file.fileno(), self.header_bytes + 4 * start, count)

    def impossible(self, run: Run) -> int:
        """Returns how many floats of a variance are negative; NaN and infinity are not counted."""
        key = (run.start, run.floats)
        if key not in self._impossible:
            values = self.read(max(0, run.start), run.floats)
            count = run.floats if run.start < 0 else int(np.count_nonzero(values <= -TINIEST))
            self._impossible[key] = count
        return self._impossible[key]

    def log_likelihood_ratio(self, runs: Iterable[Run]) -> float:
        """Returns the sum of `array_ratio` over `runs`; ignores floats beyond the file's end."""
        return sum(self.array_ratio(run.role, run.start, run.floats) for run in runs)

    def array_ratio(self, role: str, start: int, count: int) -> float:
        """Returns the nats in favour of the `count` floats at `start` being an array of `role`."""
        count = min(count, self.floats - start)
        if count <= 0 or start < 0 or role == "weights":
            return 0.0
        key = (role, start, count)
        if key not in self._ratios:
            ratio = self._kernel_ratio if role == "kernel" else self._small_array_ratio
            self._ratios[key] = ratio(role, start, count)
        return self._ratios[key]

    def _kernel_ratio(self, role: str, start: int, count: int) -> float:
        """Returns the nats for a kernel: those of its two ends, beyond which magnitudes differ."""
        whole = count <= 4 * _NEAR
        first = self._end_ratio(
            start, count if whole else 2 * _NEAR, slice(0, None if whole else _NEAR)
        )
        if whole:
            return first
        return first + self._end_ratio(start + count - 2 * _NEAR, 2 * _NEAR, slice(_NEAR, None))

    def _end_ratio(self, start: int, count: int, ends: slice) -> float:
        """Returns the nats for `count` floats sharing a magnitude, summed over those in `ends`."""
        values, own = self._with_neighbours(start, count)
        usable = values[own] != 0
        usable[: ends.start] = False
        if ends.stop is not None:
            usable[ends.stop :] = False
        if not usable.any():
            return 0.0
        magnitudes = np.abs(values[own])
        scales = (magnitudes.sum() - magnitudes) / max(1, magnitudes.size - 1)
        kept, scale = magnitudes[usable], np.maximum(scales, _TINIEST_SCALE)[usable]
        nearby = _local_scales(values)[own][usable]
        ratios = _with_outliers(_laplace(kept, scale)) - _with_outliers(_laplace(kept, nearby))
        return float(ratios.sum()) - 0.5 * math.log(kept.size)

    def _with_neighbours(self, start: int, count: int) -> tuple[_Doubles, slice]:
        """Returns floats with their neighbours (0 if not finite), and the slice of the floats."""
        before = min(_NEAR, start)
        with np.errstate(invalid="ignore"):  # signalling NaNs
            values = self.read(start - before, before + count + _NEAR).astype(np.float64)
        values[~np.isfinite(values) | (np.abs(values) < TINIEST)] = 0.0
        return values, slice(before, before + count)

    def _small_array_ratio(self, role: str, start: int, count: int) -> float:
        """Returns the nats for an array other than a kernel: those of all its floats."""
        values, own = self._with_neighbours(start, min(count, _LONGEST))
        usable = values[own] != 0
        if not usable.any():
            return 0.0
        scales = _local_scales(values)[own][usable]
        kept = values[own][usable]
        magnitudes = np.abs(kept)
        logs = np.log(magnitudes)
        nearby = _as_kernel(magnitudes, logs, scales)
        if role == "moving_variance":
            model = _positive(kept, logs, _IMPOSSIBLE, middle=-0.5, width=2.5)
        elif role == "gamma":
            model = _positive(kept, logs, _NEGATIVE_GAMMA, middle=0.0, width=1.0)
        else:
            model = _normal(kept, magnitudes) + logs
        ratios = _with_outliers(model) - _with_outliers(nearby)
        if role == "moving_variance":
            # A negative variance is never just an outlier.
            ratios[kept < 0] = _IMPOSSIBLE
        # The cost of the two fitted parameters: half a log(size) each (BIC).
        return float(ratios.sum()) - math.log(kept.size)


_LOG_NORMAL = 0.5 * math.log(2 * math.pi)


def _laplace(magnitudes: _Doubles, scales: _Doubles) -> _Doubles:
    """Returns the log-density over log |x| of a Laplace distribution around 0, as kernels have."""
    densities: _Doubles = np.log(magnitudes) - magnitudes / scales - np.log(2 * scales)
    return densities


def _as_kernel(magnitudes: _Doubles, logs: _Doubles, scales: _Doubles) -> _Doubles:
    """Returns the log-density over log |x| of a kernel, trained or as initialized.

    What an initializer draws has lighter tails than Laplace's, and fits a normal distribution; with
    Laplace's alone a kernel that was never trained looks like a bias.
    """
    trained = _laplace(magnitudes, scales)
    z = magnitudes / (1.2533 * scales)
    drawn = logs - 0.5 * z * z - np.log(1.2533 * scales) - _LOG_NORMAL
    return drawn if drawn.sum() > trained.sum() else trained


def _local_scales(values: _Doubles) -> _Doubles:
    """Returns for each value the mean magnitude of the `_NEAR` values on either side of it."""
    magnitudes = np.abs(values)
    sums = np.concatenate([[0.0], np.cumsum(magnitudes)])
    places = np.arange(values.size)
    low, high = np.maximum(places - _NEAR, 0), np.minimum(places + _NEAR + 1, values.size)
    means = (sums[high] - sums[low] - magnitudes) / np.maximum(high - low - 1, 1)
    floored: _Doubles = np.maximum(means, _TINIEST_SCALE)
    return floored


def _median(values: _Doubles) -> float:
    """Returns the median, the upper of two; np.median is slower than all other computations."""
    return float(np.partition(values, values.size // 2)[values.size // 2])


def _with_outliers(densities: _Doubles) -> _Doubles:
    """Mixes in the probability `_OUTLIERS` that a float is an outlier of any magnitude."""
    anywhere = math.log(_OUTLIERS / (2 * _SPREAD))
    mixed: _Doubles = np.logaddexp(densities + math.log(1 - _OUTLIERS), anywhere)
    return mixed


def _normal(values: _Doubles, magnitudes: _Doubles) -> _Doubles:
    """Returns the log-density of a normal distribution fitted to the values: beta, mean, bias."""
    deviations = values - _median(values)
    sigma = 1.2533 * float(np.abs(deviations).mean())
    sigma = max(sigma, _TINIEST_SIGMA * float(magnitudes.mean()))
    z = deviations / sigma
    return -0.5 * z * z - math.log(sigma) - _LOG_NORMAL


def _positive(
    values: _Doubles, logs: _Doubles, negative: float, *, middle: float, width: float
) -> _Doubles:
    """Returns the log-density over log |x| of a fitted log-normal distribution: gamma, variance."""
    centre = _median(logs)
    sigma = max(_TINIEST_SIGMA, 1.2533 * float(np.abs(logs - centre).mean()))
    z = (logs - centre) / sigma
    prior = -0.5 * ((centre - middle) / width) ** 2 / values.size
    signs: _Doubles = np.where(values < 0, negative, 0.0)
    densities: _Doubles = signs + (prior - math.log(sigma) - _LOG_NORMAL) - 0.5 * z * z
    return densities
