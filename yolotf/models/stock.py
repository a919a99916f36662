"""The networks that ship with Darknet, by what a model or a file holds."""

from __future__ import annotations

from collections.abc import Iterable

from yolotf.darknet import cfg
from yolotf.darknet.stock import NAMES, network
from yolotf.weights import catalog


def stock_networks(floats: int) -> Iterable[cfg.Network]:
    """The stock networks that store `floats` floats and that can be built by name."""
    for match in catalog.solve(floats):
        names = [name for name in match.architecture.names if name in NAMES]
        if names and match.layers is None and match.classes is not None:
            yield network(names[0], classes=match.classes, channels=match.channels)
