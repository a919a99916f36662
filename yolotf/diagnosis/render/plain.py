"""A document as lines of text without colors, none of them wrapped."""

from __future__ import annotations

from yolotf.diagnosis.render.document import Document


def text_of(document: Document) -> str:
    """All lines."""
    lines = [document.verdict]
    lines += [f"  {label:<9} {text}" for label, text in document.facts]
    table = document.table
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
