"""Renders a diagnosis or inspection as plain text, colored text, JSON or HTML."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from yolotf.diagnosis.file_diagnosis import Diagnosis
from yolotf.diagnosis.inspection import Inspection
from yolotf.files import atomic, json
from yolotf.files.paths import StrPath


def show(subject: Diagnosis | Inspection, file: TextIO | None = None) -> None:
    """Writes a diagnosis or inspection to `file`, in color if it is a terminal.

    Args:
        subject: the diagnosis or inspection.
        file: an open text file; by default the standard output.
    """
    out: TextIO = sys.stdout if file is None else file
    document = subject.document()
    if out.isatty() and "NO_COLOR" not in os.environ:
        # Imported here: rich takes 0.1 s to import.
        from yolotf.diagnosis.render import terminal

        terminal.show(document, out)
    else:
        # File names may contain bytes that cannot be encoded.
        encoding = out.encoding or "utf-8"
        lines = document.text().encode(encoding, "backslashreplace").decode(encoding)
        out.write(lines + "\n")


def text(subject: Diagnosis | Inspection) -> str:
    """Returns plain text without colors and without wrapping."""
    return subject.document().text()


def to_json(subject: Diagnosis | Inspection) -> str:
    """Returns a JSON object. NaN and infinity, which JSON lacks, become null."""
    return json.to_json(subject.to_dict(), indent=2)


def page(diagnosis: Diagnosis) -> str:
    """Returns a self-contained HTML page."""
    # Imported here: only `--html` needs it.
    from yolotf.diagnosis.render import html

    return html.page(diagnosis)


def write_html(
    diagnosis: Diagnosis,
    path: StrPath,
    *,
    overwrite: bool = True,
    inputs: Iterable[StrPath] = (),
) -> None:
    """Writes `page` to a file, atomically.

    Args:
        diagnosis: the diagnosis.
        path: the file to write.
        overwrite: whether to replace an existing file.
        inputs: files that are never replaced.

    Raises:
        OSError: the file cannot be written, or exists and must not be replaced.
    """
    content = page(diagnosis).encode("utf-8", "backslashreplace")
    atomic.write(path, content, overwrite=overwrite, inputs=[*inputs, diagnosis.path])
