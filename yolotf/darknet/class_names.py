"""Reads class names from a file, a list or a dictionary; errors name the line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolotf._public import public, renamed
from yolotf.darknet import data_files
from yolotf.darknet.coco import COCO_NAMES
from yolotf.darknet.decoding import tree_of_heads
from yolotf.errors import YolotfError
from yolotf.files import detect, magic, opening, sources
from yolotf.files.lookup import Lookup
from yolotf.files.paths import StrPath
from yolotf.text import plural

if TYPE_CHECKING:
    from yolotf.darknet.network import Network

Names = StrPath | Sequence[str] | Mapping[int, str] | None


@public
@renamed(names="class_names")
def read_names(class_names: Names) -> tuple[str, ...]:
    """Returns class names in the order of their numbers.

    Args:
        class_names: a file with a name per line (trailing blank lines are ignored), a data file
            that contains the names or their path (`data.yaml`, `obj.data`), a list, or a dictionary
            from class numbers to names.

    Raises:
        YolotfError: the file is not a list of names, or the dictionary misses a number.
        TypeError: `class_names` has another type.
        OSError: the file cannot be read.
    """
    names = class_names
    if names is None:
        return ()
    if isinstance(names, str | os.PathLike):
        return _from_file(os.fspath(names))
    if isinstance(names, Mapping):
        return _from_mapping(names)
    if isinstance(names, set | frozenset | bytes) or not isinstance(names, Iterable):
        given = "a set, which has no order" if isinstance(names, set | frozenset) else repr(names)
        raise TypeError(f"{_WANTED}, not {given[:80]}")
    return _checked(names)


def names_for(names: Names, classes: int | None, source: str) -> tuple[str, ...]:
    """`read_names` for a network of `classes` classes; None accepts any number of names.

    Raises:
        YolotfError: as `read_names`, or there are more or fewer names than classes.
    """
    class_names = read_names(names)
    if class_names and classes is not None and len(class_names) != classes:
        raise YolotfError(
            f"{plural(len(class_names), 'name')} for the {plural(classes, 'class', 'classes')} of "
            f"{source}; the names file belongs to another network",
            expected=classes,
            found=len(class_names),
        )
    return class_names


_WANTED = "class_names must be a file, a list, or a dictionary from class numbers to names"
_ONE_A_LINE = "pass a text file with one name per line"


def _checked(names: Iterable[Any]) -> tuple[str, ...]:
    class_names = tuple(names)
    for name in class_names:
        if not isinstance(name, str):
            raise TypeError(f"{_WANTED}; {name!r} is not a name")
    return class_names


def _from_mapping(names: Mapping[Any, Any]) -> tuple[str, ...]:
    try:
        # JSON turns the numbers into strings.
        numbered = {int(number): name for number, name in names.items()}
    except (TypeError, ValueError):
        hint = ""
        if all(isinstance(number, int) for number in names.values()):
            hint = "; swap keys and values: {number: name for name, number in names.items()}"
        raise TypeError(f"{_WANTED}, not from names{hint}") from None
    missing = next((number for number in range(len(numbered)) if number not in numbered), None)
    if missing is not None:
        raise YolotfError(
            f"class_names has {len(numbered)} names, but none for class {missing}; number them "
            "from 0",
            expected=missing,
        )
    return _checked(numbered[number] for number in range(len(numbered)))


def _from_file(path: str, *, is_named: bool = False) -> tuple[str, ...]:
    """Reads names from a file; a file that a data file names is never itself a data file."""
    if (url := sources.url_of(path)) is not None:
        name = sources.shown_url(url)
        raise YolotfError(
            f"{name}: names are read from files, not from URLs; download it first", path=name
        )
    raw = opening.read(path, max_bytes=opening.MAX_NAMES_BYTES, kind="a file of class names")
    kind = detect.Contents.of(path).kind
    if kind is not None and kind.text == "utf16":
        raise YolotfError(f"{path}: text in UTF-16; save it as UTF-8", path=path)
    if kind is not None and (kind.detected != "text" or kind.text in ("answer", "cfg", "link")):
        raise YolotfError(
            f"{path}: not a list of class names but {kind.description}; {_ONE_A_LINE}", path=path
        )
    if kind is None and b"\0" in raw:
        detected = "a .weights file" if magic.is_weights(raw[:20]) else "a binary file"
        raise YolotfError(
            f"{path}: not a list of class names but {detected}; {_ONE_A_LINE}", path=path
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise YolotfError(
            f"{path}: byte 0x{raw[error.start]:02x} is not UTF-8, as in text in GBK or Latin-1; "
            f"line {line}; save it as UTF-8",
            path=path,
            line=line,
        ) from None
    if re.match(r"\s*[\[{]\s*[\"'\[{]", text):
        raise YolotfError(
            f"{path}: JSON, not one name per line; pass its list as class_names=[...]", path=path
        )
    if data_files.looks_like_yaml(path, text):
        return _from_yaml(path)
    if data_files.looks_like_darknet(text) and not is_named:
        return _from_data_file(path)
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if "" in lines:
        line = lines.index("") + 1
        raise YolotfError(
            f"{path}: a blank line among {len(lines)} lines; line {line}; remove it, each line is "
            "the name of a class",
            path=path,
            line=line,
        )
    return tuple(lines)


def _from_yaml(path: str) -> tuple[str, ...]:
    names = data_files.names_of_yaml(path, data_files.read_yaml(path))
    if not names:
        raise YolotfError(f"{path}: no names: in this YAML file; list the class names", path=path)
    return names


def _from_data_file(path: str) -> tuple[str, ...]:
    """Reads the names file that a Darknet data file refers to."""
    name = data_files.read_data_file(path)["names"]
    names_file = Lookup(Path(path)).find(name)
    if names_file is None or names_file.samefile(path):
        raise YolotfError(
            f"{path}: a .data file whose names={name} does not exist; pass the file of class names "
            "itself",
            path=path,
        )
    check_named(names_file, path)
    return _from_file(str(names_file), is_named=True)


NAMES_ENDINGS = (".names", ".txt", ".list", ".lst", ".labels")
"""Endings of files of class names."""


def check_named(names: Path, source: StrPath) -> None:
    """Refuses a file of class names that a data file from elsewhere should not name.

    Its lines become class names, which are shown: a stranger's data file could show any text file.
    Beside the data file, below it and below the working folder, any name will do.

    Raises:
        YolotfError: it is in another folder and has none of `NAMES_ENDINGS`.
    """
    path = Path(os.path.normpath(names.absolute()))
    folders = (Path(source).absolute().parent, Path.cwd())
    inside = any(path.is_relative_to(os.path.normpath(folder)) for folder in folders)
    if not inside and names.is_file() and path.suffix.lower() not in NAMES_ENDINGS:
        raise YolotfError(
            f"{os.fspath(source)}: names={names} leads to another folder, to a file that does not "
            f"end in {', '.join(NAMES_ENDINGS[:-1])} or {NAMES_ENDINGS[-1]}; if you trust it, copy "
            "it beside the data file",
            source=os.fspath(source),
            path=str(names),
        )


NAMES_FILES = ("obj.names", "_darknet.labels", "classes.txt")
"""Names that CVAT, Roboflow and Label Studio give the file of class names."""


def names_beside(folder: Path) -> Path | None:
    """Returns a folder's file of class names: one of `NAMES_FILES`, or the only .names file."""
    for name in NAMES_FILES:
        if (folder / name).is_file():
            return folder / name
    named = sorted(folder.glob("*.names"))
    return named[0] if len(named) == 1 else None


def stock_names(network: Network) -> tuple[str, ...] | None:
    """Returns COCO's class names for a stock network trained on COCO; else None."""
    stock = network.classes == len(COCO_NAMES) and network.name is not None
    return COCO_NAMES if stock else None


def class_names_for(network: Network, names: Names = None) -> tuple[str, ...]:
    """Returns a detector's class names: those given, its class tree's, or a stock network's.

    Raises:
        YolotfError: there are more or fewer names than classes, or the class tree is invalid.
        OSError: a file cannot be read, or the class tree does not exist.
    """
    class_names = names_for(names, network.classes, network.source)
    tree = tree_of_heads(network)
    return class_names or (tree.names if tree else stock_names(network) or ())
