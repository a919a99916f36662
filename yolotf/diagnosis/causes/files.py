"""Causes in the file itself: another type, damage, or an end at the wrong place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from yolotf.diagnosis.causes.finding import MESSAGE_ONLY, OPTIONAL, Finding
from yolotf.files.detect import Contents
from yolotf.text import plural
from yolotf.weights.refusal import HUGE_TEXT


@dataclass(frozen=True, kw_only=True, eq=False)
class NotWeights(Finding):
    """The file is missing, unreadable or of another type.

    Attributes:
        detected: the type of the file, in one word.
        points_to: for a Git LFS pointer, the network whose file has the size it states.
        oid: for a pointer, the SHA-256 of the file it refers to.
        pointer_bytes: for a pointer, the size of that file.
        contents: the result of the file type detection.
    """

    kind: ClassVar[str] = "not_weights"

    detected: str
    points_to: Mapping[str, Any] | None = field(default=None, metadata=OPTIONAL)
    oid: str | None = field(default=None, metadata=OPTIONAL)
    pointer_bytes: int | None = field(default=None, metadata=OPTIONAL)
    contents: Contents = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        text = self.contents.description
        if self.pointer_bytes is not None:
            text += f"; the file itself has {self.pointer_bytes} bytes"
        if self.points_to:
            text += f", the size of {self.points_to['architecture']}"
            if self.points_to["classes"]:
                text += f" with {plural(self.points_to['classes'], 'class', 'classes')}"
        return text

    @property
    def fix(self) -> str:
        """The advice for this file type."""
        return self.contents.fix


_TEXT_DAMAGE = {
    "utf8_replacement": (
        "read as UTF-8 text and written back: every invalid byte became EF BF BD, so the "
        "numbers are lost"
    ),
    "cp1252_to_utf8": "read as CP1252 or Latin-1 text and written back as UTF-8, which grew it",
    "lf_to_crlf": "copied in text mode: every byte 0A was written as 0D 0A",
    "crlf_to_lf": "copied in text mode: every 0D 0A was written as 0A",
    "cr_to_lf": "copied in text mode: every byte 0D was written as 0A",
}


class _Damage(Finding):
    """The file is damaged; `detected` tells how."""

    kind: ClassVar[str] = "damaged"

    detected: str

    @property
    def title(self) -> str:
        """The kind, and the kind of damage."""
        return f"damaged: {self.detected.replace('_', ' ')}"


@dataclass(frozen=True, kw_only=True, eq=False)
class TextDamage(_Damage):
    """A program treated the file as text.

    Attributes:
        detected: utf8_replacement, cp1252_to_utf8 or newline_translation.
        how: a key of `_TEXT_DAMAGE`.
    """

    detected: str = field(init=False)
    how: str = field(metadata=MESSAGE_ONLY)

    def __post_init__(self) -> None:
        newline = self.how in ("lf_to_crlf", "crlf_to_lf", "cr_to_lf")
        object.__setattr__(self, "detected", "newline_translation" if newline else self.how)

    def _sentence(self) -> str:
        return _TEXT_DAMAGE[self.how]

    @property
    def fix(self) -> str:
        """How to copy the file without damage."""
        return (
            "copy or download it again as a binary file (FTP: binary; Git: mark *.weights binary "
            "in .gitattributes)"
        )


_DAMAGE = {
    "nan_or_inf": ("number", "not finite"),
    "huge": ("number", f"{HUGE_TEXT} or more, which no network learns"),
    "negative_variance": ("variance", "negative"),
    "zeros": ("byte", "zero where numbers belong"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Damaged(_Damage):
    """The layout is right, but some values are impossible.

    Attributes:
        detected: nan_or_inf, huge, negative_variance, zeros or repeated.
        count: the number of bad values; for `zeros` and `repeated` the number of bytes.
        layer: the first damaged section; None if the layout is unknown.
        role: the first damaged array.
        offset: offset of the first damaged range, in bytes.
        end: offset of the end of that range (exclusive), in bytes.
        repeats: for `repeated`, the offset of the other copy of the same bytes.
        where: the section, in words.
        other: for `repeated`, the array and section of the other copy, in words.
    """

    detected: str
    count: int
    layer: int | None = field(default=None, metadata=OPTIONAL)
    role: str | None = field(default=None, metadata=OPTIONAL)
    offset: int | None = field(default=None, metadata=OPTIONAL)
    end: int | None = field(default=None, metadata=OPTIONAL)
    repeats: int | None = field(default=None, metadata=OPTIONAL)
    where: str = field(default="", metadata=MESSAGE_ONLY)
    other: str = field(default="", metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        if self.detected == "repeated":
            start = self.repeats or 0
            return (
                f"bytes {self.offset}..{self.end} are the same as bytes {start}.."
                f"{start + self.count}: in the {self.role} of {self.where}, and in {self.other}"
            )
        noun, state = _DAMAGE[self.detected]
        text = f"{plural(self.count, noun)} {'is' if self.count == 1 else 'are'} {state}"
        if self.where:
            text += f", the first in the {self.role} of {self.where}"
        if self.offset is not None and self.end is not None:
            text += f", bytes {self.offset}..{self.end}"
        return text

    @property
    def fix(self) -> str:
        """Which copy to use instead."""
        if self.detected in ("zeros", "repeated"):
            return "get an undamaged copy: a download was not finished, or resumed at a wrong place"
        return "get an undamaged copy; if training diverged, use an earlier checkpoint"


@dataclass(frozen=True, kw_only=True, eq=False)
class Truncated(Finding):
    """The file ends inside an array.

    Attributes:
        at: its size in bytes.
        expected: the size it should have, in bytes.
        layer: the section it ends in; None if it ends inside the header.
        where: the array it ends in, in words.
        cut: whether the values before the end are plausible for the network, so that only the end
            is missing.
    """

    kind: ClassVar[str] = "truncated"

    at: int
    expected: int
    layer: int | None
    where: str = field(metadata=MESSAGE_ONLY)
    cut: bool = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        return f"ends after {self.at} of {self.expected} bytes, {self.where}"

    @property
    def fix(self) -> str:
        """Download the file again, or use another cfg."""
        again = f"download it again; the whole file has {self.expected} bytes"
        if self.cut:
            return again
        return f"use the cfg it was trained with; if the download broke off, {again}"


@dataclass(frozen=True, kw_only=True, eq=False)
class PartialBackbone(Finding):
    """The file ends after a layer, as a backbone file does.

    Attributes:
        layers: the number of layers it has.
        of: the network, in words.
    """

    kind: ClassVar[str] = "partial_backbone"

    layers: int
    of: str = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        return (
            f"ends exactly after {plural(self.layers, 'layer')} of {self.of}: a backbone to train "
            "from, not a whole network"
        )

    @property
    def fix(self) -> str:
        """The file for inference, and how to train from this one."""
        return (
            "use the whole file to detect or classify with; to train from this one, "
            "load_darknet_weights(model, file, strict=False)"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Trailing(Finding):
    """Bytes are left after the last layer.

    Attributes:
        bytes: the number of bytes left.
        size: size of the file in bytes.
        expected: the size it should have, in bytes.
        source: the network's name.
    """

    kind: ClassVar[str] = "trailing"

    bytes: int
    size: int = field(metadata=MESSAGE_ONLY)
    expected: int = field(metadata=MESSAGE_ONLY)
    source: str = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        return (
            f"{plural(self.bytes, 'byte')} left after the last layer: the file has {self.size}, "
            f"{self.source} needs {self.expected}"
        )

    @property
    def fix(self) -> str:
        """Use another cfg, or another copy."""
        return "use the cfg it was trained with, or get an undamaged copy"
