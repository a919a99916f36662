"""Parts that networks of several families have, and what their heads have in common."""

from __future__ import annotations

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
V4_HEAD: dict[str, Value] = {**CIOU_HEAD, "iou_thresh": 0.213, "max_delta": 5}
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


CSP_DARKNET53 = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
"""Filters and residual blocks of each stage."""


def bottlenecks(net: Builder, filters: int, count: int) -> int:
    """`count` convolutions, 1x1 to `filters` and 3x3 to twice as many in turn."""
    for number in range(count):
        if number % 2:
            net.conv(2 * filters, 3)
        else:
            net.conv(filters, 1)
    return net.last


def residual(net: Builder, bottleneck: int, filters: int) -> int:
    """1x1, 3x3, and the input added."""
    source = net.last
    net.conv(bottleneck, 1)
    net.conv(filters, 3)
    return net.shortcut(source)


def residual_stage(net: Builder, filters: int, blocks: int) -> int:
    """Halves the picture, then `blocks` residual blocks."""
    net.conv(filters, 3, stride=2)
    for _ in range(blocks):
        residual(net, filters // 2, filters)
    return net.last


def csp_stage(net: Builder, filters: int, blocks: int, *, halve: bool = True) -> int:
    """Halves the picture; residual blocks on one of two branches, joined again.

    With `halve` each branch has half the channels; without, all of them, and the blocks
    narrow inside.
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
    """Spatial pyramid pooling: the input and its maxima over 5x5, 9x9 and 13x13 windows."""
    source = net.last
    small = net.maxpool(5, 1)
    net.route(source)
    middle = net.maxpool(9, 1)
    net.route(source)
    return source, small, middle, net.maxpool(13, 1)


def spp(net: Builder) -> int:
    """The pyramid joined, the largest window first."""
    return net.route(*reversed(pools(net)))


def csp_spp(net: Builder, filters: int, blocks: int) -> int:
    """The pyramid on one of two branches, `blocks` pairs of convolutions after it."""
    source = net.last
    bypass = net.conv(filters, 1)
    net.route(source)
    net.conv(filters, 1)
    net.conv(filters, 3)
    net.conv(filters, 1)
    spp(net)
    for _ in range(blocks):
        net.conv(filters, 1)
        net.conv(filters, 3)
    net.route(net.last, bypass)
    return net.conv(filters, 1)


def csp_neck(net: Builder, filters: int, blocks: int) -> int:
    """A neck block of the csp networks: `blocks` pairs of convolutions on one of two branches."""
    source = net.conv(filters, 1)
    bypass = net.conv(filters, 1)
    net.route(source)
    for _ in range(blocks):
        net.conv(filters, 1)
        net.conv(filters, 3)
    net.route(net.last, bypass)
    return net.conv(filters, 1)


def upsampled(net: Builder, filters: int) -> int:
    """1x1 and twice the rows and columns."""
    net.conv(filters, 1)
    return net.upsample()


def merge_up(net: Builder, lateral: int, filters: int) -> int:
    """The layer before, upsampled, after the backbone's `lateral`; both cut to `filters`."""
    coarse = upsampled(net, filters)
    net.route(lateral)
    net.conv(filters, 1)
    return net.route(net.last, coarse)


def merge_down(net: Builder, fine: int, coarse: int, filters: int) -> int:
    """`fine`, halved, before `coarse`."""
    if fine != net.last:
        net.route(fine)
    net.conv(filters, 3, stride=2)
    return net.route(net.last, coarse)


def tiny_backbone(net: Builder) -> int:
    """Seven convolutions, each pooled; returns the fifth, at one sixteenth of the picture."""
    for filters in (16, 32, 64, 128):
        net.conv(filters, 3)
        net.maxpool(2, 2)
    fine = net.conv(256, 3)
    net.maxpool(2, 2)
    net.conv(512, 3)
    net.maxpool(2, 1)
    net.conv(1024, 3)
    return fine


def darknet53(net: Builder) -> list[int]:
    """Five residual stages; returns the last layer of each."""
    net.conv(32, 3)
    stages = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
    return [residual_stage(net, filters, blocks) for filters, blocks in stages]
