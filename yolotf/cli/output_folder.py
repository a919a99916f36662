"""The folder of a run's drawings and label files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from yolotf.cli import inputs
from yolotf.text import plural


class OutputFolder:
    """The output folder for drawings and labels; picks names that are free.

    A name is taken if it is an input's, another output's of this run or, unless `overwrite`, an
    existing file's.

    Attributes:
        folder: the folder.
        overwrite: whether to replace existing files.
        renamed: existing files, and the names used instead.
    """

    def __init__(
        self, folder: Path, read: Iterable[str], written: Iterable[Path], *, overwrite: bool
    ) -> None:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{folder}: is a file; drawings go into a folder")
        self.folder = folder
        self.overwrite = overwrite
        self.renamed: list[tuple[Path, Path]] = []
        self._taken = {Path(name).resolve() for name in read}
        self._taken |= {path.resolve() for path in written}
        self._inputs = {file for name in read if (file := _identity(name)) is not None}

    def drawing_for(self, source: str) -> Path:
        """Returns the path for the drawing of an image or video."""
        video = inputs.is_video(source)
        ending = ".mp4" if video else Path(source).suffix
        if not video:
            # Inputs from stdin are not all known in advance.
            self._taken.add(Path(source).resolve())
            self._inputs |= {file for file in (_identity(source),) if file is not None}
        kept = video or ending.lower() in inputs.DRAWN
        return self.path_for(inputs.stem(source), ending if kept else ".png")

    def path_for(self, stem: str, ending: str) -> Path:
        """Returns a free path with this stem and extension, numbered if the plain name is taken."""
        first = self.folder / f"{stem}{ending}"
        for number in itertools.count(1):
            path = self.folder / f"{stem}-{number}{ending}" if number > 1 else first
            if not self._is_taken(path):
                if number > 1 and first.resolve() not in self._taken:
                    self.renamed.append((first, path))
                self._taken.add(path.resolve())
                return path
        raise AssertionError  # unreachable: count() is infinite

    def _is_taken(self, path: Path) -> bool:
        if path.resolve() in self._taken:
            return True
        if self.overwrite:
            return path.is_dir() or _identity(path) in self._inputs
        return os.path.lexists(path)

    def about_renamed(self) -> str:
        """Returns a sentence about `renamed`."""
        old, new = self.renamed[0]
        more = len(self.renamed) - 1
        others = f", and {plural(more, 'other file')} likewise" if more else ""
        return (
            f"{old} was there already and stays; this run wrote {new.name}{others}; "
            "--overwrite replaces what is there"
        )


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Identifies a file by (device, inode); None if it does not exist."""
    try:
        status = os.stat(path)  # noqa: PTH116 (of text that pathlib would change)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
