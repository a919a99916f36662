"""The stock networks that a file may belong to, and warnings if there are several.

Networks that store the same number of floats may decode them to different boxes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from yolotf.darknet import cfg
from yolotf.darknet.network import cached_on_network
from yolotf.text import plural
from yolotf.weights import layout
from yolotf.weights.catalog import Match, identify, layer_floats, solve
from yolotf.weights.head_decoding import (
    DECODING_KEYS,
    KIND_INDICES,
    Decoding,
    Difference,
    decoding_of,
    describe_differences,
    differences,
)


class Candidate(NamedTuple):
    """A stock cfg that a file may belong to.

    Attributes:
        name: name of the stock cfg.
        match: its class count, channels and, for a truncated file, layers.
        differing: how it decodes differently from the given network, or from the first candidate.
    """

    name: str
    match: Match
    differing: tuple[Difference, ...] = ()


def candidates(matches: Iterable[Match], decoding: Decoding | None = None) -> list[Candidate]:
    """Returns the stock cfgs of `matches`, the likeliest first.

    Args:
        matches: in the order of `solve`.
        decoding: what to compare each decoding with; by default that of the first candidate.
    """
    ordered: list[Candidate] = []
    for match in matches:
        names = match.architecture.names
        # Stock cfgs with this class count first, the others in the order of the table.
        by_classes = sorted(names, key=lambda name: names[name] != match.classes)
        for name in by_classes:
            stock = match.architecture.decoding.get(name)
            whole = match.layers is None and stock is not None
            decoding = stock if decoding is None and whole else decoding
            differing = differences(decoding, stock) if whole and decoding and stock else ()
            ordered.append(Candidate(name, match, differing))
    return ordered


class SameSizeNetwork(NamedTuple):
    """A known network that stores as many floats, and decodes them to different boxes.

    Attributes:
        name: name of the stock cfg.
        classes: its class count at that size.
        keys: the keys in which its heads differ.
        difference: the differences as a sentence, with both values.
    """

    name: str
    classes: int
    keys: tuple[str, ...]
    difference: str


def same_size_warning(title: str, others: Iterable[tuple[str, str]]) -> str:
    """Returns the warning that files of `title` may be files of another network.

    Args:
        title: name and class count of the network.
        others: (name, difference) of each network of the same size.
    """
    clauses = ", or ".join(f"{name} ({difference})" for name, difference in others)
    return (
        f"a file of {title} has the same size as one of {clauses}, which decodes to different "
        "boxes; use the cfg file it was trained with"
    )


@cached_on_network
def stock_warnings(network: cfg.Network) -> tuple[str, ...]:
    """Returns warnings that a file loaded into `network` may need another network's decoding.

    A cfg that the caller passes is trusted to be the one the file was trained with, unless its
    heads are of another kind than those of all known networks that store the same floats. With a
    stock network's name and another class count, several networks are possible, see
    `same_size_networks`.
    """
    if network.name is None and not _of_another_kind(network):
        return ()
    others = same_size_networks(network)
    if not others:
        return ()
    classes = network.classes
    title = f"{network.name or network.source} with {plural(classes or 0, 'class', 'classes')}"
    return (same_size_warning(title, ((other.name, other.difference) for other in others)),)


def _of_another_kind(network: cfg.Network) -> bool:
    """Returns whether no known network that stores the same floats has the same kinds of heads."""
    known = identify(layer_floats(layout.segments(network)))
    if known is None or not known.decoding:
        return False
    return _kinds(decoding_of(network)) not in map(_kinds, known.decoding.values())


def _kinds(decoding: Decoding) -> list[tuple[str, ...]]:
    return [tuple(head[number] for number in KIND_INDICES) for head in decoding]


def same_size_networks(network: cfg.Network) -> list[SameSizeNetwork]:
    """Returns known networks that a file of the size of `network`'s could belong to instead.

    Empty for a network with the class count of its stock cfg and heads of the same kind: files of
    that size are the published ones. For other class counts, people start from any of the cfgs.
    """
    rows = layer_floats(layout.segments(network))
    known = identify(rows)
    classes = network.classes
    if known is None or classes is None:
        return []
    if classes in known.names.values() and not _of_another_kind(network):
        return []
    decoding = decoding_of(network)
    others = []
    for match in solve(sum(row.floats for row in rows)):
        usual = match.architecture is known or match.classes in match.architecture.names.values()
        if match.layers is not None or match.channels != network.input_shape.channels or not usual:
            continue
        for name, stock in match.architecture.decoding.items():
            if match.architecture is not known and match.architecture.names[name] != match.classes:
                continue
            if len(stock) != len(decoding) or stock == decoding:
                continue
            differing = differences(decoding, stock)
            keys = tuple(difference.key for difference in differing)
            sentence = describe_differences(differing) + _lines(network, keys)
            others.append(SameSizeNetwork(name, match.classes or 0, keys, sentence))
    return others


def _lines(network: cfg.Network, differing: Iterable[str]) -> str:
    """Returns the cfg lines of the keys that define the heads' kinds; "" for a stock network."""
    keys = set(differing) & {DECODING_KEYS[number] for number in KIND_INDICES}
    if network.name is not None or not keys:
        return ""
    key = "new_coords" if keys == {"new_coords"} else None
    lines = ", ".join(f"{network.source}:{head.section.line_of(key)}" for head in network.heads)
    return f", {lines}"
