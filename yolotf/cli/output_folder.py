"""The folder for a run's drawings and label files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from yolotf.cli import inputs
from yolotf.files.output_target import is_input
from yolotf.text import plural


class OutputFolder:
    """The folder for drawings and label files; picks file names that are free.

    A name is taken if it belongs to an input, to another output of this run or, unless
    `overwrite`, to an existing file.

    Attributes:
        folder: the folder.
        overwrite: whether to replace existing files.
        renamed: (path of an existing file, path written instead) of each output that had to give
            way.
    """

    def __init__(
        self, folder: Path, read: Iterable[str], written: Iterable[Path], *, overwrite: bool
    ) -> None:
        """Reserves the paths that this run reads and writes; creates nothing.

        Args:
            folder: the folder, which need not exist.
            read: the run's inputs, which are never replaced.
            written: files that the run writes by other means.
            overwrite: whether to replace existing files.

        Raises:
            NotADirectoryError: `folder` is a file.
        """
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{folder}: is a file; drawings are written into a folder")
        self.folder = folder
        self.overwrite = overwrite
        self.renamed: list[tuple[Path, Path]] = []
        self._taken = {Path(name).resolve() for name in read}
        self._taken |= {path.resolve() for path in written}
        self._inputs = {file for name in read if (file := _identity(name)) is not None}

    def drawing_for(self, source: str) -> Path:
        """Returns the path for the drawing of an image or video."""
        if inputs.is_video(source):
            return self.path_for(inputs.output_stem(source), ".mp4")
        # Inputs named on standard input are not all known in advance.
        self._taken.add(Path(source).resolve())
        if (file := _identity(source)) is not None:
            self._inputs.add(file)
        extension = Path(source).suffix
        can_keep = extension.lower() in inputs.DRAWN
        return self.path_for(inputs.output_stem(source), extension if can_keep else ".png")

    def path_for(self, stem: str, extension: str) -> Path:
        """Returns a free path of this stem and extension, numbered if the plain name is taken."""
        wanted = self.folder / f"{stem}{extension}"
        for number in itertools.count(1):
            path = self.folder / f"{stem}-{number}{extension}" if number > 1 else wanted
            if not self._is_taken(path):
                if number > 1 and wanted.resolve() not in self._taken:
                    self.renamed.append((wanted, path))
                self._taken.add(path.resolve())
                return path
        raise AssertionError  # unreachable: count() is infinite

    def _is_taken(self, path: Path) -> bool:
        if path.resolve() in self._taken:
            return True
        if self.overwrite:
            return path.is_dir() or is_input(path) or _identity(path) in self._inputs
        return os.path.lexists(path)

    def about_renamed(self) -> str:
        """Returns a sentence about `renamed`."""
        existing, written = self.renamed[0]
        others = len(self.renamed) - 1
        more = f", and {plural(others, 'other file')} under a new name" if others else ""
        return (
            f"{existing} exists and was kept; this run wrote {written.name} instead{more}; "
            "--overwrite replaces existing files"
        )


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Identifies a file by (device, inode); None if it does not exist."""
    try:
        status = os.stat(path)  # noqa: PTH116 (of text that pathlib would change)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
