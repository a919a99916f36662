"""What decoding needs from a cfg; shared by graph operations and native code."""

from __future__ import annotations

from yolotf.darknet.class_tree import Tree, tree_of
from yolotf.darknet.layer import Refusal, refused
from yolotf.darknet.network import Network
from yolotf.darknet.resolver import places_of
from yolotf.darknet.sections.heads import GREEDY_BETA, NMS_KINDS, Suppression
from yolotf.errors import UnsupportedSectionError

__all__ = [
    "GREEDY_BETA",
    "NMS_KINDS",
    "TREE_LIMIT",
    "Suppression",
    "check_heads",
    "suppression_of",
    "tree_name",
    "tree_of_heads",
]


def suppression_of(network: Network) -> Suppression:
    """The rule that Darknet's detector uses: that of the last head (detector.c:1679)."""
    return network.heads[-1].suppression


def check_heads(network: Network) -> None:
    """Checks that the heads can be decoded.

    Raises:
        UnsupportedSectionError: there is no head, the class counts differ, a class tree
            (`tree=`) beside heads without one or with another, or `coords` other than 4 in
            `[region]` or `[detection]`.
    """
    if not network.heads:
        raise UnsupportedSectionError(
            f"{network.source}: no detection head; [yolo], [Gaussian_yolo], [region] or "
            "[detection] is needed to find boxes; for a classifier use yolotf.Classifier, or "
            "yolotf classify",
            source=network.source,
        )
    counts = [head.classes for head in network.heads]
    if len(set(counts)) > 1:
        where = places_of(network.heads, "classes", has_lines=network.name is None)
        raise UnsupportedSectionError(
            f"{network.source}: the heads have {', '.join(map(str, counts[:-1]))} and {counts[-1]} "
            f"classes; {where}; give all heads the same classes= and filters=",
            source=network.source,
            line=network.heads[0].line_of("classes"),
            section=network.heads[0].type,
            layer=network.heads[0].index,
        )
    named = tree_name(network)
    for head in network.heads:
        if named and head.class_tree != named:
            why = Refusal(
                f"tree={named} is not the class tree of all heads; give each the same tree=", "tree"
            )
            raise refused(network, head, why)
        if undecodable := head.undecodable():
            raise refused(network, head, undecodable)


TREE_LIMIT = 0.5
"""Lowest product of a class's probability and those above it in a tree (region_layer.c:413)."""


def tree_name(network: Network) -> str | None:
    """The file of the class tree that the heads name; None if there is none."""
    return next((head.class_tree for head in network.heads if head.class_tree), None)


def tree_of_heads(network: Network) -> Tree | None:
    """The class tree of the heads.

    Raises:
        OSError: the file is missing or cannot be read.
        YolotfError: it is not a class tree, or has another number of classes.
    """
    name = tree_name(network)
    return tree_of(network, name, network.heads[0].classes) if name else None
