"""Stock networks written as Python: `network("yolov4", classes=3)`.

Each is the network of the cfg of the same name that ships with Darknet (AlexeyAB/darknet cfg/),
layer for layer, so files trained with that cfg load into it. What training needs (learning rate,
loss weights, augmentation) is written too: Darknet can train from `network(...).to_cfg()`.

References between layers are never typed in: every builder method returns the index of the layer
it added, counted from 0 after `[net]` as Darknet counts, and later layers name that index.
"""

from __future__ import annotations

import difflib
import numbers
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from yolotf.darknet import cfg
from yolotf.errors import CfgError

STRIDE = 32
"""Pixels of the picture to one cell of the coarsest head, in every network here; Darknet warns
about other sizes (parser.c:1791)."""

_NOT_DARKNET = re.compile(r"yolo(v?(5|6|8|9|1\d|26)|x|r|nas|s$|world)")
"""Names of detectors that others made in other frameworks."""

_Value = int | float | str | Sequence[int] | Sequence[float]


class _Builder:
    """Collects sections; each method adds one and returns its layer index.

    `activation` is that of the convolutions from here on; a network whose neck differs from its
    backbone sets it in between.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.activation = "leaky"
        self.sections: list[cfg.Section] = []

    @property
    def last(self) -> int:
        """Index of the layer added last."""
        return len(self.sections) - 1

    def add(self, kind: str, **options: _Value) -> int:
        """Adds `[kind]` with `options` in their order."""
        self.sections.append(_section(kind, options))
        return self.last

    def conv(self, filters: int, size: int, stride: int = 1) -> int:
        """A convolution with batch norm."""
        return self.add(
            "convolutional",
            batch_normalize=1,
            filters=filters,
            size=size,
            stride=stride,
            pad=1,
            activation=self.activation,
        )

    def maxpool(self, size: int, stride: int) -> int:
        return self.add("maxpool", size=size, stride=stride)

    def upsample(self) -> int:
        return self.add("upsample", stride=2)

    def route(self, *layers: int) -> int:
        """Joins `layers` in this order; one layer alone continues from there."""
        return self.add("route", layers=[self._relative(layer) for layer in layers])

    def second_half(self) -> int:
        """The second half of the channels of the layer before."""
        return self.add("route", layers=-1, groups=2, group_id=1)

    def shortcut(self, layer: int) -> int:
        """Adds `layer` to the layer before."""
        return self.add("shortcut", **{"from": self._relative(layer)}, activation="linear")

    def yolo(self, anchors: Sequence[float], first: int, **options: _Value) -> int:
        """A head for the anchors `first`, `first + 1`, `first + 2`, with its convolution."""
        mask = range(first, first + 3)
        # With new_coords the sigmoid is the convolution's, not the head's (yolo_layer.c:673).
        self._head_conv(len(mask), "logistic" if options.get("new_coords") else "linear")
        return self.add(
            "yolo",
            mask=mask,
            anchors=anchors,
            classes=self.classes,
            num=len(anchors) // 2,
            **options,
        )

    def region(self, anchors: Sequence[float], **options: _Value) -> int:
        """The head of YOLO version 2, for all its anchors, with its convolution."""
        self._head_conv(len(anchors) // 2, "linear")
        return self.add(
            "region",
            anchors=anchors,
            bias_match=1,
            classes=self.classes,
            coords=4,
            num=len(anchors) // 2,
            softmax=1,
            **options,
        )

    def _head_conv(self, anchors: int, activation: str) -> None:
        """Four coordinates, objectness and the classes for each anchor; with bias."""
        self.add(
            "convolutional",
            filters=anchors * (4 + 1 + self.classes),
            size=1,
            stride=1,
            pad=1,
            activation=activation,
        )

    def _relative(self, layer: int) -> int:
        return layer - len(self.sections)


def _section(kind: str, options: dict[str, _Value]) -> cfg.Section:
    return cfg.Section(
        kind, 0, tuple(cfg.Option(key, _text(value), 0) for key, value in options.items())
    )


def _text(value: _Value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return str(value)
    return ",".join(map(str, value))


class _Stock(NamedTuple):
    name: str
    size: int
    training: dict[str, _Value]
    build: Callable[[_Builder], None]


_STOCK: dict[str, _Stock] = {}
_CLASSIFIERS: dict[str, _Stock] = {}


def network(
    name: str,
    *,
    classes: int | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
) -> cfg.Network:
    """Builds a stock network.

    Args:
        name: one of `NAMES` or `CLASSIFIERS`; upper case, `_`, `-` and spaces make no difference.
        classes: what it tells apart; by default the 80 of COCO, or a classifier's 1000.
        size: of the picture in pixels, one number or `(height, width)`, multiples of 32;
            by default the stock cfg's.
        channels: of the picture.

    Returns:
        The network, its lines being those of its own `to_cfg()`.

    Raises:
        CfgError: an unknown name (facts `name`, `known`, `nearest`), or a number that the
            network cannot have.
        TypeError: an argument is no number; the message shows the call that was meant.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a stock network's, as network('yolov4'), not {name!r:.80}")
    _check_counts(name, classes, channels)
    classes = None if classes is None else int(classes)
    channels = int(channels)
    stock = _STOCK.get(_key(name)) or _CLASSIFIERS.get(_key(name))
    if classes is None:
        classes = 1000 if _key(name) in _CLASSIFIERS else 80
    if stock is None:
        nearest = difflib.get_close_matches(_key(name), _STOCK, n=1)
        suggestion = f"; did you mean {_STOCK[nearest[0]].name}?" if nearest else ""
        if _NOT_DARKNET.match(_key(name)):
            # Near in name only: the weights are PyTorch's, and no .weights file exists.
            nearest = []
            suggestion = f"; {name} is no Darknet network and has no .weights file"
        elif name.endswith(".cfg"):
            suggestion = f"; a cfg is read by yolotf.parse_cfg({name!r})"
        raise CfgError(
            f"{name!r} is no stock network, they are: {', '.join(NAMES)}{suggestion}",
            name=name,
            known=NAMES,
            nearest=_STOCK[nearest[0]].name if nearest else None,
        )
    for what, count in (("classes", classes), ("channels", channels)):
        if count < 1:
            raise CfgError(
                f"{stock.name}: {what} must be at least 1, not {count}",
                source=stock.name,
                found=count,
            )
    if size is None:
        size = stock.size
    height, width = _height_and_width(name, size)
    for what, pixels in (("height", height), ("width", width)):
        if pixels < STRIDE or pixels % STRIDE:
            nearest_size = max(STRIDE, round(pixels / STRIDE) * STRIDE)
            raise CfgError(
                f"{stock.name}: {what} {pixels} is not a multiple of {STRIDE}; "
                f"the nearest is {nearest_size}",
                source=stock.name,
                found=pixels,
                nearest=nearest_size,
            )
    builder = _Builder(classes)
    stock.build(builder)
    net = _section(
        "net", {"width": width, "height": height, "channels": channels, **stock.training}
    )
    text = cfg.sections_to_cfg([net, *builder.sections])
    return cfg.parse_text(text, source=stock.name, name=stock.name)


def _is_int(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _check_counts(name: str, classes: object, channels: object) -> None:
    """Raises for what is no count, with the call that was meant."""
    if classes is not None and not _is_int(classes):
        advice = "a count; names go to Detector(..., names=...)"
        if isinstance(classes, (list, tuple)):
            advice = f"a count, as network({name!r}, classes={len(classes)})"
        elif isinstance(classes, str) and classes.strip().isdigit():
            advice = f"a count, as network({name!r}, classes={int(classes)})"
        raise TypeError(f"classes must be {advice}, not {classes!r:.80}")
    if not _is_int(channels):
        raise TypeError(
            f"channels must be a count, as network({name!r}, channels=3), not {channels!r:.80}"
        )


def _height_and_width(name: str, size: object) -> tuple[int, int]:
    """`size` as (height, width).

    Raises:
        TypeError: it is neither a whole number nor two.
    """
    if _is_int(size):
        return int(size), int(size)  # type: ignore[call-overload]
    pair = size if isinstance(size, (list, tuple)) else ()
    if len(pair) == 2 and all(map(_is_int, pair)):
        return int(pair[0]), int(pair[1])
    written = (
        re.fullmatch(r"\s*(\d+)\s*(?:[xX*,]\s*(\d+)\s*)?", size) if isinstance(size, str) else None
    )
    if written:
        width, height = written.groups()
        meant = f"({height}, {width}), height first" if height else width
    elif isinstance(size, float) and size.is_integer():
        meant = str(int(size))
    else:
        meant = "416, or (height, width)"
    raise TypeError(
        f"size must be a number or two, as network({name!r}, size={meant}); not {size!r:.80}"
    )


def as_network(source: cfg.Network | cfg.Source, *, classes: int | None = None) -> cfg.Network:
    """A network from whatever names one: itself, a stock name, a cfg's path or its text.

    Args:
        source: a file of that name goes before a stock network.
        classes: for another number of classes than it says.

    Raises:
        CfgError: the cfg is broken, or there is neither such a file nor such a network.
    """
    if isinstance(source, cfg.Network):
        found = source
    elif (
        isinstance(source, str) and re.fullmatch(r"[\w\- ]+", source) and not Path(source).is_file()
    ):
        return network(source) if classes is None else network(source, classes=classes)
    else:
        found = cfg.parse_cfg(source)
    return found if classes is None else found.with_classes(classes)


def _key(name: str) -> str:
    return re.sub(r"[-_\s]", "", name.lower())


_Build = Callable[[_Builder], None]


def _stock(name: str, size: int, **training: Any) -> Callable[[_Build], _Build]:
    """Registers a network under `name` with its default size and its `[net]` options."""

    def register(build: _Build) -> _Build:
        _STOCK[_key(name)] = _Stock(name, size, _training(**training), build)
        return build

    return register


def _training(
    *,
    max_batches: int,
    learning_rate: float = 0.001,
    momentum: float = 0.9,
    subdivisions: int = 8,
    **others: _Value,
) -> dict[str, _Value]:
    """`[net]` options besides the picture's: the rate falls tenfold after 80 and 90 %."""
    rounded = max_batches // 1000 * 1000
    return {
        "batch": 64,
        "subdivisions": subdivisions,
        "momentum": momentum,
        "decay": 0.0005,
        "angle": 0,
        "saturation": 1.5,
        "exposure": 1.5,
        "hue": 0.1,
        "learning_rate": learning_rate,
        "burn_in": 1000,
        "max_batches": max_batches,
        "policy": "steps",
        "steps": [rounded * 8 // 10, rounded * 9 // 10],
        "scales": [0.1, 0.1],
        **others,
    }


# Anchors, width before height: of [region] in grid cells, of [yolo] in pixels.
_V2_ANCHORS = (
    *(0.57273, 0.677385),
    *(1.87446, 2.06253),
    *(3.33843, 5.47434),
    *(7.88282, 3.52778),
    *(9.77052, 9.16828),
)
_V3_ANCHORS = (10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326)
_V4_ANCHORS = (12, 16, 19, 36, 40, 28, 36, 75, 76, 55, 72, 146, 142, 110, 192, 243, 459, 401)
_TINY_ANCHORS = (10, 14, 23, 27, 37, 58, 81, 82, 135, 169, 344, 319)

# What the heads of each generation have in common, training included.
_V2_HEAD: dict[str, _Value] = {
    "object_scale": 5,
    "noobject_scale": 1,
    "class_scale": 1,
    "coord_scale": 1,
    "absolute": 1,
    "thresh": 0.6,
    "random": 1,
}
_V3_HEAD: dict[str, _Value] = {"jitter": 0.3, "ignore_thresh": 0.7, "truth_thresh": 1, "random": 1}
_CIOU_HEAD: dict[str, _Value] = {
    "jitter": 0.3,
    "ignore_thresh": 0.7,
    "truth_thresh": 1,
    "cls_normalizer": 1.0,
    "iou_normalizer": 0.07,
    "iou_loss": "ciou",
    "nms_kind": "greedynms",
    "beta_nms": 0.6,
}
_V4_HEAD: dict[str, _Value] = {**_CIOU_HEAD, "iou_thresh": 0.213, "max_delta": 5}
_V4_TINY_HEAD: dict[str, _Value] = {**_CIOU_HEAD, "scale_x_y": 1.05, "random": 0, "resize": 1.5}
_NEW_COORDS_HEAD: dict[str, _Value] = {
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
_V7_HEAD: dict[str, _Value] = {
    **_NEW_COORDS_HEAD,
    "objectness_smooth": 1,
    "iou_thresh": 0.2,
    "obj_normalizer": 1.0,
    "max_delta": 2,
}


_DARKNET19 = ((64, 0), (128, 1), (256, 1), (512, 2), (1024, 2))
"""Filters of each stage and how often it narrows."""


_CSP_DARKNET53 = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
"""Filters and residual blocks of each stage."""


def _bottlenecks(net: _Builder, filters: int, count: int) -> int:
    """`count` convolutions, 1x1 to `filters` and 3x3 to twice as many in turn."""
    for number in range(count):
        if number % 2:
            net.conv(2 * filters, 3)
        else:
            net.conv(filters, 1)
    return net.last


def _residual(net: _Builder, bottleneck: int, filters: int) -> int:
    """1x1, 3x3, and the input added."""
    source = net.last
    net.conv(bottleneck, 1)
    net.conv(filters, 3)
    return net.shortcut(source)


def _residual_stage(net: _Builder, filters: int, blocks: int) -> int:
    """Halves the picture, then `blocks` residual blocks."""
    net.conv(filters, 3, stride=2)
    for _ in range(blocks):
        _residual(net, filters // 2, filters)
    return net.last


def _csp_stage(net: _Builder, filters: int, blocks: int, *, halve: bool = True) -> int:
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
        _residual(net, width if halve else width // 2, width)
    net.conv(width, 1)
    net.route(net.last, bypass)
    return net.conv(filters, 1)


def _pools(net: _Builder) -> tuple[int, int, int, int]:
    """Spatial pyramid pooling: the input and its maxima over 5x5, 9x9 and 13x13 windows."""
    source = net.last
    small = net.maxpool(5, 1)
    net.route(source)
    middle = net.maxpool(9, 1)
    net.route(source)
    return source, small, middle, net.maxpool(13, 1)


def _spp(net: _Builder) -> int:
    """The pyramid joined, the largest window first."""
    return net.route(*reversed(_pools(net)))


def _csp_spp(net: _Builder, filters: int, blocks: int) -> int:
    """The pyramid on one of two branches, `blocks` pairs of convolutions after it."""
    source = net.last
    bypass = net.conv(filters, 1)
    net.route(source)
    net.conv(filters, 1)
    net.conv(filters, 3)
    net.conv(filters, 1)
    _spp(net)
    for _ in range(blocks):
        net.conv(filters, 1)
        net.conv(filters, 3)
    net.route(net.last, bypass)
    return net.conv(filters, 1)


def _csp_neck(net: _Builder, filters: int, blocks: int) -> int:
    """A neck block of the csp networks: `blocks` pairs of convolutions on one of two branches."""
    source = net.conv(filters, 1)
    bypass = net.conv(filters, 1)
    net.route(source)
    for _ in range(blocks):
        net.conv(filters, 1)
        net.conv(filters, 3)
    net.route(net.last, bypass)
    return net.conv(filters, 1)


def _upsampled(net: _Builder, filters: int) -> int:
    """1x1 and twice the rows and columns."""
    net.conv(filters, 1)
    return net.upsample()


def _merge_up(net: _Builder, lateral: int, filters: int) -> int:
    """The layer before, upsampled, after the backbone's `lateral`; both cut to `filters`."""
    coarse = _upsampled(net, filters)
    net.route(lateral)
    net.conv(filters, 1)
    return net.route(net.last, coarse)


def _merge_down(net: _Builder, fine: int, coarse: int, filters: int) -> int:
    """`fine`, halved, before `coarse`."""
    if fine != net.last:
        net.route(fine)
    net.conv(filters, 3, stride=2)
    return net.route(net.last, coarse)


@_stock("yolov2", 416, max_batches=500200)
def _yolov2(net: _Builder) -> None:
    net.conv(32, 3)
    stages = [_pooled_stage(net, *stage) for stage in _DARKNET19]
    net.conv(1024, 3)
    coarse = net.conv(1024, 3)
    net.route(stages[-2])
    net.conv(64, 1)
    net.add("reorg", stride=2)
    net.route(net.last, coarse)
    net.conv(1024, 3)
    net.region(_V2_ANCHORS, jitter=0.3, rescore=1, **_V2_HEAD)


def _pooled_stage(net: _Builder, filters: int, bottlenecks: int) -> int:
    net.maxpool(2, 2)
    net.conv(filters, 3)
    for _ in range(bottlenecks):
        net.conv(filters // 2, 1)
        net.conv(filters, 3)
    return net.last


@_stock("yolov2-tiny", 416, max_batches=500200)
def _yolov2_tiny(net: _Builder) -> None:
    _tiny_backbone(net)
    net.conv(512, 3)
    net.region(_V2_ANCHORS, jitter=0.2, rescore=0, **_V2_HEAD)


def _tiny_backbone(net: _Builder) -> int:
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


@_stock("yolov3-tiny", 416, max_batches=500200)
def _yolov3_tiny(net: _Builder) -> None:
    fine = _tiny_backbone(net)
    coarse = net.conv(256, 1)
    net.conv(512, 3)
    net.yolo(_TINY_ANCHORS, 3, **_V3_HEAD)
    net.route(coarse)
    net.route(_upsampled(net, 128), fine)
    net.conv(256, 3)
    net.yolo(_TINY_ANCHORS, 0, **_V3_HEAD)


@_stock("yolov3", 416, max_batches=500200, subdivisions=16)
def _yolov3(net: _Builder) -> None:
    *_, fine, middle, _ = _darknet53(net)
    _bottlenecks(net, 512, 5)
    _v3_heads(net, middle, fine)


@_stock("yolov3-spp", 608, max_batches=500200, subdivisions=16)
def _yolov3_spp(net: _Builder) -> None:
    *_, fine, middle, _ = _darknet53(net)
    _bottlenecks(net, 512, 3)
    _spp(net)
    _bottlenecks(net, 512, 3)
    _v3_heads(net, middle, fine)


def _darknet53(net: _Builder) -> list[int]:
    net.conv(32, 3)
    stages = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
    return [_residual_stage(net, filters, blocks) for filters, blocks in stages]


def _v3_heads(net: _Builder, middle: int, fine: int) -> None:
    """Three heads, the coarsest first."""
    coarse = net.last
    net.conv(1024, 3)
    net.yolo(_V3_ANCHORS, 6, **_V3_HEAD)
    for first, lateral, filters in ((3, middle, 256), (0, fine, 128)):
        net.route(coarse)
        net.route(_upsampled(net, filters), lateral)
        coarse = _bottlenecks(net, filters, 5)
        net.conv(2 * filters, 3)
        net.yolo(_V3_ANCHORS, first, **_V3_HEAD)


@_stock("yolov4", 608, max_batches=500500, learning_rate=0.0013, momentum=0.949, mosaic=1)
def _yolov4(net: _Builder) -> None:
    net.activation = "mish"
    net.conv(32, 3)
    _csp_stage(net, 64, 1, halve=False)
    *_, fine, middle, _ = [_csp_stage(net, *stage) for stage in _CSP_DARKNET53[1:]]
    net.activation = "leaky"
    _bottlenecks(net, 512, 3)
    _spp(net)
    p5 = _bottlenecks(net, 512, 3)
    _merge_up(net, middle, 256)
    p4 = _bottlenecks(net, 256, 5)
    _merge_up(net, fine, 128)
    p3 = _bottlenecks(net, 128, 5)
    net.conv(256, 3)
    net.yolo(_V4_ANCHORS, 0, scale_x_y=1.2, **_V4_HEAD)
    _merge_down(net, p3, p4, 256)
    p4 = _bottlenecks(net, 256, 5)
    net.conv(512, 3)
    net.yolo(_V4_ANCHORS, 3, scale_x_y=1.1, **_V4_HEAD)
    _merge_down(net, p4, p5, 512)
    _bottlenecks(net, 512, 6)
    net.yolo(_V4_ANCHORS, 6, scale_x_y=1.05, random=1, **_V4_HEAD)


@_stock("yolov4-tiny", 416, max_batches=2000200, learning_rate=0.00261, subdivisions=1)
def _yolov4_tiny(net: _Builder) -> None:
    _, middle = _tiny_csp_backbone(net)
    coarse = _tiny_coarse_head(net, _TINY_ANCHORS, 3)
    # The stock cfg and the published file use anchors 1 to 3 here, not 0 to 2.
    _tiny_finer_head(net, coarse, middle, 128, _TINY_ANCHORS, 1)


@_stock("yolov4-custom", 608, max_batches=500500, momentum=0.949, mosaic=1)
def _yolov4_custom(net: _Builder) -> None:
    """yolov4 as Darknet's instructions for own classes take it; it trains otherwise."""
    _yolov4(net)


@_stock("yolov4-tiny-custom", 416, max_batches=500200, learning_rate=0.00261, subdivisions=1)
def _yolov4_tiny_custom(net: _Builder) -> None:
    """yolov4-tiny for own classes: the finer head has anchors 0 to 2."""
    _, middle = _tiny_csp_backbone(net)
    coarse = _tiny_coarse_head(net, _TINY_ANCHORS, 3)
    _tiny_finer_head(net, coarse, middle, 128, _TINY_ANCHORS, 0)


@_stock("yolov4-tiny-3l", 608, max_batches=500200, learning_rate=0.00261, subdivisions=1)
def _yolov4_tiny_3l(net: _Builder) -> None:
    fine, middle = _tiny_csp_backbone(net)
    coarse = _tiny_coarse_head(net, _V4_ANCHORS, 6)
    coarse = _tiny_finer_head(net, coarse, middle, 128, _V4_ANCHORS, 3)
    _tiny_finer_head(net, coarse, fine, 64, _V4_ANCHORS, 0)


def _tiny_csp_backbone(net: _Builder) -> tuple[int, int]:
    """Returns the last convolutions at one eighth and one sixteenth of the picture."""
    net.conv(32, 3, stride=2)
    net.conv(64, 3, stride=2)
    _, fine, middle = (_tiny_csp_stage(net, filters) for filters in (64, 128, 256))
    net.conv(512, 3)
    return fine, middle


def _tiny_csp_stage(net: _Builder, filters: int) -> int:
    source = net.conv(filters, 3)
    net.second_half()
    first = net.conv(filters // 2, 3)
    second = net.conv(filters // 2, 3)
    net.route(second, first)
    joined = net.conv(filters, 1)
    net.route(source, joined)
    net.maxpool(2, 2)
    return joined


def _tiny_coarse_head(net: _Builder, anchors: Sequence[float], first: int) -> int:
    coarse = net.conv(256, 1)
    net.conv(512, 3)
    net.yolo(anchors, first, **_V4_TINY_HEAD)
    return coarse


def _tiny_finer_head(
    net: _Builder, coarse: int, lateral: int, filters: int, anchors: Sequence[float], first: int
) -> int:
    net.route(coarse)
    net.route(_upsampled(net, filters), lateral)
    joined = net.conv(2 * filters, 3)
    net.yolo(anchors, first, **_V4_TINY_HEAD)
    return joined


@_stock(
    "yolov4-csp", 512, max_batches=500500, momentum=0.949, mosaic=1, letter_box=1, ema_alpha=0.9998
)
def _yolov4_csp(net: _Builder) -> None:
    net.activation = "mish"
    p3, p4, p5 = _csp_pyramid(net, _CSP_DARKNET53, neck_blocks=2)
    _csp_heads(net, p3, p4, p5, width=128, neck_blocks=2)


@_stock("yolov4x-mish", 640, max_batches=500500, momentum=0.949, mosaic=1, letter_box=1)
def _yolov4x_mish(net: _Builder) -> None:
    net.activation = "mish"
    wide = ((80, 1), (160, 3), (320, 10), (640, 10), (1280, 5))
    p3, p4, p5 = _csp_pyramid(net, wide, neck_blocks=3)
    _csp_heads(net, p3, p4, p5, width=160, neck_blocks=3)


@_stock(
    "yolov4-csp-swish",
    640,
    max_batches=500500,
    momentum=0.949,
    mosaic=1,
    letter_box=1,
    ema_alpha=0.9998,
)
def _yolov4_csp_swish(net: _Builder) -> None:
    net.activation = "swish"
    p3, p4, p5 = _csp_pyramid(net, _CSP_DARKNET53, neck_blocks=2)
    _merge_down(net, p3, p4, 256)
    p4 = _csp_neck(net, 256, 2)
    _merge_down(net, p4, p5, 512)
    p5 = _csp_neck(net, 512, 2)
    head = {**_NEW_COORDS_HEAD, "objectness_smooth": 1, "obj_normalizer": 0.4, "max_delta": 2}
    for first, source, filters in ((0, p3, 256), (3, p4, 512), (6, p5, 1024)):
        net.route(source)
        net.conv(filters, 3)
        net.yolo(_V4_ANCHORS, first, **head)


def _csp_pyramid(
    net: _Builder, stages: Sequence[tuple[int, int]], neck_blocks: int
) -> tuple[int, int, int]:
    """Backbone, pyramid pooling and the way up: the layers at 1/8, 1/16 and 1/32."""
    net.conv(32, 3)
    _residual_stage(net, *stages[0])
    _, fine, middle, _ = (_csp_stage(net, *stage) for stage in stages[1:])
    width = stages[-1][0]
    p5 = _csp_spp(net, width // 2, neck_blocks - 1)
    _merge_up(net, middle, width // 4)
    p4 = _csp_neck(net, width // 4, neck_blocks)
    _merge_up(net, fine, width // 8)
    return _csp_neck(net, width // 8, neck_blocks), p4, p5


def _csp_heads(net: _Builder, p3: int, p4: int, p5: int, *, width: int, neck_blocks: int) -> None:
    """Three heads on the way down again, the finest first; `p3` has `width` channels."""
    head = {**_NEW_COORDS_HEAD, "iou_thresh": 0.2}
    net.conv(2 * width, 3)
    net.yolo(_V4_ANCHORS, 0, **head, objectness_smooth=0, obj_normalizer=4.0, max_delta=5)
    _merge_down(net, p3, p4, 2 * width)
    p4 = _csp_neck(net, 2 * width, neck_blocks)
    net.conv(4 * width, 3)
    net.yolo(_V4_ANCHORS, 3, **head, objectness_smooth=1, obj_normalizer=1.0, max_delta=5)
    _merge_down(net, p4, p5, 4 * width)
    _csp_neck(net, 4 * width, neck_blocks)
    net.conv(8 * width, 3)
    net.yolo(_V4_ANCHORS, 6, **head, objectness_smooth=1, obj_normalizer=0.4, max_delta=2)


@_stock("yolov7-tiny", 416, max_batches=2000200, learning_rate=0.00261, subdivisions=1)
def _yolov7_tiny(net: _Builder) -> None:
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
    _spp(net)
    net.conv(256, 1)
    net.route(bypass, net.last)
    p5 = net.conv(256, 1)
    _merge_up(net, middle, 128)
    p4 = _tiny_elan(net, 64)
    _merge_up(net, fine, 64)
    p3 = _tiny_elan(net, 32)
    _merge_down(net, p3, p4, 128)
    p4 = _tiny_elan(net, 64)
    _merge_down(net, p4, p5, 256)
    p5 = _tiny_elan(net, 128)
    _v7_heads(net, _V3_ANCHORS, ((p3, 128), (p4, 256), (p5, 512)))


def _tiny_elan(net: _Builder, filters: int) -> int:
    """Two branches, two more convolutions on the second; all four joined, 1x1."""
    source = net.last
    bypass = net.conv(filters, 1)
    net.route(source)
    branch = [net.conv(filters, size) for size in (1, 3, 3)]
    net.route(bypass, *branch)
    return net.conv(2 * filters, 1)


@_stock("yolov7", 640, max_batches=2000200, learning_rate=0.00261)
def _yolov7(net: _Builder) -> None:
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
    fine, middle, source = stages
    bypass = net.conv(512, 1)
    net.route(source)
    net.conv(512, 1)
    net.conv(512, 3)
    net.conv(512, 1)
    net.route(*_pools(net))
    net.conv(512, 1)
    net.conv(512, 3)
    net.route(net.last, bypass)
    p5 = net.conv(512, 1)
    _merge_up(net, middle, 256)
    p4 = _dense_elan(net, 256)
    _merge_up(net, fine, 128)
    p3 = _dense_elan(net, 128)
    _pool_and_stride(net, 128, p4)
    p4 = _dense_elan(net, 256)
    _pool_and_stride(net, 256, p5)
    p5 = _dense_elan(net, 512)
    _v7_heads(net, _V4_ANCHORS, ((p3, 256), (p4, 512), (p5, 1024)))


def _elan(net: _Builder, filters: int, joined: int) -> int:
    """Two branches, four more convolutions on the second; every other output joined, 1x1."""
    source = net.last
    bypass = net.conv(filters, 1)
    net.route(source)
    branch = [net.conv(filters, size) for size in (1, 3, 3, 3, 3)]
    net.route(branch[4], branch[2], branch[0], bypass)
    return net.conv(joined, 1)


def _dense_elan(net: _Builder, filters: int) -> int:
    """As `_elan` with 3x3 convolutions half as wide, and every output joined."""
    source = net.last
    bypass = net.conv(filters, 1)
    net.route(source)
    branch = [net.conv(filters, 1)]
    branch += [net.conv(filters // 2, 3) for _ in range(4)]
    net.route(*reversed(branch), bypass)
    return net.conv(filters, 1)


def _pool_and_stride(net: _Builder, filters: int, *others: int) -> int:
    """Halves the picture twice over, by a maximum and by a stride, and joins both and `others`."""
    source = net.last
    net.maxpool(2, 2)
    pooled = net.conv(filters, 1)
    net.route(source)
    net.conv(filters, 1)
    net.conv(filters, 3, stride=2)
    return net.route(net.last, pooled, *others)


def _v7_heads(net: _Builder, anchors: Sequence[float], sources: Sequence[tuple[int, int]]) -> None:
    """A head on each of the layers, after a 3x3 convolution of the given filters."""
    for number, (source, filters) in enumerate(sources):
        net.route(source)
        net.conv(filters, 3)
        net.yolo(anchors, 3 * number, **_V7_HEAD)


# Classifiers, made for the 1000 classes of ImageNet.


def _classifier(name: str, size: int) -> Callable[[_Build], _Build]:
    """Registers a classifier."""

    def register(build: _Build) -> _Build:
        _CLASSIFIERS[_key(name)] = _Stock(name, size, {}, build)
        return build

    return register


def _class_conv(net: _Builder, activation: str = "linear") -> None:
    net.add(
        "convolutional",
        filters=net.classes,
        size=1,
        stride=1,
        pad=1,
        activation=activation,
    )


def _softmax(net: _Builder, *, cost: bool = True) -> None:
    net.add("softmax", groups=1)
    if cost:
        net.add("cost", type="sse")


@_classifier("darknet", 224)
def _darknet_reference(net: _Builder) -> None:
    for filters in (16, 32, 64, 128, 256):
        net.conv(filters, 3)
        net.maxpool(2, 2)
    net.conv(512, 3)
    net.add("maxpool", size=2, stride=2, padding=1)
    net.conv(1024, 3)
    _class_conv(net, "leaky")
    net.add("avgpool")
    _softmax(net)


@_classifier("tiny", 224)
def _tiny_classifier(net: _Builder) -> None:
    for filters in (16, 32):
        net.conv(filters, 3)
        net.maxpool(2, 2)
    for narrow, wide in ((16, 128), (32, 256), (64, 512)):
        for _ in range(2):
            net.conv(narrow, 1)
            net.conv(wide, 3)
        if wide < 512:
            net.maxpool(2, 2)
    net.conv(128, 1)
    _class_conv(net)
    net.add("avgpool")
    _softmax(net)


@_classifier("darknet19", 224)
@_classifier("darknet19_448", 448)
def _darknet19(net: _Builder) -> None:
    for filters in (32, 64):
        net.conv(filters, 3)
        net.maxpool(2, 2)
    for filters, count in ((128, 1), (256, 1), (512, 2), (1024, 2)):
        net.conv(filters, 3)
        for _ in range(count):
            net.conv(filters // 2, 1)
            net.conv(filters, 3)
        if filters < 1024:
            net.maxpool(2, 2)
    _class_conv(net)
    net.add("avgpool")
    _softmax(net)


@_classifier("darknet53", 256)
@_classifier("darknet53_448", 448)
def _darknet53_classifier(net: _Builder) -> None:
    _darknet53(net)
    net.add("avgpool")
    _class_conv(net)
    _softmax(net, cost=False)


def _resnet(*blocks: int) -> _Build:
    def build(net: _Builder) -> None:
        net.conv(64, 7, stride=2)
        net.maxpool(2, 2)
        for stage, count in enumerate(blocks):
            for block in range(count):
                before = net.last
                filters = 64 << stage
                net.conv(filters, 1)
                net.conv(filters, 3, stride=2 if stage and not block else 1)
                net.activation = "linear"
                net.conv(4 * filters, 1)
                net.activation = "leaky"
                # Around the first block of a stage, too: Darknet adds over common channels.
                net.add("shortcut", **{"from": before - len(net.sections)}, activation="leaky")
        _class_conv(net)
        net.add("avgpool")
        _softmax(net)

    return build


_classifier("resnet50", 256)(_resnet(3, 4, 6, 3))
_classifier("resnet101", 256)(_resnet(3, 4, 23, 3))
_classifier("resnet152", 256)(_resnet(3, 8, 36, 3))


NAMES: tuple[str, ...] = tuple(stock.name for stock in _STOCK.values())
"""What `network` can build."""

CLASSIFIERS: tuple[str, ...] = tuple(stock.name for stock in _CLASSIFIERS.values())
"""The stock classifiers."""
