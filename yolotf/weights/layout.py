"""The layout of a file: its segments and the plan that loads them."""

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
