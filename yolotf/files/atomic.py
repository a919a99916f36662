"""Atomic writes: a file or folder appears complete under its name, or the old one stays.

All output of yolotf is written here. Functions replace what exists unless they are called with
`overwrite=False`, as commands are without `--overwrite`. No output replaces a file that the same
call reads, and of a folder only the parts that belong to the output are replaced.

A new file has no name until it is complete (`O_TMPFILE`, then `linkat`), so a killed process leaves
nothing behind; a file that replaces another has a temporary name only between `linkat` and
`rename`. Where a file system does not support that, and for folders, the incomplete output is
beside its target as `.<name>.<8 hex digits>.part`, locked by the writing process; the next write to
the same target removes unlocked ones. Libraries that open a path themselves get a link in the
temporary folder (HDF5, which needs a real file, gets a file there) or, without such a folder, a
file beside the target; a killed process may leave that.

Symbolic links are followed: their target is replaced and the links stay. Owner, group, mode
(including setgid) and extended attributes (including access lists) of the replaced file are kept as
far as the process is permitted to. If it cannot change the owner, the new owner is the process's
user; if it is not in the group, the new group is the process's; set-user-id and set-group-id are
then dropped. Not kept: the inode, other hard links to the old file (they keep the old content),
creation time, `chattr` flags, and attributes that certify the content (security.ima, security.evm,
security.capability).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO
from urllib.parse import quote, unquote

from yolotf.files.sources import StrPath
from yolotf.files.urls import shown_url, url_of

_KINDS: dict[Callable[[int], bool], str] = {
    stat.S_ISFIFO: "a FIFO",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a character device",
    stat.S_ISBLK: "a block device",
}
_LONGEST_STEM = 200
"""Bytes of the target's name to use in a temporary name; file names have at most 255 bytes."""
_NO_UNNAMED = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.ENOSYS}
"""Errors of `open` without O_TMPFILE support: older kernels take the flag for O_DIRECTORY."""
_NO_SYNC = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
"""Errors of `fsync` on file systems where folders need not or cannot be synced."""
_CHUNK = 8 << 20
_ABOUT_CONTENT = {"security.ima", "security.evm", "security.capability"}
_ASIDE = "replaced"
"""Holds the old parts of a folder until all new parts are in place."""
_OR_OVERWRITE = "name another {0}, or pass overwrite=True, or --overwrite"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


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
        inputs: files that the caller reads, which are never replaced, whatever links lead to them.
        parts: of a folder, the relative paths that the output consists of; if none of them exists,
            nothing would be replaced.

    Raises:
        OSError: the write would destroy something other than an older output: a device, a FIFO, a
            socket, a folder (or, with `folder`, a file), an input; or there is an older output and
            `overwrite` is False; or `path` is a URL.
    """
    check_no_url(path)
    text = os.fsdecode(path)
    _check_kind(text, folder)
    target = Path(os.path.realpath(text))
    if not folder and is_one_of(target, inputs):
        raise FileExistsError(errno.EEXIST, "is one of the inputs; name another file", text)
    if not overwrite:
        _check_free(target, text, parts if folder else ())
    return target


def check_no_url(path: StrPath) -> None:
    """Raises OSError for a URL, which would become a folder named `https:`."""
    url = url_of(path) or url_of(Path(os.fsdecode(path)))  # as it is, or with one slash
    if url is not None:
        what = "a URL; output is written to files, so name a file and upload that"
        raise OSError(errno.EINVAL, what, shown_url(url))


def is_one_of(path: StrPath, files: Iterable[StrPath]) -> bool:
    """Whether `path` leads to one of the files, through any links."""
    try:
        status = os.stat(path)  # noqa: PTH116 (of text that pathlib would change)
    except OSError:
        return False
    for file in files:
        with contextlib.suppress(OSError, ValueError):
            if os.path.samestat(status, os.stat(file)):  # noqa: PTH116
                return True
    return False


def _check_free(target: Path, name: str, parts: Sequence[str]) -> None:
    """Raises OSError if there is an older output."""
    older = [part for part in parts if os.path.lexists(target / part)]
    if older:
        raise FileExistsError(
            errno.EEXIST, f"holds {older[0]} already; {_OR_OVERWRITE.format('folder')}", name
        )
    if not parts and target.exists():
        raise FileExistsError(errno.EEXIST, f"exists; {_OR_OVERWRITE.format('file')}", name)


def _check_kind(text: str, folder: bool) -> None:
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(text).st_mode  # noqa: PTH116 Path would lose a slash at the end
        for is_kind, kind in _KINDS.items():
            if is_kind(mode):
                what = f"is {kind}, which a file in its place would destroy; name another path"
                raise OSError(errno.EEXIST, what, text)
        if stat.S_ISDIR(mode) and not folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), text)
        if folder and not stat.S_ISDIR(mode):
            raise FileExistsError(errno.EEXIST, "is a file, not a folder; name another path", text)
    if not folder and text.endswith(os.sep):
        raise IsADirectoryError(errno.EISDIR, "the path of a folder, not of a file", text)


@contextlib.contextmanager
def replacing_file(
    path: StrPath, *, overwrite: bool = True, inputs: Iterable[StrPath] = ()
) -> Iterator[BinaryIO]:
    """Yields a new file that is synced and becomes `path` at the end; discarded on an exception.

    Args:
        path: the path to replace.
        overwrite: False refuses to replace a file, including one created in the meantime.
        inputs: see `checked_target`.

    Raises:
        OSError: with `path` as the file name; the old file is unchanged.
    """
    target = checked_target(path, overwrite=overwrite, inputs=inputs)
    with _Naming(path) as naming, _Folder(target, overwrite) as folder:
        new = _UnnamedFile.in_folder(folder) or _NamedFile(folder)
        with new, os.fdopen(os.dup(new.descriptor), "wb") as output:
            with naming.body():
                yield output
            output.flush()
            new.publish()


def write(
    path: StrPath, content: bytes, *, overwrite: bool = True, inputs: Iterable[StrPath] = ()
) -> None:
    """Writes bytes with `replacing_file`."""
    with replacing_file(path, overwrite=overwrite, inputs=inputs) as file:
        file.write(content)


@contextlib.contextmanager
def replacing_path(
    path: StrPath,
    *,
    overwrite: bool = True,
    inputs: Iterable[StrPath] = (),
    size_bytes: int | None = None,
) -> Iterator[Path]:
    """`replacing_file` for libraries that open a path themselves; keeps the extension of `path`.

    Args:
        path: the path to replace.
        overwrite: see `replacing_file`.
        inputs: see `checked_target`.
        size_bytes: for libraries that need a real file instead of a link (HDF5): its approximate
            size. The file is written in the temporary folder and copied, or beside `path` if the
            temporary folder has too little space.
    """
    target = checked_target(path, overwrite=overwrite, inputs=inputs)
    with (
        _Naming(path) as naming,
        _Folder(target, overwrite) as folder,
        contextlib.ExitStack() as stack,
    ):
        links = _temporary_folder(stack)
        new = _UnnamedFile.in_folder(folder) if links is not None else None
        if links is not None and new is not None:
            stack.enter_context(new)
            link = links / target.name
            if size_bytes is None:
                link.symlink_to(new.address)
            if size_bytes is None or _has_room(link, size_bytes):
                with naming.body(link):
                    yield link
                if not link.is_symlink():  # or a library renamed its own file to it
                    with link.open("rb") as written, Path(new.address).open("wb") as output:
                        shutil.copyfileobj(written, output, _CHUNK)
                new.publish()
                return
        ready = stack.enter_context(_scratch_folder(folder)) / target.name
        with naming.body(ready):
            yield ready
        with _NamedFile(folder, ready) as moved:
            moved.publish()


def _temporary_folder(stack: contextlib.ExitStack) -> Path | None:
    """Returns a new temporary folder; None if none can be written, as with a read-only root."""
    try:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yolotf-")))
    except OSError:
        return None


def _has_room(target: Path, size_bytes: int) -> bool:
    try:
        check_room(target, size_bytes, target)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def replacing_folder(
    path: StrPath, *, parts: Sequence[str] | None = None, overwrite: bool = True
) -> Iterator[Path]:
    """Yields a path for a new folder, which becomes `path` at the end; the old one is removed.

    The two are exchanged atomically if the file system supports it. If not, the old folder is
    renamed, and renamed back on any exception, including Ctrl-C; if the process is killed at that
    moment, the next write to `path` restores it first.

    Args:
        path: the path to replace.
        parts: the relative paths that the new folder may contain. If the old folder contains
            anything else, it stays, and only its parts are replaced, one by one. None: the whole
            folder is replaced.
        overwrite: False refuses to replace a part.

    Raises:
        OSError: with `path` as the file name; the old folder is unchanged.
    """
    target = checked_target(path, folder=True, overwrite=overwrite, parts=parts or ())
    with (
        _Naming(path) as naming,
        _Folder(target, overwrite) as folder,
        _scratch_folder(folder) as scratch,
    ):
        ready = scratch / "new"
        with naming.body(ready):
            yield ready
        _keep_tree(target, ready)
        for entry in (ready, *ready.rglob("*")):
            if not entry.is_symlink():
                _sync(entry)
        folder.sync()
        if not overwrite:
            _check_free(target, os.fsdecode(path), parts or ())
        if not target.exists():
            ready.rename(target)
        elif parts is not None and _has_strangers(target, ready, parts):
            _replace_parts(scratch, ready, target, parts)
        elif not _exchange(ready, target):
            _step_aside(scratch / "old", ready, target)
        folder.sync_after("folder")


def _has_strangers(old: Path, new: Path, parts: Sequence[str]) -> bool:
    """Whether the folder holds anything but the parts and the folders that contain them."""
    above = {str(parent) for part in parts for parent in PurePath(part).parents}
    pending = [old]
    while pending:
        for entry in pending.pop().iterdir():
            name = str(entry.relative_to(old))
            if name in parts:
                continue
            if entry.is_symlink() or not entry.is_dir():
                return True
            if name not in above and not (new / name).is_dir():
                return True
            pending.append(entry)
    return False


def _replace_parts(scratch: Path, ready: Path, target: Path, parts: Sequence[str]) -> None:
    """Moves the old parts aside and the new ones in; undone on any exception."""
    blocked = [
        entry.relative_to(ready)
        for entry in ready.rglob("*")
        if entry.is_dir() and os.path.lexists(there := target / entry.relative_to(ready))
        if not there.is_dir() and str(entry.relative_to(ready)) not in parts
    ]
    if blocked:
        raise NotADirectoryError(errno.ENOTDIR, f"holds {blocked[0]}, which is no folder")
    aside = scratch / _ASIDE
    aside.mkdir()
    placed: list[Path] = []
    try:
        for part in parts:
            if os.path.lexists(target / part):
                (target / part).rename(aside / quote(part, safe=""))
        for entry in sorted(ready.rglob("*")):
            part = str(entry.relative_to(ready))
            if part in parts:
                placed.append(target / part)
                entry.rename(target / part)
            elif entry.is_dir() and not entry.is_symlink() and not _is_inside(part, parts):
                (target / part).mkdir(exist_ok=True)
        aside.rename(scratch / "done")
    except BaseException:
        for path in placed:
            _remove(path)
        _parts_back(aside, target)
        raise


def _is_inside(path: str, parts: Sequence[str]) -> bool:
    return any(str(parent) in parts for parent in PurePath(path).parents)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _parts_back(aside: Path, target: Path) -> None:
    """Undoes an interrupted `_replace_parts`."""
    if not aside.is_dir():
        return
    for old in aside.iterdir():
        place = target / unquote(old.name)
        _remove(place)
        old.rename(place)


def check_room(target: Path, size_bytes: int, name: StrPath) -> None:
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


class _Naming:
    """Puts the caller's path into errors about the temporary file; keeps other files' names."""

    def __init__(self, path: StrPath) -> None:
        self._path = os.fsdecode(path)
        self._foreign: OSError | None = None

    def __enter__(self) -> _Naming:
        return self

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        if isinstance(error, OSError) and error is not self._foreign and error.errno is not None:
            raise OSError(error.errno, error.strerror, self._path) from error

    @contextlib.contextmanager
    def body(self, own: Path | None = None) -> Iterator[None]:
        """Wraps the caller's code, which may have been given the path `own`."""
        try:
            yield
        except OSError as error:
            name = error.filename
            if name is not None and not (own and os.fsdecode(str(name)).startswith(str(own))):
                self._foreign = error
            raise


class _Folder:
    """The target's folder, opened; leftovers of killed processes are removed from it."""

    def __init__(self, target: Path, overwrite: bool) -> None:
        self.target = target
        self.overwrite = overwrite
        flags = os.O_DIRECTORY | os.O_CLOEXEC
        try:
            self.descriptor = os.open(target.parent, os.O_RDONLY | flags)
        except PermissionError:  # writable but not readable: cannot be synced
            self.descriptor = os.open(target.parent, getattr(os, "O_PATH", 0) | flags)
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(target)) from None

    def __enter__(self) -> _Folder:
        with contextlib.suppress(OSError):
            self._clear_stale()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def temporary_name(self) -> str:
        return f".{self._stem}.{secrets.token_hex(4)}.part"

    @property
    def _stem(self) -> str:
        return os.fsdecode(os.fsencode(self.target.name)[:_LONGEST_STEM])

    def _clear_stale(self) -> None:
        pattern = re.compile(rf"\.{re.escape(self._stem)}\.[0-9a-f]{{8}}\.part", re.DOTALL)
        for path in self.target.parent.iterdir():
            if pattern.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    self._clear(path)

    def _clear(self, path: Path) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # locked: being written
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                _put_back(path / "old", self.target)
                _parts_back(path / _ASIDE, self.target)
                shutil.rmtree(path)
            elif stat.S_ISREG(mode):
                path.unlink()
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Syncs before anything is replaced; without it the rename could be lost."""
        try:
            os.fsync(self.descriptor)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise

    def sync_after(self, what: str) -> None:
        """Syncs after the rename; without it, a power cut may bring the old file back."""
        try:
            self.sync()
        except OSError as error:
            reason = (
                f"the new {what} is in place, but after a power cut the old one may be back: "
                f"the folder it is in cannot be synced: {error.strerror}"
            )
            raise OSError(error.errno, reason) from error


class _UnnamedFile:
    """A file without a name until it is complete."""

    def __init__(self, folder: _Folder, descriptor: int) -> None:
        self._folder = folder
        self.descriptor = descriptor
        self._kept = _Attributes.of(folder.target)

    @property
    def address(self) -> str:
        """A path that leads to the file while it is open."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    @classmethod
    def in_folder(cls, folder: _Folder) -> _UnnamedFile | None:
        """Creates the file; returns None if the file system does not support unnamed files."""
        flag = getattr(os, "O_TMPFILE", None)
        if flag is None:
            return None
        try:
            descriptor = os.open(
                ".",
                os.O_RDWR | os.O_CLOEXEC | flag,
                _first_mode(folder.target),
                dir_fd=folder.descriptor,
            )
        except OSError as error:
            if error.errno in _NO_UNNAMED:
                return None
            raise
        new = cls(folder, descriptor)
        if Path(new.address).exists():
            return new
        os.close(descriptor)  # no /proc, which is needed to name the file
        return None

    def __enter__(self) -> _UnnamedFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def publish(self) -> None:
        """Gives the file its name."""
        folder, name = self._folder, self._folder.target.name
        _finish(folder, self.descriptor, self._kept)
        if not folder.overwrite or _Attributes.of(folder.target) is None:
            try:
                self._link(name)
                return folder.sync_after("file")
            except FileExistsError:  # created by another process in the meantime
                if not folder.overwrite:
                    raise
        temporary = folder.temporary_name()
        try:
            self._link(temporary)
            os.replace(temporary, name, src_dir_fd=folder.descriptor, dst_dir_fd=folder.descriptor)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder.descriptor)
            raise
        return folder.sync_after("file")

    def _link(self, name: str) -> None:
        here = self._folder.descriptor
        # With dir_fd arguments Python calls linkat, which can follow the link in /proc.
        os.link(self.address, name, src_dir_fd=here, dst_dir_fd=here, follow_symlinks=True)


class _NamedFile:
    """A file with a temporary name, locked so that no other process takes it for a leftover."""

    def __init__(self, folder: _Folder, ready: Path | None = None) -> None:
        """Creates a file, or adopts `ready`."""
        self._folder = folder
        self._kept = _Attributes.of(folder.target)
        if ready is not None:
            self.path = ready
            self.descriptor = os.open(ready, os.O_RDWR | os.O_CLOEXEC)
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        while True:
            self.path = folder.target.with_name(folder.temporary_name())
            self.descriptor = os.open(self.path, flags, _first_mode(folder.target))
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            if os.fstat(self.descriptor).st_nlink:
                return
            os.close(self.descriptor)  # removed as stale between open and lock

    def __enter__(self) -> _NamedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)

    def publish(self) -> None:
        _finish(self._folder, self.descriptor, self._kept)
        if self._folder.overwrite or not _link(self.path, self._folder.target):
            self.path.replace(self._folder.target)
        self._folder.sync_after("file")


def _link(path: Path, target: Path) -> bool:
    """Links a file to a free name; returns False if the file system has no hard links.

    Raises:
        FileExistsError: the name has been taken in the meantime.
    """
    try:
        target.hardlink_to(path)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


def _first_mode(target: Path) -> int:
    """Returns the mode while writing: no more permissive for others than the old file's."""
    return 0o600 if target.exists() else 0o666


def _finish(folder: _Folder, descriptor: int, kept: _Attributes | None) -> None:
    """Does everything that can fail before the old file is replaced."""
    checked_target(folder.target, overwrite=folder.overwrite)
    kept = _Attributes.of(folder.target) or kept
    if kept is not None:
        kept.give(descriptor)
    os.fsync(descriptor)
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    folder.sync()


@dataclass(frozen=True)
class _Attributes:
    """Owner, group, mode and extended attributes of a file."""

    owner: int
    group: int
    mode: int
    extended: dict[str, bytes]

    @classmethod
    def of(cls, path: Path) -> _Attributes | None:
        """Reads the attributes of a file; returns None if it does not exist."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        return cls(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), _extended(path))

    def give(self, file: int) -> None:
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
            for name in set(_extended(file)) - set(self.extended):
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


def _extended(file: Path | int) -> dict[str, bytes]:
    """Returns the extended attributes; empty if not supported."""
    found: dict[str, bytes] = {}
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):
            for name in os.listxattr(file):
                if name not in _ABOUT_CONTENT:
                    with contextlib.suppress(OSError):
                        found[name] = os.getxattr(file, name)
    return found


def _keep_tree(old: Path, new: Path) -> None:
    """Gives each entry of a new folder its old counterpart's attributes, or the folder's owner."""
    root = _Attributes.of(old)
    if root is None:
        return
    for path in (new, *new.rglob("*")):
        if path.is_symlink():
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            kept = _Attributes.of(old / path.relative_to(new))
            if kept is None:
                mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
                kept = _Attributes(root.owner, root.group, mode, _extended(descriptor))
            kept.give(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _scratch_folder(folder: _Folder) -> Iterator[Path]:
    """Yields a folder beside the target; removes it, unless it has the target's only copy."""
    path = folder.target.with_name(folder.temporary_name())
    path.mkdir(0o700)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield path
        finally:
            os.close(descriptor)
    finally:
        _put_back(path / "old", folder.target)
        _parts_back(path / _ASIDE, folder.target)
        shutil.rmtree(path, ignore_errors=True)


def _step_aside(old: Path, ready: Path, target: Path) -> None:
    try:
        target.rename(old)
        ready.rename(target)
    except BaseException:
        _put_back(old, target)
        raise


def _put_back(old: Path, target: Path) -> None:
    """Undoes the first half of `_step_aside` if the second half has not happened."""
    if old.exists() and not target.exists():
        old.rename(target)


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two names atomically; returns False where that is not supported."""
    if not sys.platform.startswith("linux"):
        return False
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    first, second = os.fsencode(one), os.fsencode(other)
    done: int = call(_AT_FDCWD, first, _AT_FDCWD, second, ctypes.c_uint(_RENAME_EXCHANGE))
    if done == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), os.fspath(other))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)
