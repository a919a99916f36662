"""Reads the weights of a file into memory, in the layout that a graph computes with."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from yolotf.graphs.network import NetworkGraph
from yolotf.weights import layout
from yolotf.weights.arrays import check_size, fill_arrays
from yolotf.weights.file import ParsedFile, WeightsFile

_ALIGNMENT = 64
"""Bytes: a cache line, and an alignment that every engine can use without a copy."""


def read_arrays(
    graph: NetworkGraph, file: WeightsFile, *, verify: bool, threads: int
) -> tuple[ParsedFile, dict[str, npt.NDArray[np.float32]]]:
    """Returns a file with its header, and its weights as `graph` computes with them.

    Args:
        graph: the graph of the network; the arrays have the keys of `graph.shapes`.
        file: the `.weights` file.
        verify: see `load_darknet_weights`.
        threads: number of threads that read the file.

    Raises:
        WeightsMismatch: the file does not match the network.
        OSError: the file cannot be read.
        MemoryError: the arrays cannot be allocated.
    """
    parsed = file.parsed(layout.floats(graph.network))
    plan = graph.plan(transposed=parsed.header.transposed)
    check_size(parsed, plan)  # before allocating
    arrays = allocate(graph.shapes)
    targets = [arrays[assignment.slot.variable] for assignment in plan.assignments]
    fill_arrays(parsed, plan, targets, verify=verify, threads=threads)
    return parsed, arrays


def allocate(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, npt.NDArray[np.float32]]:
    """Allocates arrays in one block of memory, on huge pages if available."""
    counts = {key: int(np.prod(shape, dtype=np.int64)) for key, shape in shapes.items()}
    multiple = _ALIGNMENT // layout.FLOAT_BYTES
    padded_counts = {key: -(-count // multiple) * multiple for key, count in counts.items()}
    total = sum(padded_counts.values())
    # Private memory: shared memory, mmap's default, gets no huge pages.
    size_bytes = layout.FLOAT_BYTES * max(1, total)
    try:
        memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError from error  # callers translate it, see `tf_errors`
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    floats = np.frombuffer(memory, np.float32)
    arrays: dict[str, npt.NDArray[np.float32]] = {}
    start = 0
    for key, shape in shapes.items():
        arrays[key] = floats[start : start + counts[key]].reshape(shape)
        start += padded_counts[key]
    return arrays
