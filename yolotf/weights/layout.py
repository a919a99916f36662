"""The file's segments and the plan over them: the door to `segments` and `plan`."""

from __future__ import annotations

from yolotf.weights.plan import Assignment, Plan, Slot, assignment, folded
from yolotf.weights.segments import (
    FLOAT_BYTES,
    HEADER_BYTES,
    Segment,
    floats,
    segments,
    size_bytes,
)

__all__ = [
    "FLOAT_BYTES",
    "HEADER_BYTES",
    "Assignment",
    "Plan",
    "Segment",
    "Slot",
    "assignment",
    "floats",
    "folded",
    "segments",
    "size_bytes",
]
