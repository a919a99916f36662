"""The lines of a cfg at which hank-ai's Darknet stops (src-lib/darknet_cfg.cpp, June 2026)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from yolotf.darknet.dialects import (
    LISTS,
    TEXTS,
    WORDS,
    full_name,
    hank_ai_keys,
    hank_ai_numbers,
    is_plain_number,
    known_keys,
    shortened,
    unread_keys,
    value_of_hank_ai,
)
from yolotf.darknet.syntax import Option, Section
from yolotf.text import plural

_SEMICOLON = re.compile(r"\s*(?P<key>;[^#= \t]*)[ \t]*=[ \t]*[^#\s]")
_SECTION = re.compile(r"\[(?P<name>.+)\]")
_REMOVED = frozenset(
    {
        "activation",
        "batchnorm",
        "conv_lstm",
        "crop",
        "detection",
        "empty",
        "gru",
        "history",
        "implicit",
        "local",
        "normalization",
        "reorg",
        "reorg_old",
    }
)
"""Sections removed from hank-ai's Darknet in July 2024 (src-lib/darknet_enums.cpp:8)."""


_NO_SWISH = frozenset({"sam", "scale_channels"})
_ONE_REFERENCE = frozenset({"sam", "scale_channels"})
"""Sections whose `from=` is one number, not a list (darknet_cfg.cpp:2163, 2193)."""


def has_section(name: str) -> bool:
    """Whether hank-ai's Darknet has a section of that name."""
    full = full_name(name)
    return full not in _REMOVED and known_keys(full) is not None


class RefusedLine(NamedTuple):
    """A line at which hank-ai's Darknet stops.

    Attributes:
        line: the line.
        why: the reason.
        says: what that Darknet prints.
    """

    line: int
    why: str
    says: str


def refused_lines(sections: Sequence[Section], text: str = "") -> Iterator[RefusedLine]:
    """The lines of a cfg, `[net]` first, at which hank-ai's Darknet stops.

    Args:
        sections: as read in that dialect.
        text: the cfg's text, to also check blanks and lines that are comments in AlexeyAB's Darknet
            only.
    """
    if text.startswith("\ufeff"):
        why = "a byte order mark before the first section; save the file without it"
        yield RefusedLine(1, why, "cannot add a configuration line without a section")
    lines = text.split("\n")
    for number, comment in enumerate(lines, 1):
        if match := _SEMICOLON.match(comment):
            key = shortened(match["key"])
            why = f"only # starts a comment there, and {key}= is not a key"
            yield RefusedLine(number, why, f"config line #{number} from section")
    written = lines if text else ()
    for section in sections:
        yield from _refused_in(section, written)
    yield from _refused_size(sections)


def _refused_in(section: Section, lines: Sequence[str]) -> Iterator[RefusedLine]:
    """The lines of one section; `lines` is empty if there is no text."""
    match = _SECTION.match(lines[section.line - 1].strip()) if lines else None
    name = match["name"] if match else section.name
    if not has_section(name):
        full = full_name(name)
        says = f'layer name "{shortened(name)}" is not supported'
        if full == "empty":
            says = f'layer type "{name}" not recognized'
        yield RefusedLine(section.line, f"it has no section [{shortened(name)}]", says)
        return
    values = {option.key: option.value for option in reversed(section.options)}
    read = hank_ai_keys(name) - unread_keys(name, values)
    seen: dict[str, int] = {}
    for option in section.options:
        key, line = option.key, option.line
        if key in seen:
            yield RefusedLine(
                line,
                f"{key}= is set twice, in lines {seen[key]} and {line}",
                f'duplicate key "{shortened(key)}" in [{name}]',
            )
            continue
        seen[key] = line
        if key not in read:
            yield RefusedLine(
                line,
                f"it does not read {shortened(key)}= in [{name}]"
                f"{_because(key, values) if full_name(name) == 'net' else ''}",
                f"config line #{line} from section [{name}] is unused or invalid",
            )
        else:
            raw = lines[line - 1].partition("=")[2] if lines else option.value
            yield from _refused_value(name, option, value_of_hank_ai(raw))
    yield from _missing(section, values)


def _because(key: str, values: Mapping[str, str]) -> str:
    """Why a key that `[net]` can have is not read."""
    if key in ("B1", "B2", "eps"):
        return " without adam=1"
    if key in ("step", "scale", "steps", "scales", "seq_scales", "gamma"):
        return f" with policy={shortened(values.get('policy', 'constant'))}"
    return ""


def _refused_value(section: str, option: Option, value: str) -> Iterator[RefusedLine]:
    """The line of an option whose value hank-ai's Darknet refuses."""
    key, line = option.key, option.line
    shown = shortened(value)
    if key in LISTS and not (key == "from" and section in _ONE_REFERENCE):
        if key in ("from", "layers") and not hank_ai_numbers(key, value):
            says = 'must specify "from=..."' if key == "from" else "must specify input layers"
            yield RefusedLine(line, f"{key}={shown} has no number at its start", says)
        return
    if words := WORDS.get(key):
        if value not in words.known:
            says = f'{words.kind} "{shown}" is not supported'
            yield RefusedLine(line, f"it has no {key}={shown}", says)
        elif key == "activation" and section in _NO_SWISH and value in ("swish", "mish"):
            yield RefusedLine(
                line,
                f"it has no activation={value} in [{section}]",
                "does not support SWISH or MISH activation",
            )
    elif key not in TEXTS and not is_plain_number(value):
        failed = value.strip("-.0123456789") == "" and value != ""
        says = (
            "failed to parse numeric value"
            if failed
            else f'key "{key}" on line #{line} should be numeric'
        )
        yield RefusedLine(line, f"{key}={shown} is not a number there (digits, - and . only)", says)


def _missing(section: Section, values: Mapping[str, str]) -> Iterator[RefusedLine]:
    """The section, if it lacks numbers without which hank-ai's Darknet stops."""
    name = full_name(section.name)
    if name == "net" and values.get("policy") == "steps":
        for key in ("steps", "scales"):
            if not hank_ai_numbers(key, values.get(key, "")):
                why = f"policy=steps needs {key}="
                says = "STEPS policy must have steps and scales in cfg file"
                yield RefusedLine(section.line_of("policy"), why, says)
                return
    if name in ("yolo", "Gaussian_yolo") and "counters_per_class" in values:
        counters = len(hank_ai_numbers("counters_per_class", values["counters_per_class"]))
        classes = values.get("classes", "20")
        if counters and classes.isdecimal() and classes.lstrip("0") != str(counters):
            yield RefusedLine(
                section.line_of("counters_per_class"),
                f"counters_per_class= has {plural(counters, 'number')}, classes={classes[:20]}",
                f"number of values in counters_per_class={counters} doesn't match classes",
            )


def _refused_size(sections: Sequence[Section]) -> Iterator[RefusedLine]:
    """The size of a network that ends in [yolo] or [region] must be a multiple of 32 (:1208)."""
    if not sections or sections[-1].name not in ("yolo", "region"):
        return
    net = sections[0]
    for key in ("width", "height"):
        option = net.option(key)
        number = re.match(r"\d+", option.value) if option else None
        pixels = int(number[0]) if number and len(number[0]) < 10 else 32
        if option and (pixels % 32 or not pixels):
            yield RefusedLine(
                option.line,
                f"{key}={pixels} is not a multiple of 32",
                "must be divisible by 32 for YOLO networks",
            )


def heads_without_detections(sections: Sequence[Section]) -> Iterator[tuple[int, str]]:
    """The line of each head with which hank-ai's Darknet has not detected since June 2024."""
    for section in sections:
        if section.name in ("region", "Gaussian_yolo"):
            yield (
                section.line,
                f"has detected nothing with [{section.name}] heads since June 2024",
            )
