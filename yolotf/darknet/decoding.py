"""What decoding needs from a cfg; shared by graph operations and native code."""

from __future__ import annotations

from typing import NamedTuple

from yolotf.darknet.cfg import Detection, Head, Network, Region, Yolo
from yolotf.darknet.class_tree import Tree, tree_of
from yolotf.darknet.network import places_of
from yolotf.errors import UnsupportedSectionError

GREEDY_BETA = 0.6
"""The exponent in box_diou (box.c:206); greedynms ignores beta_nms."""

NMS_KINDS = ("default", "greedynms", "diounms")


class Suppression(NamedTuple):
    """The rule of non-maximum suppression."""

    kind: str
    """`default`, `greedynms` or `diounms`."""
    beta: float
    """Exponent of the centre distance in `diounms`."""


def suppression_of(network: Network) -> Suppression:
    """The rule that Darknet's detector uses: that of the last head (detector.c:1679)."""
    last = network.heads[-1]
    if not isinstance(last, Yolo):
        return Suppression("default", GREEDY_BETA)
    # Unknown values mean the default in Darknet (parser.c:494-499), and so does cornersnms, which
    # suppresses by plain overlap (box.c:894).
    kind = last.nms_kind if last.nms_kind in ("greedynms", "diounms") else "default"
    return Suppression(kind, last.beta_nms)


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
            "[detection] is needed to find boxes; for a classifier use yolotf.Classifier",
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
        problem = key = ""
        if named and (not isinstance(head, Region) or head.tree != named):
            key, problem = "tree", f"tree={named} is not the class tree of all heads"
        elif isinstance(head, Region | Detection) and head.coords != 4:
            key, problem = "coords", f"coords={head.coords}: only boxes of 4 can be decoded"
        if problem:
            raise UnsupportedSectionError(
                f"{network.source}: {problem}; {network.where(head)}",
                source=network.source,
                line=head.line_of(key),
                section=head.type,
                layer=head.index,
            )


TREE_LIMIT = 0.5
"""Lowest product of a class's probability and those above it in a tree (region_layer.c:413)."""


def tree_name(network: Network) -> str | None:
    """The file of the class tree that the heads name; None if there is none."""
    names = (head.tree for head in network.heads if isinstance(head, Region) and head.tree)
    return next(names, None)


def tree_of_heads(network: Network) -> Tree | None:
    """The class tree of the heads.

    Raises:
        OSError: the file is missing or cannot be read.
        YolotfError: it is not a class tree, or has another number of classes.
    """
    name = tree_name(network)
    return tree_of(network, name, network.heads[0].classes) if name else None


def yolo_point(head: Head) -> float:
    """By which share of its size a `[Gaussian_yolo]` box is moved (gaussian_yolo_layer.c:143)."""
    if head.type != "Gaussian_yolo":
        return 0.0
    option = head.section.option("yolo_point")
    return {"left_top": 0.5, "right_bottom": -0.5}.get(option.value if option else "", 0.0)


def has_class_fix(head: Head) -> bool:
    """`classfix=-1` of a `[region]`: objectness below 0.5 counts as 0 (region_layer.c:389)."""
    option = head.section.option("classfix")
    return isinstance(head, Region) and option is not None and option.value == "-1"
