"""How well the numbers of a file suit a layout.

A layout says which floats are beta, gamma, mean, variance and kernel. Trained numbers show it: a
variance is never negative, gammas are hardly ever, and within one array all numbers have one
scale, while a boundary put in the wrong place mixes two. `Evidence` turns that into one number,
the log-likelihood of the floats under the layout less their log-likelihood as one endless kernel,
in nats: larger is better, 0 says nothing. Zeros, NaN and infinity say nothing.

The alternative that every float is compared with is that it belongs to a kernel: 0 on average,
of the magnitude of its neighbours. So the inside of kernels weighs nothing and is not read, and
the cost does not grow with the file.
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
from yolotf.weights.file import WeightsFile
from yolotf.weights.statistics import TINIEST, Run

_Floats = npt.NDArray[np.float32]
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


def _read(descriptor: int, offset: int, count: int) -> _Floats:
    raw = os.pread(descriptor, layout.FLOAT_BYTES * count, offset)
    return np.frombuffer(raw, "<f4", len(raw) // layout.FLOAT_BYTES)


class Evidence:
    """Weighs layouts against the floats of one open file; a context manager.

    Attributes:
        header_bytes: where the floats start.
        floats: whole ones in the file.
        rest: bytes after the last of them.
    """

    def __init__(self, file: WeightsFile, header_bytes: int) -> None:
        self._file = Path(file.path).open("rb", buffering=0)  # noqa: SIM115 - closed in __exit__
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

    def read(self, start: int, count: int) -> _Floats:
        """Floats from `start`, fewer at the end of the file."""
        return _read(self._file.fileno(), self.header_bytes + 4 * start, count)

    def impossible(self, run: Run) -> int:
        """How many floats of a variance are negative; NaN and infinity are damage anywhere."""
        key = (run.start, run.floats)
        if key not in self._impossible:
            values = self.read(max(0, run.start), run.floats)
            count = run.floats if run.start < 0 else int(np.count_nonzero(values <= -TINIEST))
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
        around[~np.isfinite(around) | (np.abs(around) < TINIEST)] = 0.0
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
