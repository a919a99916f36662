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
        self._left_out: dict[str, list[tuple[str, Path]]] = {}
        self._elsewhere: list[tuple[str, Path]] = []
        self._backslashes: list[tuple[str, Path]] = []

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
        found = self._found(path, folders)
        if found is None and "\\" in name:
            found = self._found(Path(name.replace("\\", "/")), folders)
            if found is not None:
                self._backslashes.append((name, found))
        return found

    def notes(self) -> Iterator[str]:
        """Yields sentences on files that were not where their names say."""
        for prefix, found in self._left_out.items():
            name, place = found[0]
            yield (
                f"{self._source}: `{prefix}/` was left out of {plural(len(found), 'path')}: "
                f"{name} is {place}"
            )
        if self._elsewhere:
            name, place = self._elsewhere[0]
            more = len(self._elsewhere) - 1
            others = f", and {plural(more, 'other')} likewise" if more else ""
            yield (
                f"{self._source}: {name} is there twice; {place} is taken, not the one of the "
                f"working folder{others}"
            )
        if self._backslashes:
            name, place = self._backslashes[0]
            yield (
                f"{self._source}: {plural(len(self._backslashes), 'path')} with backslashes, as "
                f"on Windows: {name} is {place}"
            )

    def _found(self, path: Path, folders: Sequence[Path]) -> Path | None:
        here = None if path.is_absolute() or not path.exists() else path
        for start, place in self._places(path, folders):
            if not place.exists():
                continue
            if here is not None and here.samefile(place):
                return here
            if here is not None:
                self._elsewhere.append((str(path), place))
            elif start:
                prefix = "/".join(path.parts[:start]).replace("//", "/")
                self._left_out.setdefault(prefix, []).append((str(path), place))
            return place
        if here is not None or path.is_absolute():
            return here
        above = (folder / path for folder in self._base.parents)
        return next((place for place in above if place.exists()), None)

    def _places(self, path: Path, folders: Sequence[Path]) -> Iterator[tuple[int, Path]]:
        """Yields (number of leading folders left out, the path without them)."""
        bases = tuple(dict.fromkeys((*(folder.absolute() for folder in folders), self._base)))
        first = 1 if path.is_absolute() else 0
        for start in range(first, max(len(path.parts), 1)):
            for base in bases:
                yield start, base.joinpath(*path.parts[start:])
