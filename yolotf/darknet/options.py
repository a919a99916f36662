"""Reads a section's options as typed values, parsed like in C, with errors that name the line."""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping, Sequence

from yolotf.darknet.activations import ACTIVATIONS, DARKNETS_NAME
from yolotf.darknet.limits import DEFAULT, MAX_INT, Limits
from yolotf.darknet.syntax import Section
from yolotf.errors import CfgError

_INT_PREFIX = re.compile(r"[+-]?\d+", re.ASCII)
_FLOAT_PREFIX = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_COMMENT = re.compile("[#;]")
_MAX_FLOAT = 3.4028234663852886e38
"""The largest `float` in Darknet."""
_SHOWN = 80


def flag(section: Section, key: str) -> bool:
    """Whether `key=` is a number other than 0; for options that have been checked already."""
    option = section.option(key)
    match = _INT_PREFIX.match(option.value) if option else None
    return bool(match and match.group().strip("+-0"))


class Options:
    """Reads the options of one section."""

    def __init__(
        self,
        section: Section,
        source: str,
        limits: Limits = DEFAULT,
        place: str | None = None,
    ) -> None:
        """Creates a reader.

        Args:
            section: the section.
            source: the cfg's name in errors.
            limits: how large a cfg may be.
            place: the section as errors name it if there is no cfg file with lines, as in
                `section 17 [yolo]`.
        """
        self.section = section
        self.source = source
        self.limits = limits
        self.place = place

    def fail(self, message: str, key: str | None = None, **facts: object) -> CfgError:
        """The error `message`, with the section and the line of `key` inserted before its fix."""
        line = None if self.place else self.section.line_of(key)
        problem, separator, fix = message.partition("; ")
        place = self.place or f"[{self.section.name}] in line {line}"
        text = f"{self.source}: {problem}; {place}{separator}{fix}"
        return CfgError(text, source=self.source, line=line, section=self.section.name, **facts)

    def _numbers(self, key: str, values: Sequence[str], pattern: re.Pattern[str]) -> list[str]:
        """The number at the start of each value, as C parses it; a comment ends the list."""
        numbers = []
        max_digits = self.limits.digits
        for value in values:
            match = pattern.match(value)
            if not match:
                raise self.fail(
                    f"{key}={','.join(values)[:_SHOWN]} holds {value[:_SHOWN]!r}, which is not a "
                    "number",
                    key,
                    found=value[:_SHOWN],
                )
            number = match.group()
            if max_digits is not None and len(number) > max_digits and not _too_wide(number):
                raise self.fail(
                    f"{key}={number[:20]}... is a number of {len(number):,} characters, more than "
                    f"{max_digits:,}; to lift this, pass limits= to parse_cfg",
                    key,
                    found=len(number),
                    limit=max_digits,
                )
            numbers.append(number)
        return numbers

    def _values(self, key: str) -> str | None:
        option = self.section.option(key)
        return _COMMENT.split(option.value, 1)[0] if option else None

    def ints(self, key: str) -> list[builtins.int] | None:
        """A list of integers; None if `key` is not set."""
        values = self._values(key)
        if values is None:
            return None
        numbers = []
        for number in self._numbers(key, values.split(","), _INT_PREFIX):
            if _too_wide(number):
                raise self.fail(f"{key}={number[:20]} does not fit into 32 bits", key)
            sign, digits = number[:1], number.lstrip("+-").lstrip("0")
            # At most 10 digits from here on: Python refuses to parse thousands.
            value = int(digits or "0")
            value = -value if sign == "-" else value
            if not -MAX_INT - 1 < value <= MAX_INT:
                raise self.fail(f"{key}={number[:20]} does not fit into 32 bits", key)
            numbers.append(value)
        return numbers

    def floats(self, key: str) -> list[builtins.float] | None:
        """A list of floats; None if `key` is not set."""
        values = self._values(key)
        if values is None:
            return None
        # A comma at the end of anchors= adds nothing; at the end of layers= it adds layer 0.
        texts = self._numbers(key, values.rstrip(",").split(","), _FLOAT_PREFIX)
        numbers = [float(text) for text in texts]
        for text, number in zip(texts, numbers, strict=True):
            if abs(number) > _MAX_FLOAT:
                raise self.fail(f"{key}={text[:20]} does not fit into a float", key)
        return numbers

    def int(
        self, key: str, default: builtins.int, *, at_least: builtins.int | None = None
    ) -> builtins.int:
        """The first number of `key`, or `default`."""
        numbers = self.ints(key)
        value = numbers[0] if numbers else default
        if at_least is not None and value < at_least:
            raise self.fail(f"{key}={value} must be at least {at_least}", key, found=value)
        return value

    def flag(self, key: str) -> bool:
        """Whether the number is not 0."""
        return self.int(key, 0) != 0

    def float(self, key: str, default: builtins.float) -> builtins.float:
        """The first number of `key`, or `default`."""
        numbers = self.floats(key)
        return numbers[0] if numbers else default

    def text(self, key: str, default: str) -> str:
        """The text after `key=`, including any comment, as in Darknet."""
        option = self.section.option(key)
        return option.value if option else default

    def one_of(self, key: str, default: str, allowed: Mapping[str, str]) -> str:
        """The entry of `allowed` for the text after `key=`."""
        value = self.text(key, default)
        if value not in allowed:
            raise self.fail(
                f"unknown {key}={value[:_SHOWN]}; set one of {', '.join(allowed)}",
                key,
                found=value[:_SHOWN],
            )
        return allowed[value]

    def activation(self, default: str) -> str:
        """The activation; it must be one of Darknet's."""
        value = self.text("activation", default)
        if value in ACTIVATIONS:
            return value
        darknets_name = DARKNETS_NAME.get(value.lower(), value.lower())
        hint = f"; Darknet calls it {darknets_name}" if darknets_name in ACTIVATIONS else ""
        raise self.fail(
            f"unknown activation={value[:_SHOWN]}; AlexeyAB's Darknet would use relu in its place, "
            f"hank-ai's refuses it{hint}",
            "activation",
            found=value[:_SHOWN],
        )


def _too_wide(number: str) -> bool:
    """Whether it is an integer with more than ten digits, too many for 32 bits."""
    digits = number.lstrip("+-").lstrip("0")
    return digits.isdigit() and len(digits) > 10
