"""What the bytes of a file are, before any network is thought of.

Reads at most a few pieces of the file, never maps it and never waits: directories, FIFOs and
devices are recognised by `stat` alone.
"""

from __future__ import annotations

import codecs
import errno
import math
import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from yolotf.weights.header import NARROW as NARROW
from yolotf.weights.header import WIDE as WIDE
from yolotf.weights.header import Header as Header
from yolotf.weights.sources import StrPath

_SAMPLE = 1 << 20
_CHUNK = 1 << 24
_POINTER = b"version https://git-lfs.github.com/spec/v1"
_POINTER_LIMIT = 1024  # git-lfs' own limit for a pointer
_TABLE_MAGIC = bytes.fromhex("57fb808b247547db")
"""End of an SSTable, which the `.index` of a TensorFlow checkpoint is."""
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\x1b")


_NOUNS = {
    "empty": "an empty file",
    "git_lfs_pointer": "a Git LFS pointer, not the file it stands for",
    "html": "a web page",
    "text": "a text file",
    "hdf5": "an HDF5 file",
    "zip": "a ZIP archive",
    "pickle": "a Python pickle",
    "gzip": "a gzip file",
    "tensorflow_checkpoint": "part of a TensorFlow checkpoint",
    "binary": "no Darknet file",
}
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


class Pointer(NamedTuple):
    """A Git LFS pointer: what stands in a repository in place of a large file."""

    oid: str | None
    size_bytes: int | None


@dataclass(frozen=True)
class Contents:
    """What was found.

    Attributes:
        path: as it was given.
        size_bytes: 0 for what is no regular file.
        unreadable: why it cannot be read, or None.
        detected: `not_weights` in one word, or None where it may be weights.
        hint: more about `detected`, for people; may be empty.
        start: the first 20 bytes, or fewer.
        pointer: for `git_lfs_pointer`.
    """

    path: str
    size_bytes: int = 0
    unreadable: str | None = None
    detected: str | None = None
    hint: str = ""
    start: bytes = b""
    pointer: Pointer | None = None

    @classmethod
    def of(cls, path: StrPath) -> Contents:
        """Says what kind of file `path` is; never raises for what it finds there."""
        name = os.fspath(path)
        try:
            status = Path(path).stat()
        except FileNotFoundError:
            return cls(name, unreadable="no such file", detected="missing")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return cls(name, unreadable=reason.lower(), detected="unreadable")
        if stat.S_ISDIR(status.st_mode):
            # A TensorFlow SavedModel is a directory, and people do pass it.
            saved = any((Path(path) / part).is_file() for part in ("saved_model.pb", "checkpoint"))
            hint = "a TensorFlow SavedModel or checkpoint directory" if saved else ""
            return cls(name, unreadable="is a directory", detected="directory", hint=hint)
        if not stat.S_ISREG(status.st_mode):
            kind = "a FIFO" if stat.S_ISFIFO(status.st_mode) else "a socket or device"
            return cls(name, unreadable=f"is {kind}, not a file", detected="special_file")
        size = status.st_size
        try:
            # Non-blocking: between stat and open the path may have become a FIFO.
            with os.fdopen(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                sample = file.read(_SAMPLE)
                file.seek(max(0, size - 8))
                end = file.read(8)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            return cls(name, size, unreadable=reason, detected="unreadable")
        detected, hint, pointer = _detect(name, size, sample, end)
        return cls(name, size, None, detected, hint, sample[:WIDE], pointer)

    @property
    def description(self) -> str:
        """What it is, in words: `a web page, 270864 bytes: titled 'Not found'`."""
        if self.unreadable:
            text = self.unreadable
        else:
            count = f"{self.size_bytes} byte{'' if self.size_bytes == 1 else 's'}"
            text = f"{_NOUNS[self.detected or 'binary']}, {count}"
        return f"{text}: {self.hint}" if self.hint else text

    @property
    def fix(self) -> str:
        """What to do where a .weights file was meant."""
        return _FIXES[self.detected or "binary"]

    def header(self, size_bytes: int | None = None) -> Header | None:
        """The header read as `size_bytes` wide, or as wide as its version asks for."""
        if len(self.start) < NARROW:
            return None
        major, minor, revision = struct.unpack_from("<iii", self.start)
        narrow = struct.unpack_from("<I", self.start, 12)[0]
        header = Header(major, minor, revision, narrow, NARROW)
        if (size_bytes or header.version_size_bytes) == NARROW or len(self.start) < WIDE:
            return header
        return Header(major, minor, revision, struct.unpack_from("<Q", self.start, 12)[0], WIDE)


def _detect(
    name: str, size: int, sample: bytes, end: bytes
) -> tuple[str | None, str, Pointer | None]:
    if size == 0:
        return "empty", "", None
    if sample.startswith(_POINTER) and size <= _POINTER_LIMIT:
        return "git_lfs_pointer", "", _pointer(sample)
    if re.match(rb"\s*<(!doctype\s+html|html|head|body|\?xml)\b", sample[:4096], re.IGNORECASE):
        return "html", _title(sample), None
    for magic, detected, hint in _MAGICS:
        if sample.startswith(magic):
            return detected, hint, None
    if hint := _model_or_archive(sample):
        return "binary", hint, None
    if sample[:1] == b"\x80" and sample[1:2] in b"\2\3\4\5" and size > 2:
        return "pickle", "a Python pickle, as torch.save wrote before PyTorch 1.6", None
    if end == _TABLE_MAGIC or re.search(r"\.data-\d{5}-of-\d{5}$", name):
        return "tensorflow_checkpoint", "", None
    if sample.startswith(b"model_checkpoint_path:"):
        return "tensorflow_checkpoint", "the file that names the latest checkpoint", None
    if sample[:2] in (b"\xff\xfe", b"\xfe\xff") and _is_utf16(sample):
        return "text", "in UTF-16", None
    if _is_text(sample, whole=size <= len(sample)):
        return "text", _text_hint(sample), None
    return None, "", None


def _model_or_archive(sample: bytes) -> str:
    """What formats without a magic number at the start are told by; empty if it is none."""
    if sample[257:262] == b"ustar":
        return "a tar archive; unpack it first"
    if sample[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if sample[8:10] == b'{"' and 2 < int.from_bytes(sample[:8], "little") < 100_000_000:
        return "a safetensors file"
    # Protocol buffers: field 1 of ModelProto is ir_version, of SavedModel the version 1.
    if re.match(rb"\x08[\x01-\x20][\x12\x3a]", sample) and re.search(
        rb"onnx|pytorch|ai\.graph", sample[:256]
    ):
        return "an ONNX model"
    if sample.startswith(b"\x08\x01\x12") and b"\x22\x05serve" in sample[: 1 << 16]:
        return "a TensorFlow SavedModel (.pb)"
    if sample[:1] == b"\x0a" and re.search(rb"\x12.(Placeholder|Const|NoOp)", sample[:4096]):
        return "a frozen TensorFlow graph (.pb)"
    return ""


def _is_utf16(sample: bytes) -> bool:
    """Whether text follows the byte order mark."""
    try:
        text = sample[: len(sample) // 2 * 2].decode("utf-16")
    except UnicodeDecodeError:
        return False
    return sum(character.isprintable() or character in "\t\r\n" for character in text) > 0.9 * len(
        text
    )


_MAGICS = (
    (b"\x89HDF\r\n\x1a\n", "hdf5", "Keras weights or a Keras model"),
    (b"PK\3\4", "zip", "a PyTorch .pt, a Keras .keras, a NumPy .npz or an archive"),
    (b"PK\5\6", "zip", "an empty archive"),
    (b"\x1f\x8b", "gzip", "compressed"),
    (b"BZh", "binary", "compressed with bzip2"),
    (b"\xfd7zXZ\0", "binary", "compressed with xz"),
    (b"7z\xbc\xaf\x27\x1c", "binary", "a 7-Zip archive"),
    (b"Rar!\x1a\7", "binary", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "binary", "compressed with zstd"),
    (b"\x93NUMPY", "binary", "a NumPy array"),
    (b"\x89PNG\r\n", "binary", "a PNG picture"),
    (b"\xff\xd8\xff", "binary", "a JPEG picture"),
    (b"%PDF-", "binary", "a PDF"),
    (b"\x7fELF", "binary", "a program or shared library"),
    (b"GGUF", "binary", "a GGUF model"),
)


def _pointer(sample: bytes) -> Pointer:
    oid = re.search(rb"^oid sha256:([0-9a-f]{64})\s*$", sample, re.MULTILINE)
    size = re.search(rb"^size (\d{1,18})\s*$", sample, re.MULTILINE)
    return Pointer(oid.group(1).decode() if oid else None, int(size.group(1)) if size else None)


def _title(sample: bytes) -> str:
    found = re.search(rb"<title[^>]*>([^<]{1,200})", sample, re.IGNORECASE)
    return f"titled {_shown(found.group(1))}" if found else ""


def _text_hint(sample: bytes) -> str:
    stripped = sample.strip()
    if re.match(rb"404\b|not found\b|<error>|access ?denied", stripped, re.IGNORECASE):
        return f"an answer of a server in place of the file: {_shown(stripped)}"
    if re.search(rb"^\s*names\s*=", sample, re.MULTILINE) and b"classes" in sample:
        return "a Darknet .data file, which names the files to train with"
    if re.match(rb"\[net(work)?\]", stripped):
        return "a Darknet cfg; are the arguments swapped?"
    if re.fullmatch(rb"[\w./\\~ -]{1,4096}\.weights", stripped):
        return f"a path, as Git writes for a symbolic link: {_shown(stripped)}"
    return f"starting {_shown(stripped)}"


def _shown(raw: bytes) -> str:
    text = " ".join(raw[:240].decode("utf-8", "replace").split())
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _is_text(sample: bytes, *, whole: bool) -> bool:
    """Whether it is UTF-8 without control characters; `whole` if nothing follows `sample`."""
    piece = sample[: 1 << 16]
    if any(byte < 32 and byte not in _TEXT_CONTROLS for byte in piece) or 127 in piece:
        return False
    return _decoded(piece, final=whole and len(piece) == len(sample)) is not None


def _decoded(piece: bytes, *, final: bool) -> str | None:
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(piece, final)
    except UnicodeDecodeError:
        return None


def mangled(path: StrPath, size_bytes: int) -> str | None:
    """Names text-mode damage that shows without knowing the network.

    Returns:
        `utf8_replacement`: every byte that is not UTF-8 became EF BF BD; the floats are lost.
        `cp1252_to_utf8`: each byte was taken for a CP1252 or Latin-1 letter and written as UTF-8.
        None: neither. 64 KiB of floats are valid UTF-8 by chance never.
    """
    with Path(path).open("rb") as file:
        piece = file.read(1 << 16)
    text = _decoded(piece, final=size_bytes <= len(piece))
    if text is None:
        return None
    foreign = sum(character > "\x7f" for character in text)
    if foreign < 16:
        return None
    replaced = text.count("\ufffd")
    return "utf8_replacement" if replaced >= max(8, foreign // 10) else "cp1252_to_utf8"


def newlines(path: StrPath, size_bytes: int, expected_bytes: int) -> str | None:
    """Looks for the marks of text-mode copying.

    Of the bytes of floats, one in 256 is a line feed, one a carriage return, and one pair in
    65,536 is both. A file in which every line feed follows a return, or in which returns or pairs
    are missing where many are due, was translated.

    Args:
        path: the file.
        size_bytes: its size.
        expected_bytes: the size it should have.

    Returns:
        lf_to_crlf, crlf_to_lf, cr_to_lf, or None.
    """
    feeds = returns = pairs = 0
    last = b""
    for chunk in _stored(path):
        feeds += chunk.count(b"\n")
        returns += chunk.count(b"\r")
        pairs += chunk.count(b"\r\n") + (last == b"\r" and chunk[:1] == b"\n")
        last = chunk[-1:]
        if feeds >= 8 and 0 < pairs < feeds // 2:
            return None  # plain binary; no need to read on
        if size_bytes == expected_bytes and returns:
            return None  # only cr_to_lf leaves the size alone
    if feeds >= 8 and pairs == feeds:
        return "lf_to_crlf"
    if returns == 0 and feeds >= 64:
        return "cr_to_lf"
    due, lost = feeds * returns / max(1, size_bytes), expected_bytes - size_bytes
    if pairs == 0 and due >= 6 and abs(lost - due) <= 3 + 5 * math.sqrt(due):
        return "crlf_to_lf"
    return None


def _stored(path: StrPath) -> Iterator[bytes]:
    """The file in chunks, small ones first, without its holes."""
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
    """(start, end) of the parts of a file that are stored; what is between reads as zeros."""
    found = []
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        offset = 0
        while offset < size:
            try:
                start = os.lseek(file.fileno(), offset, os.SEEK_DATA)
                offset = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            except OSError as error:
                if error.errno != errno.ENXIO:  # ENXIO: only a hole is left
                    found.append((offset, size))
                break
            found.append((start, offset))
    return found
