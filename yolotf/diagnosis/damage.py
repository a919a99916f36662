"""Damage that shows in the numbers of a file, as every load looks for it (csrc/content.h)."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NamedTuple

from yolotf import _core
from yolotf.weights import op_library
from yolotf.weights.file import WeightsFile
from yolotf.weights.plan import Plan, Slot, assignment
from yolotf.weights.segments import Segment


class Damage(NamedTuple):
    """A stretch of bytes.

    Attributes:
        detected: nan_or_inf, huge, negative_variance, zeros or repeated.
        start: its first byte.
        end: the byte after its last.
        repeats: for `repeated`, the first byte of the same bytes before it.
        number: how many numbers; of `zeros` and `repeated` bytes.
    """

    detected: str
    start: int
    end: int
    repeats: int | None = None
    number: int = 0


def find(file: WeightsFile, segments: Sequence[Segment], header_bytes: int) -> list[Damage]:
    """All damage in the numbers of a file of the network's size, in the file's order.

    The rules, and the code, are those of a load with `verify`, so that what is damaged here no
    load accepts; see `weights.statistics`.

    Raises:
        OSError: the file cannot be read.
    """
    plan = Plan(tuple(assignment(segment, _slot(segment)) for segment in segments), None, None)
    try:
        rows = _core.examine_content(
            file.path, header_bytes, plan.rows(header_bytes), threads=op_library.thread_count()
        )
    except _core.NativeError as error:  # its size was right a moment ago
        raise OSError(errno.ESTALE, "was changed while it was read", file.name) from error
    return [
        Damage(
            "nan_or_inf" if code == "nonfinite" else code,
            start,
            end,
            expected if code == "repeated" else None,
            end - start if code in ("zeros", "repeated") else found,
        )
        for code, _, _, start, end, expected, found in rows
    ]


def _slot(segment: Segment) -> Slot:
    """Nothing is written: a plan has to name a variable, and this is none."""
    return Slot("", segment.role, None, segment.shape, "float32")
