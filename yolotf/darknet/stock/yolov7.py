"""Version 7."""

from __future__ import annotations

from collections.abc import Sequence

from yolotf.darknet.stock.blocks import (
    SCALED_HEAD,
    V3_ANCHORS,
    V4_ANCHORS,
    merge_down,
    merge_up,
    pools,
    spp,
)
from yolotf.darknet.stock.builder import Builder, detector


@detector("yolov7-tiny", 416, max_batches=2000200, learning_rate=0.00261, subdivisions=1)
def _yolov7_tiny(net: Builder) -> None:
    net.conv(32, 3, stride=2)
    net.conv(64, 3, stride=2)
    _tiny_elan(net, 32)
    stages = []
    for filters in (64, 128, 256):
        net.maxpool(2, 2)
        stages.append(_tiny_elan(net, filters))
    fine, middle, source = stages
    bypass = net.conv(256, 1)
    net.route(source)
    net.conv(256, 1)
    spp(net)
    net.conv(256, 1)
    net.route(bypass, net.last)
    p5 = net.conv(256, 1)
    merge_up(net, middle, 128)
    p4 = _tiny_elan(net, 64)
    merge_up(net, fine, 64)
    p3 = _tiny_elan(net, 32)
    merge_down(net, p3, p4, 128)
    p4 = _tiny_elan(net, 64)
    merge_down(net, p4, p5, 256)
    p5 = _tiny_elan(net, 128)
    _v7_heads(net, V3_ANCHORS, ((p3, 128), (p4, 256), (p5, 512)))


def _tiny_elan(net: Builder, filters: int) -> int:
    """Adds two branches, the second with two more convolutions; joins all four outputs."""
    source = net.last
    bypass = net.conv(filters, 1)
    net.route(source)
    branch = [net.conv(filters, size) for size in (1, 3, 3)]
    net.route(bypass, *branch)
    return net.conv(2 * filters, 1)


@detector("yolov7", 640, max_batches=2000200, learning_rate=0.00261)
def _yolov7(net: Builder) -> None:
    net.activation = "swish"
    net.conv(32, 3)
    net.conv(64, 3, stride=2)
    net.conv(64, 3)
    net.conv(128, 3, stride=2)
    _elan(net, 64, 256)
    stages = []
    for halved, filters, joined in ((128, 128, 512), (256, 256, 1024), (512, 256, 1024)):
        _pool_and_stride(net, halved)
        stages.append(_elan(net, filters, joined))
    fine, middle, _ = stages
    p5 = _csp_pools(net, 512)
    merge_up(net, middle, 256)
    p4 = _dense_elan(net, 256)
    merge_up(net, fine, 128)
    p3 = _dense_elan(net, 128)
    _pool_and_stride(net, 128, p4)
    p4 = _dense_elan(net, 256)
    _pool_and_stride(net, 256, p5)
    p5 = _dense_elan(net, 512)
    _v7_heads(net, V4_ANCHORS, ((p3, 256), (p4, 512), (p5, 1024)))


@detector("yolov7x", 640, max_batches=2000200, learning_rate=0.00261, subdivisions=1)
def _yolov7x(net: Builder) -> None:
    net.activation = "swish"
    net.conv(40, 3)
    net.conv(80, 3, stride=2)
    net.conv(80, 3)
    net.conv(160, 3, stride=2)
    _elan(net, 64, 320, depth=6)
    stages = []
    for halved, filters, joined in ((160, 128, 640), (320, 256, 1280), (640, 256, 1280)):
        _pool_and_stride(net, halved)
        stages.append(_elan(net, filters, joined, depth=6))
    fine, middle, _ = stages
    p5 = _csp_pools(net, 640)
    merge_up(net, middle, 320)
    p4 = _elan(net, 256, 320, depth=6)
    merge_up(net, fine, 160)
    p3 = _elan(net, 128, 160, depth=6)
    _pool_and_stride(net, 160, p4)
    p4 = _elan(net, 256, 320, depth=6)
    _pool_and_stride(net, 320, p5)
    p5 = _elan(net, 512, 640, depth=6)
    _v7_heads(net, V4_ANCHORS, ((p3, 320), (p4, 640), (p5, 1280)))


def _csp_pools(net: Builder, filters: int) -> int:
    """Adds two branches, one with pyramid pooling, the smallest window first; joins them."""
    source = net.last
    bypass = net.conv(filters, 1)
    net.route(source)
    net.conv(filters, 1)
    net.conv(filters, 3)
    net.conv(filters, 1)
    net.route(*pools(net))
    net.conv(filters, 1)
    net.conv(filters, 3)
    net.route(net.last, bypass)
    return net.conv(filters, 1)


def _elan(net: Builder, filters: int, joined: int, depth: int = 4) -> int:
    """Adds two branches, the second with `depth` more convolutions; joins every other output."""
    source = net.last
    bypass = net.conv(filters, 1)
    net.route(source)
    branch = [net.conv(filters, 1)]
    branch += [net.conv(filters, 3) for _ in range(depth)]
    net.route(*branch[::-2], bypass)
    return net.conv(joined, 1)


def _dense_elan(net: Builder, filters: int) -> int:
    """Like `_elan`, with 3x3 convolutions of half the filters, and all outputs joined."""
    source = net.last
    bypass = net.conv(filters, 1)
    net.route(source)
    branch = [net.conv(filters, 1)]
    branch += [net.conv(filters // 2, 3) for _ in range(4)]
    net.route(*reversed(branch), bypass)
    return net.conv(filters, 1)


def _pool_and_stride(net: Builder, filters: int, *others: int) -> int:
    """Halves the image by a maximum and by a stride; joins both results and `others`."""
    source = net.last
    net.maxpool(2, 2)
    pooled = net.conv(filters, 1)
    net.route(source)
    net.conv(filters, 1)
    net.conv(filters, 3, stride=2)
    return net.route(net.last, pooled, *others)


def _v7_heads(net: Builder, anchors: Sequence[float], sources: Sequence[tuple[int, int]]) -> None:
    """Adds a head for each (layer, filters), after a 3x3 convolution."""
    for number, (source, filters) in enumerate(sources):
        net.route(source)
        net.conv(filters, 3)
        net.yolo(anchors, 3 * number, **SCALED_HEAD)
