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
from yolotf.files.paths import StrPath
from yolotf.text import plural


class Tree(NamedTuple):
    """A tree of classes.

    Attributes:
        names: name of each class.
        parents: the class above each class, which comes before it; -1 for a root.
        groups: lengths of the runs of classes with the same parent; each has a separate softmax.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    groups: tuple[int, ...]

    def branches(self) -> list[list[int]]:
        """Index lists that multiply each class's probability by those of all classes above it.

        With a 1 appended to `values`, repeating `values = values * values[ancestors]` for each
        list is Darknet's `hierarchy_predictions` (tree.c). Each step reaches twice as far up the
        tree.
        """
        root = len(self.parents)
        ancestors = [root if parent < 0 else parent for parent in self.parents] + [root]
        steps = []
        while any(ancestor != root for ancestor in ancestors):
            steps.append(ancestors)
            ancestors = [ancestors[ancestor] for ancestor in ancestors]
        return steps


def tree_path(network: Network, name: str) -> Path:
    """The path of the tree file: in the cfg's folder, or if the cfg is not a file, as given.

    Raises:
        YolotfError: a cfg file names a tree outside its folder.
        OSError: there is no such file.
    """
    if network.folder is None:
        return Path(name)
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise YolotfError(
            f"{network.source}: tree={name} is outside the cfg's folder, where the files that a "
            "cfg names must be; if you trust it, pass it yourself: network.with_tree(path), or "
            "--tree",
            source=network.source,
            path=name,
        )
    path = opening.find_beside(network.folder, name)
    if path is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return path


def tree_of(network: Network, name: str, classes: int) -> Tree:
    """The tree that a section with `classes` classes names.

    Raises:
        OSError: the file is missing or cannot be read.
        YolotfError: it is not a class tree, or has another number of classes.
    """
    try:
        tree = read_tree(tree_path(network, name))
    except FileNotFoundError:
        message = (
            f"no such file, the class tree of {network.source}; put it there, beside the cfg, or "
            "name another: network.with_tree(path)"
        )
        raise FileNotFoundError(errno.ENOENT, message, name) from None
    if len(tree.parents) != classes:
        raise YolotfError(
            f"{name}: {plural(len(tree.parents), 'class', 'classes')}, {network.source} has "
            f"{classes}; the tree belongs to another network",
            expected=classes,
            found=len(tree.parents),
        )
    return tree


def read_tree(path: StrPath) -> Tree:
    """Reads a file of `name parent` lines (read_tree, tree.c:52).

    Raises:
        OSError: the file cannot be read.
        YolotfError: a line has another form, or its parent is not a class before it.
    """
    names: list[str] = []
    parents: list[int] = []
    lines = opening.read_lines(path, max_bytes=opening.MAX_NAMES_BYTES, kind="a class tree")
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        try:
            parent = int(words[1])
        except (IndexError, ValueError):
            parent = -2
        if not -1 <= parent < len(parents):
            # Not quoted, because a stranger's cfg may name any file.
            raise YolotfError(
                f"{os.fspath(path)}: line {number} is not a class; a line has a name and the "
                "number of its parent class, or -1",
                path=os.fspath(path),
                line=number,
            )
        names.append(words[0])
        parents.append(parent)
    groups = tuple(len(list(run)) for _, run in itertools.groupby(parents))
    return Tree(tuple(names), tuple(parents), groups)
