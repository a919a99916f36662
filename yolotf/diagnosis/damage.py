"""Finds damaged values by the rules of a load with `verify` (csrc/weights/damage.h)."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NamedTuple

from yolotf import _core
from yolotf.darknet.segments import Segment
from yolotf.weights import op_library
from yolotf.weights.file import ParsedFile
from yolotf.weights.plan import Plan, Slot, assignment


class Damage(NamedTuple):
    """A damaged range of bytes.

    Attributes:
        detected: nan_or_inf, huge, negative_variance, zeros or repeated.
        start: offset of its start in the file, in bytes.
        end: offset of its end (exclusive), in bytes.
        repeats: for `repeated`, the offset of the earlier copy of the same bytes.
        number: the number of bad values; for `zeros` and `repeated` the number of bytes.
    """

    detected: str
    start: int
    end: int
    repeats: int | None = None
    number: int = 0


def find(file: ParsedFile, segments: Sequence[Segment]) -> list[Damage]:
    """Returns all damaged ranges of a file of the network's size, in file order.

    The rules and the code are those of a load with `verify`, so that no load accepts a file that
    is damaged here; see `weights.statistics`.

    Raises:
        OSError: the file cannot be read.
    """
    header_bytes = file.header.size_bytes
    plan = Plan(tuple(assignment(segment, _slot(segment)) for segment in segments), None, None)
    try:
        rows = _core.examine_content(
            file.path, header_bytes, plan.rows(header_bytes), threads=op_library.thread_count()
        )
    except _core.NativeError as error:  # the file has changed: its size was right before
        raise OSError(errno.ESTALE, "was changed while it was read", file.name) from error
    return [
        Damage(
            "nan_or_inf" if code == "nonfinite" else code,
            start,
            end,
            expected if code == "repeated" else None,
            end - start if code in ("zeros", "repeated") else count,
        )
        for code, _, _, start, end, expected, count in rows
    ]


def _slot(segment: Segment) -> Slot:
    """Returns a slot without a variable: a plan needs slots, but nothing is written."""
    return Slot("", segment.role, None, segment.shape, "float32")
