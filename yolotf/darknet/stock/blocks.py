"""Blocks and head options that several families of networks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from yolotf.darknet.stock.builder import Builder, Value

# Anchors, width before height: of [region] in grid cells, of [yolo] in pixels.
V2_ANCHORS = (
    *(0.57273, 0.677385),
    *(1.87446, 2.06253),
    *(3.33843, 5.47434),
    *(7.88282, 3.52778),
    *(9.77052, 9.16828),
)
V3_ANCHORS = (10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326)
V4_ANCHORS = (12, 16, 19, 36, 40, 28, 36, 75, 76, 55, 72, 146, 142, 110, 192, 243, 459, 401)
TINY_ANCHORS = (10, 14, 23, 27, 37, 58, 81, 82, 135, 169, 344, 319)
V3_HEAD: dict[str, Value] = {"jitter": 0.3, "ignore_thresh": 0.7, "truth_thresh": 1, "random": 1}
CIOU_HEAD: dict[str, Value] = {
    "jitter": 0.3,
    "ignore_thresh": 0.7,
    "truth_thresh": 1,
    "cls_normalizer": 1.0,
    "iou_normalizer": 0.07,
    "iou_loss": "ciou",
    "nms_kind": "greedynms",
    "beta_nms": 0.6,
}
IOU_HEAD: dict[str, Value] = {**CIOU_HEAD, "iou_thresh": 0.213}
V4_HEAD: dict[str, Value] = {**IOU_HEAD, "max_delta": 5}
V4_SCALES: tuple[dict[str, Value], ...] = (
    {"scale_x_y": 1.2},
    {"scale_x_y": 1.1},
    {"scale_x_y": 1.05, "random": 1},
)
"""Options that differ between the three heads, the finest first."""
V4_TINY_HEAD: dict[str, Value] = {**CIOU_HEAD, "scale_x_y": 1.05, "random": 0, "resize": 1.5}
NEW_COORDS_HEAD: dict[str, Value] = {
    "new_coords": 1,
    "scale_x_y": 2.0,
    "jitter": 0.1,
    "ignore_thresh": 0.7,
    "truth_thresh": 1,
    "resize": 1.5,
    "iou_normalizer": 0.05,
    "cls_normalizer": 0.5,
    "iou_loss": "ciou",
    "nms_kind": "diounms",
    "beta_nms": 0.6,
}


SCALED_HEAD: dict[str, Value] = {
    **NEW_COORDS_HEAD,
    "objectness_smooth": 1,
    "iou_thresh": 0.2,
    "obj_normalizer": 1.0,
    "max_delta": 2,
}


CSP_DARKNET53 = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
"""Filters and residual blocks of each stage."""


def bottlenecks(net: Builder, filters: int, count: int) -> int:
    """Adds `count` convolutions, alternately 1x1 to `filters` and 3x3 to twice as many."""
    for number in range(count):
        if number % 2:
            net.conv(2 * filters, 3)
        else:
            net.conv(filters, 1)
    return net.last


def residual(net: Builder, bottleneck: int, filters: int) -> int:
    """Adds a 1x1 and a 3x3 convolution, and a shortcut from their input."""
    source = net.last
    net.conv(bottleneck, 1)
    net.conv(filters, 3)
    return net.shortcut(source)


def residual_stage(net: Builder, filters: int, blocks: int) -> int:
    """Halves the image, then adds `blocks` residual blocks."""
    net.conv(filters, 3, stride=2)
    for _ in range(blocks):
        residual(net, filters // 2, filters)
    return net.last


def csp_stage(net: Builder, filters: int, blocks: int, *, halve: bool = True) -> int:
    """Halves the image, then adds two branches, one with residual blocks, and joins them.

    With `halve` each branch has half the channels. Without it each has all channels, and the
    blocks have half of them inside.
    """
    width = filters // 2 if halve else filters
    source = net.conv(filters, 3, stride=2)
    bypass = net.conv(width, 1)
    net.route(source)
    net.conv(width, 1)
    for _ in range(blocks):
        residual(net, width if halve else width // 2, width)
    net.conv(width, 1)
    net.route(net.last, bypass)
    return net.conv(filters, 1)


def pools(net: Builder) -> tuple[int, int, int, int]:
    """Adds maxima over 5x5, 9x9 and 13x13 windows; returns the input and these three layers."""
    source = net.last
    small = net.maxpool(5, 1)
    net.route(source)
    middle = net.maxpool(9, 1)
    net.route(source)
    return source, small, middle, net.maxpool(13, 1)


def spp(net: Builder) -> int:
    """Adds spatial pyramid pooling, joined with the largest window first."""
    return net.route(*reversed(pools(net)))


def csp_spp(net: Builder, filters: int, blocks: int, *, narrow: bool = False) -> int:
    """Adds two branches, one with pyramid pooling and `blocks` pairs of convolutions; joins them.

    With `narrow`, one convolution precedes the pooling, otherwise three.
    """
    source = net.last
    bypass = net.conv(filters, 1)
    net.route(source)
    net.conv(filters, 1)
    if not narrow:
        net.conv(filters, 3)
        net.conv(filters, 1)
    spp(net)
    for _ in range(blocks):
        net.conv(filters, 1)
        net.conv(filters, 3)
    net.route(net.last, bypass)
    return net.conv(filters, 1)


def csp_neck(net: Builder, filters: int, blocks: int) -> int:
    """Adds a neck block of the csp networks: two branches, one with `blocks` convolution pairs."""
    source = net.conv(filters, 1)
    bypass = net.conv(filters, 1)
    net.route(source)
    for _ in range(blocks):
        net.conv(filters, 1)
        net.conv(filters, 3)
    net.route(net.last, bypass)
    return net.conv(filters, 1)


def upsampled(net: Builder, filters: int) -> int:
    """Adds a 1x1 convolution, and twice the rows and columns."""
    net.conv(filters, 1)
    return net.upsample()


def merge_up(net: Builder, lateral: int, filters: int) -> int:
    """Joins the backbone's `lateral` and the upsampled last layer, each reduced to `filters`."""
    coarse = upsampled(net, filters)
    net.route(lateral)
    net.conv(filters, 1)
    return net.route(net.last, coarse)


def merge_down(net: Builder, fine: int, coarse: int, filters: int) -> int:
    """Joins `fine`, at half its size, and `coarse`."""
    if fine != net.last:
        net.route(fine)
    net.conv(filters, 3, stride=2)
    return net.route(net.last, coarse)


def path_aggregation(
    net: Builder,
    middle: int,
    fine: int,
    anchors: Sequence[float],
    heads: Sequence[Mapping[str, Value]],
) -> None:
    """Adds pyramid pooling, the way up and down again, and three heads, the finest first."""
    bottlenecks(net, 512, 3)
    spp(net)
    p5 = bottlenecks(net, 512, 3)
    merge_up(net, middle, 256)
    p4 = bottlenecks(net, 256, 5)
    merge_up(net, fine, 128)
    p3 = bottlenecks(net, 128, 5)
    net.conv(256, 3)
    net.yolo(anchors, 0, **heads[0])
    merge_down(net, p3, p4, 256)
    p4 = bottlenecks(net, 256, 5)
    net.conv(512, 3)
    net.yolo(anchors, 3, **heads[1])
    merge_down(net, p4, p5, 512)
    bottlenecks(net, 512, 6)
    net.yolo(anchors, 6, **heads[2])


def tiny_backbone(net: Builder, last: int = 1024) -> tuple[int, int]:
    """Adds seven convolutions with pooling; returns those at 1/8 and 1/16 of the image size."""
    stages = []
    for filters in (16, 32, 64, 128, 256):
        stages.append(net.conv(filters, 3))
        net.maxpool(2, 2)
    net.conv(512, 3)
    net.maxpool(2, 1)
    net.conv(last, 3)
    return stages[-2], stages[-1]


def prn_heads(net: Builder, fine: int, **head: Value) -> None:
    """Adds two heads for the tiny anchors, with shortcuts over the channels in common."""
    narrow = net.conv(256, 1)
    coarse = net.conv(256, 3)
    net.shortcut(narrow, "leaky")
    net.yolo(TINY_ANCHORS, 3, **head)
    net.route(coarse)
    upper = upsampled(net, 128)
    net.shortcut(fine, "leaky")
    net.conv(128, 3)
    net.shortcut(upper, "leaky")
    net.shortcut(fine, "leaky")
    net.yolo(TINY_ANCHORS, 1, **head)


def darknet53(net: Builder) -> list[int]:
    """Adds five residual stages; returns the last layer of each."""
    net.conv(32, 3)
    stages = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
    return [residual_stage(net, filters, blocks) for filters, blocks in stages]
