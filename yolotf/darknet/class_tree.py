"""Class trees: the file that `tree=` of a `[softmax]` or `[region]` names (tree.c)."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path
from typing import NamedTuple

from yolotf.darknet.network import Network
from yolotf.errors import YolotfError
from yolotf.files import opening
from yolotf.text import plural


class Tree(NamedTuple):
    """Classes, each below another or a root."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    """The class above each, which comes before it; -1 for roots."""
    groups: tuple[int, ...]
    """Sizes of the runs of classes with one parent, each a softmax of its own."""

    def branches(self) -> list[list[int]]:
        """How each class's number is multiplied by those of all above it, whatever the array.

        With a 1 after the last class, `values = values * values[places]` for all `places` is
        Darknet's `hierarchy_predictions` (tree.c): each step reaches twice as far up.
        """
        root = len(self.parents)
        places = [root if parent < 0 else parent for parent in self.parents] + [root]
        steps = []
        while any(place != root for place in places):
            steps.append(places)
            places = [places[place] for place in places]
        return steps


def tree_path(network: Network, name: str) -> Path:
    """Where the file is: beside the cfg; of a cfg that is no file, from the working directory.

    Raises:
        YolotfError: a cfg in a file names one elsewhere.
        OSError: it is not there.
    """
    if network.folder is None:
        return Path(name)
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise YolotfError(
            f"{network.source}: tree={name} leads out of the cfg's folder, where a cfg's files are "
            "looked for; if you trust it, name it yourself: network.with_tree(path), or --tree",
            source=network.source,
            path=name,
        )
    found = opening.beside(network.folder, name)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return found


def tree_of(network: Network, name: str, classes: int) -> Tree:
    """The tree that a section with so many classes names.

    Raises:
        OSError: it cannot be read, or is not there.
        YolotfError: it is none, or has another number of classes.
    """
    try:
        tree = read_tree(tree_path(network, name))
    except FileNotFoundError:
        said = f"no such file, the class tree of {network.source}; put it there, beside the cfg, or"
        told = f"{said} name another: network.with_tree(path)"
        raise FileNotFoundError(errno.ENOENT, told, name) from None
    if len(tree.parents) != classes:
        raise YolotfError(
            f"{name}: {plural(len(tree.parents), 'class', 'classes')}, {network.source} has "
            f"{classes}; the tree belongs to another network",
            expected=classes,
            found=len(tree.parents),
        )
    return tree


def read_tree(path: str | os.PathLike[str]) -> Tree:
    """A file of `name parent` lines (read_tree, tree.c:52).

    Raises:
        OSError: it cannot be read.
        YolotfError: a line is of another form, or a parent is none.
    """
    names: list[str] = []
    parents: list[int] = []
    lines = opening.read_lines(path, most=opening.NAMES_MOST, what="a class tree")
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts:
            continue
        try:
            parent = int(parts[1])
        except (IndexError, ValueError):
            parent = -2
        if not -1 <= parent < len(parents):
            # The line is not quoted: a cfg may have named any file.
            raise YolotfError(
                f"{os.fspath(path)}: line {number} is no class; it has a name and the number of a "
                "class above it, or -1",
                path=os.fspath(path),
                line=number,
            )
        names.append(parts[0])
        parents.append(parent)
    groups = tuple(len(list(run)) for _, run in itertools.groupby(parents))
    return Tree(tuple(names), tuple(parents), groups)
