"""Puts a complete new folder, or parts of one, in the place of an old one, and undoes it.

`atomic` prepares the new folder and holds the lock; everything here moves names only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath
from urllib.parse import quote, unquote

OLD_PARTS = "replaced"
"""Holds the old parts of a folder until all new parts are in place."""
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def has_other_entries(old: Path, new: Path, parts: Sequence[str]) -> bool:
    """Whether the folder holds anything but the parts and the folders that contain them."""
    parents = {str(parent) for part in parts for parent in PurePath(part).parents}
    pending = [old]
    while pending:
        for entry in pending.pop().iterdir():
            name = str(entry.relative_to(old))
            if name in parts:
                continue
            if entry.is_symlink() or not entry.is_dir():
                return True
            if name not in parents and not (new / name).is_dir():
                return True
            pending.append(entry)
    return False


def replace_parts(scratch: Path, ready: Path, target: Path, parts: Sequence[str]) -> None:
    """Moves the old parts out of the folder and the new ones in; undone on any exception."""
    # A later TensorFlow may write files that are not in `parts`.
    written = (str(entry.relative_to(ready)) for entry in ready.rglob("*") if not entry.is_dir())
    parts = [
        *parts,
        *(name for name in written if name not in parts and not _is_inside(name, parts)),
    ]
    for entry in ready.rglob("*"):
        name = entry.relative_to(ready)
        old = target / name
        blocks = os.path.lexists(old) and not old.is_dir() and str(name) not in parts
        if entry.is_dir() and blocks:
            raise NotADirectoryError(errno.ENOTDIR, f"holds {name}, which is not a folder")
    old_parts = scratch / OLD_PARTS
    old_parts.mkdir()
    placed: list[Path] = []
    try:
        for part in parts:
            if os.path.lexists(target / part):
                (target / part).rename(old_parts / quote(part, safe=""))
        for entry in sorted(ready.rglob("*")):
            part = str(entry.relative_to(ready))
            if part in parts:
                placed.append(target / part)
                entry.rename(target / part)
            elif entry.is_dir() and not entry.is_symlink() and not _is_inside(part, parts):
                (target / part).mkdir(exist_ok=True)
        old_parts.rename(scratch / "done")
    except BaseException:
        for path in placed:
            _remove(path)
        restore_parts(old_parts, target)
        raise


def _is_inside(path: str, parts: Sequence[str]) -> bool:
    return any(str(parent) in parts for parent in PurePath(path).parents)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def restore_parts(old_parts: Path, target: Path) -> None:
    """Undoes an interrupted `replace_parts`."""
    if not old_parts.is_dir():
        return
    for old in old_parts.iterdir():
        part = target / unquote(old.name)
        _remove(part)
        old.rename(part)


def swap_by_renaming(old: Path, ready: Path, target: Path) -> None:
    """Renames the target to `old` and the new folder to the target; undone on any exception."""
    try:
        target.rename(old)
        ready.rename(target)
    except BaseException:
        restore_folder(old, target)
        raise


def restore_folder(old: Path, target: Path) -> None:
    """Undoes the first half of `swap_by_renaming` if the second half has not happened."""
    if old.exists() and not target.exists():
        old.rename(target)


def exchange(new: Path, old: Path) -> bool:
    """Exchanges two names atomically; returns False where that is not supported."""
    if not sys.platform.startswith("linux"):
        return False
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    status: int = call(
        _AT_FDCWD,
        os.fsencode(new),
        _AT_FDCWD,
        os.fsencode(old),
        ctypes.c_uint(_RENAME_EXCHANGE),
    )
    if status == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), os.fspath(old))
