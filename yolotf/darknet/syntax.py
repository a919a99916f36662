"""Cfg text to sections and back, like `read_cfg` (AlexeyAB/darknet src/parser.c:1800).

This module does not know what sections mean.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Union

from yolotf.darknet import dialects
from yolotf.darknet.limits import DEFAULT, Limits
from yolotf.errors import CfgError
from yolotf.files import magic, opening, urls
from yolotf.text import printable

Source = Union[str, "os.PathLike[str]"]

NET_NAMES = ("net", "network")

_COMMENT = re.compile("[#;]")
# utils.c:424, strip()
_DROPPED = str.maketrans("", "", " \t\r")
_TO_CHOOSE = "; to choose, pass dialect=, or --dialect"
_SHOWN = 60
"""How many characters of a cfg a message quotes at most."""


class Option(NamedTuple):
    """A `key=value` line."""

    key: str
    value: str
    line: int


@dataclass(frozen=True)
class Section:
    """A `[name]` block as written, not resolved yet."""

    name: str
    line: int
    options: tuple[Option, ...] = ()

    def option(self, key: str) -> Option | None:
        """The first option called `key`, as Darknet finds it (option_list.c:101)."""
        for option in self.options:
            if option[0] == key:
                return option
        return None

    def line_of(self, key: str | None) -> int:
        """The line of `key=`, or of the section if the key is not set."""
        option = self.option(key) if key else None
        return option.line if option else self.line

    def with_option(self, key: str, value: object) -> Section:
        """A copy of the section with `key` set, in its old place or else at the end."""
        old = self.option(key)
        new = Option(key, str(value), old.line if old else self.line)
        if old is None:
            return replace(self, options=(*self.options, new))
        return replace(
            self, options=tuple(new if option is old else option for option in self.options)
        )


class Warnings:
    """Warnings about a cfg; those beyond the limit are counted but not kept.

    Attributes:
        readings: the line and the sentence of each line that the forks read differently or refuse.
    """

    def __init__(self, source: str, limits: Limits = DEFAULT, *, has_lines: bool = True) -> None:
        self.source = source
        self.has_lines = has_lines
        self.limit = limits.warnings
        self.sentences: list[str] = []
        self.omitted = 0
        self.readings: list[tuple[int, str]] = []

    def add(self, line: int, message: str) -> None:
        """Adds `message` about `line`."""
        if self.limit is not None and len(self.sentences) >= self.limit:
            self.omitted += 1
        else:
            place = f"{self.source}:{line}" if self.has_lines else self.source
            self.sentences.append(printable(f"{place}: {message}"))

    def add_reading(self, line: int, message: str) -> None:
        """Adds what the forks read in `line`, which an error in that section names, too."""
        self.add(line, message)
        if self.limit is None or len(self.readings) < self.limit:
            self.readings.append((line, printable(f"{self.source}:{line}: {message}")))

    def all(self) -> tuple[str, ...]:
        """The warnings in order; the last one says how many were omitted."""
        if not self.omitted:
            return tuple(self.sentences)
        return (*self.sentences, printable(f"{self.source}: and {self.omitted:,} more warnings"))


def is_text(source: Source) -> bool:
    """Whether `source` is the text of a cfg: a string with a line break or starting with `[`."""
    return isinstance(source, str) and (
        "\n" in source or "\r" in source or source.lstrip().startswith("[")
    )


def read_text(source: Source, limits: Limits = DEFAULT) -> tuple[str, str]:
    """The (text, name in messages) of a cfg given as a path or as text.

    Raises:
        CfgError: it is too large, not a regular file, a URL, or not text.
        OSError: the file cannot be read.
        TypeError: `source` is neither a path nor text.
    """
    if not isinstance(source, str | os.PathLike):
        fix = "; decode them: source.decode()" if isinstance(source, bytes) else ""
        raise TypeError(
            f"a cfg must be a path or the text itself, not {type(source).__name__}{fix}"
        )
    if is_text(source):
        source, name = str(source), "<cfg>"
        _refuse_size(len(source), limits, name)
        if "\n" not in source and source.count("\r") > 1:
            raise _one_line(name)
        return source, name
    if (url := urls.url_of(source)) is not None:
        shown = urls.shown_url(url)
        raise CfgError(
            f"{shown}: a cfg is read from a file, not from a URL; download it first", source=shown
        )
    path = Path(source)
    name = path.name
    try:
        opened_file = opening.open_regular(path)
    except opening.NotRegularError as error:
        raise CfgError(f"{name}: {error.strerror}; pass the path of a cfg", source=name) from None
    with opened_file as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(_START)
        # Before the size, so that the error for a .weights file says what it is.
        _refuse_kind(start, size, name)
        _refuse_size(size, limits, name)
        content = start + file.read(-1 if limits.size_bytes is None else limits.size_bytes)
    _refuse_size(len(content), limits, name)
    return content.decode("utf-8", "backslashreplace"), name


_START = 65536
"""How many bytes are read to detect the type of a file."""


def _refuse_size(size: int, limits: Limits, name: str) -> None:
    if limits.size_bytes is not None and size > limits.size_bytes:
        raise CfgError(
            f"{name}: {size:,} bytes, a cfg has at most {limits.size_bytes:,}; is it the weights "
            "file? pass the cfg, or, to lift this, limits= to parse_cfg",
            source=name,
            found=size,
            limit=limits.size_bytes,
        )


def _refuse_kind(start: bytes, size: int, name: str) -> None:
    """Raises CfgError if the first bytes are not text that Darknet can read."""

    def refused(detected: str, fix: str) -> CfgError:
        return CfgError(f"{name}: {detected}, not a cfg; {fix}", source=name, detected=detected)

    kind = magic.kind_of(start, size=size, name=name)
    if kind is None and magic.is_weights(start):
        raise refused(
            "a .weights file",
            "the cfg is the text file with [net] in it; are two arguments swapped?",
        )
    if kind is None and b"\0" in start:
        raise refused("a binary file", _TEXT_WANTED)
    if kind is not None and kind.text == "utf16":
        raise CfgError(
            f"{name}: text in UTF-16, which Darknet cannot read; save it as UTF-8",
            source=name,
            detected="UTF-16",
        )
    if kind is not None and (kind.detected not in ("text", "empty") or kind.text in _OTHER_TEXTS):
        packed = "unpack it first" if kind.is_packed else _TEXT_WANTED
        raise refused(kind.description, _FIXES.get(kind.text or kind.detected, packed))
    if b"\n" not in start and start.count(b"\r") > 1:
        raise _one_line(name)


def _one_line(name: str) -> CfgError:
    return CfgError(
        f"{name}: its lines end in CR alone, so Darknet reads one line; save it with LF line ends",
        source=name,
        detected="CR line ends",
    )


_TEXT_WANTED = "pass the text file with [net] in it"
_OTHER_TEXTS = ("answer", "data", "link")
_FIXES = {
    "git_lfs_pointer": "run git lfs pull",
    "html": "download the raw file",
    "answer": "download it again",
    "link": "pass the file it points to",
}


def read_sections(
    text: str,
    *,
    source: str,
    warnings: Warnings | None = None,
    limits: Limits = DEFAULT,
    dialect: str | None = None,
) -> list[Section]:
    """Splits cfg text into sections; adds ignored lines to `warnings`.

    `dialect` is the fork to follow where the two read a line differently (see
    `yolotf.darknet.dialects`); None: nearly always hank-ai's, with a warning that states both
    readings.
    """
    warnings = Warnings(source, limits) if warnings is None else warnings
    return _Reader(source, warnings, limits, dialect).read(text)


class _Reader:
    """Splits the text of one cfg into sections, line by line; see `read_sections`."""

    def __init__(
        self, source: str, warnings: Warnings, limits: Limits, dialect: str | None
    ) -> None:
        self._source = source
        self._warnings = warnings
        self._limits = limits
        self._dialect = dialect
        self._sections: list[Section] = []
        # The section that is being read.
        self._name, self._start = "", 0
        self._options: list[Option] = []
        self._keys: set[str] = set()

    def read(self, text: str) -> list[Section]:
        """Returns the sections of the whole text."""
        limits = self._limits
        lines = text.removeprefix("\ufeff").split("\n")
        if limits.lines is not None and len(lines) > limits.lines:
            problem = f"{len(lines):,} lines, more than {limits.lines:,}"
            raise self._exceeds(problem, limits.lines + 1, len(lines), limits.lines)
        for line, raw in enumerate(lines, 1):
            if limits.line_length is not None and len(raw) > limits.line_length:
                problem = f"a line of {len(raw):,} characters, more than {limits.line_length:,}"
                raise self._exceeds(problem, line, len(raw), limits.line_length)
            stripped = raw.translate(_DROPPED)
            if not stripped.strip() or stripped[0] in "#;\0":
                continue
            _check_blanks(stripped, line, self._source)
            if stripped[0] == "[":
                self._start_section(raw, stripped, line)
            else:
                self._add_option(raw, stripped, line)
        self._finish_section()
        return [
            _without_last_comma(section, self._warnings, self._dialect)
            for section in self._sections
        ]

    def _start_section(self, raw: str, stripped: str, line: int) -> None:
        """Reads a line that starts with `[`."""
        self._finish_section()
        self._name = _section_name(raw, stripped, line, self._source, self._warnings, self._dialect)
        self._start, self._options, self._keys = line, [], set()
        limit = self._limits.sections
        if limit is not None and len(self._sections) >= limit:
            problem = f"more than {limit:,} sections"
            raise self._exceeds(problem, line, len(self._sections) + 1, limit)

    def _finish_section(self) -> None:
        if self._name:
            self._sections.append(Section(self._name, self._start, tuple(self._options)))

    def _add_option(self, raw: str, stripped: str, line: int) -> None:
        """Reads a line inside a section, which should be `key=value`."""
        name, warnings, dialect = self._name, self._warnings, self._dialect
        if not name:
            raise CfgError(
                f"{self._source}: text before the first section: {raw.strip()[:_SHOWN]!r}; line "
                f"{line}; a cfg starts with [net]",
                source=self._source,
                line=line,
            )
        key, equals, value = stripped.partition("=")
        if not equals or not value or not key:
            warnings.add(line, f"ignored, not key=value: {_quoted(raw, stripped)}")
            return
        written_key, _, raw_value = raw.partition("=")
        if not dialects.is_key(written_key):
            if dialect == "hank-ai":
                if "#" not in written_key:
                    warnings.add(line, f"ignored, not key=value: {raw.strip()[:_SHOWN]!r}")
                return
            if dialect is None and key in (dialects.known_keys(name) or ()):
                warnings.add_reading(line, dialects.key_difference(raw, key, name) + _TO_CHOOSE)
        reading = dialects.read_value(key, raw_value, value, dialect)
        if reading.difference and dialect is None and key not in self._keys:
            warnings.add_reading(line, reading.difference + _TO_CHOOSE)
        if reading.value is None:
            return
        if key in self._keys:
            warnings.add(line, f"ignored, {key[:_SHOWN]}= is set earlier in [{name}]")
        self._keys.add(key)
        self._options.append(Option(key, reading.value, line))
        limit = self._limits.options
        if limit is not None and len(self._options) > limit:
            problem = f"more than {limit:,} options in [{name[:_SHOWN]}]"
            raise self._exceeds(problem, line, len(self._options), limit)

    def _exceeds(self, problem: str, line: int, count: int, limit: int) -> CfgError:
        return CfgError(
            f"{self._source}: {problem}; line {line}; to lift this, pass limits= to parse_cfg",
            source=self._source,
            line=line,
            found=count,
            limit=limit,
        )


def _without_last_comma(section: Section, warnings: Warnings, dialect: str | None) -> Section:
    """The section without a comma after too few anchors, which the forks read differently."""
    anchors, num = section.option("anchors"), section.option("num")
    if anchors is None or not anchors.value.partition("#")[0].endswith(","):
        return section
    read = dialects.anchors_of_alexeyab(anchors.value, num.value if num else "1")
    if read is None:
        return section
    if dialect == "alexeyab":
        return section.with_option("anchors", read)
    if dialect is None:
        difference = dialects.trailing_comma_difference(anchors.value, read)
        warnings.add_reading(anchors.line, difference + _TO_CHOOSE)
    return section.with_option("anchors", anchors.value.partition("#")[0].rstrip(","))


def _check_blanks(stripped: str, line: int, source: str) -> None:
    """Raises CfgError for a blank that Darknet takes as part of the key or value.

    Such lines are usually copied from a web page.
    """
    before_comment = _COMMENT.split(stripped, 1)[0]
    odd = next((character for character in before_comment if character.isspace()), None)
    if odd:
        raise CfgError(
            f"{source}: character U+{ord(odd):04X} looks like a blank but is not a blank to "
            f"Darknet; line {line}; replace it by a blank",
            source=source,
            line=line,
            found=odd,
        )


def _section_name(
    raw: str, stripped: str, line: int, source: str, warnings: Warnings, dialect: str | None
) -> str:
    """Returns the name in a line that starts with `[`.

    AlexeyAB's Darknet takes the whole line as the name, including any bracket and comment.

    Raises:
        CfgError: the line has more than a name, and `dialect` has no reading of it.
    """
    name = stripped[1:].removesuffix("]")
    if stripped == f"[{name}]" and name and "]" not in name:
        return name
    commented = dialects.section_name(raw)
    if dialect == "alexeyab" or commented is None:
        raise unknown_section(stripped, line, source, commented=commented)
    if dialect is None:
        difference = dialects.section_difference(raw.strip(), commented)
        warnings.add_reading(line, difference + _TO_CHOOSE)
    return commented


def _quoted(raw: str, stripped: str) -> str:
    """The ignored line; if only the `=` is missing (`filters 24`), with the line to write."""
    words = re.fullmatch(r"\s*([A-Za-z_]\w*)[\s:]+([-+.\w][-+.,\w]*)\s*", raw, re.ASCII)
    if not words:
        return repr(stripped[:_SHOWN])
    key, value = words.groups()
    return f"{raw.strip()[:_SHOWN]!r}; write {key[:_SHOWN]}={value[:_SHOWN]}"


def unknown_section(
    written: str,
    line: int,
    source: str,
    hint: str = "",
    commented: str | None = None,
    nearest: str | None = None,
) -> CfgError:
    """The error for a `[name]` that Darknet does not know (parser.c:1524).

    `commented` is the section that hank-ai's Darknet reads in the line; None if it refuses it.
    """
    hank_ai = f"hank-ai's reads [{commented}]" if commented else "hank-ai's refuses it"
    return CfgError(
        f"{source}: unknown section {written[:_SHOWN]}; line {line}; AlexeyAB's Darknet would put "
        f"an empty layer there, {hank_ai}{hint}",
        source=source,
        line=line,
        section=written[:_SHOWN],
        **({} if nearest is None else {"nearest": nearest}),
    )


def sections_to_cfg(sections: Iterable[Section], dialect: str | None = None) -> str:
    """The cfg text of sections, with options in their order.

    Left out are keys set a second time and keys that no Darknet reads, at which hank-ai's stops.
    Numbers are written in digits, as hank-ai's needs them.

    Args:
        sections: the sections.
        dialect: `alexeyab` to also write the keys that only AlexeyAB's Darknet reads.
    """
    blocks = []
    for section in sections:
        lines = [f"[{section.name}]"]
        known = dialects.known_keys(section.name)
        if known is not None and dialect != "alexeyab":
            known = dialects.hank_ai_keys(section.name)
        values = dict[str, str]()
        for option in section.options:
            if known is None or option.key in known:
                values.setdefault(option.key, option.value)
        unread = dialects.unread_keys(section.name, values)
        lines += [
            f"{key}={dialects.written_for_both(key, value)}"
            for key, value in values.items()
            if key not in unread
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"
