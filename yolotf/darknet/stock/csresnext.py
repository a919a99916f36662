"""CSPResNeXt: a backbone of grouped convolutions on one of two branches."""

from __future__ import annotations

from yolotf.darknet.stock.blocks import (
    IOU_HEAD,
    V3_ANCHORS,
    V3_HEAD,
    V4_ANCHORS,
    V4_SCALES,
    path_aggregation,
)
from yolotf.darknet.stock.builder import Builder, detector

_GROUPS = 32


@detector("csresnext50-panet-spp", 512, max_batches=500500, subdivisions=16)
def _csresnext50(net: Builder) -> None:
    path_aggregation(net, *_backbone(net), V3_ANCHORS, (V3_HEAD,) * 3)


@detector(
    "csresnext50-panet-spp-original-optimal",
    608,
    max_batches=500500,
    learning_rate=0.00261,
    momentum=0.949,
    mosaic=1,
)
def _csresnext50_optimal(net: Builder) -> None:
    path_aggregation(
        net, *_backbone(net), V4_ANCHORS, [{**IOU_HEAD, **scale} for scale in V4_SCALES]
    )


def _backbone(net: Builder) -> tuple[int, int]:
    """Adds the backbone; returns the last layers at 1/16 and 1/8 of the image size."""
    net.conv(64, 7, stride=2)
    source = net.maxpool(2, 2)
    _stage(net, source, 128, 64, 3, "leaky")
    ends = []
    for filters, blocks, activation in ((256, 3, "linear"), (512, 5, "linear"), (1024, 2, "leaky")):
        source = net.conv(filters, 3, stride=2, groups=_GROUPS)
        ends.append(_stage(net, source, filters, filters, blocks, activation))
    return ends[1], ends[0]


def _stage(
    net: Builder, source: int, filters: int, branch_filters: int, blocks: int, activation: str
) -> int:
    """Adds two branches, one with `blocks` grouped residual blocks, and joins them."""
    bypass = net.conv(filters, 1, activation=activation)
    net.route(source)
    net.conv(branch_filters, 1, activation=activation)
    for _ in range(blocks):
        before = net.last
        net.conv(filters, 1)
        net.conv(filters, 3, groups=_GROUPS)
        net.conv(filters, 1, activation="linear")
        net.shortcut(before, "leaky")
    net.conv(filters, 1)
    net.route(net.last, bypass)
    return net.conv(2 * filters, 1)
