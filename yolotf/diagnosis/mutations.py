"""Finds single changes of a network after which it stores as many floats as a file.

Few changes explain the difference in size between file and network: for each layer at most one
number of filters, one kernel size, and so on. Each is an `Edit` with the layout it leads to; the
values of the file decide which is right. What can change in a section is in `diagnosis.sections`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

from yolotf.darknet import cfg
from yolotf.diagnosis import priors
from yolotf.diagnosis import sections as _sections  # noqa: F401  registers the changes of sections
from yolotf.diagnosis.channel_flow import ChannelFlow
from yolotf.diagnosis.edit import INPUT, Edit, Option, edit_of
from yolotf.diagnosis.editing import single_edits_of, spatial_options_of, usual_edits_of
from yolotf.errors import YolotfError
from yolotf.weights import layout
from yolotf.weights.statistics import Run, runs_of

_MOST_CLASSES = 10_000
_MOST_CLASSES_TOO = 1000
"""The most classes where something else changes as well."""
_MOST_HEADS = 5
"""The most heads for which other distributions of the anchors are tried."""
_MOST_ANCHORS = 9
"""The most anchors of one head."""
_MOST_REPARSED = 100
"""The most sections of a network that is parsed again for changes of rows and columns."""


def edits(flow: ChannelFlow, floats: int) -> Iterator[Edit]:
    """Yields every single change after which the network stores `floats` floats."""
    difference = floats - flow.floats
    if not difference:
        return
    yield from _classes(flow, difference)
    yield from _other_masks(flow, difference)
    yield from _channels(flow, difference)
    for layer in flow.network.layers:
        yield from single_edits_of(flow, layer, difference)
    yield from _unread(flow, floats)
    yield from _spatial(flow, floats)


def edits_and_classes(flow: ChannelFlow, floats: int) -> Iterator[Edit]:
    """Yields every common single change combined with another number of classes."""
    model, per_class = flow.network.classes, flow.per_class()
    if model is None or not per_class:
        return
    difference = floats - flow.floats
    changes = (usual_edits_of(flow, layer) for layer in flow.network.layers)
    for edit, more in itertools.chain.from_iterable(changes):
        rest = difference - more
        if not more or rest % per_class:
            continue
        classes = model + int(rest // per_class)
        if classes == model or not 1 <= classes <= _MOST_CLASSES_TOO:
            continue
        yield replace(
            edit,
            overrides={**flow.with_classes(classes), **edit.overrides},
            unlikeliness=edit.unlikeliness + priors.classes_too(classes),
            classes=classes,
            floats=int(more),
        )


# The whole network


def _classes(flow: ChannelFlow, difference: int) -> Iterator[Edit]:
    model = flow.network.classes
    per_class, per_channel = flow.per_class(), flow.slopes[INPUT]
    if model is None or per_class <= 0:
        return
    channels = flow.network.input_shape.channels
    for other in range(1, 17):
        rest = difference - per_channel * (other - channels)
        if rest % per_class:
            continue
        classes = model + int(rest // per_class)
        if classes == model or not 1 <= classes <= _MOST_CLASSES:
            continue
        overrides = flow.with_classes(classes)
        first = flow.heads[0][0].index
        unlikely = priors.classes(classes)
        edit = Edit(Option.CLASSES, first, (model,), (classes,), overrides, unlikely)
        if other == channels:
            yield edit
        elif per_channel:
            yield replace(
                edit,
                overrides={**overrides, ("channels", INPUT): other},
                unlikeliness=unlikely + priors.channels_too(other),
                channels=other,
            )


def _channels(flow: ChannelFlow, difference: int) -> Iterator[Edit]:
    slope = flow.slopes[INPUT]
    channels = flow.network.input_shape.channels
    if slope and difference % slope == 0:
        other = channels + int(difference // slope)
        if 1 <= other <= 64:
            yield edit_of(Option.CHANNELS, INPUT, channels, other, priors.channels(other))


def _other_masks(flow: ChannelFlow, difference: int) -> Iterator[Edit]:
    """Yields other distributions of the anchors among the heads, with any class count."""
    if not 2 <= len(flow.heads) <= _MOST_HEADS:
        return
    indices = tuple(convolution.index for convolution, _ in flow.heads)
    masks = tuple(len(head.anchors) for _, head in flow.heads)
    slopes = [flow.per_filter(convolution) for convolution, _ in flow.heads]
    coords = [head.coords + 1 for _, head in flow.heads]
    model = tuple(convolution.filters for convolution, _ in flow.heads)
    floats = sum(slope * filters for slope, filters in zip(slopes, model, strict=True))
    for shared in itertools.product(range(1, _MOST_ANCHORS + 1), repeat=len(masks)):
        if sum(shared) != sum(masks) or shared == masks:
            continue
        per_class = sum(slope * anchors for slope, anchors in zip(slopes, shared, strict=True))
        fixed = sum(
            slope * anchors * floats_of_box
            for slope, anchors, floats_of_box in zip(slopes, shared, coords, strict=True)
        )
        rest = floats + difference - fixed
        if not per_class or rest % per_class:
            continue
        classes = int(rest // per_class)
        if not 1 <= classes <= _MOST_CLASSES_TOO:
            continue
        file = tuple(
            anchors * (floats_of_box + classes)
            for anchors, floats_of_box in zip(shared, coords, strict=True)
        )
        yield Edit(
            Option.HEADS,
            indices[0],
            model,
            file,
            {("filters", index): filters for index, filters in zip(indices, file, strict=True)},
            priors.other_masks(same_classes=classes == flow.network.classes),
            classes=classes,
            heads=indices,
        )


# Changes for which the whole cfg is parsed again


def _unread(flow: ChannelFlow, floats: int) -> Iterator[Edit]:
    """Yields removals of `dontload=1` or `dontloadscales=1`, of one section or of all."""
    for what in (Option.DONTLOAD, Option.DONTLOADSCALES):
        layers = [layer.index for layer in flow.network.layers if getattr(layer, what.value)]
        for chosen in [layers, *([layer] for layer in layers[:_MOST_REPARSED])]:
            changes = {(index, what.value): 0 for index in chosen}
            if chosen and (runs := _reparsed(flow.network, changes, floats)):
                yield Edit(what, chosen[0], (1,), (0,), {}, priors.READS_ALL, resolved=runs)


def _spatial(flow: ChannelFlow, floats: int) -> Iterator[Edit]:
    """Yields changes before a section whose stored floats depend on the image size."""
    layers = flow.network.layers
    if len(layers) > _MOST_REPARSED or not any(layer.stored_by_size for layer in layers):
        return
    for layer in layers:
        for what, model, values in spatial_options_of(layer):
            for value in values:
                runs = _reparsed(flow.network, {(layer.index, what.value): value}, floats)
                if runs is None:
                    continue
                unlikely = priors.reparsed(
                    output=what is Option.OUTPUT,
                    large_stride=what is Option.STRIDE and value > 2,
                )
                yield Edit(what, layer.index, (model,), (value,), {}, unlikely, resolved=runs)


def _reparsed(
    network: cfg.Network, changes: Mapping[tuple[int, str], int], floats: int
) -> tuple[Run, ...] | None:
    """Returns the layout after a change of options; None if it has not `floats` floats."""
    sections = list(network.sections)
    for (index, key), value in changes.items():
        sections[index + 1] = sections[index + 1].with_option(key, value)
    try:
        changed = cfg.resolve(sections, source=network.source)
        if layout.floats(changed) != floats:
            return None
        return tuple(runs_of(layout.segments(changed)))
    except YolotfError:
        return None
