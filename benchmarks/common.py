"""Helpers of the benchmarks: made-up weights, huge pages, and tables."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from yolotf.darknet import cfg
from yolotf.darknet import graph_checks as graph_rules
from yolotf.weights import layout


def make_weights(network: cfg.Network, path: Path) -> None:
    """Writes a file that `network` loads, and that detects next to nothing in any image.

    Kernels are initialized as in a new network (He and others, 2015), batch normalizations are
    neutral, and the layers before the heads return low scores, so that decoding takes as long as
    with a trained network. The branches of shortcuts add little: otherwise, values would grow to
    thousands after 23 of them.
    """
    rng = np.random.default_rng(1)
    floats = rng.standard_normal(layout.floats(network), dtype=np.float32)
    before_heads = set(graph_rules.output_layers(network))
    added = {layer.inputs[0] for layer in network.layers if isinstance(layer, cfg.Shortcut)}
    for segment in layout.segments(network):
        start = segment.offset // layout.FLOAT_BYTES
        part = floats[start : start + segment.count]
        if segment.role == "kernel":
            part *= np.float32((2 * segment.shape[0] / segment.count) ** 0.5)
        elif segment.role in ("gamma", "moving_variance"):
            part[:] = np.float32(1) + np.float32(0.1) * np.abs(part)
            if segment.role == "gamma" and segment.layer in added:
                part *= np.float32(0.2)
        else:
            part *= np.float32(0.05)
        if segment.layer in before_heads:
            part[:] = -8 if segment.role == "bias" else part * np.float32(0.3)
    with path.open("wb") as file:
        file.write(np.array([0, 2, 5], np.int32).tobytes())
        file.write(np.array([32_013_312], np.uint64).tobytes())
        floats.tofile(file)


def processor() -> str:
    """Returns this machine's processor: model, cores and the widest vectors, as lscpu says."""
    try:
        output = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # not Linux
        return platform.processor() or platform.machine()
    facts = dict(line.strip().split(":", 1) for line in output.splitlines() if ":" in line)
    flags = facts.get("Flags", "").split()
    vectors = next((name for flag, name in _VECTORS.items() if flag in flags), "")
    model = facts.get("Model name", facts.get("Architecture", "")).strip()
    cores = len(os.sched_getaffinity(0))
    return ", ".join(filter(None, (model, f"{cores} cores", vectors)))


_VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX"}


def settle() -> None:
    """Makes memory equally cheap for all rows.

    A virtual machine may give free memory back to its host; getting a gigabyte of it again takes
    a second or more. A row that follows a large process would not pay for that.
    """
    np.ones(1 << 30, np.uint8)


def print_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table; the first column is the name of the row."""
    table = Table(title=title)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 130).print(table)
