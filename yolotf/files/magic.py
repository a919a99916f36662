"""Identifies files by magic numbers: cfgs, class names, weights, images and what replaces them.

A format is recognised by its first bytes, a few by their last ones. Unrecognised bytes may be a
`.weights` file, which has no magic number.
"""

from __future__ import annotations

import codecs
import re
import struct
from typing import NamedTuple

_POINTER = b"version https://git-lfs.github.com/spec/v1"
_POINTER_LIMIT = 1024  # git-lfs' own limit for a pointer
_TABLE_MAGIC = bytes.fromhex("57fb808b247547db")
"""End of an SSTable, the format of a TensorFlow checkpoint's `.index`."""
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\x1b")

NOUNS = {
    "empty": "an empty file",
    "git_lfs_pointer": "a Git LFS pointer, not the file it stands for",
    "html": "a web page",
    "text": "a text file",
    "hdf5": "an HDF5 file",
    "zip": "a ZIP archive",
    "pickle": "a Python pickle",
    "gzip": "a gzip file",
    "tensorflow_checkpoint": "part of a TensorFlow checkpoint",
    "binary": "not a Darknet file",
}
"""`Kind.detected` as text."""

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
    (b"\x89PNG\r\n", "binary", "a PNG image"),
    (b"\xff\xd8\xff", "binary", "a JPEG image"),
    (b"GIF8", "binary", "a GIF image"),
    (b"%PDF-", "binary", "a PDF"),
    (b"\x7fELF", "binary", "a program or shared library"),
    (b"GGUF", "binary", "a GGUF model"),
)
_PACKED = ("zip", "gzip")


class Pointer(NamedTuple):
    """A Git LFS pointer, which replaces a large file in a repository."""

    oid: str | None
    size_bytes: int | None


class Kind(NamedTuple):
    """The type of a file.

    Attributes:
        detected: one word, a key of `NOUNS`.
        hint: details for the user; may be empty.
        pointer: for `git_lfs_pointer`.
        text: the type of a `text`: utf16, answer, data, cfg, link; empty for others.
    """

    detected: str
    hint: str = ""
    pointer: Pointer | None = None
    text: str = ""

    @property
    def description(self) -> str:
        """A short description: `a tar archive`, `a web page`."""
        if self.detected == "binary":
            return self.hint.split(";")[0] or "a binary file"
        if self.detected == "git_lfs_pointer":
            return "a Git LFS pointer"
        return _TEXTS.get(self.text) or NOUNS[self.detected]

    @property
    def is_packed(self) -> bool:
        """Whether the file may contain the expected file."""
        packed = self.hint.startswith(("compressed with", "a tar", "a 7-Zip", "a RAR"))
        return self.detected in _PACKED or packed

    @property
    def is_image(self) -> bool:
        """Whether it is a PNG, JPEG or GIF."""
        return self.detected == "binary" and self.hint.endswith(" image")


_TEXTS = {
    "utf16": "text in UTF-16",
    "answer": "an error message of a server",
    "data": "a Darknet .data file",
    "cfg": "a Darknet cfg",
    "link": "a path, as Git writes for a symbolic link",
}


def kind_of(sample: bytes, *, size: int, end: bytes = b"", name: str = "") -> Kind | None:
    """Returns the type of a file; None if it may be weights.

    Args:
        sample: its first bytes, at least 64 KiB unless the file is shorter.
        size: size of the file in bytes.
        end: its last eight bytes.
        name: its name.
    """
    if size == 0:
        return Kind("empty")
    if sample.startswith(_POINTER) and size <= _POINTER_LIMIT:
        return Kind("git_lfs_pointer", "", _pointer(sample))
    if re.match(rb"\s*<(!doctype\s+html|html|head|body|\?xml)\b", sample[:4096], re.IGNORECASE):
        return Kind("html", _title(sample))
    for magic, detected, hint in _MAGICS:
        if sample.startswith(magic):
            return Kind(detected, hint)
    if hint := _model_or_archive(sample):
        return Kind("binary", hint)
    if sample[:1] == b"\x80" and sample[1:2] in b"\2\3\4\5" and size > 2:
        return Kind("pickle", "as torch.save wrote before PyTorch 1.6")
    if end == _TABLE_MAGIC or re.search(r"\.data-\d{5}-of-\d{5}$", name):
        return Kind("tensorflow_checkpoint")
    if sample.startswith(b"model_checkpoint_path:"):
        return Kind("tensorflow_checkpoint", "the file that names the latest checkpoint")
    if _is_utf16(sample):
        return Kind("text", "in UTF-16", None, "utf16")
    if is_text(sample, whole=size <= len(sample)):
        return _text(sample)
    return None


def is_weights(start: bytes) -> bool:
    """Whether `start` may be a `.weights` header, with a version that some Darknet writes."""
    if len(start) < 16:
        return False
    major, minor, revision = struct.unpack_from("<iii", start)
    return bool(0 <= major <= 1 and 0 <= minor <= 9 and 0 <= revision < 1000)


def _model_or_archive(sample: bytes) -> str:
    """Recognises formats without a magic number at the start; returns "" for others."""
    if sample[257:262] == b"ustar":
        return "a tar archive; unpack it first"
    if sample[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if sample[8:10] == b'{"' and 2 < int.from_bytes(sample[:8], "little") < 100_000_000:
        return "a safetensors file"
    if sample[:4] == b"RIFF" and sample[8:12] == b"WEBP":
        return "a WebP image"
    if _is_onnx(sample):
        return "an ONNX model"
    if sample.startswith(b"\x08\x01\x12") and b"\x22\x05serve" in sample[: 1 << 16]:
        return "a TensorFlow SavedModel (.pb)"
    if sample[:1] == b"\x0a" and re.search(rb"\x12.(Placeholder|Const|NoOp)", sample[:4096]):
        return "a frozen TensorFlow graph (.pb)"
    return ""


def _is_onnx(sample: bytes) -> bool:
    """Whether `sample` starts like a ModelProto: ir_version, then producer_name or graph."""
    if not re.match(rb"\x08[\x01-\x20][\x12\x3a]", sample):
        return False
    if re.search(rb"onnx|pytorch|ai\.graph", sample[:256]):
        return True
    length = sample[3] if len(sample) > 3 else 0
    name, field = sample[4 : 4 + length], sample[4 + length : 5 + length]
    # producer_version, domain, model_version, doc_string, graph, opset_import or metadata_props
    known_field = field in (b"\x1a", b"\x22", b"\x28", b"\x32", b"\x3a", b"\x42", b"\x72")
    return sample[2] == 0x12 and re.fullmatch(rb"[\w .+-]+", name) is not None and known_field


def _is_utf16(sample: bytes) -> bool:
    """Whether `sample` is UTF-16: it has a byte order mark, or every second byte is zero."""
    if sample[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        start = sample[:64]
        halves = start[::2], start[1::2]
        return any(
            len(zeros) > 3 and not zeros.strip(b"\0") and all(9 <= byte < 127 for byte in letters)
            for zeros, letters in (halves, halves[::-1])
        )
    try:
        text = sample[: len(sample) // 2 * 2].decode("utf-16")
    except UnicodeDecodeError:
        return False
    plain = sum(character.isprintable() or character in "\t\r\n" for character in text)
    return plain > 0.9 * len(text)


def _pointer(sample: bytes) -> Pointer:
    oid = re.search(rb"^oid sha256:([0-9a-f]{64})\s*$", sample, re.MULTILINE)
    size = re.search(rb"^size (\d{1,18})\s*$", sample, re.MULTILINE)
    return Pointer(oid[1].decode() if oid else None, int(size[1]) if size else None)


def _title(sample: bytes) -> str:
    title = re.search(rb"<title[^>]*>([^<]{1,200})", sample, re.IGNORECASE)
    return f"titled {_shown(title[1])}" if title else ""


def _text(sample: bytes) -> Kind:
    stripped = sample.removeprefix(codecs.BOM_UTF8).strip()
    if re.match(rb"404\b|not found\b|<error>|access ?denied", stripped, re.IGNORECASE):
        hint = f"an error message of a server: {_shown(stripped)}"
        return Kind("text", hint, None, "answer")
    if re.match(rb"([#;][^\n]*\n\s*)*\[net(work)?\]", stripped):
        return Kind("text", "a Darknet cfg; are the arguments swapped?", None, "cfg")
    if re.search(rb"^\s*names\s*=", sample, re.MULTILINE) and b"classes" in sample:
        hint = "a Darknet .data file, which names the files to train with"
        return Kind("text", hint, None, "data")
    if re.fullmatch(rb"[\w./\\~ -]{1,4096}\.(weights|cfg|names)", stripped):
        hint = f"a path, as Git writes for a symbolic link: {_shown(stripped)}"
        return Kind("text", hint, None, "link")
    return Kind("text", f"starting {_shown(stripped)}")


def _shown(raw: bytes) -> str:
    text = " ".join(raw[:240].decode("utf-8", "replace").split())
    return repr(text if len(text) <= 60 else text[:57] + "...")


_QUOTE = re.compile(
    r"""(?:: starting|[,:]? titled|(?<=error message of a server):|(?<=symbolic link):)\s"""
    r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
)


def without_quotes(message: str) -> str:
    """Returns an error's message without the text that a `Kind`'s hint quotes from a file."""
    return _QUOTE.sub("", message)


def is_text(sample: bytes, *, whole: bool) -> bool:
    """Whether `sample` is UTF-8 without control characters; `whole` if it is the whole file."""
    piece = sample[: 1 << 16]
    if any(byte < 32 and byte not in _TEXT_CONTROLS for byte in piece) or 127 in piece:
        return False
    return decoded(piece, final=whole and len(piece) == len(sample)) is not None


def decoded(piece: bytes, *, final: bool) -> str | None:
    """Decodes UTF-8; None if invalid. Without `final` the last character may be incomplete."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(piece, final)
    except UnicodeDecodeError:
        return None
