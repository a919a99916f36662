"""Version 3: heads at several strides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from yolotf.darknet.stock.blocks import (
    TINY_ANCHORS,
    V3_ANCHORS,
    V3_HEAD,
    bottlenecks,
    darknet53,
    prn_heads,
    spp,
    tiny_backbone,
    upsampled,
)
from yolotf.darknet.stock.builder import Builder, Value, detector

_BDD_ANCHORS = (7, 10, 14, 24, 27, 43, 32, 97, 57, 64, 92, 109, 73, 175, 141, 178, 144, 291)
_3L_ANCHORS = (4, 7, 7, 15, 13, 25, 25, 42, 41, 67, 75, 94, 91, 162, 158, 205, 250, 332)


@detector("yolov3-tiny", 416, max_batches=500200)
def _yolov3_tiny(net: Builder) -> None:
    _, fine = tiny_backbone(net)
    coarse = net.conv(256, 1)
    net.conv(512, 3)
    net.yolo(TINY_ANCHORS, 3, **V3_HEAD)
    _tiny_finer_head(net, coarse, fine, 256, TINY_ANCHORS, 0)


def _tiny_finer_head(
    net: Builder, coarse: int, lateral: int, filters: int, anchors: Sequence[float], first: int
) -> int:
    net.route(coarse)
    net.route(upsampled(net, 128), lateral)
    joined = net.conv(filters, 3)
    net.yolo(anchors, first, **V3_HEAD)
    return joined


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


@detector("yolov3-voc", 416, classes=20, max_batches=50200, subdivisions=16)
def _yolov3_voc(net: Builder) -> None:
    *_, fine, middle, _ = darknet53(net)
    bottlenecks(net, 512, 5)
    _v3_heads(net, middle, fine, head={**V3_HEAD, "ignore_thresh": 0.5})


@detector("yolov3-openimages", 608, classes=601, max_batches=500200, subdivisions=16, burn_in=5000)
def _yolov3_openimages(net: Builder) -> None:
    _yolov3(net)


@detector("yolov3_5l", 416, max_batches=500200, subdivisions=16)
def _yolov3_5l(net: Builder) -> None:
    stages = darknet53(net)
    bottlenecks(net, 512, 5)
    small = tuple(side for number in range(4, 10) for side in (number, number))
    _v3_heads(net, *stages[3::-1], anchors=small + V3_ANCHORS)


@detector(
    "Gaussian_yolov3_BDD",
    512,
    classes=10,
    max_batches=500200,
    learning_rate=0.0001,
    subdivisions=16,
    max_epochs=300,
)
def _gaussian_yolov3_bdd(net: Builder) -> None:
    """Yolov3 whose heads also output the standard deviation of each coordinate."""
    *_, fine, middle, _ = darknet53(net)
    bottlenecks(net, 512, 5)
    head: dict[str, Value] = {
        **V3_HEAD,
        "ignore_thresh": 0.5,
        "iou_thresh": 0.213,
        "uc_normalizer": 1.0,
        "cls_normalizer": 1.0,
        "iou_normalizer": 0.5,
        "iou_loss": "giou",
        "scale_x_y": 1.0,
    }
    _v3_heads(net, middle, fine, anchors=_BDD_ANCHORS, head=head, kind="Gaussian_yolo")


def _v3_heads(
    net: Builder,
    *laterals: int,
    anchors: Sequence[float] = V3_ANCHORS,
    head: Mapping[str, Value] = V3_HEAD,
    kind: str = "yolo",
) -> None:
    """Adds a head, and a finer one for each of `laterals`."""
    coarse, filters = net.last, 512
    first = 3 * len(laterals)
    net.conv(2 * filters, 3)
    net.head(kind, anchors, range(first, first + 3), head)
    for lateral in laterals:
        # The way up never has fewer than 128 filters.
        narrow, filters = max(128, filters // 2), filters // 2
        first -= 3
        net.route(coarse)
        net.route(upsampled(net, narrow), lateral)
        coarse = bottlenecks(net, filters, 5)
        net.conv(2 * filters, 3)
        net.head(kind, anchors, range(first, first + 3), head)


@detector(
    "yolov3-tiny_3l",
    608,
    classes=2,
    max_batches=200000,
    subdivisions=16,
    steps=[180000, 190000],
)
def _yolov3_tiny_3l(net: Builder) -> None:
    finest, fine = tiny_backbone(net)
    coarse = net.conv(256, 1)
    net.conv(512, 3)
    net.yolo(_3L_ANCHORS, 6, **V3_HEAD)
    coarse = _tiny_finer_head(net, coarse, fine, 256, _3L_ANCHORS, 3)
    _tiny_finer_head(net, coarse, finest, 128, _3L_ANCHORS, 0)


@detector("yolov3-tiny-prn", 416, max_batches=500200)
def _yolov3_tiny_prn(net: Builder) -> None:
    _, fine = tiny_backbone(net, 512)
    net.shortcut(net.last - 2, "leaky")
    prn_heads(net, fine, **V3_HEAD)
