"""Owner, group, mode and extended attributes, which an output keeps of the file it replaces."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

_CONTENT_ATTRIBUTES = {"security.ima", "security.evm", "security.capability"}
"""Attributes that certify the content, and so are not kept."""


@dataclass(frozen=True)
class FileAttributes:
    """Owner, group, mode and extended attributes of a file."""

    owner: int
    group: int
    mode: int
    extended: dict[str, bytes]

    @classmethod
    def of(cls, path: Path) -> FileAttributes | None:
        """Reads the attributes of a file; returns None if it does not exist."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        return cls(
            status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), _extended_attributes(path)
        )

    def apply_to(self, file: int) -> None:
        """Applies them to an open file or folder, as far as the process is permitted to."""
        status = os.fstat(file)
        if (status.st_uid, status.st_gid) != (self.owner, self.group):
            try:
                os.fchown(file, self.owner, self.group)
            except OSError:
                with contextlib.suppress(OSError):
                    os.fchown(file, -1, self.group)
        if hasattr(os, "setxattr"):
            # The folder's default access list may grant more than the old file's.
            for name in set(_extended_attributes(file)) - set(self.extended):
                with contextlib.suppress(OSError):
                    os.removexattr(file, name)
            for name, value in self.extended.items():
                with contextlib.suppress(OSError):
                    os.setxattr(file, name, value)
        status = os.fstat(file)
        mode = self.mode
        if status.st_uid != self.owner:
            mode &= ~stat.S_ISUID
        if status.st_gid != self.group:
            mode &= ~stat.S_ISGID
        with contextlib.suppress(PermissionError):  # file systems without modes
            os.fchmod(file, mode)


def _extended_attributes(file: Path | int) -> dict[str, bytes]:
    """Returns the extended attributes; empty if not supported."""
    attributes: dict[str, bytes] = {}
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):
            for name in os.listxattr(file):
                if name not in _CONTENT_ATTRIBUTES:
                    with contextlib.suppress(OSError):
                        attributes[name] = os.getxattr(file, name)
    return attributes


def copy_tree_attributes(old: Path, new: Path) -> None:
    """Gives each entry of a new folder the attributes of the entry it replaces.

    Entries that replace nothing get the owner and group of the old folder.
    """
    root = FileAttributes.of(old)
    if root is None:
        return
    for path in (new, *new.rglob("*")):
        if path.is_symlink():
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            attributes = FileAttributes.of(old / path.relative_to(new))
            if attributes is None:
                mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
                extended = _extended_attributes(descriptor)
                attributes = FileAttributes(root.owner, root.group, mode, extended)
            attributes.apply_to(descriptor)
        finally:
            os.close(descriptor)
