"""What a classifier outputs: the number of classes and their class tree."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from yolotf.darknet import cfg
from yolotf.darknet.class_tree import Tree, tree_of
from yolotf.errors import UnsupportedSectionError

TOP = 5
"""How many classes of an image are returned unless the caller says otherwise."""


class ClassifierHead(NamedTuple):
    """What a classifier computes, and what its outputs mean."""

    network: cfg.Network
    """The network without trailing sections that only serve training."""
    tree: Tree | None
    """The class tree, along whose branches probabilities are multiplied; None: no tree."""
    classes: int
    """Number of outputs."""


def head_of(network: cfg.Network) -> ClassifierHead:
    """Returns what a classifier outputs.

    Raises:
        UnsupportedSectionError: the network is a detector, or has no sections.
        YolotfError: the class tree is invalid, or belongs to another network.
        OSError: the class tree cannot be read.
    """
    if network.heads:
        head = network.heads[0]
        raise UnsupportedSectionError(
            f"{network.source}: the network is a detector, with {network.where(head)}; "
            "use yolotf.Detector, or yolotf detect",
            source=network.source,
            section=head.type,
            layer=head.index,
        )
    layers = list(network.layers)
    while len(layers) > 1 and layers[-1].only_trains:
        layers.pop()
    if not layers:
        raise UnsupportedSectionError(
            f"{network.source}: no section follows [net], so there is nothing to compute; add the "
            "network's sections",
            source=network.source,
        )
    last = layers[-1]
    count = last.output_shape.floats
    tree = tree_of(network, last.class_tree, count) if last.class_tree else None
    return ClassifierHead(replace(network, layers=tuple(layers)), tree, count)
