"""Cfgs as people edit them by hand, each with a file to compare with, and the true cause."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from support import weights_files
from yolotf.darknet import cfg
from yolotf.errors import YolotfError
from yolotf.weights import catalog, layout

Cause = Mapping[str, Any]


class Case(NamedTuple):
    """A file, the cfg it is compared with, and a function that recognizes the true cause."""

    kind: str
    description: str
    file: cfg.Network
    network: cfg.Network
    is_true: Callable[[Cause], bool]


_BLOCK = np.random.default_rng(0).standard_normal(1 << 22, dtype=np.float32)


def trained_file(network: cfg.Network, path: Path, seed: int = 0) -> Path:
    """Writes a file of the network with values as after training."""
    rng = np.random.default_rng(seed)

    def arrays() -> Iterator[Any]:
        for segment in layout.segments(network):
            count = segment.count
            match segment.role:
                case "gamma":
                    yield rng.lognormal(0.2, 0.4, count)
                case "moving_variance":
                    yield rng.lognormal(rng.normal(-0.5, 1.0), 0.8, count)
                case "moving_mean":
                    yield rng.normal(-0.3, 1.0, count)
                case "beta" | "bias":
                    yield rng.normal(rng.normal(0.0, 0.3), 0.6, count)
                case _:
                    yield from _kernel(rng, segment)

    return weights_files.write_in_parts(path, arrays(), weights_files.header(32_013_312))


def drawn_file(network: cfg.Network, path: Path, seed: int = 0) -> Path:
    """Writes a file of the network with values as before training."""
    rng = np.random.default_rng(seed)

    def arrays() -> Iterator[Any]:
        for segment in layout.segments(network):
            if segment.role in ("gamma", "moving_variance"):
                yield np.ones(segment.count)
            elif segment.role == "kernel":
                extent = (2 * segment.shape[0] / segment.count) ** 0.5
                yield rng.uniform(-extent, extent, segment.count)
            else:
                yield np.zeros(segment.count)

    return weights_files.write_in_parts(path, arrays())


def _kernel(rng: np.random.Generator, segment: layout.Segment) -> Iterator[Any]:
    scale = np.float32((2 * segment.shape[0] / segment.count) ** 0.5 * rng.lognormal(-0.5, 0.4))
    left = segment.count
    while left:
        start = int(rng.integers(_BLOCK.size // 2))
        # No two parts have the same bytes, which would count as damage.
        part = _BLOCK[start : start + left] * (scale * np.float32(rng.uniform(0.97, 1.03)))
        yield part
        left -= part.size


def calls_it_damaged(cause: Cause) -> bool:
    """Returns whether a cause says that the file is damaged or truncated."""
    text = f"{cause['message']} {cause.get('fix', '')}"
    return cause["kind"] == "damaged" or bool(re.search("undamaged|download it again", text))


def cases(network: cfg.Network, each: int, seed: int = 0) -> Iterator[Case]:
    """Yields some edits of every kind that the network allows, at most `each` of a kind."""
    shuffle = random.Random(f"{network.source} {seed}")
    makers = (
        _class_counts,
        _some_heads,
        _filters,
        _sizes,
        _strides,
        _groups,
        _norms,
        _taken_out,
        _added,
        _folded,
    )
    for maker in makers:
        edits = (case for case in maker(network, shuffle) if _is_edit(case))
        yield from itertools.islice(edits, each)


def _is_edit(case: Case) -> bool:
    """Returns whether the file differs from the cfg, and the cfg is not another stock network's."""
    if _stored(case.file) == _stored(case.network):
        return False
    known = catalog.identify(catalog.layer_floats(layout.segments(case.network)))
    theirs = catalog.identify(catalog.layer_floats(layout.segments(case.file)))
    return known is None or known is theirs


def _stored(network: cfg.Network) -> list[tuple[str, int]]:
    return [(segment.role, segment.count) for segment in layout.segments(network)]


def _resolved(network: cfg.Network, sections: Sequence[cfg.Section]) -> cfg.Network | None:
    """Returns the edited cfg as parsed from its text; None if it is invalid."""
    text = "\n\n".join(
        f"[{section.name}]\n"
        + "\n".join(f"{option.key}={option.value}" for option in section.options)
        for section in sections
    )
    try:
        edited = cfg.parse_text(text + "\n", source=network.source)
        layout.segments(edited)
    except YolotfError:
        return None
    return edited


def _with_options(
    network: cfg.Network, changes: Mapping[tuple[int, str], object]
) -> cfg.Network | None:
    sections = list(network.sections)
    for (layer, key), value in changes.items():
        sections[layer + 1] = sections[layer + 1].with_option(key, value)
    return _resolved(network, sections)


# Whole networks and heads


def _can_change_classes(network: cfg.Network) -> bool:
    try:
        network.with_classes(7)
    except YolotfError:
        return False
    return bool(network.heads) and network.classes is not None


def _class_counts(network: cfg.Network, shuffle: random.Random) -> Iterator[Case]:
    if not _can_change_classes(network):
        return
    for classes in shuffle.sample((1, 2, 3, 5, 10, 20, 37, 80, 91), 9):
        if classes == network.classes:
            continue
        edited = _resolved(network, network.with_classes(classes).sections)
        if edited is None:
            continue

        def is_true(cause: Cause, classes: int = classes) -> bool:
            return (cause["kind"], cause.get("file"), cause.get("model")) == (
                "class_count",
                network.classes,
                classes,
            )

        yield Case("classes", f"classes={classes}", network, edited, is_true)


def with_heads_of(
    other: cfg.Network, network: cfg.Network, places: Sequence[int]
) -> list[cfg.Section]:
    """Returns sections with some heads, and the convolutions before them, of another network."""
    sections = list(network.sections)
    for place in places:
        head = network.heads[place].index
        for index in (head, head - 1):
            sections[index + 1] = other.sections[index + 1]
    return sections


def _some_heads(network: cfg.Network, shuffle: random.Random) -> Iterator[Case]:
    """Yields cfgs with a new class count in some heads only."""
    heads = network.heads
    if len(heads) < 2 or not _can_change_classes(network):
        return
    subsets = [
        subset
        for count in range(1, len(heads))
        for subset in itertools.combinations(range(len(heads)), count)
    ]
    for number, subset in enumerate(shuffle.sample(subsets, len(subsets))):
        classes = shuffle.choice((1, 2, 3, 7, 12))
        whole = network.with_classes(classes)
        edited = _resolved(network, with_heads_of(whole, network, subset))
        if edited is None:
            continue
        file = whole if number % 3 else network
        wanted = [_filters_of(file, place) for place in range(len(heads))]
        given = [_filters_of(edited, place) for place in range(len(heads))]

        differing = [place for place in range(len(heads)) if wanted[place] != given[place]]
        lines = [
            edited.layers[edited.heads[place].index - 1].line_of("filters") for place in differing
        ]

        def is_true(
            cause: Cause,
            wanted: list[int] = wanted,
            given: list[int] = given,
            lines: list[int] = lines,
        ) -> bool:
            if len(lines) == 1 and cause["kind"] == "layer_shape":
                return cause.get("cfg_line") == lines[0]
            return (cause["kind"], cause.get("file"), cause.get("model")) == (
                "head_filters",
                wanted,
                given,
            )

        description = f"heads {subset} with {classes} classes, the file with {file.classes}"
        yield Case("some heads", description, file, edited, is_true)


def _filters_of(network: cfg.Network, place: int) -> int:
    return network.layers[network.heads[place].index - 1].output_shape.channels


# One option of one section


def _one_option(
    network: cfg.Network,
    shuffle: random.Random,
    kind: str,
    key: str,
    values: Callable[[cfg.Layer], Sequence[int]],
) -> Iterator[Case]:
    layers = shuffle.sample(network.layers, len(network.layers))
    before_heads = {head.index - 1 for head in network.heads}
    for layer in layers:
        if layer.index in before_heads:
            continue
        choices = list(values(layer))
        shuffle.shuffle(choices)
        for value in choices[:1]:
            edited = _with_options(network, {(layer.index, key): value})
            if edited is None or _stored(edited) == _stored(network):
                continue
            line = edited.layers[layer.index].line_of(key)

            def is_true(cause: Cause, line: int = line) -> bool:
                return cause["kind"] == "layer_shape" and cause.get("cfg_line") == line

            yield Case(kind, f"section {layer.index} {key}={value}", network, edited, is_true)


def _filters(network: cfg.Network, shuffle: random.Random) -> Iterator[Case]:
    def values(layer: cfg.Layer) -> Sequence[int]:
        if not isinstance(layer, cfg.Convolutional):
            return ()
        count = layer.filters
        return sorted({2 * count, count // 2, count + 8, count + 1, 3 * count} - {0, count})

    return _one_option(network, shuffle, "filters", "filters", values)


def _sizes(network: cfg.Network, shuffle: random.Random) -> Iterator[Case]:
    def values(layer: cfg.Layer) -> Sequence[int]:
        return sorted({1, 3, 5} - {layer.size}) if isinstance(layer, cfg.Convolutional) else ()

    return _one_option(network, shuffle, "size", "size", values)


def _strides(network: cfg.Network, shuffle: random.Random) -> Iterator[Case]:
    """Yields changed strides, which only change what [connected] and [local] store."""

    def values(layer: cfg.Layer) -> Sequence[int]:
        if isinstance(layer, cfg.Convolutional | cfg.Pool):
            return sorted({1, 2} - {layer.stride_x})
        return ()

    for case in _one_option(network, shuffle, "stride", "stride", values):

        def is_true(cause: Cause, case: Case = case) -> bool:
            # What is stored does not show which of several strides made the image smaller.
            match = re.search(r"stride=(\d+) in the file", cause["message"])
            layers = [
                layer.index
                for layer in case.network.layers
                if layer.section.option("stride") and layer.line_of("stride") == cause["cfg_line"]
            ]
            if match is None or not layers:
                return False
            edited = _with_options(case.network, {(layers[0], "stride"): int(match[1])})
            return edited is not None and _stored(edited) == _stored(case.file)

        yield case._replace(is_true=is_true)


def _groups(network: cfg.Network, shuffle: random.Random) -> Iterator[Case]:
    def values(layer: cfg.Layer) -> Sequence[int]:
        if not isinstance(layer, cfg.Convolutional):
            return ()
        return sorted({1, 2, 4, layer.filters} - {layer.groups})

    return _one_option(network, shuffle, "groups", "groups", values)


def _norms(network: cfg.Network, shuffle: random.Random) -> Iterator[Case]:
    def values(layer: cfg.Layer) -> Sequence[int]:
        if not isinstance(layer, cfg.Convolutional):
            return ()
        return (int(not layer.batch_normalize),)

    return _one_option(network, shuffle, "batch_normalize", "batch_normalize", values)


# Sections


def _taken_out(network: cfg.Network, shuffle: random.Random) -> Iterator[Case]:
    """Yields cfgs without a convolution that the file has."""
    return _one_section_less(network, shuffle, "taken out", lambda whole, less: (whole, less))


def _added(network: cfg.Network, shuffle: random.Random) -> Iterator[Case]:
    """Yields cfgs with an additional convolution: a copy of its neighbour, or a 1x1."""
    layers = [layer for layer in network.layers if isinstance(layer, cfg.Convolutional)]
    before_heads = {head.index - 1 for head in network.heads}
    for layer in shuffle.sample(layers, len(layers)):
        if layer.index in before_heads:
            continue
        new = layer.section.with_option("stride", 1).with_option("groups", 1)
        new = new.with_option("size", shuffle.choice((1, 3))).with_option("pad", 1)
        edited = _resolved(network, _inserted(network, layer.index + 1, new))
        if edited is None or len(edited.layers) != len(network.layers) + 1:
            continue
        yield _section_case("added", f"after {layer.index}", network, edited, layer.index + 1)


def _one_section_less(
    network: cfg.Network, shuffle: random.Random, kind: str, order: Any
) -> Iterator[Case]:
    layers = [layer for layer in network.layers if isinstance(layer, cfg.Convolutional)]
    before_heads = {head.index - 1 for head in network.heads}
    for layer in shuffle.sample(layers, len(layers)):
        if layer.index in before_heads or not layer.index:
            continue
        sections = list(_renumbered(network, layer.index, -1))
        del sections[layer.index + 1]
        edited = _resolved(network, sections)
        if edited is None:
            continue
        yield _section_case(kind, f"section {layer.index}", network, edited, layer.index)


def _section_case(
    kind: str, description: str, file: cfg.Network, network: cfg.Network, section: int
) -> Case:
    """Returns a case whose true cause is that the file has a layer more or less, and where."""
    more = kind == "taken out"
    whole = file if more else network
    stored = sorted({segment.layer for segment in layout.segments(network)})
    # A copy beside its original may be either of the two; and a file does not show sections
    # without weights, so the layer may be before or after them.
    less = _stored(network if more else file)
    possible = {
        place
        for place in range(max(0, section - 6), section + 7)
        if place == section or _stored_without(whole, place) == less
    }
    if more:
        for place in list(possible):
            before = max((index for index in stored if index < place), default=-1)
            after = min((index for index in stored if index >= place), default=place)
            possible |= set(range(before + 1, after + 1))

    def is_true(cause: Cause) -> bool:
        return (
            cause["kind"] == "layer_shape"
            and cause.get("change") == ("missing" if more else "added")
            and cause["layer"] in possible
        )

    return Case(kind, description, file, network, is_true)


def _stored_without(network: cfg.Network, section: int) -> list[tuple[str, int]]:
    """Returns what is stored without a section; nothing if it cannot be left out."""
    if section >= len(network.layers):
        return []
    sections = list(_renumbered(network, section, -1))
    del sections[section + 1]
    edited = _resolved(network, sections)
    return [] if edited is None else _stored(edited)


def _inserted(network: cfg.Network, place: int, new: cfg.Section) -> list[cfg.Section]:
    """Returns sections with `new` at index `place`; references still mean the same layers.

    Only a section that reads the layer before it by position reads the new one.
    """
    sections = list(_renumbered(network, place, 1))
    sections.insert(place + 1, new)
    return sections


def _renumbered(network: cfg.Network, place: int, by: int) -> Iterator[cfg.Section]:
    """Returns sections with references adjusted to an insertion or removal at `place`."""
    yield network.net
    for layer in network.layers:
        section = layer.section
        for key in ("layers", "from", "share_index"):
            option = section.option(key)
            if option is None:
                continue
            moved = []
            for text in option.value.split(","):
                number = re.match(r"\s*-?\d+", text)  # a comment may follow
                if number is None:
                    continue
                target = int(number[0])
                relative = target < 0
                target = layer.index + target if relative else target
                at = layer.index + by * (layer.index >= place)
                if by < 0 and target == place:
                    target = place - 1
                else:
                    target += by * (target >= place)
                moved.append(target - at if relative else target)
            section = section.with_option(key, ",".join(map(str, moved)))
        yield section


# Folded batch normalization


def _folded(network: cfg.Network, shuffle: random.Random) -> Iterator[Case]:
    """Yields files with biases where the cfg has batch normalizations, and the reverse."""
    normalized = [
        layer.index
        for layer in network.layers
        if isinstance(layer, cfg.Convolutional) and layer.batch_normalize
    ]
    if len(normalized) < 2:
        return
    without = _with_options(network, {(index, "batch_normalize"): 0 for index in normalized})
    if without is None:
        return

    def file_is_folded(cause: Cause) -> bool:
        return cause["kind"] == "folded" and cause.get("file") == "folded"

    def cfg_is_folded(cause: Cause) -> bool:
        return cause["kind"] == "folded" and cause.get("file") == "normalized"

    yield Case("folded", "the file", without, network, file_is_folded)
    yield Case("folded", "the cfg", network, without, cfg_is_folded)
