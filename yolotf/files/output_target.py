"""Checks of the path that an output is written to, before any long work."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from yolotf import argument_numbers
from yolotf.files import read_files
from yolotf.files.paths import StrPath
from yolotf.files.urls import shown_url, url_of

_KINDS: dict[Callable[[int], bool], str] = {
    stat.S_ISFIFO: "a FIFO",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a character device",
    stat.S_ISBLK: "a block device",
}
_OVERWRITE_HINT = "name another {0}, or pass overwrite=True, or --overwrite"


def checked_target(
    path: StrPath,
    *,
    folder: bool = False,
    overwrite: bool = True,
    inputs: Iterable[StrPath] = (),
    parts: Sequence[str] = (),
) -> Path:
    """Returns the real path that a write to `path` would replace; call it before any long work.

    Args:
        path: the output.
        folder: whether the output is a folder.
        overwrite: whether an older output may be replaced.
        inputs: files that the caller reads, which are never replaced, whatever links lead to them;
            nor are files that the run has read (`read_files.remembered`).
        parts: of a folder, the relative paths that the output consists of; if none of them exists,
            nothing would be replaced.

    Raises:
        OSError: the write would destroy something other than an older output: a device, a FIFO, a
            socket, a folder (or, with `folder`, a file), an input; or there is an older output and
            `overwrite` is False; or `path` is a URL.
        TypeError: `overwrite` is not a switch: "no" must not replace a file.
    """
    overwrite = argument_numbers.flag("overwrite", overwrite)
    check_no_url(path)
    text = os.fsdecode(path)
    _check_kind(text, folder)
    target = Path(os.path.realpath(text))
    for part in parts if folder else ("",):
        if is_input(target / part, inputs):
            reason = (
                f"holds {part}, one of the inputs; name another folder"
                if part
                else ("is one of the inputs; name another file")
            )
            raise FileExistsError(errno.EEXIST, reason, text)
    if not overwrite:
        check_unused(target, text, parts if folder else ())
    return target


def check_no_url(path: StrPath) -> None:
    """Raises OSError for a URL, which would become a folder named `https:`."""
    url = url_of(path) or url_of(Path(os.fsdecode(path)))  # as it is, or with one slash
    if url is not None:
        reason = "a URL; output is written to files, so name a file and upload that"
        raise OSError(errno.EINVAL, reason, shown_url(url))


def is_input(path: StrPath, inputs: Iterable[StrPath] = ()) -> bool:
    """Whether `path` leads to one of the inputs or a file that the run has read, by any links."""
    try:
        status = os.stat(path)  # noqa: PTH116 (of text that pathlib would change)
    except OSError:
        return False
    if read_files.contains(status):
        return True
    for file in inputs:
        with contextlib.suppress(OSError, ValueError):
            if os.path.samestat(status, os.stat(file)):  # noqa: PTH116
                return True
    return False


def check_unused(target: Path, name: str, parts: Sequence[str]) -> None:
    """Raises OSError if there is an older output."""
    older = [part for part in parts if os.path.lexists(target / part)]
    if older:
        raise FileExistsError(
            errno.EEXIST, f"holds {older[0]} already; {_OVERWRITE_HINT.format('folder')}", name
        )
    if not parts and target.exists():
        raise FileExistsError(errno.EEXIST, f"exists; {_OVERWRITE_HINT.format('file')}", name)


def _check_kind(text: str, folder: bool) -> None:
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(text).st_mode  # noqa: PTH116 Path would lose a slash at the end
        for is_kind, kind in _KINDS.items():
            if is_kind(mode):
                reason = f"is {kind}, which a file in its place would destroy; name another path"
                raise OSError(errno.EEXIST, reason, text)
        if stat.S_ISDIR(mode) and not folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), text)
        if folder and not stat.S_ISDIR(mode):
            raise FileExistsError(errno.EEXIST, "is a file, not a folder; name another path", text)
    if not folder and text.endswith(os.sep):
        raise IsADirectoryError(errno.EISDIR, "the path of a folder, not of a file", text)


def check_space(target: Path, size_bytes: int, name: StrPath) -> None:
    """Raises OSError if `size_bytes` cannot be written beside `target`.

    HDF5 crashes the process if the disk fills up during a write.
    """
    with tempfile.TemporaryFile(dir=target.parent) as file:
        try:
            reserve(file.fileno(), size_bytes)
        except OSError as error:
            # A file system that cannot reserve space may still have enough.
            if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                reason = os.strerror(error.errno)
                raise OSError(error.errno, reason, os.fspath(name)) from None


def reserve(descriptor: int, size_bytes: int) -> None:
    """Allocates the disk space at once, so that a full disk shows before anything is written."""
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # not on every file system
            raise


def has_space(target: Path, size_bytes: int) -> bool:
    """Whether `size_bytes` can be written beside `target`."""
    try:
        check_space(target, size_bytes, target)
    except OSError:
        return False
    return True
