"""Finds changes of whole sections after which a network stores as many floats as a file.

These are heads of which only some were edited, a layer that was added or removed, and batch
normalization that was folded into all kernels. `mutations` has the changes of a single option.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from yolotf.darknet import cfg
from yolotf.darknet.roles import NORMALIZED, PLAIN, SCALES, Role
from yolotf.diagnosis.mutations import INPUT, Counts, Edit, Graph, Option, follows, total
from yolotf.weights.catalog import Match

_MOST_HEADS = 6
"""The most heads of which all subsets (2^6) are tried; no known network has more."""
_MOST_CLASSES = 1000
_USUAL_CLASSES = (80, 20)
_IMAGENET_CLASSES = 1000
_MOST_CLASSES_OF_CLASSIFIERS = 30_000
"""More than ImageNet-22k has."""
_SIZES = (1, 3, 5, 7)
_USUAL_MULTIPLE = 8
"""A missing layer that changes the number of channels has a multiple of this many filters."""
_MOST_GROUPS = 64
"""The most groups that are tried, apart from depthwise kernels."""


def edits(graph: Graph, floats: int, matches: Sequence[Match] = ()) -> Iterator[Edit]:
    """Yields every such change after which the network stores `floats` floats.

    Args:
        graph: the network.
        floats: the number of floats in the file.
        matches: known networks of that size.
    """
    difference = floats - graph.floats
    if not difference:
        return
    yield from _forgotten_heads(graph, difference)
    yield from _classifier(graph, difference)
    yield from _folded(graph, difference)
    yield from _normalized_like(graph, matches)
    yield from _added(graph, difference)
    yield from _missing(graph, difference)


# Heads


def _forgotten_heads(graph: Graph, difference: int) -> Iterator[Edit]:
    """Yields changes of some heads to another number of classes; the others keep theirs."""
    heads = graph.heads
    if not 2 <= len(heads) <= _MOST_HEADS:
        return
    here = [head.classes for _, head in heads]
    convolutions = [graph.network.layers[index] for index, _ in heads]
    per_filter = [
        graph.per_filter(layer) for layer in convolutions if isinstance(layer, cfg.Convolutional)
    ]
    model = tuple(layer.output_shape.channels for layer in convolutions)
    uniform = len(set(here)) == 1
    for count in range(1, len(heads) + 1):
        for chosen in itertools.combinations(range(len(heads)), count):
            if uniform and count == len(heads):
                continue  # a change of the whole network's class count; see `mutations`
            anchors = {place: len(heads[place][1].anchors) for place in chosen}
            slope = sum(anchors[place] * per_filter[place] for place in chosen)
            before = sum(anchors[place] * per_filter[place] * here[place] for place in chosen)
            classes = (difference + before) / slope if slope else 0.5
            if classes != int(classes) or not 1 <= classes <= _MOST_CLASSES:
                continue
            others = {here[place] for place in range(len(heads)) if place not in chosen}
            if any(here[place] == classes for place in chosen):
                continue  # the same change with fewer heads
            file = tuple(
                anchors[place] * (heads[place][1].coords + 1 + int(classes))
                if place in anchors
                else model[place]
                for place in range(len(heads))
            )
            known = classes in others or (not others and not uniform)
            unlikely = 0.5 if known else 3.0 if classes in _USUAL_CLASSES else 6.0
            yield Edit(
                Option.HEADS,
                heads[chosen[0]][0],
                model,
                file,
                {("filters", heads[place][0]): file[place] for place in chosen},
                unlikely + 0.1 * count + math.log(1 + classes / 1000),
                classes=int(classes),
            )


def _classifier(graph: Graph, difference: int) -> Iterator[Edit]:
    """Yields another number of classes of a network without heads: of its last layer."""
    network = graph.network
    if network.heads or not graph.stored:
        return
    last = max(graph.stored)
    layer, counts = network.layers[last], graph.stored[last]
    if not isinstance(layer, cfg.Convolutional | cfg.Connected) or graph.slopes[last]:
        return
    here = layer.output_shape.channels if isinstance(layer, cfg.Convolutional) else layer.output
    classes = here * (total(counts) + difference) / total(counts)
    if classes != int(classes) or not 2 <= classes <= _MOST_CLASSES_OF_CLASSIFIERS:
        return
    stored = {last: tuple((role, count // here * int(classes)) for role, count in counts)}
    unlikely = 1.0 if classes == _IMAGENET_CLASSES else 2 + math.log(1 + classes / 20)
    yield Edit(Option.CLASSES, last, (here,), (int(classes),), {}, unlikely, stored=stored)


# Batch normalization


def _folded(graph: Graph, difference: int) -> Iterator[Edit]:
    """Yields biases in place of all batch normalizations, and the other way round."""
    convolutions = [
        layer
        for layer in graph.network.layers
        if isinstance(layer, cfg.Convolutional) and layer.index in graph.stored
    ]
    normalized = [layer.index for layer in convolutions if layer.batch_normalize]
    if normalized:
        stored = {index: _without_norm(graph.stored[index]) for index in normalized}
        yield from _if_exact(graph, Option.FOLDED, stored, difference)
    before_heads = {index for index, _ in graph.heads}
    plain = [
        layer.index
        for layer in convolutions
        if not layer.batch_normalize and layer.index not in before_heads
    ]
    # The last layer of a classifier has no batch normalization.
    for indices in (plain, plain[:-1]):
        if indices and len(indices) > len(normalized):
            stored = {index: _with_norm(graph.stored[index]) for index in indices}
            yield from _if_exact(graph, Option.NORMALIZED, stored, difference)


def _normalized_like(graph: Graph, matches: Sequence[Match]) -> Iterator[Edit]:
    """Yields known networks with the same kernels but other batch normalizations."""
    for match in matches:
        rows = match.architecture.at(match.classes, match.channels)
        if match.layers is not None or len(rows) != len(graph.stored):
            continue
        changed: dict[int, Counts] = {}
        for row, (index, counts) in zip(rows, graph.stored.items(), strict=True):
            if not row.filters:
                if total(counts) != row.floats:
                    break
                continue
            if (counts[0][1], counts[-1][1]) != (row.filters, row.kernel):
                break
            wanted = _with_norm(counts) if row.batch_normalize else _without_norm(counts)
            if wanted != counts:
                changed[index] = wanted
        else:
            if len(changed) > 1:
                more = sum(
                    total(new) - total(graph.stored[index]) for index, new in changed.items()
                )
                what = Option.NORMALIZED if more > 0 else Option.FOLDED
                count = len(changed)
                yield Edit(what, min(changed), (count,), (count,), {}, 1.0, stored=changed)


def _if_exact(
    graph: Graph, what: Option, stored: dict[int, Counts], difference: int
) -> Iterator[Edit]:
    """Yields the change if it explains the difference, alone or with another class count."""
    changed = {index: counts for index, counts in stored.items() if counts != graph.stored[index]}
    more = sum(total(counts) - total(graph.stored[index]) for index, counts in changed.items())
    if len(changed) < 2:
        return  # a single section is a change of its option; see `mutations`
    count = len(changed)
    first = min(changed)
    if more == difference:
        yield Edit(what, first, (count,), (count,), {}, 2.0, stored=changed)
        return
    per_class, classes = graph.per_class(), graph.network.classes
    if not per_class or classes is None or (difference - more) % per_class:
        return
    other = classes + int((difference - more) // per_class)
    if not 1 <= other <= _MOST_CLASSES:
        return
    heads = graph.changed(graph.with_classes(other)) or {}
    if set(heads) & set(changed):
        return
    unlikely = 6.0 + math.log(1 + other / 20)
    both = {**changed, **heads}
    yield Edit(what, first, (count,), (count,), {}, unlikely, classes=other, stored=both)


def _without_norm(counts: Counts) -> Counts:
    return tuple(
        (Role.BIAS if role == Role.BETA else role, count)
        for role, count in counts
        if role not in SCALES
    )


def _with_norm(counts: Counts) -> Counts:
    if tuple(role for role, _ in counts) != PLAIN:
        return counts
    (_, filters), (_, kernel) = counts
    return tuple((role, kernel if role == Role.KERNEL else filters) for role in NORMALIZED)


# Layers


def _added(graph: Graph, difference: int) -> Iterator[Edit]:
    """Yields layers that the file lacks; their readers then read the layer before."""
    before_heads = {index for index, _ in graph.heads}
    for layer in graph.network.layers:
        if layer.index not in graph.stored or len(layer.inputs) != 1:
            continue
        if not isinstance(layer, cfg.Convolutional | cfg.Connected | cfg.Batchnorm):
            continue
        own = total(graph.stored[layer.index])
        channels = graph.channels(layer.inputs[0])
        leaving = layer.output_shape.channels
        more = graph.slopes[layer.index] * (channels - leaving) - own
        if more != difference or layer.index in before_heads:
            continue
        changed = graph.changed({("channels", layer.index): channels})
        if changed is None:
            continue
        stored = {**changed, layer.index: ()}
        unlikely = 9.0 if channels == leaving else 10.0
        yield Edit(Option.ADDED, layer.index, (own,), (0,), {}, unlikely, stored=stored)


class _Gap(NamedTuple):
    """A position between two sections where the file may have a layer that the cfg lacks.

    Attributes:
        after: index of the section before the layer.
        following: index of the next section that stores floats; None after the last.
        channels: input channels of the layer.
        slope: floats that the following layers store for each of its output channels.
        reader: the section that reads the layer; None if all readers of `after` do.
        only_same: whether the layer must output as many channels as it reads.
    """

    after: int
    following: int | None
    channels: int
    slope: float = 0.0
    reader: cfg.Layer | None = None
    only_same: bool = False

    def widened(self, graph: Graph, filters: int) -> dict[int, Counts] | None:
        """Returns what later layers store if the layer has `filters`; None if impossible."""
        reader = self.reader
        if filters == self.channels:
            return {}
        if reader is None:
            return graph.changed({("channels", self.after): filters})
        if reader.index in graph.stored:
            return graph.changed({}, entering={reader.index: filters})
        channels = reader.output_shape.channels
        more = (filters - self.channels) * _share(reader)
        if more != int(more):
            return None
        return graph.changed({("channels", reader.index): channels + int(more)})


def _share(reader: cfg.Layer) -> float:
    """Returns the output channels of a section without weights for each input channel."""
    if isinstance(reader, cfg.Route):
        return 1 / reader.groups
    return reader.output_shape.channels / max(1, reader.input_shape.channels)


def _gaps(graph: Graph) -> Iterator[_Gap]:
    layers = graph.network.layers
    before_heads = {index for index, _ in graph.heads}
    following: list[int | None] = [None] * (len(layers) + 1)
    for index in range(len(layers) - 1, -1, -1):
        following[index] = index if index in graph.stored else following[index + 1]
    for after in range(INPUT, len(layers) - 1):
        reader = layers[after + 1]
        if after in before_heads or isinstance(reader, cfg.Head):
            continue
        gap = _Gap(after, following[after + 1], graph.channels(after))
        readers = graph.readers(after)
        if reader.index not in readers:
            yield gap._replace(only_same=True)
            continue
        if len(readers) > 1:
            yield gap._replace(slope=graph.slopes[after])
        if reader.inputs == (after,) and reader.index in graph.stored:
            yield gap._replace(slope=graph.per_channel(reader), reader=reader)
        elif isinstance(reader, cfg.Route) or (reader.inputs[0] == after and follows(reader)):
            slope = graph.slopes[reader.index] * _share(reader)
            yield gap._replace(slope=slope, reader=reader)
        else:
            yield gap._replace(only_same=True)


def _missing(graph: Graph, difference: int) -> Iterator[Edit]:
    """Yields convolutions that the cfg lacks."""
    seen: set[tuple[int | None, int, int, int, int]] = set()
    used = {layer.groups for layer in graph.network.layers if isinstance(layer, cfg.Convolutional)}
    groups = sorted({1} | {count for count in used if 1 < count <= _MOST_GROUPS})
    for gap in _gaps(graph):
        for new in _convolutions(gap, difference, groups):
            if new.filters == gap.channels:
                # All positions between the same two layers with weights are equivalent.
                key = (gap.following, *new)
                if key in seen:
                    continue
                seen.add(key)
            edit = _inserted(graph, gap, new)
            if edit is not None:
                yield edit


class _New(NamedTuple):
    """A convolution that the cfg may lack."""

    filters: int
    size: int
    groups: int
    arrays: int
    """Arrays with one float for each filter: 4 with batch normalization, otherwise the bias."""


def _convolutions(gap: _Gap, difference: int, groups: Sequence[int]) -> Iterator[_New]:
    """Yields every convolution that explains the difference at one position."""
    for size, arrays in itertools.product(_SIZES, (4, 1)):
        for parts in groups:
            if gap.channels % parts:
                continue
            kernel = gap.channels * size * size // parts
            slope = 0.0 if gap.only_same else gap.slope
            filters = (difference + slope * gap.channels) / (arrays + kernel + slope)
            count = int(filters)
            if count != filters or count < 1 or count % parts:
                continue
            # The last layer of a classifier has a filter for each class.
            usual = count % _USUAL_MULTIPLE == 0 or gap.following is None
            if count == gap.channels or (usual and not gap.only_same):
                yield _New(count, size, parts, arrays)
        # Depthwise: a kernel for each channel.
        own = gap.channels * (arrays + size * size)
        if own == difference and gap.channels > 1:
            yield _New(gap.channels, size, gap.channels, arrays)


def _inserted(graph: Graph, gap: _Gap, new: _New) -> Edit | None:
    kernel = new.filters * gap.channels * new.size**2 // new.groups
    norm = new.arrays > 1
    roles: Sequence[Role] = NORMALIZED if norm else PLAIN
    counts = tuple((role, kernel if role == Role.KERNEL else new.filters) for role in roles)
    changed = gap.widened(graph, new.filters)
    if changed is None:
        return None
    at = max(graph.stored) if gap.following is None else gap.following
    own = changed.get(at, graph.stored[at])
    stored = {**changed, at: (*own, *counts) if gap.following is None else (*counts, *own)}
    unlikely = 9.0 + (0.0 if new.filters == gap.channels else 2.0) + (0.0 if norm else 2.0)
    unlikely += (0.0 if new.size in (1, 3) else 3.0) + (0.0 if new.groups == 1 else 2.0)
    words = f"a convolution of {new.filters} {new.size}x{new.size} filters"
    words += f" in {new.groups} groups" if new.groups > 1 else ""
    words += " with batch normalization" if norm else ""
    return Edit(
        Option.MISSING,
        at,
        (gap.after,),
        (total(counts),),
        {},
        unlikely,
        stored=stored,
        words=words,
    )
