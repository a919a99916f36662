"""Stock networks by the number of floats that a model or file holds."""

from __future__ import annotations

from collections.abc import Iterable

from yolotf.darknet import cfg
from yolotf.darknet.stock import CLASSIFIERS, NAMES, network
from yolotf.weights import catalog


def stock_networks(floats: int) -> Iterable[cfg.Network]:
    """Yields the stock networks that store `floats` floats and can be built by name."""
    for match in catalog.solve(floats):
        names = [name for name in match.architecture.names if name in (*NAMES, *CLASSIFIERS)]
        if names and match.layers is None:
            # The number of classes of a classifier is in its layers, not in an option.
            yield network(names[0], classes=match.classes, channels=match.channels)
