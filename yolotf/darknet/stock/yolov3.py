"""Version 3: heads at several strides."""

from __future__ import annotations

from yolotf.darknet.stock.blocks import (
    TINY_ANCHORS,
    V3_ANCHORS,
    V3_HEAD,
    bottlenecks,
    darknet53,
    spp,
    tiny_backbone,
    upsampled,
)
from yolotf.darknet.stock.builder import Builder, detector


@detector("yolov3-tiny", 416, max_batches=500200)
def _yolov3_tiny(net: Builder) -> None:
    fine = tiny_backbone(net)
    coarse = net.conv(256, 1)
    net.conv(512, 3)
    net.yolo(TINY_ANCHORS, 3, **V3_HEAD)
    net.route(coarse)
    net.route(upsampled(net, 128), fine)
    net.conv(256, 3)
    net.yolo(TINY_ANCHORS, 0, **V3_HEAD)


@detector("yolov3", 416, max_batches=500200, subdivisions=16)
def _yolov3(net: Builder) -> None:
    *_, fine, middle, _ = darknet53(net)
    bottlenecks(net, 512, 5)
    _v3_heads(net, middle, fine)


@detector("yolov3-spp", 608, max_batches=500200, subdivisions=16)
def _yolov3_spp(net: Builder) -> None:
    *_, fine, middle, _ = darknet53(net)
    bottlenecks(net, 512, 3)
    spp(net)
    bottlenecks(net, 512, 3)
    _v3_heads(net, middle, fine)


def _v3_heads(net: Builder, middle: int, fine: int) -> None:
    """Three heads, the coarsest first."""
    coarse = net.last
    net.conv(1024, 3)
    net.yolo(V3_ANCHORS, 6, **V3_HEAD)
    for first, lateral, filters in ((3, middle, 256), (0, fine, 128)):
        net.route(coarse)
        net.route(upsampled(net, filters), lateral)
        coarse = bottlenecks(net, filters, 5)
        net.conv(2 * filters, 3)
        net.yolo(V3_ANCHORS, first, **V3_HEAD)
