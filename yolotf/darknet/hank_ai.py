"""The lines of a cfg at which hank-ai's Darknet stops (src-lib/darknet_cfg.cpp, June 2026)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from yolotf.darknet.activations import ACTIVATIONS
from yolotf.darknet.dialects import (
    LISTS,
    PLAIN_NUMBER,
    full_name,
    hank_ai_keys,
    known_keys,
    shortened,
)
from yolotf.darknet.syntax import Section

_SEMICOLON = re.compile(r"\s*(?P<key>;[^#= \t]*)[ \t]*=[ \t]*[^#\s]")
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
_CHOICES: dict[str, frozenset[str]] = {
    "activation": ACTIVATIONS,
    "weights_type": frozenset({"none", "per_feature", "per_channel"}),
    "weights_normalization": frozenset({"none", "relu", "avg_relu", "softmax"}),
    "nms_kind": frozenset({"default", "greedynms", "diounms", "cornersnms"}),
    "iou_loss": frozenset({"iou", "mse", "giou", "diou", "ciou"}),
    "iou_thresh_kind": frozenset({"iou", "mse", "giou", "diou", "ciou"}),
    "policy": frozenset({"random", "poly", "constant", "step", "exp", "sigmoid", "steps", "sgdr"}),
}
"""The values that hank-ai's Darknet accepts; it stops at others."""
_TEXTS = frozenset({*_CHOICES, "lstm_activation", "map", "tree", "type", "yolo_point"})


def has_section(name: str) -> bool:
    """Whether hank-ai's Darknet has a section of that name."""
    full = full_name(name)
    return full not in _REMOVED and known_keys(full) is not None


class RefusedLine(NamedTuple):
    """A line at which hank-ai's Darknet stops, and the reason."""

    line: int
    why: str


def refused_lines(sections: Sequence[Section], text: str = "") -> Iterator[RefusedLine]:
    """The lines of a cfg, `[net]` first, at which hank-ai's Darknet stops.

    Args:
        sections: as read in that dialect.
        text: the cfg's text, to also check lines that are comments in AlexeyAB's Darknet only.
    """
    for number, comment in enumerate(text.split("\n"), 1):
        if match := _SEMICOLON.match(comment):
            why = f"only # starts a comment there, and {shortened(match['key'])}= is not a key"
            yield RefusedLine(number, why)
    for section in sections:
        if not has_section(section.name):
            yield RefusedLine(section.line, f"it has no section [{section.name}]")
            continue
        read = hank_ai_keys(section.name)
        seen: dict[str, int] = {}
        for option in section.options:
            key, value, line = option.key, option.value, option.line
            if key in seen:
                yield RefusedLine(line, f"{key}= is set twice, in lines {seen[key]} and {line}")
                continue
            seen[key] = line
            if key not in read:
                yield RefusedLine(line, f"it does not read {shortened(key)}= in [{section.name}]")
            elif key in _CHOICES and value not in _CHOICES[key]:
                yield RefusedLine(line, f"it has no {key}={shortened(value)}")
            elif key not in _TEXTS and key not in LISTS and not PLAIN_NUMBER.fullmatch(value):
                yield RefusedLine(
                    line,
                    f"{key}={shortened(value)} is not a number there (digits, - and . only)",
                )
    yield from _refused_size(sections)


def _refused_size(sections: Sequence[Section]) -> Iterator[RefusedLine]:
    """The size of a network that ends in [yolo] or [region] must be a multiple of 32 (:1208)."""
    if not sections or sections[-1].name not in ("yolo", "region"):
        return
    net = sections[0]
    for key in ("width", "height"):
        option = net.option(key)
        number = re.match(r"\d+", option.value) if option else None
        if option and number and len(number[0]) < 10 and int(number[0]) % 32:
            yield RefusedLine(option.line, f"{key}={number[0]} is not a multiple of 32")


def heads_without_detections(sections: Sequence[Section]) -> Iterator[RefusedLine]:
    """Heads that hank-ai's Darknet accepts but (since June 2024) never detects with."""
    for section in sections:
        if section.name in ("region", "Gaussian_yolo"):
            yield RefusedLine(
                section.line, f"has detected nothing with [{section.name}] heads since June 2024"
            )
