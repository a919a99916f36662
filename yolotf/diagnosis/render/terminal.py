"""A document on a terminal: in color, long texts under their labels, a row of the table a line."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from yolotf.diagnosis.report import Document

_STYLES = {
    "cause": "bold red",
    "fix": "green",
    "diverges at": "red",
    "warning": "yellow",
    "detected": "red",
}
_MARGIN, _BETWEEN = 2, 2


def show(document: Document, file: TextIO) -> None:
    """Writes it, no line longer than the terminal is wide."""
    console = Console(file=file, highlight=False)
    console.print(Text(document.verdict, style="bold green" if document.good else "bold red"))
    # A grid wraps long texts under themselves, not under their labels.
    facts = Grid.grid(padding=(0, _BETWEEN, 0, 0))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for label, text in document.facts:
        facts.add_row(Text(f"  {label}", style=_STYLES.get(label, "dim")), Text(text))
    console.print(facts)
    if document.table is None:
        return
    table = document.table.narrowed(console.width, 0, _BETWEEN)
    grid = Grid(box=None, padding=(0, _BETWEEN, 0, 0), header_style="dim", pad_edge=False)
    for column in table.columns:
        # What is left fits; should one column alone be too wide, it goes on in the next line.
        grid.add_column(
            column.heading, justify="right" if column.number else "left", overflow="fold"
        )
    for row, style in zip(table.rows, table.styles, strict=True):
        grid.add_row(*map(Text, row), style=style)
    console.print()
    console.print(grid)
