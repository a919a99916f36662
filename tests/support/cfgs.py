"""Cfgs for tests, written section by section: `net(32) + conv(8, 3) + yolo()`."""

from __future__ import annotations

ANCHORS = "10,14, 23,27, 37,58"


def section(kind: str, **options: object) -> str:
    """A section with its options, a line each."""
    return f"[{kind}]\n" + "".join(f"{key}={value}\n" for key, value in options.items())


def net(height: int, width: int | None = None, channels: int = 3, **options: object) -> str:
    """`[net]` for images of `height` x `width` pixels; square by default."""
    width = height if width is None else width
    return section("net", height=height, width=width, channels=channels, **options)


def conv(filters: int, size: int = 1, **options: object) -> str:
    """A convolution that keeps rows and columns, with a bias and no activation."""
    return section("convolutional", **_convolution(filters, size, "linear", options))


def normalized(filters: int, size: int = 1, activation: str = "leaky", **options: object) -> str:
    """A convolution with batch normalization."""
    convolution = _convolution(filters, size, activation, options)
    return section("convolutional", batch_normalize=1, **convolution)


def _convolution(
    filters: int, size: int, activation: str, options: dict[str, object]
) -> dict[str, object]:
    pad = {"pad": 1} if size > 1 else {}
    return {"filters": filters, "size": size, **pad, "activation": activation, **options}


def maxpool(size: int, stride: int = 2) -> str:
    """A `[maxpool]`."""
    return section("maxpool", size=size, stride=stride)


def route(*layers: int) -> str:
    """A `[route]` of layers."""
    return section("route", layers=",".join(map(str, layers)))


def shortcut(layer: int | str, **options: object) -> str:
    """A `[shortcut]` of a layer, or several, without an activation."""
    return section("shortcut", **{"from": layer, "activation": "linear", **options})


def yolo(classes: int = 1, anchors: str = ANCHORS, mask: str = "0,1,2", **options: object) -> str:
    """A head of three anchors, whose convolution has `len(mask) * (5 + classes)` filters."""
    options = {"num": 3, **options}
    return section("yolo", mask=mask, anchors=anchors, classes=classes, **options)
