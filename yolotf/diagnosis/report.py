"""What people are shown of an answer, before it is decided how: lines of facts, and one table.

Control characters of cfgs, names and paths end here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


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

    @classmethod
    def of(
        cls, verdict: str, good: bool, facts: Iterable[tuple[str, str]], table: Table | None
    ) -> Document:
        """A document without control characters."""
        shown = tuple((label, escaped(text)) for label, text in facts)
        return cls(escaped(verdict), good, shown, table)

    def text(self) -> str:
        """As lines without colors, none of them wrapped."""
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


def escaped(text: str) -> str:
    """Control characters as a backslash and digits, so that a name cannot write to a terminal."""
    return "".join(
        character
        if character.isprintable() or "\ud800" <= character <= "\udfff"
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
