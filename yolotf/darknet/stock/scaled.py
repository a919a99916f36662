"""Scaled version 4: the csp networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolotf.darknet.stock.blocks import (
    CSP_DARKNET53,
    NEW_COORDS_HEAD,
    SCALED_HEAD,
    V4_ANCHORS,
    csp_neck,
    csp_spp,
    csp_stage,
    merge_down,
    merge_up,
    residual,
    residual_stage,
)
from yolotf.darknet.stock.builder import Builder, Value, detector

_SCALED: dict[str, Any] = {
    "max_batches": 500500,
    "momentum": 0.949,
    "mosaic": 1,
    "letter_box": 1,
    "ema_alpha": 0.9998,
}
"""Training options that these networks share."""
_APART_HEAD: dict[str, Value] = {
    **NEW_COORDS_HEAD,
    "objectness_smooth": 1,
    "obj_normalizer": 0.4,
    "max_delta": 2,
}
_WIDE = ((80, 1), (160, 3), (320, 10), (640, 10), (1280, 5))
_P_STAGES = ((64, 1), (128, 3), (256, 15), (512, 15), (1024, 7))
_P5_ANCHORS = (
    *(13, 17, 31, 25, 24, 51, 61, 45),
    *(48, 102, 119, 96, 97, 189, 217, 184),
    *(171, 384, 324, 451, 616, 618, 800, 800),
)
_P6_ANCHORS = (
    *(13, 17, 31, 25, 24, 51, 61, 45),
    *(61, 45, 48, 102, 119, 96, 97, 189),
    *(97, 189, 217, 184, 171, 384, 324, 451),
    *(324, 451, 545, 357, 616, 618, 1024, 1024),
)


@detector("yolov4-csp", 512, **_SCALED)
def _yolov4_csp(net: Builder) -> None:
    net.activation = "mish"
    p3, p4, p5 = _csp_pyramid(net, CSP_DARKNET53, neck_blocks=2)
    _csp_heads(net, p3, p4, p5, width=128, neck_blocks=2)


@detector("yolov4x-mish", 640, max_batches=500500, momentum=0.949, mosaic=1, letter_box=1)
def _yolov4x_mish(net: Builder) -> None:
    net.activation = "mish"
    p3, p4, p5 = _csp_pyramid(net, _WIDE, neck_blocks=3)
    _csp_heads(net, p3, p4, p5, width=160, neck_blocks=3)


@detector("yolov4-csp-swish", 640, **_SCALED)
def _yolov4_csp_swish(net: Builder) -> None:
    net.activation = "swish"
    p3, p4, p5 = _csp_pyramid(net, CSP_DARKNET53, neck_blocks=2)
    _heads_apart(net, [p3, p4, p5], 2, _APART_HEAD)


@detector("yolov4-csp-x-swish", 640, **_SCALED)
def _yolov4_csp_x_swish(net: Builder) -> None:
    net.activation = "swish"
    pyramid = _csp_pyramid(net, _WIDE, neck_blocks=3)
    _heads_apart(net, pyramid, 3, _APART_HEAD)


@detector("yolov4-csp-x-mish", 640, learning_rate=0.00261, **_SCALED)
def _yolov4_csp_x_mish(net: Builder) -> None:
    net.activation = "mish"
    pyramid = _csp_pyramid(net, _WIDE, neck_blocks=3)
    _heads_apart(net, pyramid, 3, _APART_HEAD)


@detector("yolov4-csp-s-mish", 640, learning_rate=0.00261, **_SCALED)
def _yolov4_csp_s_mish(net: Builder) -> None:
    net.activation = "mish"
    net.conv(32, 3)
    net.conv(32, 3, stride=2)
    residual(net, 32, 32)
    _, fine, middle, _ = (csp_stage(net, filters, 1) for filters in (64, 128, 256, 512))
    p5 = csp_spp(net, 256, 1, narrow=True)
    p4, p3 = _csp_way_up(net, [(middle, 128), (fine, 64)], 1)
    _heads_apart(net, [p3, p4, p5], 1, _APART_HEAD)


@detector("yolov4-p5", 896, **_SCALED)
def _yolov4_p5(net: Builder) -> None:
    net.activation = "mish"
    net.conv(32, 3)
    *_, fine, middle, _ = [csp_stage(net, *stage) for stage in _P_STAGES]
    p5 = csp_spp(net, 512, 1)
    p4, p3 = _csp_way_up(net, [(middle, 256), (fine, 128)], 3)
    _heads_apart(net, [p3, p4, p5], 3, SCALED_HEAD, _P5_ANCHORS)


@detector("yolov4-p6", 1280, stride=64, **_SCALED)
def _yolov4_p6(net: Builder) -> None:
    net.activation = "mish"
    net.conv(32, 3)
    stages = [csp_stage(net, *stage) for stage in (*_P_STAGES, _P_STAGES[-1])]
    *_, fine, middle, coarse, _ = stages
    p6 = csp_spp(net, 512, 1)
    p5, p4, p3 = _csp_way_up(net, [(coarse, 512), (middle, 256), (fine, 128)], 3)
    _heads_apart(net, [p3, p4, p5, p6], 3, SCALED_HEAD, _P6_ANCHORS)


def _csp_way_up(net: Builder, laterals: Sequence[tuple[int, int]], blocks: int) -> list[int]:
    """Adds a neck block for each lateral layer and its filters; returns their last layers."""
    levels = []
    for lateral, filters in laterals:
        merge_up(net, lateral, filters)
        levels.append(csp_neck(net, filters, blocks))
    return levels


def _heads_apart(
    net: Builder,
    pyramid: Sequence[int],
    blocks: int,
    head: Mapping[str, Value],
    anchors: Sequence[float] = V4_ANCHORS,
) -> None:
    """Adds the way down, then all heads after it, the finest first."""
    levels = [pyramid[0]]
    for coarse in pyramid[1:]:
        filters = net.filters(coarse)
        merge_down(net, levels[-1], coarse, filters)
        levels.append(csp_neck(net, filters, blocks))
    count = len(anchors) // 2 // len(levels)
    for number, level in enumerate(levels):
        net.route(level)
        net.conv(2 * net.filters(level), 3)
        net.head("yolo", anchors, range(number * count, (number + 1) * count), head)


def _csp_pyramid(
    net: Builder, stages: Sequence[tuple[int, int]], neck_blocks: int
) -> tuple[int, int, int]:
    """Adds backbone, pyramid pooling and the way up; returns the layers at 1/8, 1/16 and 1/32."""
    net.conv(32, 3)
    residual_stage(net, *stages[0])
    _, fine, middle, _ = (csp_stage(net, *stage) for stage in stages[1:])
    width = stages[-1][0]
    p5 = csp_spp(net, width // 2, neck_blocks - 1)
    p4, p3 = _csp_way_up(net, [(middle, width // 4), (fine, width // 8)], neck_blocks)
    return p3, p4, p5


def _csp_heads(net: Builder, p3: int, p4: int, p5: int, *, width: int, neck_blocks: int) -> None:
    """Adds three heads on the way down, the finest first; `p3` has `width` channels."""
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
