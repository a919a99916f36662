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
import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from yolotf.files import folder_swap
from yolotf.files.file_attributes import FileAttributes, copy_tree_attributes
from yolotf.files.output_target import check_unused, checked_target, has_space
from yolotf.files.paths import StrPath

_MAX_STEM_BYTES = 200
"""Bytes of the target's name to use in a temporary name; file names have at most 255 bytes."""
_UNNAMED_UNSUPPORTED = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.ENOSYS}
"""Errors of `open` without O_TMPFILE support: older kernels take the flag for O_DIRECTORY."""
_SYNC_UNSUPPORTED = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
"""Errors of `fsync` on file systems where folders need not or cannot be synced."""
_CHUNK = 8 << 20


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
    with _TargetInErrors(path) as errors, _Folder(target, overwrite) as folder:
        new = _UnnamedFile.in_folder(folder) or _NamedFile(folder)
        with new, os.fdopen(os.dup(new.descriptor), "wb") as output:
            with errors.caller():
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
    """Like `replacing_file`, for libraries that open a path themselves; yields such a path.

    The path has the extension of `path`.

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
        _TargetInErrors(path) as errors,
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
            if size_bytes is None or has_space(link, size_bytes):
                with errors.caller(link):
                    yield link
                if not link.is_symlink():  # or a library renamed its own file to it
                    with link.open("rb") as written, Path(new.address).open("wb") as output:
                        shutil.copyfileobj(written, output, _CHUNK)
                new.publish()
                return
        ready = stack.enter_context(_scratch_folder(folder)) / target.name
        with errors.caller(ready):
            yield ready
        with _NamedFile(folder, ready) as moved:
            moved.publish()


def _temporary_folder(stack: contextlib.ExitStack) -> Path | None:
    """Returns a new temporary folder; None if none can be written, as with a read-only root."""
    try:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yolotf-")))
    except OSError:
        return None


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
            anything else, it stays, and only its parts are replaced, one by one. By default the
            whole folder is replaced.
        overwrite: False refuses to replace a part.

    Raises:
        OSError: with `path` as the file name; the old folder is unchanged.
    """
    target = checked_target(path, folder=True, overwrite=overwrite, parts=parts or ())
    with (
        _TargetInErrors(path) as errors,
        _Folder(target, overwrite) as folder,
        _scratch_folder(folder) as scratch,
    ):
        ready = scratch / "new"
        with errors.caller(ready):
            yield ready
        copy_tree_attributes(target, ready)
        for entry in (ready, *ready.rglob("*")):
            if not entry.is_symlink():
                _sync(entry)
        folder.sync()
        if not overwrite:
            check_unused(target, os.fsdecode(path), parts or ())
        if not target.exists():
            ready.rename(target)
        elif parts is not None and folder_swap.has_other_entries(target, ready, parts):
            folder_swap.replace_parts(scratch, ready, target, parts)
        elif not folder_swap.exchange(ready, target):
            folder_swap.swap_by_renaming(scratch / "old", ready, target)
        folder.sync_after_rename("folder")


class _TargetInErrors:
    """Names the caller's path in errors about the temporary file; other errors are unchanged."""

    def __init__(self, path: StrPath) -> None:
        self._path = os.fsdecode(path)
        self._foreign: OSError | None = None

    def __enter__(self) -> _TargetInErrors:
        return self

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        if isinstance(error, OSError) and error is not self._foreign and error.errno is not None:
            raise OSError(error.errno, error.strerror, self._path) from error

    @contextlib.contextmanager
    def caller(self, temporary: Path | None = None) -> Iterator[None]:
        """Wraps the caller's code, which may have been given the path `temporary`."""
        try:
            yield
        except OSError as error:
            name = error.filename
            if name is not None:
                prefix = None if temporary is None else str(temporary)
                if prefix is None or not os.fsdecode(str(name)).startswith(prefix):
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
            self._remove_stale_files()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def temporary_name(self) -> str:
        """Returns a new name for an incomplete output."""
        return f".{self._stem}.{os.urandom(4).hex()}.part"

    @property
    def _stem(self) -> str:
        return os.fsdecode(os.fsencode(self.target.name)[:_MAX_STEM_BYTES])

    def _remove_stale_files(self) -> None:
        pattern = re.compile(rf"\.{re.escape(self._stem)}\.[0-9a-f]{{8}}\.part", re.DOTALL)
        for path in self.target.parent.iterdir():
            if pattern.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    self._remove_stale(path)

    def _remove_stale(self, path: Path) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # locked: being written
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                folder_swap.restore_folder(path / "old", self.target)
                folder_swap.restore_parts(path / folder_swap.OLD_PARTS, self.target)
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
            if error.errno not in _SYNC_UNSUPPORTED:
                raise

    def sync_after_rename(self, kind: str) -> None:
        """Syncs after the rename of a file or folder, or a power cut may bring the old one back."""
        try:
            self.sync()
        except OSError as error:
            reason = (
                f"the new {kind} is in place, but after a power cut the old one may be back: "
                f"the folder it is in cannot be synced: {error.strerror}"
            )
            raise OSError(error.errno, reason) from error


class _UnnamedFile:
    """A file without a name until it is complete."""

    def __init__(self, folder: _Folder, descriptor: int) -> None:
        self._folder = folder
        self.descriptor = descriptor
        self._old_attributes = FileAttributes.of(folder.target)

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
                _initial_mode(folder.target),
                dir_fd=folder.descriptor,
            )
        except OSError as error:
            if error.errno in _UNNAMED_UNSUPPORTED:
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
        _prepare_to_publish(folder, self.descriptor, self._old_attributes)
        if not folder.overwrite or FileAttributes.of(folder.target) is None:
            try:
                self._link(name)
                return folder.sync_after_rename("file")
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
        return folder.sync_after_rename("file")

    def _link(self, name: str) -> None:
        folder = self._folder.descriptor
        # With dir_fd arguments Python calls linkat, which can follow the link in /proc.
        os.link(self.address, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)


class _NamedFile:
    """A file with a temporary name, locked so that no other process takes it for a leftover."""

    def __init__(self, folder: _Folder, ready: Path | None = None) -> None:
        """Creates a file, or adopts `ready`."""
        self._folder = folder
        self._old_attributes = FileAttributes.of(folder.target)
        if ready is not None:
            self.path = ready
            self.descriptor = os.open(ready, os.O_RDWR | os.O_CLOEXEC)
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        while True:
            self.path = folder.target.with_name(folder.temporary_name())
            self.descriptor = os.open(self.path, flags, _initial_mode(folder.target))
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
        """Gives the file its final name."""
        _prepare_to_publish(self._folder, self.descriptor, self._old_attributes)
        if self._folder.overwrite or not _link(self.path, self._folder.target):
            self.path.replace(self._folder.target)
        self._folder.sync_after_rename("file")


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


def _initial_mode(target: Path) -> int:
    """Returns the mode while writing: no more permissive for others than the old file's."""
    return 0o600 if target.exists() else 0o666


def _prepare_to_publish(
    folder: _Folder, descriptor: int, old_attributes: FileAttributes | None
) -> None:
    """Does everything that can fail before the old file is replaced."""
    checked_target(folder.target, overwrite=folder.overwrite)
    attributes = FileAttributes.of(folder.target) or old_attributes
    if attributes is not None:
        attributes.apply_to(descriptor)
    os.fsync(descriptor)
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    folder.sync()


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
        folder_swap.restore_folder(path / "old", folder.target)
        folder_swap.restore_parts(path / folder_swap.OLD_PARTS, folder.target)
        shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _SYNC_UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
