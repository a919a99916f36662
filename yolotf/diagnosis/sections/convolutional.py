"""How a `[convolutional]` may differ between a cfg and a file."""

from __future__ import annotations

import math
from collections.abc import Iterator

from yolotf.darknet import cfg
from yolotf.darknet.roles import SCALES
from yolotf.diagnosis import priors
from yolotf.diagnosis.channel_flow import ChannelFlow
from yolotf.diagnosis.edit import Edit, Option, edit_of
from yolotf.diagnosis.edit_registry import OptionValues, single_edits, spatial_options, usual_edits

_SIZES = (1, 3, 5, 7, 2, 4, 9, 11, 6, 8, 10)


@single_edits(cfg.Convolutional)
def _single(flow: ChannelFlow, layer: cfg.Convolutional, difference: int) -> Iterator[Edit]:
    index, filters = layer.index, layer.filters
    if index not in flow.stored:
        return
    more = difference / flow.per_filter(layer)
    if more == int(more) and filters + more >= 1:
        value = filters + int(more)
        before_head = any(layer is convolution for convolution, _ in flow.heads)
        penalty = priors.filters(value, filters, before_head=before_head)
        yield edit_of(Option.FILTERS, index, filters, value, penalty)
    kernel = flow.kernel(index)
    for size in _SIZES:
        if kernel * size * size == (kernel + difference) * layer.size**2:
            penalty = priors.SIZE if size % 2 else priors.EVEN_SIZE
            if layer.section.option("size") is None:
                penalty = priors.MISSING_SIZE
            yield edit_of(Option.SIZE, index, layer.size, size, penalty)
    common = math.gcd(layer.input_shape.channels, filters)
    if kernel + difference > 0 and kernel * layer.groups % (kernel + difference) == 0:
        groups = kernel * layer.groups // (kernel + difference)
        if groups != layer.groups and common % groups == 0:
            penalty = priors.GROUPS if groups in (1, filters) else priors.UNEVEN_GROUPS
            if groups == 1 and layer.section.option("groups") is not None:
                penalty = priors.WRITTEN_GROUPS
            yield edit_of(Option.GROUPS, index, layer.groups, groups, penalty)
    normal = int(layer.batch_normalize)
    if not layer.dontloadscales and difference == (-1 if normal else 1) * len(SCALES) * filters:
        yield edit_of(Option.BATCH_NORMALIZE, index, normal, 1 - normal, priors.BATCH_NORMALIZE)


@usual_edits(cfg.Convolutional)
def _usual(flow: ChannelFlow, layer: cfg.Convolutional) -> Iterator[tuple[Edit, float]]:
    index, filters = layer.index, layer.filters
    if index not in flow.stored:
        return
    kernel = flow.kernel(index)
    for size in {1, 3, 5, 7} - {layer.size}:
        edit = edit_of(Option.SIZE, index, layer.size, size, priors.SIZE)
        yield edit, kernel * size * size / layer.size**2 - kernel
    for groups in {1, filters} - {layer.groups}:
        edit = edit_of(Option.GROUPS, index, layer.groups, groups, priors.GROUPS)
        yield edit, kernel * layer.groups / groups - kernel
    if not any(layer is convolution for convolution, _ in flow.heads):
        for value in {2 * filters, filters // 2} - {0}:
            edit = edit_of(Option.FILTERS, index, filters, value, priors.USUAL_FILTERS)
            yield edit, flow.per_filter(layer) * (value - filters)


@spatial_options(cfg.Convolutional)
def _spatial(layer: cfg.Convolutional) -> OptionValues:
    pad = int(bool(layer.padding))
    yield Option.PAD, pad, [1 - pad]
    yield Option.STRIDE, layer.stride_x, sorted({1, 2, 3, 4} - {layer.stride_x})
    yield Option.SIZE, layer.size, sorted({1, 3, 5, 7, 9, 11} - {layer.size})
    near = {layer.filters * 2, layer.filters // 2, 6, 8, 16, 20, 32, 50, 64} - {0}
    yield Option.FILTERS, layer.filters, sorted(near - {layer.filters})
