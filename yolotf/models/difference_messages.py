"""The ways in which a Keras model may compute something else than Darknet, with messages."""

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
    """Collects layers by kind of difference, and by what differs."""

    places: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def add(self, kind: str, layer: str, what: str) -> None:
        """Adds a layer, unless it was added already."""
        names = self.places.setdefault(kind, {}).setdefault(what, [])
        if layer not in names:
            names.append(layer)

    def all(self) -> tuple[Difference, ...]:
        """Returns the differences in the order of `KINDS`."""
        return tuple(
            Difference(
                kind,
                tuple(dict.fromkeys(one for names in found.values() for one in names)),
                _MESSAGES[kind](found),
            )
            for kind in KINDS
            if (found := self.places.get(kind))
        )


def _count(found: Mapping[str, Sequence[str]], noun: str) -> str:
    return plural(len({name for names in found.values() for name in names}), noun)


def _details(found: Mapping[str, Sequence[str]]) -> str:
    return listed((f"{what} ({listed(names, 5)})" for what, names in found.items()), 3, "; ")


def _epsilon_message(found: Mapping[str, Sequence[str]]) -> str:
    texts = [f"{len(names)} batch normalizations have {what}" for what, names in found.items()]
    return f'{"; ".join(texts)}, Darknet {BN_EPSILON:g}; set with bn_epsilon="darknet"'


def separable_message(names: Sequence[str]) -> str:
    """Returns the message about SeparableConv2D layers and what to use instead."""
    layers = "a SeparableConv2D" if len(names) == 1 else f"{len(names)} SeparableConv2D layers"
    return (
        f"no section can fill {layers} ({listed(names, 5)}): Darknet has a depthwise and a 1x1 "
        "[convolutional] section in that place, with a batch normalization and an activation "
        "between them, which SeparableConv2D lacks; use DepthwiseConv2D, BatchNormalization, the "
        "activation and Conv2D"
    )


_MESSAGES: dict[str, Callable[[Mapping[str, Sequence[str]]], str]] = {
    "epsilon": _epsilon_message,
    "leaky_slope": lambda found: (
        f"{_count(found, 'leaky activation')} with a slope other than Darknet's 0.1: "
        f"{_details(found)}; use LeakyReLU(0.1)"
    ),
    "activation": lambda found: (
        f"{_count(found, 'layer')} with another activation than in Darknet: {_details(found)}; "
        "use the cfg's"
    ),
    "padding": lambda found: (
        f"{_count(found, 'layer')} with other zeros around the image than in Darknet: "
        f"{_details(found)}; put ZeroPadding2D with Darknet's padding before padding='valid'"
    ),
    "concat_order": lambda found: (
        f"{_count(found, 'concatenation')} with the channels in another order than in Darknet: "
        f"{_details(found)}; swap the inputs"
    ),
    "upsampling": lambda found: (
        f"{_count(found, 'enlargement')} other than Darknet's, which repeats rows and columns: "
        f"{_details(found)}; use UpSampling2D(interpolation='nearest')"
    ),
    "reorg": lambda found: (
        f"{_count(found, 'layer')} with the channels in another order than Darknet's [reorg]: "
        f"{_details(found)}; use yolotf.keras_layers.Reorg there"
    ),
    "separable": lambda found: separable_message(
        [name for names in found.values() for name in names]
    ),
}
