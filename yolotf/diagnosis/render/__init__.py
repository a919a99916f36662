"""How an answer is shown: plain text, a terminal, JSON, or one HTML page."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from yolotf.diagnosis.result import Diagnosis, Inspection
from yolotf.files import atomic, json
from yolotf.files.sources import StrPath


def show(subject: Diagnosis | Inspection, file: TextIO | None = None) -> None:
    """Writes a diagnosis or an inspection: in color if `file` is a terminal, plain otherwise."""
    out: TextIO = sys.stdout if file is None else file
    document = subject.document()
    if out.isatty() and "NO_COLOR" not in os.environ:
        # Here, since rich takes a tenth of a second to import.
        from yolotf.diagnosis.render import terminal

        terminal.show(document, out)
    else:
        # File names may hold bytes that no encoding has.
        encoding = out.encoding or "utf-8"
        lines = document.text().encode(encoding, "backslashreplace").decode(encoding)
        out.write(lines + "\n")


def text(subject: Diagnosis | Inspection) -> str:
    """Lines of text without colors, none of them wrapped."""
    return subject.document().text()


def to_json(subject: Diagnosis | Inspection) -> str:
    """One JSON object. NaN and infinity, which JSON lacks, are null."""
    return json.to_json(subject.to_dict(), indent=2)


def page(diagnosis: Diagnosis) -> str:
    """One HTML page that needs nothing else."""
    # Here, since only `--html` wants it.
    from yolotf.diagnosis.render import html

    return html.page(diagnosis)


def write_html(
    diagnosis: Diagnosis,
    path: StrPath,
    *,
    overwrite: bool = True,
    inputs: Iterable[StrPath] = (),
) -> None:
    """Writes `page` to a file, all of it or nothing.

    Args:
        diagnosis: what the page is about.
        path: the file.
        overwrite: False refuses to replace a file.
        inputs: files that are not replaced in any case.

    Raises:
        OSError: it cannot be written, or is not to be replaced.
    """
    content = page(diagnosis).encode("utf-8", "backslashreplace")
    atomic.write(path, content, overwrite=overwrite, inputs=inputs)
