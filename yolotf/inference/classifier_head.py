"""What a classifier puts out: how many classes, below each other or not."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from yolotf.darknet import cfg
from yolotf.darknet.class_tree import Tree, tree_of
from yolotf.errors import UnsupportedSectionError


class Classes(NamedTuple):
    """A network as a classifier."""

    network: cfg.Network
    """Up to its last section that is not for training only."""
    tree: Tree | None
    """Whose probabilities are multiplied along its branches."""
    numbers: int
    """How many numbers it puts out."""


def classes_of(network: cfg.Network) -> Classes:
    """Looks at the end of a network.

    Raises:
        UnsupportedSectionError: it finds boxes, or has no sections.
        YolotfError: its class tree is none, or belongs to another network.
        OSError: the class tree cannot be read.
    """
    if network.heads:
        head = network.heads[0]
        raise UnsupportedSectionError(
            f"{network.source}: a detector, with {network.where(head)}; use yolotf.Detector",
            source=network.source,
            section=head.type,
            layer=head.index,
        )
    layers = list(network.layers)
    while len(layers) > 1 and layers[-1].type == "cost":  # for training
        layers.pop()
    if not layers:
        raise UnsupportedSectionError(
            f"{network.source}: no section after [net]; nothing to classify with",
            source=network.source,
        )
    last = layers[-1]
    count = last.output_shape.floats
    named = last.tree if isinstance(last, cfg.Softmax) else None
    tree = tree_of(network, named, count) if named else None
    return Classes(replace(network, layers=tuple(layers)), tree, count)
