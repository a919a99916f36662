"""The builder that stock networks are written with, and their registry."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from yolotf.darknet import cfg

Value = int | float | str | Sequence[int] | Sequence[float]


class Builder:
    """Collects sections; each method adds one and returns its layer index.

    `activation` applies to the convolutions added after it is set; a network whose neck differs
    from its backbone sets it in between.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.activation = "leaky"
        self.sections: list[cfg.Section] = []

    @property
    def last(self) -> int:
        """Index of the layer added last."""
        return len(self.sections) - 1

    def filters(self, layer: int) -> int:
        """Returns the filters of the convolution with this index."""
        option = self.sections[layer].option("filters")
        return int(option.value) if option else 1

    def add(self, kind: str, **options: Value) -> int:
        """Adds `[kind]` with `options` in their order."""
        self.sections.append(section(kind, options))
        return self.last

    def conv(self, filters: int, size: int, stride: int = 1, **others: Value) -> int:
        """Adds a convolution with batch norm; `others` extend or replace the usual options."""
        usual: dict[str, Value] = {
            "batch_normalize": 1,
            "filters": filters,
            "size": size,
            "stride": stride,
            "pad": 1,
            "activation": self.activation,
        }
        return self.add("convolutional", **usual | others)

    def plain_conv(self, filters: int, size: int, *, pad: bool = True, **others: Value) -> int:
        """Adds a convolution with a bias."""
        usual: dict[str, Value] = {"stride": 1, "activation": self.activation}
        if pad:
            usual["pad"] = 1
        return self.add("convolutional", filters=filters, size=size, **usual | others)

    def maxpool(self, size: int, stride: int) -> int:
        """Adds a maximum over windows."""
        return self.add("maxpool", size=size, stride=stride)

    def upsample(self) -> int:
        """Adds an upsampling to twice the rows and columns."""
        return self.add("upsample", stride=2)

    def route(self, *layers: int) -> int:
        """Concatenates `layers` in this order; with a single layer, continues from it."""
        return self.add("route", layers=[self._relative(layer) for layer in layers])

    def second_half(self) -> int:
        """Takes the second half of the channels of the layer before."""
        return self.add("route", layers=-1, groups=2, group_id=1)

    def shortcut(self, layer: int, activation: str = "linear") -> int:
        """Adds `layer` to the layer before."""
        return self.add("shortcut", **{"from": self._relative(layer)}, activation=activation)

    def yolo(self, anchors: Sequence[float], first: int, **options: Value) -> int:
        """Adds a convolution and a head for the anchors `first` to `first + 2`."""
        return self.head("yolo", anchors, range(first, first + 3), options)

    def head(
        self, kind: str, anchors: Sequence[float], mask: range, options: Mapping[str, Value]
    ) -> int:
        """Adds a convolution and a `[yolo]` or `[Gaussian_yolo]` for the anchors of `mask`."""
        # With new_coords the sigmoid is the convolution's, not the head's (yolo_layer.c:673).
        activation = "logistic" if options.get("new_coords") else "linear"
        self._head_conv(len(mask), activation, 8 if kind == "Gaussian_yolo" else 4)
        return self.add(
            kind,
            mask=mask,
            anchors=anchors,
            classes=self.classes,
            num=len(anchors) // 2,
            **options,
        )

    def region(self, anchors: Sequence[float], **options: Value) -> int:
        """Adds a convolution and the head of YOLO version 2, for all its anchors."""
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

    def _head_conv(self, anchors: int, activation: str, coords: int = 4) -> None:
        """Adds the convolution of a head: coordinates, objectness and classes for each anchor."""
        filters = anchors * (coords + 1 + self.classes)
        self.plain_conv(filters, 1, activation=activation)

    def _relative(self, layer: int) -> int:
        return layer - len(self.sections)


def section(kind: str, options: dict[str, Value]) -> cfg.Section:
    """Returns `[kind]` with `options` in their order, without line numbers."""
    return cfg.Section(
        kind, 0, tuple(cfg.Option(key, _text(value), 0) for key, value in options.items())
    )


def _text(value: Value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return str(value)
    return ",".join(map(str, value))


class Stock(NamedTuple):
    """A network by name: its defaults, its `[net]` options, and how it is built."""

    name: str
    size: int
    classes: int
    stride: int
    """Image pixels per cell of the coarsest head; Darknet warns about sizes that are not a multiple
    (parser.c:1791)."""
    training: dict[str, Value]
    build: Callable[[Builder], None]


Build = Callable[[Builder], None]

DETECTORS: dict[str, Stock] = {}
"""The key of its name -> detector, in the order in which errors list them."""
CLASSIFIERS: dict[str, Stock] = {}


def key(name: str) -> str:
    """Returns a name without case and separators, so that all its spellings are equal."""
    return re.sub(r"[-_\s]", "", name.lower())


def detector(
    name: str, size: int, *, classes: int = 80, stride: int = 32, **options: Any
) -> Callable[[Build], Build]:
    """Registers a network with its defaults; `options` are `[net]` options (see `training`)."""

    def register(build: Build) -> Build:
        DETECTORS[key(name)] = Stock(name, size, classes, stride, training(**options), build)
        return build

    return register


def classifier(
    name: str, size: int, *, classes: int = 1000, stride: int = 32
) -> Callable[[Build], Build]:
    """Registers a classifier."""

    def register(build: Build) -> Build:
        CLASSIFIERS[key(name)] = Stock(name, size, classes, stride, {}, build)
        return build

    return register


def training(
    *,
    max_batches: int,
    learning_rate: float = 0.001,
    momentum: float = 0.9,
    subdivisions: int = 8,
    **others: Value | None,
) -> dict[str, Value]:
    """Returns the `[net]` options for training: the rate falls tenfold after 80 and 90 %.

    `others` extend or replace the usual options; None leaves an option out.
    """
    rounded = max_batches // 1000 * 1000
    usual: dict[str, Value | None] = {
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
    }
    return {key: value for key, value in (usual | others).items() if value is not None}
