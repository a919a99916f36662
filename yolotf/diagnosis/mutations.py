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
from yolotf.diagnosis.edit_registry import single_edits_of, spatial_options_of, usual_edits_of
from yolotf.errors import YolotfError
from yolotf.weights import layout
from yolotf.weights.statistics import Run, runs_of

_MAX_CLASSES = 10_000
_MAX_CLASSES_COMBINED = 1000
"""The most classes where something else changes as well."""
_MAX_HEADS = 5
"""The most heads for which other distributions of the anchors are tried."""
_MAX_ANCHORS = 9
"""The most anchors of one head."""
_MAX_REPARSED = 100
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
    for edit, added in itertools.chain.from_iterable(changes):
        unexplained = difference - added
        if not added or unexplained % per_class:
            continue
        classes = model + int(unexplained // per_class)
        if classes == model or not 1 <= classes <= _MAX_CLASSES_COMBINED:
            continue
        yield replace(
            edit,
            overrides={**flow.with_classes(classes), **edit.overrides},
            penalty=edit.penalty + priors.classes_too(classes),
            classes=classes,
            floats=int(added),
        )


# The whole network


def _classes(flow: ChannelFlow, difference: int) -> Iterator[Edit]:
    """Yields other numbers of classes, with the same or other input channels."""
    model = flow.network.classes
    per_class, per_channel = flow.per_class(), flow.slopes[INPUT]
    if model is None or per_class <= 0:
        return
    channels = flow.network.input_shape.channels
    for file_channels in range(1, 17):
        unexplained = difference - per_channel * (file_channels - channels)
        if unexplained % per_class:
            continue
        classes = model + int(unexplained // per_class)
        if classes == model or not 1 <= classes <= _MAX_CLASSES:
            continue
        overrides = flow.with_classes(classes)
        first = flow.heads[0][0].index
        penalty = priors.classes(classes)
        edit = Edit(Option.CLASSES, first, (model,), (classes,), overrides, penalty)
        if file_channels == channels:
            yield edit
        elif per_channel:
            yield replace(
                edit,
                overrides={**overrides, ("channels", INPUT): file_channels},
                penalty=penalty + priors.channels_too(file_channels),
                channels=file_channels,
            )


def _channels(flow: ChannelFlow, difference: int) -> Iterator[Edit]:
    """Yields another number of input channels."""
    slope = flow.slopes[INPUT]
    model = flow.network.input_shape.channels
    if slope and difference % slope == 0:
        file = model + int(difference // slope)
        if 1 <= file <= 64:
            yield edit_of(Option.CHANNELS, INPUT, model, file, priors.channels(file))


def _other_masks(flow: ChannelFlow, difference: int) -> Iterator[Edit]:
    """Yields other distributions of the anchors among the heads, with any class count."""
    if not 2 <= len(flow.heads) <= _MAX_HEADS:
        return
    indices = tuple(convolution.index for convolution, _ in flow.heads)
    masks = tuple(len(head.anchors) for _, head in flow.heads)
    slopes = [flow.per_filter(convolution) for convolution, _ in flow.heads]
    filters_of_box = [head.coords + 1 for _, head in flow.heads]
    model = tuple(convolution.filters for convolution, _ in flow.heads)
    floats = sum(slope * filters for slope, filters in zip(slopes, model, strict=True))
    for file_masks in itertools.product(range(1, _MAX_ANCHORS + 1), repeat=len(masks)):
        if sum(file_masks) != sum(masks) or file_masks == masks:
            continue
        per_class = sum(slope * anchors for slope, anchors in zip(slopes, file_masks, strict=True))
        floats_of_boxes = sum(
            slope * anchors * filters
            for slope, anchors, filters in zip(slopes, file_masks, filters_of_box, strict=True)
        )
        floats_of_classes = floats + difference - floats_of_boxes
        if not per_class or floats_of_classes % per_class:
            continue
        classes = int(floats_of_classes // per_class)
        if not 1 <= classes <= _MAX_CLASSES_COMBINED:
            continue
        file = tuple(
            anchors * (filters + classes)
            for anchors, filters in zip(file_masks, filters_of_box, strict=True)
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
    for option in (Option.DONTLOAD, Option.DONTLOADSCALES):
        layers = [layer.index for layer in flow.network.layers if getattr(layer, option.value)]
        for chosen in [layers, *([layer] for layer in layers[:_MAX_REPARSED])]:
            changes = {(index, option.value): 0 for index in chosen}
            if chosen and (runs := _reparsed(flow.network, changes, floats)):
                yield Edit(option, chosen[0], (1,), (0,), {}, priors.READS_ALL, resolved=runs)


def _spatial(flow: ChannelFlow, floats: int) -> Iterator[Edit]:
    """Yields changes before a section whose stored floats depend on the image size."""
    layers = flow.network.layers
    if len(layers) > _MAX_REPARSED or not any(layer.stored_by_size for layer in layers):
        return
    for layer in layers:
        for option, model, values in spatial_options_of(layer):
            for value in values:
                runs = _reparsed(flow.network, {(layer.index, option.value): value}, floats)
                if runs is None:
                    continue
                penalty = priors.reparsed(
                    output=option is Option.OUTPUT,
                    large_stride=option is Option.STRIDE and value > 2,
                )
                yield Edit(option, layer.index, (model,), (value,), {}, penalty, resolved=runs)


def _reparsed(
    network: cfg.Network, changes: Mapping[tuple[int, str], int], floats: int
) -> tuple[Run, ...] | None:
    """Returns the layout after a change of options; None unless it has `floats` floats."""
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
