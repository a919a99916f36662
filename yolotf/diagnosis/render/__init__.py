"""Renders a diagnosis or inspection as plain text, colored text, JSON or HTML."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, Protocol, TextIO

from yolotf.diagnosis.report import Document
from yolotf.files import atomic, json
from yolotf.files.paths import StrPath


class Reported(Protocol):
    """A `Diagnosis` or an `Inspection`."""

    def document(self) -> Document:
        """Returns the text to show."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the object to print as JSON."""


class Page(Protocol):
    """A `Diagnosis`."""

    @property
    def path(self) -> str:
        """The name of the file."""

    def to_html(self) -> str:
        """Returns a self-contained HTML page."""


def show(subject: Reported, file: TextIO | None = None) -> None:
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


def text(subject: Reported) -> str:
    """Returns plain text without colors and without wrapping."""
    return subject.document().text()


def to_json(subject: Reported) -> str:
    """Returns a JSON object. NaN and infinity, which JSON lacks, become null."""
    return json.to_json(subject.to_dict(), indent=2)


def write_html(
    diagnosis: Page,
    path: StrPath,
    *,
    overwrite: bool = True,
    inputs: Iterable[StrPath] = (),
) -> None:
    """Writes the page of a diagnosis to a file, atomically.

    Args:
        diagnosis: the diagnosis.
        path: the file to write.
        overwrite: whether to replace an existing file.
        inputs: files that are never replaced.

    Raises:
        OSError: the file cannot be written, or exists and must not be replaced.
    """
    content = diagnosis.to_html().encode("utf-8", "backslashreplace")
    atomic.write(path, content, overwrite=overwrite, inputs=[*inputs, diagnosis.path])
