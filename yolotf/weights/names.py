"""Class names: from a file, a list or a dictionary, with the line of what is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from yolotf.errors import YolotfError
from yolotf.weights import contents

Names = str | os.PathLike[str] | Sequence[str] | Mapping[int, str] | None


def read_names(names: Names) -> tuple[str, ...]:
    """Class names in the order of their numbers.

    Args:
        names: a file with one name a line (blank lines at its end do not count), a list, or a
            dictionary from class numbers to names, as other frameworks have it.

    Raises:
        YolotfError: the file is no list of names, or a dictionary leaves a number out.
        OSError: the file cannot be read.
    """
    if names is None:
        return ()
    if isinstance(names, str | os.PathLike):
        return _from_file(os.fspath(names))
    if isinstance(names, Mapping):
        return _from_mapping(names)
    return tuple(names)


def _from_mapping(names: Mapping[int, str]) -> tuple[str, ...]:
    # JSON turns the numbers into strings.
    numbered = {int(number): name for number, name in names.items()}
    missing = next((n for n in range(len(numbered)) if n not in numbered), None)
    if missing is not None:
        raise YolotfError(
            f"names has {len(numbered)} entries and none for class {missing}; number them from 0",
            expected=missing,
        )
    return tuple(numbered[number] for number in range(len(numbered)))


def _from_file(path: str) -> tuple[str, ...]:
    raw = Path(path).read_bytes()
    found = contents.Contents.of(path)
    if found.detected not in (None, "text", "empty", "html") or (
        found.detected is None and b"\0" in raw
    ):
        what = found.description if found.detected else "binary, as a .weights file is"
        raise YolotfError(f"{path}: no list of class names: {what}", path=path)
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise YolotfError(f"{path}: text in UTF-16; save it as UTF-8", path=path)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise YolotfError(
            f"{path}: byte 0x{raw[error.start]:02x} is no UTF-8, as in text in GBK or Latin-1; "
            f"line {line}; save it as UTF-8",
            path=path,
            line=line,
        ) from None
    data = re.search(r"^\s*names\s*=\s*(\S.*?)\s*$", text, re.MULTILINE)
    if data and re.search(r"^\s*classes\s*=", text, re.MULTILINE):
        raise YolotfError(
            f"{path}: a .data file, not the names themselves; pass {data.group(1)}, which its "
            "names= line points to",
            path=path,
        )
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if "" in lines:
        line = lines.index("") + 1
        raise YolotfError(
            f"{path}: a blank line among {len(lines)} lines; line {line}; take it out, each line "
            "is one class",
            path=path,
            line=line,
        )
    return tuple(lines)
