"""Shows a document on a terminal, in color and wrapped to its width."""

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
    """Writes a document in color, with no line wider than the terminal."""
    console = Console(file=file, highlight=False)
    console.print(Text(document.verdict, style="bold green" if document.good else "bold red"))
    # A grid aligns wrapped lines with the text, not with the label.
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
        # The remaining columns fit; a single column that is too wide wraps.
        grid.add_column(
            column.heading, justify="right" if column.number else "left", overflow="fold"
        )
    for row, style in zip(table.rows, table.styles, strict=True):
        grid.add_row(*map(Text, row), style=style)
    console.print()
    console.print(grid)
