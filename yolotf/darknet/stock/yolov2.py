"""Version 2: one head for all anchors."""

from __future__ import annotations

from yolotf.darknet.stock.blocks import V2_ANCHORS, tiny_backbone
from yolotf.darknet.stock.builder import Builder, Value, detector

# What the heads of each generation have in common, training included.
_V2_HEAD: dict[str, Value] = {
    "object_scale": 5,
    "noobject_scale": 1,
    "class_scale": 1,
    "coord_scale": 1,
    "absolute": 1,
    "thresh": 0.6,
    "random": 1,
}


_DARKNET19 = ((64, 0), (128, 1), (256, 1), (512, 2), (1024, 2))
"""Filters of each stage and how often it narrows."""


@detector("yolov2", 416, max_batches=500200)
def _yolov2(net: Builder) -> None:
    net.conv(32, 3)
    stages = [_pooled_stage(net, *stage) for stage in _DARKNET19]
    net.conv(1024, 3)
    coarse = net.conv(1024, 3)
    net.route(stages[-2])
    net.conv(64, 1)
    net.add("reorg", stride=2)
    net.route(net.last, coarse)
    net.conv(1024, 3)
    net.region(V2_ANCHORS, jitter=0.3, rescore=1, **_V2_HEAD)


def _pooled_stage(net: Builder, filters: int, bottlenecks: int) -> int:
    net.maxpool(2, 2)
    net.conv(filters, 3)
    for _ in range(bottlenecks):
        net.conv(filters // 2, 1)
        net.conv(filters, 3)
    return net.last


@detector("yolov2-tiny", 416, max_batches=500200)
def _yolov2_tiny(net: Builder) -> None:
    tiny_backbone(net)
    net.conv(512, 3)
    net.region(V2_ANCHORS, jitter=0.2, rescore=0, **_V2_HEAD)
