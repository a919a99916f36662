"""The readable report of a diagnosis or inspection, independent of its output format.

A report is a verdict, lines of facts and a table. Control characters in cfgs, names and paths are
escaped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from yolotf.text import escaped


class Column(NamedTuple):
    """A column of a table."""

    heading: str
    importance: int
    """A narrow terminal shows only the columns of the highest importance."""
    number: bool = False
    """Whether cells are right-aligned."""


class Table(NamedTuple):
    """Rows of text under headings; `styles` has a style for each row."""

    columns: Sequence[Column]
    rows: Sequence[tuple[str, ...]]
    styles: Sequence[str]

    def widths(self) -> list[int]:
        """Returns the width of each column in characters."""
        cells = [tuple(column.heading for column in self.columns), *self.rows]
        return [max(map(len, column)) for column in zip(*cells, strict=True)]

    def narrowed(self, width: int, margin: int, between: int) -> Table:
        """Returns the table with only the most important columns that fit into `width`."""
        widths = self.widths()
        kept = list(range(len(self.columns)))

        def total_width() -> int:
            return margin + sum(widths[index] + between for index in kept) - between

        while len(kept) > 1 and total_width() > width:
            kept.remove(min(kept, key=lambda index: self.columns[index].importance))
        return Table(
            [self.columns[index] for index in kept],
            [tuple(row[index] for index in kept) for row in self.rows],
            self.styles,
        )


@dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
        verdict: the first line.
        good: whether the verdict is good.
        facts: (label, text) of each line below it.
        table: layers or arrays, if any.
    """

    verdict: str
    good: bool
    facts: tuple[tuple[str, str], ...]
    table: Table | None

    @classmethod
    def of(
        cls, verdict: str, good: bool, facts: Iterable[tuple[str, str]], table: Table | None
    ) -> Document:
        """Returns a document with control characters escaped."""
        escaped_facts = tuple((label, escaped(text)) for label, text in facts)
        return cls(escaped(verdict), good, escaped_facts, table)

    def text(self) -> str:
        """Returns plain text without colors and without wrapping."""
        lines = [self.verdict]
        lines += [f"  {label:<12} {text}" for label, text in self.facts]
        table = self.table
        if table:
            widths = table.widths()
            lines.append("")
            for cells in (tuple(column.heading for column in table.columns), *table.rows):
                padded = (
                    cell.rjust(width) if column.number else cell.ljust(width)
                    for column, cell, width in zip(table.columns, cells, widths, strict=True)
                )
                lines.append(("  " + "  ".join(padded)).rstrip())
        return "\n".join(lines)
