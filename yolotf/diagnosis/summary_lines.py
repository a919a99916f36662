"""Formats the facts of a diagnosis or inspection as lines and table rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from yolotf.diagnosis.layer_table import Array, Divergence, LayerRow
from yolotf.diagnosis.report import Column, Table
from yolotf.diagnosis.target import Subject
from yolotf.text import plural
from yolotf.weights.head_decoding import describe_differences
from yolotf.weights.header import Header
from yolotf.weights.same_size import Candidate

_CONTEXT_LAYERS = 2
"""Layers with weights shown before and after the layer where file and network diverge."""


def file_line(size_bytes: int, header: Header | None) -> str:
    """Returns the size and header of a file in one line."""
    line = f"{size_bytes:,} bytes"
    if header:
        line += (
            f", Darknet {header.major}.{header.minor}.{header.revision}, "
            f"{header.seen:,} images seen, header of {header.size_bytes} bytes"
        )
    return line


def network_line(subject: Subject, header: Header | None) -> str:
    """Returns name, classes, channels and size of a network in one line."""
    network = subject.network
    parts = [subject.title]
    if network.classes:
        parts.append(plural(network.classes, "class", "classes"))
    parts.append(plural(network.input_shape.channels, "channel"))
    size_bytes = subject.size_bytes(header.size_bytes) if header else subject.size_bytes()
    return f"{', '.join(parts)}: {size_bytes:,} bytes"


def match_lines(candidates: Iterable[Candidate], here: str = "here") -> Iterator[str]:
    """Yields a line for each group of known networks that decode alike, likeliest first.

    Args:
        candidates: the networks.
        here: how a line refers to the network they are compared with.
    """
    for (match, differing), group in itertools.groupby(
        candidates, key=lambda candidate: candidate[1:]
    ):
        line = ", ".join(candidate.name for candidate in group)
        if match.classes:
            line += f"; {plural(match.classes, 'class', 'classes')}"
        line += f"; {plural(match.channels, 'channel')}"
        if match.layers is not None:
            line += f"; the first {match.layers} layers"
        yield (
            f"{line}; decodes differently: {describe_differences(differing, here)}"
            if differing
            else line
        )


_STATUS_TEXT = {"fits": "matches", "parts": "diverges here", "unreached": ""}
_STATUS_STYLES = {"fits": "green", "parts": "bold red", "unreached": "dim"}
_LAYER_COLUMNS = (
    Column("layer", 9, number=True),
    Column("section", 5),
    Column("line", 4, number=True),
    Column("stores", 6),
    Column("floats", 2, number=True),
    Column("byte", 3, number=True),
    Column("", 8),
)
_ARRAY_COLUMNS = (
    Column("layer", 20, number=True),
    Column("section", 10),
    Column("array", 19),
    Column("shape", 18),
    Column("byte", 14, number=True),
    Column("minimum", 16, number=True),
    Column("maximum", 15, number=True),
    Column("mean", 13, number=True),
    Column("std", 12, number=True),
    Column("negative", 9, number=True),
    Column("not finite", 11, number=True),
)


def layers_around(rows: Iterable[LayerRow], divergence: Divergence) -> Table:
    """Returns a table of the layers with weights around the divergence."""
    stored = [row for row in rows if row.arrays]
    first = next(
        (index for index, row in enumerate(stored) if row.layer >= divergence.layer), len(stored)
    )
    shown = stored[max(0, first - _CONTEXT_LAYERS) : first + _CONTEXT_LAYERS + 1]
    cells = [
        (
            str(row.layer),
            row.section,
            "" if row.cfg_line is None else str(row.cfg_line),
            _stores(row),
            f"{row.floats:,}",
            f"{row.arrays[0].offset:,}",
            _STATUS_TEXT[row.status],
        )
        for row in shown
    ]
    return _without_empty(Table(_LAYER_COLUMNS, cells, [_STATUS_STYLES[r.status] for r in shown]))


def arrays(layers: Iterable[LayerRow]) -> Table:
    """Returns a table of all arrays with their statistics."""
    rows: list[tuple[str, ...]] = []
    for row in layers:
        for array in row.arrays:
            stats = array.stats
            numbers: tuple[str, ...] = ("", "", "", "", "", "")
            if stats:
                numbers = (
                    *(f"{number:.4g}" for number in stats[4:]),
                    f"{stats.negative / stats.floats:.0%}",
                    str(stats.nonfinite) if stats.nonfinite else "",
                )
            rows.append(
                (
                    str(row.layer),
                    row.section,
                    array.role,
                    _shape(array),
                    f"{array.offset:,}",
                    *numbers,
                )
            )
    return Table(_ARRAY_COLUMNS, rows, [""] * len(rows))


def _without_empty(table: Table) -> Table:
    """Removes empty columns, such as the cfg lines of a stock network."""
    kept = [index for index in range(len(table.columns)) if any(row[index] for row in table.rows)]
    return Table(
        [table.columns[index] for index in kept],
        [tuple(row[index] for index in kept) for row in table.rows],
        table.styles,
    )


def _shape(array: Array) -> str:
    """Returns a shape as in `64x32x3x3`; the catalog only knows how many floats a kernel has."""
    if array.role == "kernel" and len(array.shape) == 1:
        return f"{array.shape[0]:,} floats"
    return "x".join(map(str, array.shape))


def _stores(row: LayerRow) -> str:
    """Returns what a section stores, as in `batch norm 64, kernel 64x32x3x3`."""
    roles = [array.role for array in row.arrays]
    parts = [f"batch norm {row.arrays[0].shape[0]}"] if "gamma" in roles else []
    parts += [
        f"{array.role} {_shape(array)}"
        for array in row.arrays
        if array.role in ("bias", "kernel", "weights")
    ]
    return ", ".join(parts)


def statistics(array: Array) -> str:
    """Returns the statistics of an array in one line."""
    stats = array.stats
    if stats is None:
        return ""
    line = f"{stats.minimum:.4g} to {stats.maximum:.4g}, mean {stats.mean:.4g}, std {stats.std:.4g}"
    if stats.negative:
        line += f", {stats.negative / stats.floats:.0%} negative"
    if stats.zero:
        line += f", {stats.zero / stats.floats:.0%} zero"
    if stats.nonfinite:
        line += f", {stats.nonfinite} not finite"
    return line
