"""Finds the files that a list of files or a data file names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from yolotf.text import plural


class Lookup:
    r"""Finds named files, and records where they were if not where the name says.

    Tools write paths relative to the folder they would run in: CVAT's `data/train.txt`, Roboflow's
    `../train/images`, another machine's `/home/me/darknet/data/a.jpg`, `data\a.jpg` on Windows.
    The search order is: beside the file with the name, there without leading folders, the working
    directory (Darknet's rule), and the parent folders.
    """

    def __init__(self, source: Path) -> None:
        """`source` is the file that contains the names."""
        self._source = source
        self._base = source.absolute().parent
        self._without_prefix: dict[str, list[tuple[str, Path]]] = {}
        self._ambiguous: list[tuple[str, Path]] = []
        self._with_backslashes: list[tuple[str, Path]] = []

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folder of the file that contains the names, and its parents."""
        return (self._base, *self._base.parents)

    def find(self, name: str, *folders: Path) -> Path | None:
        """Returns the path of the file or folder called `name`; None if it is not found.

        Args:
            name: as written in the file.
            folders: searched first, for example the folder of the list that names an image.
        """
        path = Path(name)
        if path.is_absolute() and path.exists():
            return path
        place = self._search(path, folders)
        if place is None and "\\" in name:
            place = self._search(Path(name.replace("\\", "/")), folders)
            if place is not None:
                self._with_backslashes.append((name, place))
        return place

    def notes(self) -> Iterator[str]:
        """Yields a sentence for each way in which files were not where their names say."""
        for prefix, paths in self._without_prefix.items():
            name, place = paths[0]
            yield (
                f"{self._source}: `{prefix}/` was left out of {plural(len(paths), 'path')}: "
                f"{name} is {place}"
            )
        if self._ambiguous:
            name, place = self._ambiguous[0]
            others = len(self._ambiguous) - 1
            suffix = f"; the same for {plural(others, 'other')}" if others else ""
            yield (
                f"{self._source}: {name} exists twice; {place} is used, not the file in the "
                f"working folder{suffix}"
            )
        if self._with_backslashes:
            name, place = self._with_backslashes[0]
            count = plural(len(self._with_backslashes), "path")
            yield f"{self._source}: {count} with backslashes, as on Windows: {name} is {place}"

    def _search(self, path: Path, folders: Sequence[Path]) -> Path | None:
        """Searches all places for a path, and records a place that the name does not say."""
        in_working_folder = None if path.is_absolute() or not path.exists() else path
        for start, place in self._candidates(path, folders):
            if not place.exists():
                continue
            if in_working_folder is not None and in_working_folder.samefile(place):
                return in_working_folder
            if in_working_folder is not None:
                self._ambiguous.append((str(path), place))
            elif start:
                prefix = "/".join(path.parts[:start]).replace("//", "/")
                self._without_prefix.setdefault(prefix, []).append((str(path), place))
            return place
        if in_working_folder is not None or path.is_absolute():
            return in_working_folder
        in_parents = (folder / path for folder in self._base.parents)
        return next((place for place in in_parents if place.exists()), None)

    def _candidates(self, path: Path, folders: Sequence[Path]) -> Iterator[tuple[int, Path]]:
        """Yields (number of leading folders dropped, a path without them)."""
        bases = tuple(dict.fromkeys((*(folder.absolute() for folder in folders), self._base)))
        first = 1 if path.is_absolute() else 0
        for start in range(first, max(len(path.parts), 1)):
            for base in bases:
                yield start, base.joinpath(*path.parts[start:])
