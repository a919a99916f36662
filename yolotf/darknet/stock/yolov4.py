"""Version 4 and its tiny variants."""

from __future__ import annotations

from collections.abc import Sequence

from yolotf.darknet.stock.blocks import (
    CSP_DARKNET53,
    IOU_HEAD,
    TINY_ANCHORS,
    V4_ANCHORS,
    V4_HEAD,
    V4_SCALES,
    V4_TINY_HEAD,
    csp_stage,
    path_aggregation,
    upsampled,
)
from yolotf.darknet.stock.builder import Builder, detector


@detector("yolov4", 608, max_batches=500500, learning_rate=0.0013, momentum=0.949, mosaic=1)
def _yolov4(net: Builder) -> None:
    net.activation = "mish"
    net.conv(32, 3)
    csp_stage(net, 64, 1, halve=False)
    *_, fine, middle, _ = [csp_stage(net, *stage) for stage in CSP_DARKNET53[1:]]
    net.activation = "leaky"
    path_aggregation(net, middle, fine, V4_ANCHORS, [{**V4_HEAD, **scale} for scale in V4_SCALES])


@detector(
    "cd53paspp-gamma", 512, max_batches=500500, learning_rate=0.00261, momentum=0.949, mosaic=1
)
def _cd53paspp_gamma(net: Builder) -> None:
    """yolov4 with one activation throughout."""
    net.conv(32, 3)
    csp_stage(net, 64, 1, halve=False)
    *_, fine, middle, _ = [csp_stage(net, *stage) for stage in CSP_DARKNET53[1:]]
    path_aggregation(net, middle, fine, V4_ANCHORS, [{**IOU_HEAD, **scale} for scale in V4_SCALES])


@detector("yolov4-tiny", 416, max_batches=2000200, learning_rate=0.00261, subdivisions=1)
def _yolov4_tiny(net: Builder) -> None:
    _, middle = _tiny_csp_backbone(net)
    coarse = _tiny_coarse_head(net, TINY_ANCHORS, 3)
    # The stock cfg and the published file use anchors 1 to 3 here, not 0 to 2.
    _tiny_finer_head(net, coarse, middle, 128, TINY_ANCHORS, 1)


@detector("yolov4-custom", 608, max_batches=500500, momentum=0.949, mosaic=1)
def _yolov4_custom(net: Builder) -> None:
    """yolov4 as Darknet's instructions for custom classes use it; only training differs."""
    _yolov4(net)


@detector("yolov4-tiny-custom", 416, max_batches=500200, learning_rate=0.00261, subdivisions=1)
def _yolov4_tiny_custom(net: Builder) -> None:
    """yolov4-tiny for custom classes: the finer head has anchors 0 to 2."""
    _, middle = _tiny_csp_backbone(net)
    coarse = _tiny_coarse_head(net, TINY_ANCHORS, 3)
    _tiny_finer_head(net, coarse, middle, 128, TINY_ANCHORS, 0)


@detector("yolov4-tiny-3l", 608, max_batches=500200, learning_rate=0.00261, subdivisions=1)
def _yolov4_tiny_3l(net: Builder) -> None:
    fine, middle = _tiny_csp_backbone(net)
    coarse = _tiny_coarse_head(net, V4_ANCHORS, 6)
    coarse = _tiny_finer_head(net, coarse, middle, 128, V4_ANCHORS, 3)
    _tiny_finer_head(net, coarse, fine, 64, V4_ANCHORS, 0)


def _tiny_csp_backbone(net: Builder) -> tuple[int, int]:
    """Returns the last convolutions at one eighth and one sixteenth of the image."""
    net.conv(32, 3, stride=2)
    net.conv(64, 3, stride=2)
    _, fine, middle = (_tiny_csp_stage(net, filters) for filters in (64, 128, 256))
    net.conv(512, 3)
    return fine, middle


def _tiny_csp_stage(net: Builder, filters: int) -> int:
    source = net.conv(filters, 3)
    net.second_half()
    first = net.conv(filters // 2, 3)
    second = net.conv(filters // 2, 3)
    net.route(second, first)
    joined = net.conv(filters, 1)
    net.route(source, joined)
    net.maxpool(2, 2)
    return joined


def _tiny_coarse_head(net: Builder, anchors: Sequence[float], first: int) -> int:
    coarse = net.conv(256, 1)
    net.conv(512, 3)
    net.yolo(anchors, first, **V4_TINY_HEAD)
    return coarse


def _tiny_finer_head(
    net: Builder, coarse: int, lateral: int, filters: int, anchors: Sequence[float], first: int
) -> int:
    net.route(coarse)
    net.route(upsampled(net, filters), lateral)
    joined = net.conv(2 * filters, 3)
    net.yolo(anchors, first, **V4_TINY_HEAD)
    return joined
