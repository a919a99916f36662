"""Identifies a file from its bytes, without knowing the network.

Reads only a few pieces of the file, never maps it and never blocks: directories, FIFOs and devices
are recognised by `stat` alone.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from yolotf.files import magic
from yolotf.files.paths import StrPath
from yolotf.text import plural

_SAMPLE = 1 << 20
_HEADER_BYTES = 20
_CHUNK = 1 << 24
_FIXES = {
    "empty": "download it again",
    "git_lfs_pointer": "run: git lfs pull; or download the file itself",
    "html": "the download went wrong; open the address in a browser and save the file itself",
    "text": "get the real file; a .weights file is binary",
    "hdf5": "load it with model.load_weights, or get the .weights file it was made from",
    "zip": "a PyTorch or Keras file needs its own loader; unpack an archive first",
    "pickle": "load it with PyTorch, or get the Darknet .weights file",
    "gzip": "unpack it first: gunzip",
    "tensorflow_checkpoint": "load it with tf.train.Checkpoint or model.load_weights",
    "binary": "get the Darknet .weights file",
    "missing": "check the path",
    "directory": "name a file in it",
    "unreadable": "check the permissions and the disk",
    "special_file": "name a regular file",
}


@dataclass(frozen=True)
class Contents:
    """The type of a file.

    Attributes:
        size_bytes: 0 if not a regular file.
        unreadable: why it cannot be read, or None.
        detected: the type in one word, as in a `not_weights` cause; None if it may be weights.
        hint: details of `detected` for the user; may be empty.
        start: the first 20 bytes, or fewer.
        pointer: for `git_lfs_pointer`.
        kind: everything known about the type, if it was recognised.
        is_remote: whether it was to be downloaded from a URL.
        advice: what to do about `unreadable`; empty for the usual.
    """

    size_bytes: int = 0
    unreadable: str | None = None
    detected: str | None = None
    hint: str = ""
    start: bytes = b""
    pointer: magic.Pointer | None = None
    kind: magic.Kind | None = None
    is_remote: bool = False
    advice: str = ""

    @classmethod
    def of(cls, path: StrPath) -> Contents:
        """Identifies the file `path`; never raises, whatever the file is."""
        name = os.fspath(path)
        try:
            status = Path(path).stat()
        except FileNotFoundError:
            return cls(unreadable="no such file", detected="missing")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return cls(unreadable=reason.lower(), detected="unreadable")
        if stat.S_ISDIR(status.st_mode):
            # A TensorFlow SavedModel is a directory, which users do pass.
            saved = any((Path(path) / part).is_file() for part in ("saved_model.pb", "checkpoint"))
            hint = "a TensorFlow SavedModel or checkpoint directory" if saved else ""
            return cls(unreadable="is a directory", detected="directory", hint=hint)
        if not stat.S_ISREG(status.st_mode):
            kind = "a FIFO" if stat.S_ISFIFO(status.st_mode) else "a socket or device"
            return cls(unreadable=f"is {kind}, not a file", detected="special_file")
        size = status.st_size
        try:
            # Non-blocking: the path may have become a FIFO between stat and open.
            with os.fdopen(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                sample = file.read(_SAMPLE)
                file.seek(max(0, size - 8))
                end = file.read(8)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            return cls(size, unreadable=reason, detected="unreadable")
        file_kind = magic.kind_of(sample, size=size, end=end, name=name)
        detected, hint, pointer = file_kind[:3] if file_kind else (None, "", None)
        return cls(size, None, detected, hint, sample[:_HEADER_BYTES], pointer, file_kind)

    @property
    def description(self) -> str:
        """A description such as `a web page, 270864 bytes: titled 'Not found'`."""
        if self.unreadable:
            text = self.unreadable
        else:
            count = plural(self.size_bytes, "byte")
            text = f"{magic.NOUNS[self.detected or 'binary']}, {count}"
        return f"{text}: {self.hint}" if self.hint else text

    @property
    def fix(self) -> str:
        """What to do if a .weights file was expected."""
        if self.advice:
            return self.advice
        if self.is_remote and self.detected == "unreadable":
            return "check the address and the connection"
        return _FIXES[self.detected or "binary"]


def mangled(path: StrPath) -> str | None:
    """Recognises text-mode damage that shows without knowing the network.

    64 KiB of floats are never valid UTF-8 by chance.

    Returns:
        `utf8_replacement` if every byte that is not UTF-8 became EF BF BD, which loses the floats;
        `cp1252_to_utf8` if each byte was decoded as CP1252 or Latin-1 and encoded as UTF-8; None
        for any other file.
    """
    with Path(path).open("rb") as file:
        sample = file.read(1 << 16)
        whole = not file.read(1)
    text = magic.decoded(sample, final=whole)
    if text is None:
        return None
    non_ascii = sum(character > "\x7f" for character in text)
    if non_ascii < 16:
        return None
    replaced = text.count("\ufffd")
    return "utf8_replacement" if replaced >= max(8, non_ascii // 10) else "cp1252_to_utf8"


def newlines(path: StrPath, expected_bytes: int) -> str | None:
    """Looks for signs of newline conversion.

    Of the bytes of floats, one in 256 is a line feed, one in 256 a carriage return, and one pair in
    65,536 is both. A file was converted if every line feed follows a return, or if returns or pairs
    are missing where many are expected.

    Args:
        path: the file.
        expected_bytes: the size it should have.

    Returns:
        `lf_to_crlf`, `crlf_to_lf`, `cr_to_lf`, or None.
    """
    size_bytes = Path(path).stat().st_size
    feeds = returns = pairs = 0
    last = b""
    for chunk in _stored(path):
        feeds += chunk.count(b"\n")
        returns += chunk.count(b"\r")
        pairs += chunk.count(b"\r\n") + (last == b"\r" and chunk[:1] == b"\n")
        last = chunk[-1:]
        if feeds >= 8 and 0 < pairs < feeds // 2:
            return None  # ordinary binary data; no need to read on
        if size_bytes == expected_bytes and returns:
            return None  # only cr_to_lf preserves the size
    if feeds >= 8 and pairs == feeds:
        return "lf_to_crlf"
    if returns == 0 and feeds >= 64:
        return "cr_to_lf"
    expected_pairs = feeds * returns / max(1, size_bytes)
    lost_bytes = expected_bytes - size_bytes
    tolerance = 3 + 5 * math.sqrt(expected_pairs)
    if pairs == 0 and expected_pairs >= 6 and abs(lost_bytes - expected_pairs) <= tolerance:
        return "crlf_to_lf"
    return None


def _stored(path: StrPath) -> Iterator[bytes]:
    """Yields the file in chunks, small ones first, skipping holes."""
    size = _SAMPLE // 4
    with Path(path).open("rb") as file:
        for start, end in extents(path):
            while start < end:
                chunk = os.pread(file.fileno(), min(size, end - start), start)
                if not chunk:
                    return
                yield chunk
                start += len(chunk)
                size = _CHUNK


def extents(path: StrPath) -> list[tuple[int, int]]:
    """Returns (start, end) of the allocated extents of a file; the holes between read as zeros."""
    allocated = []
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        offset = 0
        while offset < size:
            try:
                start = os.lseek(file.fileno(), offset, os.SEEK_DATA)
                offset = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            except OSError as error:
                if error.errno != errno.ENXIO:  # ENXIO: only a hole follows
                    allocated.append((offset, size))
                break
            allocated.append((start, offset))
    return allocated
