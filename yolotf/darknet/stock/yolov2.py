"""Version 2: one head for all anchors."""

from __future__ import annotations

from yolotf.darknet.stock.blocks import V2_ANCHORS, tiny_backbone
from yolotf.darknet.stock.builder import Builder, Value, detector

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
"""Filters and number of bottlenecks of each stage."""


_VOC_ANCHORS = (
    *(1.3221, 1.73145),
    *(3.19275, 4.00944),
    *(5.05587, 8.09892),
    *(9.47112, 4.84053),
    *(11.2364, 10.0071),
)
_TINY_VOC_ANCHORS = (1.08, 1.19, 3.42, 4.41, 6.63, 11.38, 9.42, 5.11, 16.62, 10.52)
_9000_ANCHORS = (0.77871, 1.14074, 3.00525, 4.31277, 9.22725, 9.61974)


@detector("yolov2", 416, max_batches=500200)
def _yolov2(net: Builder) -> None:
    _passed_through(net)
    net.region(V2_ANCHORS, jitter=0.3, rescore=1, **_V2_HEAD)


@detector("yolov2-voc", 416, classes=20, max_batches=80200, steps=[40000, 60000])
def _yolov2_voc(net: Builder) -> None:
    _passed_through(net)
    net.region(_VOC_ANCHORS, jitter=0.3, rescore=1, **_V2_HEAD)


def _darknet19(net: Builder) -> list[int]:
    """Adds five pooled stages; returns the last layer of each."""
    net.conv(32, 3)
    return [_pooled_stage(net, *stage) for stage in _DARKNET19]


def _passed_through(net: Builder) -> None:
    """Adds the backbone, and joins it with a finer stage whose pixels became channels."""
    stages = _darknet19(net)
    net.conv(1024, 3)
    coarse = net.conv(1024, 3)
    net.route(stages[-2])
    net.conv(64, 1)
    net.add("reorg", stride=2)
    net.route(net.last, coarse)
    net.conv(1024, 3)


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


@detector(
    "yolov2-tiny-voc",
    416,
    classes=20,
    max_batches=40200,
    burn_in=None,
    steps=[-1, 100, 20000, 30000],
    scales=[0.1, 10, 0.1, 0.1],
)
def _yolov2_tiny_voc(net: Builder) -> None:
    tiny_backbone(net)
    net.conv(1024, 3)
    net.region(_TINY_VOC_ANCHORS, jitter=0.2, rescore=1, **_V2_HEAD)


@detector(
    "yolo9000",
    544,
    classes=9418,
    max_batches=500200,
    angle=None,
    saturation=0.75,
    exposure=0.75,
)
def _yolo9000(net: Builder) -> None:
    """The classes form a tree, which Darknet reads from a separate file."""
    _darknet19(net)
    files = {"tree": "data/9k.tree", "map": "data/coco9k.map"}
    net.region(_9000_ANCHORS, jitter=0.2, rescore=1, **_V2_HEAD, **files)
