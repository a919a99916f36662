"""The prior penalties of a diagnosis, in nats: how unusual an explanation is before values count.

An explanation with a penalty of 9 is chosen over one without if the values of the file support it
by more than a factor of exp(9), about 8,000. Most arrays decide by hundreds or thousands of nats,
so the penalties only matter where the values say little: for small layers, files before training,
and changes that lead to the same layout. The numbers were set by hand, from what people report and
so that `tests/diagnosis/test_right_cause.py` gets the true cause of its edits. Their order matters
more than their size. `weights.catalog` has the penalty of each known network.
"""

from __future__ import annotations

import math

# The network as it is.

UNCHANGED = 0.0
"""The reference: everything else has to be supported better."""
TRAILING = 14.0
"""Nobody appends whole floats; a cfg that lacks a section is far more common."""
TRAILING_REST = 2.0
"""Bytes that are not a whole float belong to no section, so something was appended."""
PARTIAL = 2.0
"""A file that ends between two sections is what `darknet partial` writes: a backbone."""
TRUNCATED = 9.5
"""A transfer that broke off, which it can do anywhere: a change of one option that explains the
size exactly is likelier, even of the last section, whose values say nothing about it."""
CUT_TOLERANCE = 12.0
"""The last layers of a truncated file may contradict the network by this: a broken transfer can
leave a few wrong values."""

# Another network.

KNOWN = 4.0
"""The wrong cfg of the right family is common; an edit of one number is more common."""
OWN_ARCHITECTURE = 3.0
"""A pointer's size is explained by the network the user asked for rather than by another."""
OTHER_HEADER = 4.0
"""Writers have lied about the version and so about the header's size, but few."""
CLEARER_SIZE = 2.0
"""A header of another size is assumed only if its network is more common by this margin."""

# Another number of classes or channels: what data sets change.

USUAL_CHANNELS = (1, 3, 4)
"""Gray, color, and color with a fourth channel."""


def classes(count: int) -> float:
    """The most common cause of all; data sets with few classes are more common."""
    return 1 + math.log(1 + count / 20)


def channels(count: int) -> float:
    """Input channels: as common as classes for images, rare for stacks of frames, else chance."""
    return 1.0 if count in USUAL_CHANNELS else 4.0 if count <= 16 else 12.0


def channels_too(count: int) -> float:
    """Input channels that change together with the number of classes."""
    return 3.0 if count in USUAL_CHANNELS else 6.0


def classes_too(count: int) -> float:
    """A number of classes that changes together with one option: two coincidences."""
    return 4 + math.log(1 + count / 20)


def classifier(count: int) -> float:
    """Another number of classes without heads: ImageNet's is a classifier before fine-tuning."""
    return 1.0 if count == IMAGENET_CLASSES else 2 + math.log(1 + count / 20)


IMAGENET_CLASSES = 1000

# Heads.


def other_masks(*, same_classes: bool) -> float:
    """Anchors distributed differently among the heads: seldom with other classes as well."""
    return 7.0 if same_classes else 10.0


def forgotten_heads(count: int, heads: int, *, of_other_heads: bool, usual: bool) -> float:
    """Some heads were edited and others forgotten, a common mistake.

    Args:
        count: the number of classes in the file's heads.
        heads: how many heads differ; fewer is simpler.
        of_other_heads: the number is that of the heads that agree.
        usual: the number is that of a stock cfg, which was left in place.
    """
    penalty = 0.5 if of_other_heads else 3.0 if usual else 6.0
    return penalty + 0.1 * heads + math.log(1 + count / 1000)


# One option of one section.

SIZE = 9.0
"""A kernel size: an edit of the architecture."""
EVEN_SIZE = 12.0
"""Even kernels hardly occur."""
MISSING_SIZE = 0.5
"""`size=` is missing, which Darknet reads as 1: a line was lost."""
GROUPS = 9.0
"""No groups, or depthwise."""
UNEVEN_GROUPS = 11.0
"""Any other number of groups."""
WRITTEN_GROUPS = 4.5
"""The cfg has groups and the file has none: trained before `groups=` was understood."""
BATCH_NORMALIZE = 9.0
"""Batch normalization of a single section."""
USUAL_FILTERS = 10.0
"""Twice or half as many filters, with other classes as well."""
FOLLOWED_ROUTE = 6.0
"""A route to a section of other channels, with other classes as well."""


def filters(value: int, old: int, *, before_head: bool) -> float:
    """Filters: multiples of 8 except before a head; the nearer the likelier."""
    plausible = value % 8 == 0 or before_head
    return (10.0 if plausible else 13.0) + abs(math.log2(value / old))


def route(value: int, old: int, *, reachable: bool, plain: bool) -> float:
    """A route to other layers: what guides for small objects tell people to edit.

    Args:
        value: channels of the route in the file.
        old: channels in the cfg.
        reachable: whether a change of one reference gives `value` channels.
        plain: whether the route reads a single layer, all of it, as in those guides.
    """
    return (5.0 if reachable else 9.0) + abs(math.log2(value / old)) + (0.0 if plain else 1.0)


READS_ALL = 3.0
"""`dontload=1` was set for fine-tuning, and the file is complete."""


def reparsed(*, output: bool, large_stride: bool) -> float:
    """An option before a dense layer, through the image size that reaches it.

    Args:
        output: it is `output=` of a dense layer itself.
        large_stride: it is a stride above 2, which few sections have.
    """
    return (5.0 if output else 6.0) + (2.0 if large_stride else 0.0)


# Whole sections.

FOLDED = 2.0
"""Batch normalization folded into all kernels, or not: exporters do this."""
FOLDED_LIKE_KNOWN = 1.0
"""The same, and the result is a known network."""


def folded_and_classes(count: int) -> float:
    """Folded, with another number of classes."""
    return 6.0 + math.log(1 + count / 20)


def added(*, same_channels: bool) -> float:
    """A section that the file lacks; simpler if its readers have the same input channels."""
    return 9.0 if same_channels else 10.0


def missing(*, same_channels: bool, normalized: bool, usual_size: bool, grouped: bool) -> float:
    """A convolution that the cfg lacks; 1x1 and 3x3 with batch normalization are usual."""
    return (
        9.0
        + (0.0 if same_channels else 2.0)
        + (0.0 if normalized else 2.0)
        + (0.0 if usual_size else 3.0)
        + (2.0 if grouped else 0.0)
    )


# The order of the floats.

SWAPPED = 8.0
"""Two sections of different shapes are swapped: the writer had another order."""
MOVED = 9.0
"""A section is at another position."""
HOPELESS = -50.0
"""Not a penalty but a support: a layer with less support than this cannot be at a position."""
SHIFTED = 10.0
"""Bytes lost or added in a file of the right size: text mode, damaged disks."""
SHIFTED_SIZE = 24.0
"""The same in a file of another size, which a change of the cfg usually explains better."""
