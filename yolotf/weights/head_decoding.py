"""How the heads of a network decode boxes, which no file stores, and how networks differ in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from yolotf.darknet import cfg

DECODING_KEYS = ("section", "mask", "anchors", "scale_x_y", "new_coords")
"""The keys of a head that `decoding_of` lists."""
KIND_INDICES = (DECODING_KEYS.index("section"), DECODING_KEYS.index("new_coords"))
"""Indices of the keys that define the kind of a head; others are often adapted to a data set."""

Decoding = tuple[tuple[str, ...], ...]
"""The values of `DECODING_KEYS`, for each head."""


def decoding_of(network: cfg.Network) -> Decoding:
    """Returns how each head decodes boxes, by `DECODING_KEYS`; a file stores nothing of it."""
    return tuple(
        (
            head.type,
            ",".join(map(str, getattr(head, "mask", ()))),
            ",".join(f"{side:g}" for anchor in head.anchors for side in anchor),
            f"{head.rule.scale_x_y:g}",
            str(int(head.rule.new_coords)),
        )
        for head in network.heads
    )


class Difference(NamedTuple):
    """A key in which the heads of two networks differ.

    Attributes:
        key: the key, one of `DECODING_KEYS`, or `heads` if their number differs.
        here: values of the first network's heads, " / " between them, or a value that all share.
        there: values of the second network's heads.
    """

    key: str
    here: str
    there: str


def differences(first: Decoding, second: Decoding) -> tuple[Difference, ...]:
    """Returns the keys in which two networks that store the same floats decode differently."""
    differing: list[Difference] = []
    if len(first) != len(second):
        return (Difference("heads", str(len(first)), str(len(second))),)
    for number, key in enumerate(DECODING_KEYS):
        left, right = ([head[number] for head in heads] for heads in (first, second))
        if left != right:
            uniform = len(set(left)) == len(set(right)) == 1
            left, right = (left[:1], right[:1]) if uniform else (left, right)
            differing.append(Difference(key, " / ".join(left), " / ".join(right)))
    return tuple(differing)


def describe_differences(differing: Iterable[Difference], here: str = "here") -> str:
    """Returns both values of each key, in words; of anchors, those of the first head that differs.

    Args:
        differing: the differences.
        here: what to call the network whose values are `Difference.here`.
    """
    clauses: list[str] = []
    for key, left, right in differing:
        if key == "anchors":
            # If the masks differ, the anchors do too: two long lists would add nothing.
            if any(clause.startswith("mask ") for clause in clauses):
                continue
            pairs = zip(left.split(" / "), right.split(" / "), strict=False)
            left, right = next((pair for pair in pairs if pair[0] != pair[1]), (left, right))
        clauses.append(f"{key} {right} there, {left} {here}")
    return ", ".join(clauses)
