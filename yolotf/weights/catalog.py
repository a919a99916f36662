"""Catalog of known networks, and which of them a file can be, given its size.

`known_networks.json` has the floats of every layer of every cfg that ships with Darknet and stores
weights. The count is an affine function of the class count (heads) and of the input channels (first
convolution), so a file's size can be solved for both, and for the layer after which the file was
truncated (`yolov4.conv.137` ends after 137 layers).

The data file is generated: `python -m yolotf.weights.catalog FOLDER_OF_CFGS`.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from yolotf.darknet import cfg
from yolotf.darknet.network import cached_on_network
from yolotf.darknet.roles import NORMALIZED, PLAIN
from yolotf.errors import YolotfError
from yolotf.text import plural
from yolotf.weights import layout

MOST_CLASSES = 1000
"""Largest class count to solve for; a stock cfg may have more (yolo9000: 9418)."""
_LVIS_CLASSES = 1203
"""Also solved for: the class count of the LVIS data set."""
CHANNELS = (3, 1, 4, 2, 6, 5, 8, 9, 12, 7, 10, 11, 13, 14, 15, 16)
"""Input channels to solve for, most common first."""

_CLASSES, _CHANNELS = 80, 3
"""The class count and input channels that the data file's numbers are for."""

_COMMON = (
    "yolov4",
    "yolov4-tiny",
    "yolov3",
    "yolov3-tiny",
    "yolov2-voc",  # the one that Darknet's training instructions start from
    "yolov2",
    "yolov2-tiny",
    "yolov3-spp",
    "yolov4-csp",
    "yolov4x-mish",
    "yolov7",
    "yolov7-tiny",
    "yolov7x",
    "yolov4-tiny-3l",
    "darknet53",
    "darknet19",
    "csdarknet53-omega",
)
"""If several networks have the same size, these come first, in this order."""


class LayerFloats(NamedTuple):
    """The floats that a layer stores.

    Attributes:
        layer: index of the section, from 0 after `[net]`.
        filters: number of filters; 0 if the layer is not a convolution.
        kernel: floats of the kernel, or all floats of the layer if `filters` is 0.
        batch_normalize: whether gamma, mean and variance are stored too.
    """

    layer: int
    filters: int
    kernel: int
    batch_normalize: bool

    @property
    def floats(self) -> int:
        """Number of floats."""
        return self.filters * (4 if self.batch_normalize else 1) + self.kernel


def layer_floats(segments: Iterable[layout.Segment]) -> list[LayerFloats]:
    """Sums up segments by layer."""
    by_layer: dict[int, list[layout.Segment]] = {}
    for segment in segments:
        by_layer.setdefault(segment.layer, []).append(segment)
    rows = []
    for layer, stored in by_layer.items():
        roles = tuple(segment.role for segment in stored)
        if roles in (PLAIN, NORMALIZED) and len(stored[-1].shape) == 4:
            rows.append(LayerFloats(layer, stored[0].count, stored[-1].count, roles == NORMALIZED))
        else:
            rows.append(LayerFloats(layer, 0, sum(segment.count for segment in stored), False))
    return rows


class HeadRow(NamedTuple):
    """A convolution before a head: it has `anchors * (coords + 1 + classes)` filters."""

    layer: int
    anchors: int
    coords: int


@dataclass(frozen=True)
class Architecture:
    """A known network, or several whose layers store the same numbers of floats.

    Attributes:
        names: the stock cfgs and their class counts (None for a classifier).
        rows: the floats of every layer, for 80 classes and 3 input channels.
        heads: the convolutions that depend on the class count; empty if none does.
        inputs: kernel floats per input channel, by layer.
        layers: number of layers.
        decoding: `decoding_of` each stock cfg, by name.
    """

    names: Mapping[str, int | None]
    rows: tuple[LayerFloats, ...]
    heads: tuple[HeadRow, ...]
    inputs: Mapping[int, int]
    layers: int
    decoding: Mapping[str, tuple[tuple[str, ...], ...]]

    def name(self, classes: int | None) -> str:
        """Returns the name of the cfg that has `classes` classes, otherwise the most common one."""
        return next((name for name, count in self.names.items() if count == classes), self.first)

    @property
    def first(self) -> str:
        """The name of the most common cfg."""
        return next(iter(self.names))

    @functools.cached_property
    def floats(self) -> int:
        """Number of floats for 80 classes and 3 input channels."""
        return sum(row.floats for row in self.rows)

    @functools.cached_property
    def per_class(self) -> int:
        """Floats that one more class adds."""
        heads = {head.layer: head.anchors for head in self.heads}
        return sum(
            heads[row.layer] * (row.floats // row.filters)
            for row in self.rows
            if row.layer in heads
        )

    @functools.cached_property
    def per_channel(self) -> int:
        """Floats that one more input channel adds."""
        return sum(self.inputs.values())

    def at(self, classes: int | None, channels: int) -> tuple[LayerFloats, ...]:
        """Returns `rows` for another class count and another number of input channels."""
        heads = {head.layer: head for head in self.heads} if classes else {}
        rows = []
        for row in self.rows:
            if row.layer in self.inputs:
                added = self.inputs[row.layer] * (channels - _CHANNELS)
                row = row._replace(kernel=row.kernel + added)
            if row.layer in heads:
                head = heads[row.layer]
                filters = head.anchors * (head.coords + 1 + (classes or 0))
                kernel = row.kernel // row.filters * filters
                row = row._replace(filters=filters, kernel=kernel)
            rows.append(row)
        return tuple(rows)

    @functools.cached_property
    def cuts(self) -> dict[int, int]:
        """Layer count by float count, for files truncated before any head."""
        first_head = min((head.layer for head in self.heads), default=self.layers)
        total, layers_of = 0, {}
        for row in self.rows[:-1]:
            if row.layer >= first_head:
                break
            total += row.floats
            layers_of[total] = row.layer + 1
        return layers_of


class Match(NamedTuple):
    """A known network that has exactly the given number of floats.

    Attributes:
        architecture: the network.
        classes: class count; None if the stored floats do not depend on it.
        channels: input channels.
        layers: number of layers in a truncated file; None for the whole network.
    """

    architecture: Architecture
    classes: int | None
    channels: int
    layers: int | None = None

    @property
    def name(self) -> str:
        """Name of the stock cfg."""
        return self.architecture.name(self.classes)

    @property
    def ships(self) -> bool:
        """Whether a stock cfg has this class count; True for a network without heads."""
        return self.classes is None or self.classes in self.architecture.names.values()

    @property
    def penalty(self) -> float:
        """How unusual the match is: 0 for the most common stock file."""
        odd = _rank(self.architecture.first) / 20 + CHANNELS.index(self.channels)
        if self.layers is not None:
            odd += 2
        if self.classes is not None and not self.ships:
            # More than any rank: a stock class count is likelier than another in any network.
            odd += 1 + min(self.classes, 2000) / 200
        return odd


def solve(floats: int) -> list[Match]:
    """Returns the known networks, whole or truncated, with `floats` floats; most usual first."""
    matches = [match for known in table() for match in _solve(known, floats)]
    return sorted(matches, key=lambda match: match.penalty)


def _solve(known: Architecture, floats: int) -> Iterator[Match]:
    for channels in CHANNELS if known.per_channel else CHANNELS[:1]:
        surplus = floats - known.floats - known.per_channel * (channels - _CHANNELS)
        if not known.heads:
            if surplus == 0:
                yield Match(known, None, channels)
        elif surplus % known.per_class == 0:
            classes = _CLASSES + surplus // known.per_class
            match = Match(known, classes, channels)
            if 1 <= classes <= MOST_CLASSES or classes == _LVIS_CLASSES or match.ships:
                yield match
        at_default_channels = floats - known.per_channel * (channels - _CHANNELS)
        if at_default_channels in known.cuts:
            yield Match(known, None, channels, known.cuts[at_default_channels])


def identify(rows: Iterable[LayerFloats]) -> Architecture | None:
    """Returns the known network that stores `rows` for some class count and number of channels."""
    stored = list(rows)
    layers = [(row.layer, row.batch_normalize) for row in stored]
    for known in table():
        if layers != [(row.layer, row.batch_normalize) for row in known.rows]:
            continue
        variable = {head.layer for head in known.heads} | set(known.inputs)
        if all(
            row == other or row.layer in variable
            for row, other in zip(stored, known.rows, strict=True)
        ):
            return known
    return None


@functools.cache
def table() -> tuple[Architecture, ...]:
    """Returns the contents of the data file."""
    text = (importlib.resources.files("yolotf.weights") / "known_networks.json").read_text("utf-8")
    return tuple(_unpack(entry) for entry in json.loads(text)["networks"])


def _unpack(entry: dict[str, Any]) -> Architecture:
    numbers = iter(entry["floats"])
    rows = tuple(
        LayerFloats(layer, abs(filters), kernel, filters > 0)
        for layer, filters, kernel in zip(numbers, numbers, numbers, strict=True)
    )
    return Architecture(
        names=entry["names"],
        rows=rows,
        heads=tuple(HeadRow(*head) for head in entry["heads"]),
        inputs=dict(entry["inputs"]),
        layers=entry["layers"],
        decoding={
            name: tuple(tuple(head) for head in heads) for name, heads in entry["decoding"].items()
        },
    )


DECODING_KEYS = ("section", "mask", "anchors", "scale_x_y", "new_coords")
"""The keys of a head that `decoding_of` lists."""
_KIND = (DECODING_KEYS.index("section"), DECODING_KEYS.index("new_coords"))
"""Keys that define the kind of a head; the others are commonly adapted to a data set."""

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
        f"a file of {title}, has the same size as one of {clauses}, which decodes to different "
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
    title = f"{network.name or network.source}, {plural(classes or 0, 'class', 'classes')}"
    return (same_size_warning(title, ((other.name, other.difference) for other in others)),)


def _of_another_kind(network: cfg.Network) -> bool:
    """Returns whether no known network that stores the same floats has the same kinds of heads."""
    known = identify(layer_floats(layout.segments(network)))
    if known is None or not known.decoding:
        return False
    return _kinds(decoding_of(network)) not in map(_kinds, known.decoding.values())


def _kinds(decoding: Decoding) -> list[tuple[str, ...]]:
    return [tuple(head[number] for number in _KIND) for head in decoding]


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
    keys = set(differing) & {DECODING_KEYS[number] for number in _KIND}
    if network.name is not None or not keys:
        return ""
    key = "new_coords" if keys == {"new_coords"} else None
    lines = ", ".join(f"{network.source}:{head.section.line_of(key)}" for head in network.heads)
    return f", {lines}"


def build(networks: Iterable[cfg.Network]) -> dict[str, Any]:
    """Computes the contents of the data file; networks without weights are left out."""
    entries: dict[str, dict[str, Any]] = {}
    for network in sorted(networks, key=lambda network: (_rank(_stem(network)), _stem(network))):
        classes = network.classes
        heads: list[HeadRow] = []
        try:
            network = network.with_classes(_CLASSES)
        except YolotfError:
            classes = None  # [detection], or a classifier's softmax: the class count is fixed
        else:
            heads = [
                HeadRow(head.index - 1, len(head.anchors), head.coords) for head in network.heads
            ]
        rows = layer_floats(layout.segments(network))
        if not rows:
            continue
        inputs = [
            (row.layer, row.kernel // network.input_shape.channels)
            for row in rows
            if row.filters and network.layers[row.layer].inputs == (cfg.NETWORK_INPUT,)
        ]
        floats = [
            number
            for row in rows
            for number in (
                row.layer,
                row.filters if row.batch_normalize else -row.filters,
                row.kernel,
            )
        ]
        decoding = decoding_of(network)
        body = {
            "heads": heads,
            "inputs": inputs,
            "layers": len(network.layers),
            "floats": floats,
        }
        key = json.dumps([heads, inputs, floats])
        entry = entries.setdefault(key, {"names": {}, **body, "decoding": {}})
        entry["names"][_stem(network)] = classes
        if decoding:
            entry["decoding"][_stem(network)] = decoding
    return {"networks": list(entries.values())}


def _rank(name: str) -> int:
    return _COMMON.index(name) if name in _COMMON else len(_COMMON)


def _stem(network: cfg.Network) -> str:
    return network.source.removesuffix(".cfg")


def dump(contents: dict[str, Any]) -> str:
    """Returns the text of the data file, a network per line."""
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in contents["networks"])
    return '{"networks": [\n' + lines + "\n]}\n"


def read_folder(folder: Path) -> Iterator[cfg.Network]:
    """Parses the cfgs in `folder`; skips those that cannot be read or whose size is undefined."""
    for path in sorted(folder.glob("*.cfg")):
        try:
            network = cfg.parse_cfg(path, dialect="alexeyab")  # the fork they were trained with
            layout.segments(network)
        except YolotfError:
            continue
        yield network


if __name__ == "__main__":
    sys.stdout.write(dump(build(read_folder(Path(sys.argv[1])))))
