"""Finds changes of whole sections after which a network stores as many floats as a file.

These are heads of which only some were edited, a layer that was added or removed, and batch
normalization that was folded into all kernels. `mutations` has the changes of a single option.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from yolotf.darknet import cfg
from yolotf.darknet.layer import of_class
from yolotf.darknet.roles import NORMALIZED, PLAIN, SCALES, Role
from yolotf.diagnosis import priors
from yolotf.diagnosis.channel_flow import ChannelFlow
from yolotf.diagnosis.edit import INPUT, Counts, Edit, Option, total
from yolotf.weights.catalog import Match

_MAX_HEADS = 6
"""The most heads of which all subsets (2^6) are tried; no known network has more."""
_MAX_CLASSES = 1000
_USUAL_CLASSES = (80, 20)
_MAX_CLASSIFIER_CLASSES = 30_000
"""More than ImageNet-22k has."""
_SIZES = (1, 3, 5, 7)
_USUAL_MULTIPLE = 8
"""A missing layer that changes the number of channels has a multiple of this many filters."""
_MAX_GROUPS = 64
"""The most groups that are tried, apart from depthwise kernels."""


def edits(flow: ChannelFlow, floats: int, matches: Sequence[Match] = ()) -> Iterator[Edit]:
    """Yields every change of whole sections after which the network stores `floats` floats.

    Args:
        flow: the network.
        floats: the number of floats in the file.
        matches: known networks of that size.
    """
    difference = floats - flow.floats
    if not difference:
        return
    yield from _forgotten_heads(flow, difference)
    yield from _classifier(flow, difference)
    yield from _folded(flow, difference)
    yield from _normalized_like(flow, matches)
    yield from _added(flow, difference)
    yield from _missing(flow, difference)


# Heads


def _forgotten_heads(flow: ChannelFlow, difference: int) -> Iterator[Edit]:
    """Yields changes of some heads to another number of classes; the others keep theirs."""
    heads = flow.heads
    if not 2 <= len(heads) <= _MAX_HEADS:
        return
    model_classes = [head.classes for _, head in heads]
    indices = tuple(convolution.index for convolution, _ in heads)
    per_filter = [flow.per_filter(convolution) for convolution, _ in heads]
    model = tuple(convolution.filters for convolution, _ in heads)
    uniform = len(set(model_classes)) == 1
    for count in range(1, len(heads) + 1):
        for chosen in itertools.combinations(range(len(heads)), count):
            if uniform and count == len(heads):
                continue  # a change of the whole network's class count; see `mutations`
            anchors = {place: len(heads[place][1].anchors) for place in chosen}
            slope = sum(anchors[place] * per_filter[place] for place in chosen)
            present = sum(
                anchors[place] * per_filter[place] * model_classes[place] for place in chosen
            )
            solution = (difference + present) / slope if slope else 0.5
            classes = int(solution)
            if solution != classes or not 1 <= classes <= _MAX_CLASSES:
                continue
            other_classes = {
                model_classes[place] for place in range(len(heads)) if place not in chosen
            }
            if any(model_classes[place] == classes for place in chosen):
                continue  # the same change with fewer heads
            file = tuple(
                head.filters_for(classes) if place in chosen else model[place]
                for place, (_, head) in enumerate(heads)
            )
            penalty = priors.forgotten_heads(
                classes,
                count,
                of_other_heads=classes in other_classes or (not other_classes and not uniform),
                usual=classes in _USUAL_CLASSES,
            )
            yield Edit(
                Option.HEADS,
                indices[chosen[0]],
                model,
                file,
                {("filters", indices[place]): file[place] for place in chosen},
                penalty,
                classes=classes,
                heads=indices,
            )


def _classifier(flow: ChannelFlow, difference: int) -> Iterator[Edit]:
    """Yields another number of classes of a network without heads: of its last layer."""
    network = flow.network
    if network.heads or not flow.stored:
        return
    last = max(flow.stored)
    layer, counts = network.layers[last], flow.stored[last]
    if not layer.stores_per_channel or flow.slopes[last]:
        return
    model_classes = layer.output_shape.channels
    classes = model_classes * (total(counts) + difference) / total(counts)
    if classes != int(classes) or not 2 <= classes <= _MAX_CLASSIFIER_CLASSES:
        return
    stored = {last: tuple((role, count // model_classes * int(classes)) for role, count in counts)}
    penalty = priors.classifier(int(classes))
    yield Edit(Option.CLASSES, last, (model_classes,), (int(classes),), {}, penalty, stored=stored)


# Batch normalization


def _folded(flow: ChannelFlow, difference: int) -> Iterator[Edit]:
    """Yields biases in place of all batch normalizations, and the other way round."""
    convolutions = [
        layer
        for layer in of_class(flow.network.layers, cfg.Convolutional)
        if layer.index in flow.stored
    ]
    normalized = [layer.index for layer in convolutions if layer.batch_normalize]
    if normalized:
        stored = {index: _without_norm(flow.stored[index]) for index in normalized}
        yield from _if_exact(flow, Option.FOLDED, stored, difference)
    before_heads = {convolution.index for convolution, _ in flow.heads}
    plain = [
        layer.index
        for layer in convolutions
        if not layer.batch_normalize and layer.index not in before_heads
    ]
    # The last layer of a classifier has no batch normalization.
    for indices in (plain, plain[:-1]):
        if indices and len(indices) > len(normalized):
            stored = {index: _with_norm(flow.stored[index]) for index in indices}
            yield from _if_exact(flow, Option.NORMALIZED, stored, difference)


def _normalized_like(flow: ChannelFlow, matches: Sequence[Match]) -> Iterator[Edit]:
    """Yields known networks with the same kernels but other batch normalizations."""
    for match in matches:
        rows = match.architecture.at(match.classes, match.channels)
        if match.layers is not None or len(rows) != len(flow.stored):
            continue
        changed: dict[int, Counts] = {}
        for row, (index, counts) in zip(rows, flow.stored.items(), strict=True):
            if not row.filters:
                if total(counts) != row.floats:
                    break
                continue
            if (counts[0][1], counts[-1][1]) != (row.filters, row.kernel):
                break
            known_counts = _with_norm(counts) if row.batch_normalize else _without_norm(counts)
            if known_counts != counts:
                changed[index] = known_counts
        else:
            if len(changed) > 1:
                added = _added_floats(flow, changed)
                option = Option.NORMALIZED if added > 0 else Option.FOLDED
                count = len(changed)
                yield Edit(
                    option,
                    min(changed),
                    (count,),
                    (count,),
                    {},
                    priors.FOLDED_LIKE_KNOWN,
                    stored=changed,
                )


def _if_exact(
    flow: ChannelFlow, option: Option, stored: dict[int, Counts], difference: int
) -> Iterator[Edit]:
    """Yields the change if it explains the difference, alone or with another class count."""
    changed = {index: counts for index, counts in stored.items() if counts != flow.stored[index]}
    added = _added_floats(flow, changed)
    if len(changed) < 2:
        return  # a single section is a change of its option; see `mutations`
    count = len(changed)
    first = min(changed)
    if added == difference:
        yield Edit(option, first, (count,), (count,), {}, priors.FOLDED, stored=changed)
        return
    per_class, classes = flow.per_class(), flow.network.classes
    if not per_class or classes is None or (difference - added) % per_class:
        return
    file_classes = classes + int((difference - added) // per_class)
    if not 1 <= file_classes <= _MAX_CLASSES:
        return
    heads = flow.changed(flow.with_classes(file_classes)) or {}
    if set(heads) & set(changed):
        return
    yield Edit(
        option,
        first,
        (count,),
        (count,),
        {},
        priors.folded_and_classes(file_classes),
        classes=file_classes,
        stored={**changed, **heads},
    )


def _added_floats(flow: ChannelFlow, changed: dict[int, Counts]) -> int:
    """Returns the floats that the changed layers store in addition; negative if they store less."""
    return sum(total(counts) - total(flow.stored[index]) for index, counts in changed.items())


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


def _added(flow: ChannelFlow, difference: int) -> Iterator[Edit]:
    """Yields layers that the file lacks; their readers then read the layer before."""
    before_heads = {convolution.index for convolution, _ in flow.heads}
    for layer in flow.network.layers:
        if layer.index not in flow.stored or len(layer.inputs) != 1:
            continue
        stored_floats = total(flow.stored[layer.index])
        input_channels = flow.channels(layer.inputs[0])
        output_channels = layer.output_shape.channels
        added = flow.slopes[layer.index] * (input_channels - output_channels) - stored_floats
        if added != difference or layer.index in before_heads:
            continue
        changed = flow.changed({("channels", layer.index): input_channels})
        if changed is None:
            continue
        stored = {**changed, layer.index: ()}
        penalty = priors.added(same_channels=input_channels == output_channels)
        yield Edit(Option.ADDED, layer.index, (stored_floats,), (0,), {}, penalty, stored=stored)


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

    def widened(self, flow: ChannelFlow, filters: int) -> dict[int, Counts] | None:
        """Returns what later layers store if the layer has `filters`; None if impossible."""
        reader = self.reader
        if filters == self.channels:
            return {}
        if reader is None:
            return flow.changed({("channels", self.after): filters})
        if reader.index in flow.stored:
            return flow.changed({}, input_channels={reader.index: filters})
        channels = reader.output_shape.channels
        added = reader.channels_from(filters - self.channels)
        if added != int(added):
            return None
        return flow.changed({("channels", reader.index): channels + int(added)})


def _gaps(flow: ChannelFlow) -> Iterator[_Gap]:
    layers = flow.network.layers
    before_heads = {convolution.index for convolution, _ in flow.heads}
    following: list[int | None] = [None] * (len(layers) + 1)
    for index in range(len(layers) - 1, -1, -1):
        following[index] = index if index in flow.stored else following[index + 1]
    for after in range(INPUT, len(layers) - 1):
        reader = layers[after + 1]
        if after in before_heads or reader.ends_graph:
            continue
        gap = _Gap(after, following[after + 1], flow.channels(after))
        readers = flow.readers(after)
        if reader.index not in readers:
            yield gap._replace(only_same=True)
            continue
        if len(readers) > 1:
            yield gap._replace(slope=flow.slopes[after])
        if reader.inputs == (after,) and reader.index in flow.stored:
            yield gap._replace(slope=flow.per_channel(reader), reader=reader)
        elif after in reader.channel_inputs:
            slope = reader.channels_from(flow.slopes[reader.index])
            yield gap._replace(slope=slope, reader=reader)
        else:
            yield gap._replace(only_same=True)


def _missing(flow: ChannelFlow, difference: int) -> Iterator[Edit]:
    """Yields convolutions that the cfg lacks."""
    seen: set[tuple[int | None, int, int, int, int]] = set()
    groups_of_network = {layer.channel_groups for layer in flow.network.layers}
    groups = sorted({1} | {count for count in groups_of_network if 1 < count <= _MAX_GROUPS})
    for gap in _gaps(flow):
        for convolution in _convolutions(gap, difference, groups):
            if convolution.filters == gap.channels:
                # All positions between the same two layers with weights are equivalent.
                key = (gap.following, *convolution)
                if key in seen:
                    continue
                seen.add(key)
            edit = _inserted(flow, gap, convolution)
            if edit is not None:
                yield edit


class _Convolution(NamedTuple):
    """A convolution that the cfg may lack."""

    filters: int
    size: int
    groups: int
    arrays: int
    """The number of arrays with a float for each filter: 4 with batch normalization, else 1."""


def _convolutions(
    gap: _Gap, difference: int, groups_to_try: Sequence[int]
) -> Iterator[_Convolution]:
    """Yields every convolution that explains the difference at a position."""
    for size, arrays in itertools.product(_SIZES, (4, 1)):
        for groups in groups_to_try:
            if gap.channels % groups:
                continue
            kernel_of_filter = gap.channels * size * size // groups
            slope = 0.0 if gap.only_same else gap.slope
            solution = (difference + slope * gap.channels) / (arrays + kernel_of_filter + slope)
            filters = int(solution)
            if filters != solution or filters < 1 or filters % groups:
                continue
            # The last layer of a classifier has a filter for each class.
            usual = filters % _USUAL_MULTIPLE == 0 or gap.following is None
            if filters == gap.channels or (usual and not gap.only_same):
                yield _Convolution(filters, size, groups, arrays)
        depthwise_floats = gap.channels * (arrays + size * size)
        if depthwise_floats == difference and gap.channels > 1:
            yield _Convolution(gap.channels, size, gap.channels, arrays)


def _inserted(flow: ChannelFlow, gap: _Gap, new: _Convolution) -> Edit | None:
    """Returns the edit that inserts a convolution into a gap; None if that is impossible."""
    kernel = new.filters * gap.channels * new.size**2 // new.groups
    norm = new.arrays > 1
    roles: Sequence[Role] = NORMALIZED if norm else PLAIN
    counts = tuple((role, kernel if role == Role.KERNEL else new.filters) for role in roles)
    changed = gap.widened(flow, new.filters)
    if changed is None:
        return None
    # The new arrays are listed with those of the next layer; at the end, of the last layer.
    neighbour = max(flow.stored) if gap.following is None else gap.following
    arrays = changed.get(neighbour, flow.stored[neighbour])
    arrays = (*arrays, *counts) if gap.following is None else (*counts, *arrays)
    stored = {**changed, neighbour: arrays}
    penalty = priors.missing(
        same_channels=new.filters == gap.channels,
        normalized=norm,
        usual_size=new.size in (1, 3),
        grouped=new.groups != 1,
    )
    description = f"a convolution of {new.filters} {new.size}x{new.size} filters"
    description += f" in {new.groups} groups" if new.groups > 1 else ""
    description += " with batch normalization" if norm else ""
    return Edit(
        Option.MISSING,
        neighbour,
        (gap.after,),
        (total(counts),),
        {},
        penalty,
        stored=stored,
        description=description,
    )
