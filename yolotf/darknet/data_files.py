"""Reads data files of Darknet (`obj.data`) and Ultralytics (`data.yaml`)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolotf.errors import YolotfError
from yolotf.files import opening
from yolotf.files.paths import StrPath
from yolotf.text import plural, whole_number

YAML_ENDINGS = frozenset({".yaml", ".yml"})
_MAX_YAML_BYTES = 4 << 20
"""Maximum bytes of a data.yaml; 9,000 names take 200 kB."""
_YAML_KEY = re.compile(r"^(names|nc|path|train|val|test|roboflow)\s*:", re.MULTILINE)
_DARKNET_KEY = re.compile(r"^\s*(names|classes|train|valid)\s*=", re.MULTILINE)


@dataclass(frozen=True)
class DataFile:
    """The contents of a data file, with paths as written.

    Attributes:
        path: the file.
        root: base of the paths (`path:` of a data.yaml); "" if not given.
        train: lists or folders of training images.
        valid: lists or folders of images to evaluate on.
        names: class names, if the file itself contains them.
        names_file: the path of a file of class names.
        classes: the number of classes.
        difficult: Darknet's list of labels that do not count.
        notes: remarks for the user.
    """

    path: Path
    root: str = ""
    train: tuple[str, ...] = ()
    valid: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    names_file: str | None = None
    classes: int | None = None
    difficult: str | None = None
    notes: tuple[str, ...] = ()


def looks_like_yaml(path: StrPath, text: str) -> bool:
    """Whether a text is a data.yaml, whatever its file name."""
    if Path(path).suffix.lower() in YAML_ENDINGS:
        return True
    return bool(_YAML_KEY.search(text)) and not _DARKNET_KEY.search(text)


def looks_like_darknet(text: str) -> bool:
    """Whether a text is a Darknet data file with a `names =`."""
    return bool(
        re.search(r"^\s*names\s*=\s*\S", text, re.MULTILINE)
        and re.search(r"^\s*(classes|train|valid|backup)\s*=", text, re.MULTILINE)
    )


def read_data_file(path: StrPath) -> dict[str, str]:
    """Returns the `key = value` pairs of a data file such as obj.data; the first of a key counts.

    Raises:
        OSError: the file cannot be read.
        YolotfError: a line has another form.
    """
    return _read_options(path)[0]


def read_data(path: StrPath) -> DataFile:
    """Reads a data file of Darknet or Ultralytics.

    Raises:
        OSError: the file cannot be read.
        YolotfError: it is neither.
    """
    if Path(path).suffix.lower() in YAML_ENDINGS:
        return _of_yaml(path, read_yaml(path))
    options, notes = _read_options(path)
    return DataFile(
        Path(path),
        train=_as_tuple(options.get("train")),
        # Darknet uses `valid` or, without it, `train` (detector.c:960).
        valid=_as_tuple(options.get("valid")),
        names_file=options.get("names") or None,
        classes=whole_number(options.get("classes")),
        difficult=options.get("difficult") or None,
        notes=notes,
    )


def _as_tuple(value: str | None) -> tuple[str, ...]:
    return (value,) if value else ()


def _read_options(path: StrPath) -> tuple[dict[str, str], tuple[str, ...]]:
    """Returns the options; the first of each key counts, as in Darknet (option_list.c)."""
    options: dict[str, str] = {}
    repeated: set[str] = set()
    notes = []
    lines = opening.read_lines(path, max_bytes=opening.MAX_NAMES_BYTES, kind="a data file")
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise YolotfError(
                f"{os.fspath(path)}: line {number} is not `key = value`: {text[:60]!r}; a data "
                "file has lines such as `valid = data/test.txt`",
                path=os.fspath(path),
                line=number,
            )
        if options.setdefault(key, value) != value and key not in repeated:
            repeated.add(key)
            notes.append(
                f"{os.fspath(path)}: line {number} sets {key} again; the first, {options[key]}, "
                "counts, as in Darknet"
            )
    return options, tuple(notes)


def read_yaml(path: StrPath) -> Mapping[str, Any]:
    """Returns the keys of a YAML file; every scalar is a string, including `no` and `1`.

    Raises:
        OSError: the file cannot be read.
        YolotfError: it is not YAML, or has no keys.
    """
    import yaml  # imported lazily: keeps `import yolotf` fast

    source = os.fspath(path)
    text = opening.read(path, max_bytes=_MAX_YAML_BYTES, kind="a data.yaml")
    try:
        # BaseLoader yields only strings, lists and mappings: `no` is a name, not False.
        content = yaml.load(text.decode("utf-8-sig"), Loader=yaml.BaseLoader)
    except UnicodeDecodeError as error:
        raise YolotfError(
            f"{source}: byte 0x{text[error.start]:02x} is not UTF-8; save it as UTF-8", path=source
        ) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        where = "" if line is None else f"; line {line}"
        problem = getattr(error, "problem", None) or str(error)
        if isinstance(error, RecursionError):
            problem = "nested too deeply"
        raise YolotfError(
            f"{source}: not valid YAML: {problem}{where}", path=source, line=line
        ) from error
    if not isinstance(content, Mapping):
        raise YolotfError(
            f"{source}: a YAML file without keys such as val: and names:", path=source
        )
    return content


def _of_yaml(path: StrPath, content: Mapping[str, Any]) -> DataFile:
    names = names_of_yaml(path, content)
    classes = whole_number(content.get("nc"))
    if classes is not None and names and classes != len(names):
        raise YolotfError(
            f"{os.fspath(path)}: nc is {classes}, names has {plural(len(names), 'name')}; correct "
            "one of them",
            path=os.fspath(path),
            expected=classes,
            found=len(names),
        )
    root = content.get("path")
    return DataFile(
        Path(path),
        root=root if isinstance(root, str) else "",
        train=_paths(path, content, "train"),
        valid=_paths(path, content, "val") or _paths(path, content, "valid"),
        names=names,
        classes=classes if classes is not None else len(names) or None,
    )


def _paths(path: StrPath, content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Returns the value of a key as a tuple: a path, a list of paths, or nothing."""
    value = content.get(key) or ()
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise YolotfError(
            f"{os.fspath(path)}: {key}: is neither a path nor a list of paths", path=os.fspath(path)
        )
    return tuple(name for name in names if name)


def names_of_yaml(path: StrPath, content: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the class names of a data.yaml, from a list or a mapping; empty if it has none.

    Raises:
        YolotfError: they are neither, or a class number is missing.
    """
    source = os.fspath(path)
    names = content.get("names") or ()
    if isinstance(names, Mapping):
        numbered = {}
        for key, name in names.items():
            number = whole_number(key)
            if number is None:
                raise YolotfError(
                    f"{source}: {str(key)[:40]!r} under names: is not a class number; write a list "
                    "of names, or number them from 0",
                    path=source,
                )
            numbered[number] = name
        missing = next((number for number in range(len(numbered)) if number not in numbered), None)
        if missing is not None:
            raise YolotfError(
                f"{source}: {len(numbered)} names under names:, but none for class {missing}; "
                "number them from 0",
                path=source,
                expected=missing,
            )
        names = [numbered[number] for number in range(len(numbered))]
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise YolotfError(
            f"{source}: names: holds neither a list of names nor a mapping from class numbers to "
            "names; write names: [person, car]",
            path=source,
        )
    return tuple(names)
