"""How a `[route]` may differ between a cfg and a file."""

from __future__ import annotations

from collections.abc import Iterator

from yolotf.darknet import cfg
from yolotf.diagnosis import priors
from yolotf.diagnosis.channel_flow import ChannelFlow
from yolotf.diagnosis.edit import Edit, Option, edit_of
from yolotf.diagnosis.edit_registry import single_edits, usual_edits


@single_edits(cfg.Route)
def _single(flow: ChannelFlow, layer: cfg.Route, difference: int) -> Iterator[Edit]:
    channels, slope = layer.output_shape.channels, flow.slopes[layer.index]
    if not slope or difference % slope:
        return
    value = channels + int(difference // slope)
    if value < 1:
        return
    penalty = priors.route(
        value,
        channels,
        reachable=value in _reachable(flow, layer),
        plain=len(layer.inputs) == 1 and layer.groups == 1,
    )
    yield edit_of(Option.ROUTE, layer.index, channels, value, penalty, "channels")


@usual_edits(cfg.Route)
def _usual(flow: ChannelFlow, layer: cfg.Route) -> Iterator[tuple[Edit, float]]:
    index, channels, slope = layer.index, layer.output_shape.channels, flow.slopes[layer.index]
    for value in _reachable(flow, layer) - {channels} if slope else ():
        edit = edit_of(Option.ROUTE, index, channels, value, priors.FOLLOWED_ROUTE, "channels")
        yield edit, slope * (value - channels)


def _reachable(flow: ChannelFlow, layer: cfg.Route) -> set[int]:
    """Returns the channels a route can have after a change of one reference or of groups."""
    shapes = [flow.channels(index) for index in layer.inputs]
    total = sum(shapes)
    others = {channels for channels, first in flow.first_with.items() if first < layer.index}
    reachable = {total // groups for groups in (1, 2, 4)}
    reachable |= {total + channels for channels in others}
    for channels in set(shapes):
        rest = total - channels
        reachable.add(rest)
        reachable |= {rest + other for other in others}
    return {channels // layer.groups for channels in reachable} | reachable
