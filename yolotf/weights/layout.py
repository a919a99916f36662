"""The layout of a file: its segments, its size and the plan that loads them."""

from __future__ import annotations

from yolotf.darknet.network import Network
from yolotf.darknet.segments import FLOAT_BYTES, Segment
from yolotf.weights.plan import Assignment, Plan, Slot, assignment, folded

HEADER_BYTES = 20
"""Size of the header since version 0.2; older files have 16 bytes."""

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


def segments(network: Network, *, transposed: bool = False) -> list[Segment]:
    """Returns the segments of the file of `network`, in file order and without gaps.

    Args:
        network: the parsed cfg.
        transposed: the header's flag (major or minor above 1000): dense kernels are stored, and
            their shapes given, as `(in, out)`.
    """
    return list(network.transposed_segments if transposed else network.segments)


def floats(network: Network) -> int:
    """Returns the number of floats in the file of `network`."""
    return network.segments[-1].end // FLOAT_BYTES if network.segments else 0


def size_bytes(network: Network, header_bytes: int = HEADER_BYTES) -> int:
    """Returns the size in bytes of the file of `network`."""
    return header_bytes + FLOAT_BYTES * floats(network)
