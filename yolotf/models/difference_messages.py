"""The ways in which the results of a Keras model may differ from Darknet's, with messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from yolotf.darknet.graph_checks import BN_EPSILON
from yolotf.text import listed, plural

KINDS = (
    "epsilon",
    "leaky_slope",
    "activation",
    "padding",
    "concat_order",
    "upsampling",
    "reorg",
    "separable",
)


@dataclass(frozen=True)
class Difference:
    """A kind of difference, and the layers that have it.

    Attributes:
        kind: one of `KINDS`.
        layers: names of the Keras layers.
        message: a sentence that says what to change.
    """

    kind: str
    layers: tuple[str, ...]
    message: str


@dataclass
class Differences:
    """Collects the names of layers by kind of difference, and by the difference in words."""

    layers: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def add(self, kind: str, layer: str, detail: str) -> None:
        """Adds a layer, unless it was added already.

        Args:
            kind: one of `KINDS`.
            layer: its name.
            detail: the difference in words, such as `slope 0.3`.
        """
        names = self.layers.setdefault(kind, {}).setdefault(detail, [])
        if layer not in names:
            names.append(layer)

    def all(self) -> tuple[Difference, ...]:
        """Returns the differences in the order of `KINDS`."""
        return tuple(
            Difference(
                kind,
                tuple(_names(by_detail)),
                _MESSAGES[kind](by_detail),
            )
            for kind in KINDS
            if (by_detail := self.layers.get(kind))
        )


_ByDetail = Mapping[str, Sequence[str]]
"""The names of layers by the difference in words."""


def _names(by_detail: _ByDetail) -> list[str]:
    return list(dict.fromkeys(name for names in by_detail.values() for name in names))


def _count(by_detail: _ByDetail, *nouns: str) -> str:
    return plural(len(_names(by_detail)), *nouns)


def _details(by_detail: _ByDetail) -> str:
    texts = (f"{detail} ({listed(names, 5)})" for detail, names in by_detail.items())
    return listed(texts, 3, "; ")


def _epsilon_message(by_detail: _ByDetail) -> str:
    texts = [
        f"{plural(len(names), 'batch normalization has', 'batch normalizations have')} {detail}"
        for detail, names in by_detail.items()
    ]
    return f'{"; ".join(texts)}, Darknet {BN_EPSILON:g}; load with bn_epsilon="darknet"'


def separable_message(names: Sequence[str]) -> str:
    """Returns the message about SeparableConv2D layers and what to use instead."""
    layers = "a SeparableConv2D" if len(names) == 1 else f"{len(names)} SeparableConv2D layers"
    return (
        f"no section has weights for {layers} ({listed(names, 5)}): Darknet has a depthwise and a "
        "1x1 [convolutional] section instead, with a batch normalization and an activation between "
        "them, which SeparableConv2D lacks; use DepthwiseConv2D, BatchNormalization, the "
        "activation and Conv2D"
    )


_MESSAGES: dict[str, Callable[[_ByDetail], str]] = {
    "epsilon": _epsilon_message,
    "leaky_slope": lambda by_detail: (
        f"{_count(by_detail, 'leaky activation')} with a slope other than Darknet's 0.1: "
        f"{_details(by_detail)}; use LeakyReLU(0.1)"
    ),
    "activation": lambda by_detail: (
        f"{_count(by_detail, 'layer')} with a different activation from Darknet's: "
        f"{_details(by_detail)}; use the activation of the cfg"
    ),
    "padding": lambda by_detail: (
        f"{_count(by_detail, 'layer')} with different padding from Darknet's: "
        f"{_details(by_detail)}; use ZeroPadding2D with Darknet's padding, then padding='valid'"
    ),
    "concat_order": lambda by_detail: (
        f"{_count(by_detail, 'concatenation')} with the channels in a different order from "
        f"Darknet's: {_details(by_detail)}; reorder the inputs"
    ),
    "upsampling": lambda by_detail: (
        f"{_count(by_detail, 'upsampling layer interpolates', 'upsampling layers interpolate')}, "
        f"Darknet repeats rows and columns: {_details(by_detail)}; use "
        "UpSampling2D(interpolation='nearest')"
    ),
    "reorg": lambda by_detail: (
        f"{_count(by_detail, 'layer')} with the channels in a different order from Darknet's "
        f"[reorg]: {_details(by_detail)}; use yolotf.keras_layers.Reorg"
    ),
    "separable": lambda by_detail: separable_message(_names(by_detail)),
}
