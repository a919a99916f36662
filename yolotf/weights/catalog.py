"""The networks people pass around: what a file's size says about it.

`known_networks.json` holds, for every cfg that ships with Darknet and stores weights, the floats
of every layer. Heads make the count an affine function of the class count, the first convolution
one of the input channels, so a file's size can be solved for both, and for the layer after which
a file was cut (`yolov4.conv.137` ends after 137 layers).

The data file is computed, never typed: `python -m yolotf.weights.catalog FOLDER_OF_CFGS`.
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
from yolotf.darknet.roles import NORMALIZED, PLAIN
from yolotf.errors import YolotfError
from yolotf.text import plural
from yolotf.weights import layout
from yolotf.weights.once import once_each

MOST_CLASSES = 1000
"""Beyond what people train detectors for; yolo9000, with 9418, ships so."""
_LVIS_CLASSES = 1203
CHANNELS = (3, 1, 4, 2, 6, 5, 8, 9, 12, 7, 10, 11, 13, 14, 15, 16)
"""Input channels a file is solved for, most common first."""

_CLASSES, _CHANNELS = 80, 3
"""What the table's numbers are for, where a network can have others."""

_COMMON = (
    "yolov4",
    "yolov4-tiny",
    "yolov3",
    "yolov3-tiny",
    "yolov2-voc",  # what the instructions for own classes start from
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
"""Where two networks explain a size equally well, these win, in this order."""


class LayerFloats(NamedTuple):
    """What one layer stores.

    Attributes:
        layer: index, from 0 after `[net]`.
        filters: 0 where the layer is no convolution and only its total is known.
        kernel: floats of the kernel, or all floats where `filters` is 0.
        batch_normalize: whether gamma, mean and variance are stored too.
    """

    layer: int
    filters: int
    kernel: int
    batch_normalize: bool

    @property
    def floats(self) -> int:
        """All of them."""
        return self.filters * (4 if self.batch_normalize else 1) + self.kernel


def layer_floats(segments: Iterable[layout.Segment]) -> list[LayerFloats]:
    """Summarises segments by layer."""
    by_layer: dict[int, list[layout.Segment]] = {}
    for segment in segments:
        by_layer.setdefault(segment.layer, []).append(segment)
    rows = []
    for layer, found in by_layer.items():
        roles = tuple(segment.role for segment in found)
        if roles in (PLAIN, NORMALIZED) and len(found[-1].shape) == 4:
            rows.append(LayerFloats(layer, found[0].count, found[-1].count, roles == NORMALIZED))
        else:
            rows.append(LayerFloats(layer, 0, sum(segment.count for segment in found), False))
    return rows


class HeadRow(NamedTuple):
    """A convolution before a head: it has `anchors * (coords + 1 + classes)` filters."""

    layer: int
    anchors: int
    coords: int


@dataclass(frozen=True)
class Architecture:
    """A known network, or several with the same floats layer by layer.

    Attributes:
        names: the stock cfgs, each with its own class count (None for a classifier).
        rows: what every layer stores at 80 classes and 3 channels.
        heads: the convolutions that depend on the class count; empty if none does.
        inputs: layer -> kernel floats per input channel.
    """

    names: Mapping[str, int | None]
    rows: tuple[LayerFloats, ...]
    heads: tuple[HeadRow, ...]
    inputs: Mapping[int, int]
    layers: int
    decoding: Mapping[str, tuple[tuple[str, ...], ...]]
    """Name -> `decoding_of` its cfg."""

    def name(self, classes: int | None) -> str:
        """The cfg that comes with `classes`, or the first of them."""
        return next((name for name, own in self.names.items() if own == classes), self.first)

    @property
    def first(self) -> str:
        """The name most people use."""
        return next(iter(self.names))

    @functools.cached_property
    def floats(self) -> int:
        """All floats at 80 classes and 3 channels."""
        return sum(row.floats for row in self.rows)

    @functools.cached_property
    def per_class(self) -> int:
        """Floats that one class more adds."""
        heads = {head.layer: head.anchors for head in self.heads}
        return sum(
            heads[row.layer] * (row.floats // row.filters)
            for row in self.rows
            if row.layer in heads
        )

    @functools.cached_property
    def per_channel(self) -> int:
        """Floats that one input channel more adds."""
        return sum(self.inputs.values())

    def at(self, classes: int | None, channels: int) -> tuple[LayerFloats, ...]:
        """`rows` for another class count and other input channels."""
        heads = {head.layer: head for head in self.heads} if classes else {}
        rows = []
        for row in self.rows:
            if row.layer in self.inputs:
                more = self.inputs[row.layer] * (channels - _CHANNELS)
                row = row._replace(kernel=row.kernel + more)
            if row.layer in heads:
                head = heads[row.layer]
                filters = head.anchors * (head.coords + 1 + (classes or 0))
                kernel = row.kernel // row.filters * filters
                row = row._replace(filters=filters, kernel=kernel)
            rows.append(row)
        return tuple(rows)

    @functools.cached_property
    def cuts(self) -> dict[int, int]:
        """Floats up to a layer -> how many layers that is, where classes play no part."""
        first_head = min((head.layer for head in self.heads), default=self.layers)
        total, found = 0, {}
        for row in self.rows[:-1]:
            if row.layer >= first_head:
                break
            total += row.floats
            found[total] = row.layer + 1
        return found


class Match(NamedTuple):
    """A known network that a float count fits exactly.

    Attributes:
        architecture: which.
        classes: None where the network, or the part that is stored, does not depend on them.
        channels: of the picture.
        layers: the file ends after so many; None for the whole network.
    """

    architecture: Architecture
    classes: int | None
    channels: int
    layers: int | None = None

    @property
    def name(self) -> str:
        """Of the stock cfg."""
        return self.architecture.name(self.classes)

    @property
    def ships(self) -> bool:
        """Whether a stock cfg has this class count; a network without heads has no other."""
        return self.classes is None or self.classes in self.architecture.names.values()

    @property
    def unlikeliness(self) -> float:
        """How unusual it is: 0 for a stock file, more for rarer classes, channels, networks."""
        odd = _rank(self.architecture.first) / 20 + CHANNELS.index(self.channels)
        if self.layers is not None:
            odd += 2
        if self.classes is not None and not self.ships:
            # More than any rank: a network as it ships is likelier than another's with own classes.
            odd += 1 + min(self.classes, 2000) / 200
        return odd


def solve(floats: int) -> list[Match]:
    """Every known network, whole or cut, of exactly `floats` floats; the most usual first."""
    found = [match for known in table() for match in _solve(known, floats)]
    return sorted(found, key=lambda match: match.unlikeliness)


def _solve(known: Architecture, floats: int) -> Iterator[Match]:
    for channels in CHANNELS if known.per_channel else CHANNELS[:1]:
        rest = floats - known.floats - known.per_channel * (channels - _CHANNELS)
        if not known.heads:
            if rest == 0:
                yield Match(known, None, channels)
        elif rest % known.per_class == 0:
            classes = _CLASSES + rest // known.per_class
            match = Match(known, classes, channels)
            if 1 <= classes <= MOST_CLASSES or classes == _LVIS_CLASSES or match.ships:
                yield match
        before = floats - known.per_channel * (channels - _CHANNELS)
        if before in known.cuts:
            yield Match(known, None, channels, known.cuts[before])


def identify(rows: Iterable[LayerFloats]) -> Architecture | None:
    """The known network that stores `rows`, whatever its classes and channels."""
    wanted = list(rows)
    layers = [(row.layer, row.batch_normalize) for row in wanted]
    for known in table():
        if layers != [(row.layer, row.batch_normalize) for row in known.rows]:
            continue
        free = {head.layer for head in known.heads} | set(known.inputs)
        if all(
            row == other or row.layer in free for row, other in zip(wanted, known.rows, strict=True)
        ):
            return known
    return None


@functools.cache
def table() -> tuple[Architecture, ...]:
    """The data file."""
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
"""What `decoding_of` lists of each head."""
_KIND = (DECODING_KEYS.index("section"), DECODING_KEYS.index("new_coords"))
"""What makes a head another kind; the rest people change with their data."""

Decoding = tuple[tuple[str, ...], ...]
"""`DECODING_KEYS` of every head."""


def decoding_of(network: cfg.Network) -> Decoding:
    """What makes boxes of each head's numbers, in `DECODING_KEYS`: nothing of it is in the file."""
    return tuple(
        (
            head.type,
            ",".join(map(str, getattr(head, "mask", ()))),
            ",".join(f"{side:g}" for anchor in head.anchors for side in anchor),
            f"{getattr(head, 'scale_x_y', 1.0):g}",
            str(int(getattr(head, "new_coords", False))),
        )
        for head in network.heads
    )


class Difference(NamedTuple):
    """A key that heads differ in; the values of all of them, or one where all have it."""

    key: str
    here: str
    there: str


def differences(here: Decoding, there: Decoding) -> tuple[Difference, ...]:
    """What two networks that store the same floats decode otherwise."""
    found: list[Difference] = []
    if len(here) != len(there):
        return (Difference("heads", str(len(here)), str(len(there))),)
    for number, key in enumerate(DECODING_KEYS):
        ours, theirs = ([head[number] for head in heads] for heads in (here, there))
        if ours != theirs:
            alike = len(set(ours)) == len(set(theirs)) == 1
            ours, theirs = (ours[:1], theirs[:1]) if alike else (ours, theirs)
            found.append(Difference(key, " / ".join(ours), " / ".join(theirs)))
    return tuple(found)


def in_words(found: Iterable[Difference], here: str = "here") -> str:
    """Each key with both values; of different anchors the first that differ.

    Args:
        found: the differences.
        here: what the network is called that they are from.
    """
    clauses: list[str] = []
    for key, ours, theirs in found:
        if key == "anchors":
            # They follow from the mask where that differs; two lists of them help nobody.
            if any(clause.startswith("mask ") for clause in clauses):
                continue
            pairs = zip(ours.split(" / "), theirs.split(" / "), strict=False)
            ours, theirs = next((pair for pair in pairs if pair[0] != pair[1]), (ours, theirs))
        clauses.append(f"{key} {theirs} there, {ours} {here}")
    return ", ".join(clauses)


class Candidate(NamedTuple):
    """A known network, by one of its names, that a file may be of.

    Attributes:
        name: of the stock cfg.
        match: with which classes and channels, and how much of it.
        differing: what it decodes otherwise than the network at hand, or than the first candidate.
    """

    name: str
    match: Match
    differing: tuple[Difference, ...] = ()


def candidates(matches: Iterable[Match], decoding: Decoding | None = None) -> list[Candidate]:
    """Every name of `matches`, the likeliest first.

    Args:
        matches: as `solve` sorts them.
        decoding: of the network at hand; that of the first candidate if there is none.
    """
    found: list[Candidate] = []
    for match in matches:
        names = match.architecture.names
        # Those that ship with as many classes go first; of the rest the table's order holds.
        shipped = [name for name in names if names[name] == match.classes]
        for name in (*shipped, *(name for name in names if name not in shipped)):
            theirs = match.architecture.decoding.get(name)
            whole = match.layers is None and theirs is not None
            decoding = theirs if decoding is None and whole else decoding
            differing = differences(decoding, theirs) if whole and decoding and theirs else ()
            found.append(Candidate(name, match, differing))
    return found


class Twin(NamedTuple):
    """A known network that stores the same floats and makes other boxes of them.

    Attributes:
        name: of the stock cfg.
        classes: with which it stores as many floats.
        keys: the keys of its heads that differ.
        difference: all of them in words, with both values.
    """

    name: str
    classes: int
    keys: tuple[str, ...]
    difference: str


def other_boxes(title: str, differences: Iterable[tuple[str, str]]) -> str:
    """The sentence about networks, (name, difference) each, that store what `title` stores."""
    clauses = "; ".join(f"{name} ({difference})" for name, difference in differences)
    return (
        f"the same floats as {title}, and other boxes: {clauses}; pass the cfg the file was "
        "trained with"
    )


@once_each
def stock_warnings(network: cfg.Network) -> tuple[str, ...]:
    """What to tell who loads a file into a network that others of its size decode otherwise.

    Whoever passes a cfg has said how the file was trained, unless its heads are of another kind
    than all that store the same floats; of a name with another class count than the stock cfg's
    several networks may be meant, see `same_size_networks`.
    """
    if network.name is None and not _of_another_kind(network):
        return ()
    twins = same_size_networks(network)
    if not twins:
        return ()
    classes = network.classes
    title = f"{network.name or network.source}, {plural(classes or 0, 'class', 'classes')}"
    return (other_boxes(title, ((twin.name, twin.difference) for twin in twins)),)


def _of_another_kind(network: cfg.Network) -> bool:
    """Whether its heads are a kind that no known network with the same floats has."""
    own = identify(layer_floats(layout.segments(network)))
    if own is None or not own.decoding:
        return False
    mine, known = _kinds(decoding_of(network)), map(_kinds, own.decoding.values())
    return mine not in known


def _kinds(decoding: Decoding) -> list[tuple[str, ...]]:
    return [tuple(head[number] for number in _KIND) for head in decoding]


def same_size_networks(network: cfg.Network) -> list[Twin]:
    """Known networks that a file of `network` could be of as well, as far as its size goes.

    None for a network with its own class count of the stock cfg and heads of its kind: such files
    are the published ones. With another class count people start from either cfg.
    """
    rows = layer_floats(layout.segments(network))
    own = identify(rows)
    classes = network.classes
    if own is None or classes is None:
        return []
    if classes in own.names.values() and not _of_another_kind(network):
        return []
    mine = decoding_of(network)
    found = []
    for match in solve(sum(row.floats for row in rows)):
        usual = match.architecture is own or match.classes in match.architecture.names.values()
        if match.layers is not None or match.channels != network.input_shape.channels or not usual:
            continue
        for name, theirs in match.architecture.decoding.items():
            if match.architecture is not own and match.architecture.names[name] != match.classes:
                continue
            if len(theirs) != len(mine) or theirs == mine:
                continue
            keys = differences(mine, theirs)
            words = in_words(keys) + _lines(network, keys)
            found.append(Twin(name, match.classes or 0, tuple(one.key for one in keys), words))
    return found


def _lines(network: cfg.Network, found: Iterable[Difference]) -> str:
    """Where the heads' kind is written; nobody has the text of a stock network."""
    keys = {one.key for one in found} & {DECODING_KEYS[number] for number in _KIND}
    if network.name is not None or not keys:
        return ""
    key = "new_coords" if keys == {"new_coords"} else None
    lines = ", ".join(f"{network.source}:{head.section.line_of(key)}" for head in network.heads)
    return f", {lines}"


def build(networks: Iterable[cfg.Network]) -> dict[str, Any]:
    """Computes the data file's contents; networks that store nothing are left out."""
    entries: dict[str, dict[str, Any]] = {}
    for network in sorted(networks, key=lambda network: (_rank(_stem(network)), _stem(network))):
        own = network.classes
        heads: list[HeadRow] = []
        try:
            network = network.with_classes(_CLASSES)
        except YolotfError:
            own = None  # [detection], or a classifier's softmax: classes are not free
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
        entry["names"][_stem(network)] = own
        if decoding:
            entry["decoding"][_stem(network)] = decoding
    return {"networks": list(entries.values())}


def _rank(name: str) -> int:
    return _COMMON.index(name) if name in _COMMON else len(_COMMON)


def _stem(network: cfg.Network) -> str:
    return network.source.removesuffix(".cfg")


def dump(contents: dict[str, Any]) -> str:
    """The data file's text: one network a line."""
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in contents["networks"])
    return '{"networks": [\n' + lines + "\n]}\n"


def read_folder(folder: Path) -> Iterator[cfg.Network]:
    """Every cfg in `folder` that can be read and whose stored size is defined."""
    for path in sorted(folder.glob("*.cfg")):
        try:
            network = cfg.parse_cfg(path, dialect="alexeyab")  # who trained them
            layout.segments(network)
        except YolotfError:
            continue
        yield network


if __name__ == "__main__":
    sys.stdout.write(dump(build(read_folder(Path(sys.argv[1])))))
