"""The numbers of a file in memory of their own, as a graph computes with them."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from yolotf.graphs.network import NetworkGraph
from yolotf.weights import layout
from yolotf.weights import write as writing
from yolotf.weights.file import WeightsFile
from yolotf.weights.header import Header

_ALIGNMENT = 64
"""Bytes: what no engine copies. Also a line of a processor's cache."""


def read_arrays(
    graph: NetworkGraph, file: WeightsFile, *, verify: bool, threads: int
) -> tuple[Header, dict[str, npt.NDArray[np.float32]]]:
    """A file's header, and its numbers as `graph` computes with them.

    Args:
        graph: whose arrays are read; the answer has the keys of `graph.shapes`.
        file: the `.weights` file.
        verify: see `load_darknet_weights`.
        threads: that read the file.

    Raises:
        WeightsMismatch: file and network do not belong together.
        OSError: the file cannot be read.
        MemoryError: there is no memory for them.
    """
    header = file.header(layout.floats(graph.network))
    plan = graph.plan(transposed=header.transposed)
    writing.check_size(file, plan, header)  # before there is memory for it
    arrays = allocate(graph.shapes)
    targets = [arrays[one.slot.variable] for one in plan.assignments]
    writing.write_arrays(file, header, plan, targets, verify=verify, threads=threads)
    return header, arrays


def allocate(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, npt.NDArray[np.float32]]:
    """Arrays in one piece of memory, on huge pages where there are any."""
    counts = {key: int(np.prod(shape, dtype=np.int64)) for key, shape in shapes.items()}
    step = _ALIGNMENT // layout.FLOAT_BYTES
    places = {key: -(-count // step) * step for key, count in counts.items()}
    total = sum(places.values())
    # Shared memory, which is mmap's default, is not on huge pages.
    size_bytes = layout.FLOAT_BYTES * max(1, total)
    try:
        memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError from error  # see `explained`, of who allocates
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    floats = np.frombuffer(memory, np.float32)
    arrays: dict[str, npt.NDArray[np.float32]] = {}
    start = 0
    for key, shape in shapes.items():
        arrays[key] = floats[start : start + counts[key]].reshape(shape)
        start += places[key]
    return arrays
