"""What people are shown of an answer, before it is decided how: lines of facts, and one table.

A `Document` knows nothing of diagnoses; `of_diagnosis` and `of_inspection` make one. Control
characters of cfgs, names and paths end here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from yolotf.diagnosis.findings import plural
from yolotf.weights.known import Match

if TYPE_CHECKING:  # the answer is built on this package
    from yolotf.diagnosis.result import Array, Diagnosis, Inspection, LayerRow

_AROUND = 2
"""Layers with weights shown before and after the one where file and network part."""


class Column(NamedTuple):
    """One column of a table."""

    heading: str
    importance: int
    """The least important go first where a terminal is too narrow."""
    number: bool = False
    """Set to the right."""


class Table(NamedTuple):
    """Rows of text under headings; `styles` has one for every row."""

    columns: Sequence[Column]
    rows: Sequence[tuple[str, ...]]
    styles: Sequence[str]

    def widths(self) -> list[int]:
        """Characters of every column."""
        cells = [tuple(column.heading for column in self.columns), *self.rows]
        return [max(map(len, column)) for column in zip(*cells, strict=True)]

    def narrowed(self, width: int, margin: int, between: int) -> Table:
        """As many columns as fit into `width` characters, the most important ones."""
        kept = list(range(len(self.columns)))
        widths = self.widths()
        while len(kept) > 1 and margin + sum(widths[i] + between for i in kept) - between > width:
            kept.remove(min(kept, key=lambda index: self.columns[index].importance))
        return Table(
            [self.columns[index] for index in kept],
            [tuple(row[index] for index in kept) for row in self.rows],
            self.styles,
        )


@dataclass(frozen=True)
class Document:
    """What is shown.

    Attributes:
        verdict: the first line.
        good: whether it is a good one.
        facts: (label, text) of every line below it.
        table: layers or arrays.
    """

    verdict: str
    good: bool
    facts: tuple[tuple[str, str], ...]
    table: Table | None


def escaped(text: str) -> str:
    """Control characters as a backslash and digits, so that a name cannot write to a terminal."""
    return "".join(
        character
        if character.isprintable() or "\ud800" <= character <= "\udfff"
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def of_diagnosis(diagnosis: Diagnosis) -> Document:
    """Verdict, causes with their fixes, warnings, and the layers around the divergence."""
    return _document(
        _verdict(diagnosis), diagnosis.ok, _facts(diagnosis), _layers_around(diagnosis)
    )


def of_inspection(inspection: Inspection) -> Document:
    """What the file is, and every array with its numbers."""
    return _document(
        inspection.path,
        inspection.detected is None,
        _inspected(inspection),
        _arrays(inspection.layers) if inspection.layers else None,
    )


def _document(
    verdict: str, good: bool, facts: Iterable[tuple[str, str]], table: Table | None
) -> Document:
    return Document(
        escaped(verdict), good, tuple((label, escaped(text)) for label, text in facts), table
    )


def _verdict(diagnosis: Diagnosis) -> str:
    target = diagnosis.subject.source
    if diagnosis.ok:
        return f"{diagnosis.path}: fits {target}"
    if not diagnosis.readable:
        return f"{diagnosis.path}: cannot be read"
    causes = ", ".join(dict.fromkeys(cause.kind for cause in diagnosis.causes))
    return f"{diagnosis.path}: does not fit {target}: {causes}"


def _facts(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    yield "file", file_line(diagnosis)
    yield "network", network_line(diagnosis)
    for cause in diagnosis.causes:
        yield "cause", cause.text
        if cause.fix:
            yield "fix", cause.fix
    parting = diagnosis.first_divergence
    if parting:
        where = diagnosis.subject.where(parting.layer)
        yield "parts at", f"{where}, {parting.role}, byte {parting.offset:,}"
    for warning in diagnosis.warnings:
        yield "warning", warning.text


def _inspected(inspection: Inspection) -> Iterator[tuple[str, str]]:
    yield "file", file_line(inspection)
    if inspection.detected:
        hint = f": {inspection.hint}" if inspection.hint else ""
        yield "detected", inspection.detected + hint
        return
    for match in inspection.matches:
        yield "is", match_line(match)
    if not inspection.matches:
        yield "is", "no known network of this size"


def file_line(subject: Diagnosis | Inspection) -> str:
    """Size and header."""
    line = f"{subject.size_bytes:,} bytes"
    header = subject.header
    if header:
        line += (
            f", Darknet {header.major}.{header.minor}.{header.revision}, "
            f"{header.seen:,} pictures seen, header of {header.size_bytes} bytes"
        )
    return line


def network_line(diagnosis: Diagnosis) -> str:
    """Name, classes, channels and size."""
    network = diagnosis.subject.network
    parts = [diagnosis.subject.title]
    if network.classes:
        parts.append(plural(network.classes, "class", "classes"))
    parts.append(plural(network.input_shape.channels, "channel"))
    header = diagnosis.header.size_bytes if diagnosis.header else 20
    return f"{', '.join(parts)}: {diagnosis.subject.size_bytes(header):,} bytes"


def match_line(match: Match) -> str:
    """A known network."""
    line = ", ".join(match.architecture.names)
    if match.classes:
        line += f"; {plural(match.classes, 'class', 'classes')}"
    line += f"; {plural(match.channels, 'channel')}"
    return line if match.layers is None else f"{line}; the first {match.layers} layers"


# The table.

_STATUS = {"fits": "fits", "parts": "parts here", "unreached": ""}
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


def _layers_around(diagnosis: Diagnosis) -> Table | None:
    parting = diagnosis.first_divergence
    if parting is None:
        return None
    stored = [row for row in diagnosis.layers if row.segments]
    at = next((i for i, row in enumerate(stored) if row.layer >= parting.layer), len(stored))
    shown = stored[max(0, at - _AROUND) : at + _AROUND + 1]
    rows = [
        (
            str(row.layer),
            row.section,
            "" if row.cfg_line is None else str(row.cfg_line),
            _stores(row),
            f"{row.floats:,}",
            f"{row.segments[0].offset:,}",
            _STATUS[row.status],
        )
        for row in shown
    ]
    return _without_empty(Table(_LAYER_COLUMNS, rows, [_STATUS_STYLES[r.status] for r in shown]))


def _arrays(layers: Iterable[LayerRow]) -> Table:
    rows: list[tuple[str, ...]] = []
    for row in layers:
        for array in row.segments:
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
    """Without columns that hold nothing, such as the lines of a stock network."""
    kept = [i for i in range(len(table.columns)) if any(row[i] for row in table.rows)]
    return Table(
        [table.columns[index] for index in kept],
        [tuple(row[index] for index in kept) for row in table.rows],
        table.styles,
    )


def _shape(array: Array) -> str:
    return "x".join(map(str, array.shape))


def _stores(row: LayerRow) -> str:
    """`batch norm 64, kernel 64x32x3x3`."""
    roles = [array.role for array in row.segments]
    parts = [f"batch norm {row.segments[0].shape[0]}"] if "gamma" in roles else []
    parts += [
        f"{array.role} {_shape(array)}"
        for array in row.segments
        if array.role in ("bias", "kernel", "weights")
    ]
    return ", ".join(parts)


def statistics(array: Array) -> str:
    """The numbers of one array in one line."""
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
