"""Cfgs for tests, written section by section: `net(32) + conv(8, 3) + yolo()`."""

from __future__ import annotations

ANCHORS = "10,14, 23,27, 37,58"


def section(kind: str, **options: object) -> str:
    """Returns a section with its options, one per line."""
    return f"[{kind}]\n" + "".join(f"{key}={value}\n" for key, value in options.items())


def net(height: int, width: int | None = None, channels: int = 3, **options: object) -> str:
    """Returns `[net]` for images of `height` x `width` pixels; square by default."""
    width = height if width is None else width
    return section("net", height=height, width=width, channels=channels, **options)


def conv(filters: int, size: int = 1, **options: object) -> str:
    """Returns a convolution that keeps rows and columns, with a bias and no activation."""
    return section("convolutional", **_convolution(filters, size, "linear", options))


def normalized(filters: int, size: int = 1, activation: str = "leaky", **options: object) -> str:
    """Returns a convolution with batch normalization."""
    convolution = _convolution(filters, size, activation, options)
    return section("convolutional", batch_normalize=1, **convolution)


def _convolution(
    filters: int, size: int, activation: str, options: dict[str, object]
) -> dict[str, object]:
    pad = {"pad": 1} if size > 1 else {}
    return {"filters": filters, "size": size, **pad, "activation": activation, **options}


def maxpool(size: int, stride: int = 2) -> str:
    """Returns a `[maxpool]`."""
    return section("maxpool", size=size, stride=stride)


def route(*layers: int) -> str:
    """Returns a `[route]` of layers."""
    return section("route", layers=",".join(map(str, layers)))


def shortcut(layer: int | str, **options: object) -> str:
    """Returns a `[shortcut]` of one or several layers, without activation."""
    return section("shortcut", **{"from": layer, "activation": "linear", **options})


def yolo(classes: int = 1, anchors: str = ANCHORS, mask: str = "0,1,2", **options: object) -> str:
    """Returns a head and its convolution, which has `len(mask) * (5 + classes)` filters."""
    options = {"num": 3, **options}
    return section("yolo", mask=mask, anchors=anchors, classes=classes, **options)
