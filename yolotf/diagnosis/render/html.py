"""Renders a diagnosis as a self-contained HTML page.

The template is `page.html` in the same folder; its placeholders are `{{name}}`.
"""

from __future__ import annotations

import functools
import html as markup
import importlib.resources
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from yolotf.diagnosis import summary_lines
from yolotf.diagnosis.causes import Finding
from yolotf.diagnosis.layer_table import Divergence, LayerRow
from yolotf.diagnosis.target import Subject
from yolotf.text import escaped
from yolotf.weights import same_size
from yolotf.weights.header import Header


class Drawable(Protocol):
    """What a page shows of a `Diagnosis`, which imports this module."""

    @property
    def path(self) -> str:
        """The name of the file."""

    @property
    def ok(self) -> bool:
        """Whether the file can be loaded into the network."""

    @property
    def readable(self) -> bool:
        """Whether the file can be read."""

    @property
    def size_bytes(self) -> int:
        """The size of the file."""

    @property
    def header(self) -> Header | None:
        """Its header, if Darknet could have written it."""

    @property
    def subject(self) -> Subject:
        """The network it was compared with."""

    @property
    def candidates(self) -> list[same_size.Candidate]:
        """Known networks of the file's size."""

    @property
    def causes(self) -> tuple[Finding, ...]:
        """Every reason why they do not match."""

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Problems that do not prevent loading."""

    @property
    def layers(self) -> tuple[LayerRow, ...]:
        """All sections."""

    @property
    def first_divergence(self) -> Divergence | None:
        """The first array where they diverge."""


def page(diagnosis: Drawable) -> str:
    """Returns the page: the verdict, the causes, and the network as a strip of layers."""
    name = Path(diagnosis.path).name
    # Every value is escaped here. The template has braces, so `str.format` cannot fill it.
    values = {
        "title": _escape(f"{name}: {'matches' if diagnosis.ok else 'does not match'}"),
        "state": "fits" if diagnosis.ok else "parts",
        "verdict": _escape(
            f"{name} matches {diagnosis.subject.source}"
            if diagnosis.ok
            else f"{name} cannot be read"
            if not diagnosis.readable
            else f"{name} does not match {diagnosis.subject.source}"
        ),
        "facts": "".join(
            f"<dt>{_escape(label)}</dt><dd>{_escape(text)}</dd>"
            for label, text in (
                ("file", summary_lines.file_line(diagnosis.size_bytes, diagnosis.header)),
                ("network", summary_lines.network_line(diagnosis.subject, diagnosis.header)),
                *(
                    ("same size as", line)
                    for line in summary_lines.match_lines(diagnosis.candidates)
                ),
            )
        ),
        "findings": "".join(_finding(finding) for finding in diagnosis.causes)
        + "".join(_finding(finding) for finding in diagnosis.warnings),
        "strip": _strip(diagnosis.layers),
        "legend": _legend(diagnosis.layers),
        "most": f"{max((row.floats for row in diagnosis.layers), default=0):,}",
        # Without a divergence no layer is selected, and the box for its details is hidden.
        "detail": "" if diagnosis.first_divergence else "empty",
        "rows": "".join(_table_rows(row) for row in diagnosis.layers if row.arrays),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda placeholder: values[placeholder[1]], _template())


def _finding(finding: Finding) -> str:
    kind = "warning" if finding.fix is None else "cause"
    text = _escape(finding.text)
    fix = f'<p class="fix">{_escape(finding.fix)}</p>' if finding.fix else ""
    heading = f"<h2>{_escape(finding.title)}</h2>"
    return f'<section class="finding {kind}">{heading}<p>{text}</p>{fix}</section>'


_STATUS_TEXT = {"fits": "matches", "parts": "diverges here", "unreached": "not reached"}


def _strip(rows: Sequence[LayerRow]) -> str:
    """Returns a cell for each layer; its height is the logarithm of the floats it stores."""
    most = max((row.floats for row in rows), default=1)
    cells = []
    for row in rows:
        height = 8.0
        if row.floats:
            height = 20 + 80 * math.log(1 + row.floats) / math.log(1 + most)
        text = _escape(_description(row))
        cells.append(
            f'<li class="{row.status}" style="--h:{height:.1f}%" data-layer="{row.layer}" '
            f'role="option" tabindex="-1" title="{text}" aria-label="{text}"></li>'
        )
    return "".join(cells)


def _description(row: LayerRow) -> str:
    """Returns the facts about a layer, one per line."""
    cfg_line = "" if row.cfg_line is None else f", cfg line {row.cfg_line}"
    lines = [f"layer {row.layer} [{row.section}]{cfg_line}: {_STATUS_TEXT[row.status]}"]
    if row.output:
        lines.append(f"outputs {row.output.width}x{row.output.height}x{row.output.channels}")
    for array in row.arrays:
        shape = "x".join(map(str, array.shape))
        numbers = summary_lines.statistics(array)
        lines.append(
            f"{array.role} {shape}, byte {array.offset:,}" + (f": {numbers}" if numbers else "")
        )
    return "\n".join(lines)


def _legend(rows: Sequence[LayerRow]) -> str:
    counts = {status: sum(row.status == status for row in rows) for status in _STATUS_TEXT}
    return "".join(
        f'<span class="{status}"><i></i>{name} ({counts[status]})</span>'
        for status, name in _STATUS_TEXT.items()
        if counts[status]
    )


def _table_rows(row: LayerRow) -> str:
    cells = []
    for index, array in enumerate(row.arrays):
        first = ""
        if index == 0:
            span = len(row.arrays)
            line = "" if row.cfg_line is None else row.cfg_line
            first = (
                f'<th scope="rowgroup" rowspan="{span}">{row.layer}</th>'
                f'<td rowspan="{span}">{_escape(row.section)}</td>'
                f'<td rowspan="{span}">{line}</td>'
                f'<td rowspan="{span}">{_STATUS_TEXT[row.status]}</td>'
            )
        cells.append(
            f"<tr>{first}<td>{array.role}</td><td>{'x'.join(map(str, array.shape))}</td>"
            f"<td>{array.offset:,}</td><td>{_escape(summary_lines.statistics(array))}</td></tr>"
        )
    return f'<tbody class="{row.status}">{"".join(cells)}</tbody>'


def _escape(text: str) -> str:
    """Escapes markup and control characters, except line ends."""
    return markup.escape("\n".join(escaped(line) for line in text.split("\n")))


@functools.cache
def _template() -> str:
    return (importlib.resources.files(__package__) / "page.html").read_text("utf-8")
