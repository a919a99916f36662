"""How a diagnosis is shown: text, colours on a terminal, JSON, or one HTML page."""

from __future__ import annotations

import html as markup
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from yolotf.diagnosis.causes import Finding, plural
from yolotf.diagnosis.result import Diagnosis, Inspection, LayerRow, Segment

_AROUND = 2
"""Layers with weights shown before and after the one where file and network part."""


def show(subject: Diagnosis | Inspection, file: TextIO | None = None) -> None:
    """Writes a diagnosis or an inspection: in colour if `file` is a terminal, plain otherwise."""
    out: TextIO = sys.stdout if file is None else file
    if out.isatty() and "NO_COLOR" not in os.environ:
        _show_rich(subject, out)
    else:
        # File names may hold bytes that no encoding has.
        encoding = out.encoding or "utf-8"
        text = plain(subject).encode(encoding, "backslashreplace").decode(encoding)
        out.write(text + "\n")


def plain(subject: Diagnosis | Inspection) -> str:
    """Lines of text without colours, none of them wrapped."""
    lines = [verdict(subject)]
    lines += [f"  {label:<9} {text}" for label, text in _facts(subject)]
    table = _table(subject)
    if table:
        cells = [table.headings, *table.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines.append("")
        for line in cells:
            padded = (
                cell.rjust(width) if column in table.numbers else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            lines.append(("  " + "  ".join(padded)).rstrip())
    return "\n".join(lines)


def to_json(subject: Diagnosis | Inspection) -> str:
    """One JSON object. NaN and infinity, which JSON lacks, are null."""
    return json.dumps(_finite(subject.to_dict()), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def verdict(subject: Diagnosis | Inspection) -> str:
    """The first line: what it comes down to."""
    if isinstance(subject, Inspection):
        return subject.path
    target = subject.subject.source
    if subject.ok:
        return f"{subject.path}: fits {target}"
    if not subject.readable:
        return f"{subject.path}: cannot be read"
    causes = ", ".join(dict.fromkeys(cause["kind"] for cause in subject.causes))
    return f"{subject.path}: does not fit {target}: {causes}"


def _facts(subject: Diagnosis | Inspection) -> Iterator[tuple[str, str]]:
    """(label, text) of every line below the verdict."""
    yield "file", _file_line(subject)
    if isinstance(subject, Inspection):
        if subject.detected:
            yield "detected", subject.detected + (f": {subject.hint}" if subject.hint else "")
        for match in subject.matches:
            yield "is", _match_line(match)
        if not subject.matches and not subject.detected:
            yield "is", "no known network of this size"
        return
    yield "network", _network_line(subject)
    for cause in subject.causes:
        yield "cause", _message(subject, cause)
        if cause.get("fix"):
            yield "fix", cause["fix"]
    parting = subject.first_divergence
    if parting:
        where = subject.subject.where(parting.layer)
        yield "parts at", f"{where}, {parting.role}, byte {parting.offset:,}"
    for warning in subject.warnings:
        yield "warning", _message(subject, warning)


def _message(diagnosis: Diagnosis, finding: Finding) -> str:
    """A message without the file's name, which stands above it."""
    text: str = finding["message"]
    return text.removeprefix(f"{diagnosis.path}: ")


def _file_line(subject: Diagnosis | Inspection) -> str:
    line = f"{subject.size_bytes:,} bytes"
    header = subject.header
    if header:
        line += (
            f", Darknet {header.major}.{header.minor}.{header.revision}, "
            f"{header.seen:,} pictures seen, header of {header.size_bytes} bytes"
        )
    return line


def _network_line(diagnosis: Diagnosis) -> str:
    network = diagnosis.subject.network
    parts = [diagnosis.subject.title]
    if network.classes:
        parts.append(plural(network.classes, "class", "classes"))
    parts.append(plural(network.input_shape.channels, "channel"))
    header = diagnosis.header.size_bytes if diagnosis.header else 20
    return f"{', '.join(parts)}: {diagnosis.subject.size_bytes(header):,} bytes"


def _match_line(match: Any) -> str:
    line = ", ".join(match.architecture.names)
    if match.classes:
        line += f"; {plural(match.classes, 'class', 'classes')}"
    line += f"; {plural(match.channels, 'channel')}"
    return line if match.layers is None else f"{line}; the first {match.layers} layers"


# The table.


class _Table(NamedTuple):
    headings: tuple[str, ...]
    numbers: frozenset[int]
    """Columns that are set to the right."""
    rows: Sequence[tuple[str, ...]]
    styles: Sequence[str]
    """Of every row, on a terminal."""


_STATUS = {"fits": "fits", "parts": "parts here", "unreached": ""}
_STATUS_STYLES = {"fits": "green", "parts": "bold red", "unreached": "dim"}


def _table(subject: Diagnosis | Inspection) -> _Table | None:
    """The layers around the divergence; for an inspection, every array with its numbers."""
    if isinstance(subject, Inspection):
        return _arrays(subject.layers) if subject.layers else None
    parting = subject.first_divergence
    if parting is None:
        return None
    stored = [row for row in subject.layers if row.segments]
    at = next((i for i, row in enumerate(stored) if row.layer >= parting.layer), len(stored))
    shown = stored[max(0, at - _AROUND) : at + _AROUND + 1]
    rows = [
        (
            str(row.layer),
            row.section,
            str(row.cfg_line),
            _stores(row),
            f"{row.floats:,}",
            f"{row.segments[0].offset:,}",
            _STATUS[row.status],
        )
        for row in shown
    ]
    return _Table(
        ("layer", "section", "line", "stores", "floats", "byte", ""),
        frozenset({0, 2, 4, 5}),
        rows,
        [_STATUS_STYLES[row.status] for row in shown],
    )


_ARRAY_HEADINGS = (
    *("layer", "section", "array", "shape", "byte"),
    *("minimum", "maximum", "mean", "std", "negative", "not finite"),
)


def _arrays(layers: Iterable[LayerRow]) -> _Table:
    rows: list[tuple[str, ...]] = []
    for row in layers:
        for segment in row.segments:
            stats = segment.stats
            numbers: tuple[str, ...] = ("", "", "", "", "", "")
            if stats:
                numbers = (
                    *(f"{number:.4g}" for number in stats[4:]),
                    f"{stats.negative / stats.floats:.0%}",
                    str(stats.nonfinite) if stats.nonfinite else "",
                )
            shape = "x".join(map(str, segment.shape))
            rows.append(
                (str(row.layer), row.section, segment.role, shape, f"{segment.offset:,}", *numbers)
            )
    return _Table(
        _ARRAY_HEADINGS,
        frozenset({0, 4, 5, 6, 7, 8, 9, 10}),
        rows,
        [""] * len(rows),
    )


def _stores(row: LayerRow) -> str:
    """`bn 64, kernel 64x32x3x3`."""
    roles = [segment.role for segment in row.segments]
    parts = [f"batch norm {row.segments[0].shape[0]}"] if "gamma" in roles else []
    parts += [
        f"{segment.role} {'x'.join(map(str, segment.shape))}"
        for segment in row.segments
        if segment.role in ("bias", "kernel", "weights")
    ]
    return ", ".join(parts)


def statistics(segment: Segment) -> str:
    """The numbers of one array in one line."""
    stats = segment.stats
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


# The terminal.

_STYLES = {
    "cause": "bold red",
    "fix": "green",
    "parts at": "red",
    "warning": "yellow",
    "detected": "red",
}


def _show_rich(subject: Diagnosis | Inspection, file: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=file, highlight=False)
    bad = isinstance(subject, Diagnosis) and not subject.ok
    console.print(Text(verdict(subject), style="bold red" if bad else "bold green"))
    # A grid wraps long texts under themselves, not under their labels.
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for label, text in _facts(subject):
        facts.add_row(Text(f"  {label}", style=_STYLES.get(label, "dim")), Text(text))
    console.print(facts)
    table = _table(subject)
    if table is None:
        return
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column, heading in enumerate(table.headings):
        grid.add_column(heading, justify="right" if column in table.numbers else "left")
    for row, style in zip(table.rows, table.styles, strict=True):
        grid.add_row(*map(Text, row), style=style)
    console.print()
    console.print(grid)


# The page.


def write_html(diagnosis: Diagnosis, path: str | os.PathLike[str]) -> None:
    """Writes `page` to a file."""
    Path(path).write_bytes(page(diagnosis).encode("utf-8", "backslashreplace"))


def page(diagnosis: Diagnosis) -> str:
    """One HTML page that needs nothing else: verdict, causes, the network as a strip of layers."""
    name = Path(diagnosis.path).name
    fits = "fits" if diagnosis.ok else "parts"
    # Each value is escaped where it is put in; the template's own braces are not format fields.
    values = {
        "title": markup.escape(f"{name}: {'fits' if diagnosis.ok else 'does not fit'}"),
        "state": fits,
        "verdict": markup.escape(
            f"{name} fits {diagnosis.subject.source}"
            if diagnosis.ok
            else f"{name} cannot be read"
            if not diagnosis.readable
            else f"{name} does not fit {diagnosis.subject.source}"
        ),
        "facts": "".join(
            f"<dt>{markup.escape(label)}</dt><dd>{markup.escape(text)}</dd>"
            for label, text in (
                ("file", _file_line(diagnosis)),
                ("network", _network_line(diagnosis)),
                *(("by its size", line) for line in _matches(diagnosis)),
            )
        ),
        "findings": "".join(_finding(diagnosis, finding) for finding in diagnosis.causes)
        + "".join(_finding(diagnosis, finding) for finding in diagnosis.warnings),
        "strip": _strip(diagnosis.layers),
        "legend": _legend(diagnosis.layers),
        "rows": "".join(_table_rows(row) for row in diagnosis.layers if row.segments),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found.group(1)], _PAGE)


def _matches(diagnosis: Diagnosis) -> list[str]:
    return [_match_line(match) for match in diagnosis.matches[:3]]


def _finding(diagnosis: Diagnosis, finding: Finding) -> str:
    kind = "cause" if "fix" in finding else "warning"
    title = finding["kind"].replace("_", " ")
    if finding.get("detected"):
        title += ": " + str(finding["detected"]).replace("_", " ")
    text = markup.escape(_message(diagnosis, finding))
    fix = f'<p class="fix">{markup.escape(finding["fix"])}</p>' if finding.get("fix") else ""
    heading = f"<h2>{markup.escape(title)}</h2>"
    return f'<section class="finding {kind}">{heading}<p>{text}</p>{fix}</section>'


_NAMES = {"fits": "fits", "parts": "parts here", "unreached": "not reached"}


def _strip(rows: Sequence[LayerRow]) -> str:
    """One cell a layer, as high as the logarithm of what it stores."""
    most = max((row.floats for row in rows), default=1)
    cells = []
    for row in rows:
        height = 8.0
        if row.floats:
            height = 20 + 80 * math.log(1 + row.floats) / math.log(1 + most)
        text = markup.escape(_description(row))
        cells.append(
            f'<li class="{row.status}" style="--h:{height:.1f}%" data-layer="{row.layer}" '
            f'role="option" tabindex="-1" title="{text}" aria-label="{text}"></li>'
        )
    return "".join(cells)


def _description(row: LayerRow) -> str:
    """Everything about one layer, a line each."""
    at = "" if row.cfg_line is None else f", cfg line {row.cfg_line}"
    lines = [f"layer {row.layer} [{row.section}]{at}: {_NAMES[row.status]}"]
    if row.output:
        lines.append(f"puts out {row.output.width}x{row.output.height}x{row.output.channels}")
    for segment in row.segments:
        shape = "x".join(map(str, segment.shape))
        numbers = statistics(segment)
        lines.append(
            f"{segment.role} {shape}, byte {segment.offset:,}" + (f": {numbers}" if numbers else "")
        )
    return "\n".join(lines)


def _legend(rows: Sequence[LayerRow]) -> str:
    counts = {status: sum(row.status == status for row in rows) for status in _NAMES}
    return "".join(
        f'<span class="{status}"><i></i>{name} ({counts[status]})</span>'
        for status, name in _NAMES.items()
        if counts[status]
    )


def _table_rows(row: LayerRow) -> str:
    cells = []
    for index, segment in enumerate(row.segments):
        first = ""
        if index == 0:
            span = len(row.segments)
            line = "" if row.cfg_line is None else row.cfg_line
            first = (
                f'<th scope="rowgroup" rowspan="{span}">{row.layer}</th>'
                f'<td rowspan="{span}">{markup.escape(row.section)}</td>'
                f'<td rowspan="{span}">{line}</td>'
                f'<td rowspan="{span}">{_NAMES[row.status]}</td>'
            )
        cells.append(
            f"<tr>{first}<td>{segment.role}</td><td>{'x'.join(map(str, segment.shape))}</td>"
            f"<td>{segment.offset:,}</td><td>{markup.escape(statistics(segment))}</td></tr>"
        )
    return f'<tbody class="{row.status}">{"".join(cells)}</tbody>'


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{title}}</title>
<style>
:root {
  --ground: #ffffff; --ink: #1b1f24; --soft: #59636e; --line: #d1d9e0; --panel: #f6f8fa;
  --fits: #1a7f5a; --parts: #cf222e; --unreached: #afb8c1; --warning: #9a6700;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0d1117; --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --panel: #151b23;
    --fits: #3fb68b; --parts: #ff6b64; --unreached: #4c5561; --warning: #d4a72c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 64rem;
  background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere; }
h1::before { content: "\\2713\\a0"; color: var(--fits); }
.parts-state h1::before { content: "\\2717\\a0"; color: var(--parts); }
h2 { font-size: 1rem; margin: 0 0 .25rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0 0 1.5rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.finding {
  border: 1px solid var(--line); border-left: 4px solid var(--parts); border-radius: 6px;
  background: var(--panel); padding: .75rem 1rem; margin: 0 0 .75rem;
}
.finding.warning { border-left-color: var(--warning); }
.finding p { margin: 0; overflow-wrap: anywhere; }
.finding .fix { margin-top: .4rem; }
.fix::before { content: "Fix: "; font-weight: 600; color: var(--fits); }
.network { margin: 2rem 0 0; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; color: var(--soft); }
.legend i {
  display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .4rem;
  vertical-align: -.05rem;
}
.strip {
  list-style: none; margin: .75rem 0 0; padding: 16px 3px 3px; height: 135px;
  display: flex; align-items: flex-end; gap: 1px; overflow: auto hidden;
  border-bottom: 1px solid var(--line);
}
.strip li {
  flex: 1 1 0; min-width: 2px; height: var(--h); border-radius: 2px 2px 0 0; position: relative;
}
.strip .fits, .legend .fits i { background: var(--fits); }
.strip .parts, .legend .parts i { background: var(--parts); }
.strip .unreached, .legend .unreached i { background: var(--unreached); }
.strip .parts { flex-grow: 2; min-width: 4px; }
.strip .parts::before {
  content: ""; position: absolute; left: 50%; top: -12px; margin-left: -6px;
  border: 6px solid transparent; border-top: 9px solid var(--parts); border-bottom: 0;
}
.strip li:hover, .strip li:focus-visible, .strip li.chosen {
  outline: 2px solid var(--ink); outline-offset: 1px; z-index: 1;
}
.detail {
  white-space: pre-line; min-height: 10.5rem; margin: .75rem 0 1.5rem; padding: .75rem 1rem;
  background: var(--panel); border: 1px solid var(--line); border-radius: 6px;
  font: 13px/1.6 ui-monospace, monospace; overflow-wrap: anywhere;
}
details > div { overflow-x: auto; }
summary { cursor: pointer; padding: .25rem 0; }
table { border-collapse: collapse; font-size: .8125rem; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .15rem .75rem .15rem 0; font-weight: 400; }
thead th { color: var(--soft); border-bottom: 1px solid var(--line); }
tbody { border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
tbody.parts { color: var(--parts); font-weight: 600; }
tbody.unreached { color: var(--soft); }
@media print { .detail { display: none; } }
</style>
</head>
<body class="{{state}}-state">
<h1>{{verdict}}</h1>
<dl>{{facts}}</dl>
{{findings}}
<div class="network">
<h2 id="strip-title">The network, layer by layer</h2>
<p class="legend">{{legend}}</p>
<ol class="strip" role="listbox" aria-orientation="horizontal"
 aria-labelledby="strip-title">{{strip}}</ol>
<p class="detail" aria-live="polite">Point at a layer, or walk through them with the arrow keys.</p>
<details>
<summary>All arrays, with their place in the file and their numbers</summary>
<div><table>
<thead><tr><th scope="col">layer</th><th scope="col">section</th><th scope="col">line</th>
<th scope="col">state</th><th scope="col">array</th><th scope="col">shape</th>
<th scope="col">byte</th><th scope="col">numbers</th></tr></thead>
{{rows}}
</table></div>
</details>
</div>
<script>
const cells = [...document.querySelectorAll(".strip li")];
const detail = document.querySelector(".detail");
let chosen = null;
function choose(cell) {
  if (chosen) { chosen.classList.remove("chosen"); chosen.tabIndex = -1; }
  chosen = cell;
  cell.classList.add("chosen");
  cell.tabIndex = 0;
  detail.textContent = cell.getAttribute("aria-label");
}
for (const cell of cells) {
  cell.addEventListener("mouseenter", () => choose(cell));
  cell.addEventListener("focus", () => choose(cell));
}
document.querySelector(".strip").addEventListener("keydown", event => {
  const steps = {ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10,
                 Home: -cells.length, End: cells.length};
  if (!(event.key in steps)) return;
  event.preventDefault();
  const at = cells.indexOf(document.activeElement) + steps[event.key];
  const next = cells[Math.max(0, Math.min(cells.length - 1, at))];
  choose(next);
  next.focus();
});
const first = document.querySelector(".strip .parts");
if (first) choose(first); else if (cells.length) cells[0].tabIndex = 0;
</script>
</body>
</html>
"""
