"""What decoding takes from a cfg, whoever decodes: the graph's operations or native code."""

from __future__ import annotations

from typing import NamedTuple

from yolotf.darknet.cfg import Detection, Head, Network, Region, Yolo
from yolotf.darknet.class_tree import Tree, tree_of
from yolotf.darknet.network import places_of
from yolotf.errors import UnsupportedSectionError

GREEDY_BETA = 0.6
"""box_diou's own exponent, box.c:206; greedynms ignores beta_nms."""

NMS_KINDS = ("default", "greedynms", "diounms")


class Suppression(NamedTuple):
    """Which pairs of boxes exclude each other."""

    kind: str
    """`default`, `greedynms` or `diounms`."""
    beta: float
    """Exponent of the centre distance in `diounms`."""


def suppression_of(network: Network) -> Suppression:
    """What Darknet's detector uses for `network`: the rule of the last head (detector.c:1679)."""
    last = network.heads[-1]
    if not isinstance(last, Yolo):
        return Suppression("default", GREEDY_BETA)
    # Words Darknet does not know are its default (parser.c:494-499); so is cornersnms, which
    # suppresses by plain overlap (box.c:894).
    kind = last.nms_kind if last.nms_kind in ("greedynms", "diounms") else "default"
    return Suppression(kind, last.beta_nms)


def check_heads(network: Network) -> None:
    """Raises for heads that cannot be decoded.

    Raises:
        UnsupportedSectionError: no head at all, heads of different class counts, a class tree
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
"""What a class of a tree needs, with all above it, to be the answer (region_layer.c:413)."""


def tree_name(network: Network) -> str | None:
    """The class tree that the heads name; None without one."""
    names = (head.tree for head in network.heads if isinstance(head, Region) and head.tree)
    return next(names, None)


def tree_of_heads(network: Network) -> Tree | None:
    """The class tree of the heads.

    Raises:
        OSError: it cannot be read, or is not there.
        YolotfError: it is none, or has another number of classes.
    """
    name = tree_name(network)
    return tree_of(network, name, network.heads[0].classes) if name else None


def yolo_point(head: Head) -> float:
    """What share of its size a `[Gaussian_yolo]` box is moved by, gaussian_yolo_layer.c:143."""
    if head.type != "Gaussian_yolo":
        return 0.0
    option = head.section.option("yolo_point")
    return {"left_top": 0.5, "right_bottom": -0.5}.get(option.value if option else "", 0.0)


def has_class_fix(head: Head) -> bool:
    """`classfix=-1` of a `[region]`: objectness below 0.5 is none (region_layer.c:389)."""
    option = head.section.option("classfix")
    return isinstance(head, Region) and option is not None and option.value == "-1"
