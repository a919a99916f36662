"""Scaled version 4: the csp networks."""

from __future__ import annotations

from collections.abc import Sequence

from yolotf.darknet.stock.blocks import (
    CSP_DARKNET53,
    NEW_COORDS_HEAD,
    V4_ANCHORS,
    csp_neck,
    csp_spp,
    csp_stage,
    merge_down,
    merge_up,
    residual_stage,
)
from yolotf.darknet.stock.builder import Builder, detector


@detector(
    "yolov4-csp", 512, max_batches=500500, momentum=0.949, mosaic=1, letter_box=1, ema_alpha=0.9998
)
def _yolov4_csp(net: Builder) -> None:
    net.activation = "mish"
    p3, p4, p5 = _csp_pyramid(net, CSP_DARKNET53, neck_blocks=2)
    _csp_heads(net, p3, p4, p5, width=128, neck_blocks=2)


@detector("yolov4x-mish", 640, max_batches=500500, momentum=0.949, mosaic=1, letter_box=1)
def _yolov4x_mish(net: Builder) -> None:
    net.activation = "mish"
    wide = ((80, 1), (160, 3), (320, 10), (640, 10), (1280, 5))
    p3, p4, p5 = _csp_pyramid(net, wide, neck_blocks=3)
    _csp_heads(net, p3, p4, p5, width=160, neck_blocks=3)


@detector(
    "yolov4-csp-swish",
    640,
    max_batches=500500,
    momentum=0.949,
    mosaic=1,
    letter_box=1,
    ema_alpha=0.9998,
)
def _yolov4_csp_swish(net: Builder) -> None:
    net.activation = "swish"
    p3, p4, p5 = _csp_pyramid(net, CSP_DARKNET53, neck_blocks=2)
    merge_down(net, p3, p4, 256)
    p4 = csp_neck(net, 256, 2)
    merge_down(net, p4, p5, 512)
    p5 = csp_neck(net, 512, 2)
    head = {**NEW_COORDS_HEAD, "objectness_smooth": 1, "obj_normalizer": 0.4, "max_delta": 2}
    for first, source, filters in ((0, p3, 256), (3, p4, 512), (6, p5, 1024)):
        net.route(source)
        net.conv(filters, 3)
        net.yolo(V4_ANCHORS, first, **head)


def _csp_pyramid(
    net: Builder, stages: Sequence[tuple[int, int]], neck_blocks: int
) -> tuple[int, int, int]:
    """Backbone, pyramid pooling and the way up: the layers at 1/8, 1/16 and 1/32."""
    net.conv(32, 3)
    residual_stage(net, *stages[0])
    _, fine, middle, _ = (csp_stage(net, *stage) for stage in stages[1:])
    width = stages[-1][0]
    p5 = csp_spp(net, width // 2, neck_blocks - 1)
    merge_up(net, middle, width // 4)
    p4 = csp_neck(net, width // 4, neck_blocks)
    merge_up(net, fine, width // 8)
    return csp_neck(net, width // 8, neck_blocks), p4, p5


def _csp_heads(net: Builder, p3: int, p4: int, p5: int, *, width: int, neck_blocks: int) -> None:
    """Three heads on the way down again, the finest first; `p3` has `width` channels."""
    head = {**NEW_COORDS_HEAD, "iou_thresh": 0.2}
    net.conv(2 * width, 3)
    net.yolo(V4_ANCHORS, 0, **head, objectness_smooth=0, obj_normalizer=4.0, max_delta=5)
    merge_down(net, p3, p4, 2 * width)
    p4 = csp_neck(net, 2 * width, neck_blocks)
    net.conv(4 * width, 3)
    net.yolo(V4_ANCHORS, 3, **head, objectness_smooth=1, obj_normalizer=1.0, max_delta=5)
    merge_down(net, p4, p5, 4 * width)
    csp_neck(net, 4 * width, neck_blocks)
    net.conv(8 * width, 3)
    net.yolo(V4_ANCHORS, 6, **head, objectness_smooth=1, obj_normalizer=0.4, max_delta=2)
