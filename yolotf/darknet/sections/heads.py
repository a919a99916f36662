"""`[yolo]`, `[Gaussian_yolo]`, `[region]`, `[detection]`: heads that decode boxes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from yolotf.darknet.layer import (
    NETWORK_INPUT,
    Before,
    Layer,
    Place,
    Refusal,
    Shape,
    Surroundings,
    activation_of,
    of_class,
    section,
)
from yolotf.darknet.options import Options
from yolotf.darknet.sections.convolutional import Convolutional

# parser.c:493-500
NMS_KINDS = ("default", "greedynms", "diounms")
GREEDY_BETA = 0.6
"""The exponent in box_diou (box.c:206); greedynms ignores beta_nms."""


class Suppression(NamedTuple):
    """The rule of non-maximum suppression."""

    kind: str
    """`default`, `greedynms` or `diounms`."""
    beta: float
    """Exponent of the center distance in `diounms`."""


class BoxRule(NamedTuple):
    """The numbers and switches that the arithmetic of a head's boxes depends on."""

    boxes: int
    """Boxes for each cell."""
    new_coords: bool = False
    """Objectness, classes and centers are taken as they are, without a sigmoid."""
    softmax: bool = False
    """The class probabilities of a box are a softmax."""
    class_fix: bool = False
    """Objectness below 0.5 counts as 0: `classfix=-1` (region_layer.c:389)."""
    sqrt: bool = False
    """Width and height are squared."""
    side: int = 0
    """Rows and columns of cells, if the cfg sets them."""
    scale_x_y: float = 1.0
    """The factor of the center in its cell."""
    shift: float = 0.0
    """The share of its size that a box is moved by (gaussian_yolo_layer.c:143)."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Head(Layer):
    """A layer whose input is a raw output of a detector."""

    classes: int
    coords: int
    anchors: tuple[tuple[float, float], ...]
    """(width, height) of the anchors that this head uses, in the order of its mask."""

    ends_graph = True
    reads_channels: ClassVar[bool] = True
    """Whether each box is some channels of a cell; otherwise the input is a row for the image."""
    anchors_in_cells: ClassVar[bool] = False
    """Whether anchors are in cells of its grid, rather than in pixels of the network's input."""

    @property
    def entries(self) -> int:
        """Floats for each box."""
        return self.coords + 1 + self.classes

    def filters_for(self, classes: int) -> int:
        """Filters that the convolution before it needs for `classes` classes."""
        return len(self.anchors) * (self.coords + 1 + classes)

    def convolution(self, network: Surroundings) -> Convolutional | None:
        """The convolution right before it, if its filters are `filters_for` the classes."""
        before = network.layers[self.index - 1] if self.index else None
        return before if isinstance(before, Convolutional) else None

    @property
    def rule(self) -> BoxRule:
        """What the arithmetic of its boxes depends on."""
        raise NotImplementedError

    @property
    def suppression(self) -> Suppression:
        """The suppression that it asks for."""
        return Suppression("default", GREEDY_BETA)

    def undecodable(self) -> Refusal | None:
        """Why its boxes cannot be decoded; None if they can."""
        return None

    @property
    def objectness_limits(self) -> bool:
        """Whether no score is above the objectness: class probabilities are at most 1."""
        return False

    @property
    def decoding_key(self) -> tuple[object, ...]:
        """A key that is equal for heads that can be decoded together."""
        return (self.index,)


@section("yolo")
@section("Gaussian_yolo")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Yolo(Head):
    """`[yolo]` and `[Gaussian_yolo]` (parser.c:448); anchors in pixels of the network's input."""

    mask: tuple[int, ...]
    scale_x_y: float
    new_coords: bool
    nms_kind: str
    beta_nms: float

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Yolo:
        """Reads the options."""
        classes = options.int("classes", 20, at_least=1)
        num = options.int("num", 1, at_least=1)
        _refuse_many(options, "num", num)
        mask: Sequence[int] = options.ints("mask") or range(num)
        coords = 8 if place.type == "Gaussian_yolo" else 4
        shape = _head_shape(options, place, classes + coords + 1, len(mask), classes)
        if min(mask) < 0:
            raise options.fail(
                f"mask={min(mask)} is not an anchor; anchors are numbered from 0", "mask"
            )
        _refuse_many(options, "mask", max(max(mask), len(mask)))
        if max(mask) >= num:
            # cspx-p7-mish.cfg does this; Darknet reads past the end of its anchors.
            before.warn(
                options.section,
                "mask",
                f"mask={max(mask)}, but with num={num} the last anchor is {num - 1}; Darknet "
                "reads past the end of its anchors",
            )
        new_coords = options.flag("new_coords")
        _check_activation(before, options, place, new_coords)
        nms_kind = options.text("nms_kind", "default")
        if nms_kind == "cornersnms":
            nms_kind = "default"  # it compares the same overlap (box.c:894)
        if nms_kind not in NMS_KINDS:
            before.warn(
                options.section,
                "nms_kind",
                f"unknown nms_kind={nms_kind[:60]}; default is used, as in AlexeyAB's Darknet",
            )
            nms_kind = "default"
        return cls(
            **place.fields(shape),
            classes=classes,
            coords=coords,
            anchors=_pixels(before, options, _anchors(before, options, mask)),
            mask=tuple(mask),
            scale_x_y=options.float("scale_x_y", 1.0),
            new_coords=new_coords,
            nms_kind=nms_kind,
            beta_nms=options.float("beta_nms", 0.6),
        )

    @property
    def rule(self) -> BoxRule:
        """The options of the cfg; only `[Gaussian_yolo]` has `yolo_point=`."""
        point = self.section.option("yolo_point") if self.type == "Gaussian_yolo" else None
        return BoxRule(
            len(self.anchors),
            new_coords=self.new_coords,
            scale_x_y=self.scale_x_y,
            shift=_POINTS.get(point.value, 0.0) if point else 0.0,
        )

    @property
    def suppression(self) -> Suppression:
        """`nms_kind=` and `beta_nms=`."""
        return Suppression(self.nms_kind, self.beta_nms)

    @property
    def objectness_limits(self) -> bool:
        """True: probabilities are sigmoids."""
        return True

    @property
    def decoding_key(self) -> tuple[object, ...]:
        """The type, the floats of a box and the options that change the arithmetic."""
        rule = self.rule
        return self.type, self.coords, self.classes, rule.new_coords, rule.shift


_POINTS = {"left_top": 0.5, "right_bottom": -0.5}
"""`yolo_point=` -> the share of its size that a box is moved by."""


@section("region")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Region(Head):
    """`[region]` (parser.c:666); anchors in grid cells."""

    softmax: bool
    tree: str | None
    map: str | None

    anchors_in_cells = True

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Region:
        """Reads the options."""
        classes = options.int("classes", 20, at_least=1)
        coords = options.int("coords", 4, at_least=1)
        num = options.int("num", 1, at_least=1)
        _refuse_many(options, "num", num)
        shape = _head_shape(options, place, classes + coords + 1, num, classes)
        return cls(
            **place.fields(shape),
            classes=classes,
            coords=coords,
            anchors=_anchors(before, options, range(num)),
            softmax=options.flag("softmax"),
            tree=options.text("tree", "") or None,
            map=options.text("map", "") or None,
        )

    @property
    def class_tree(self) -> str | None:
        """`tree=`."""
        return self.tree

    @property
    def rule(self) -> BoxRule:
        """The options of the cfg."""
        fix = self.section.option("classfix")
        class_fix = fix is not None and fix.value == "-1"
        return BoxRule(len(self.anchors), softmax=self.softmax, class_fix=class_fix)

    def undecodable(self) -> Refusal | None:
        """Other `coords` than 4."""
        return _other_coords(self)

    @property
    def objectness_limits(self) -> bool:
        """True with a softmax or a class tree; otherwise classes are raw numbers."""
        return self.softmax or self.tree is not None


@section("detection")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Detection(Head):
    """`[detection]` of YOLO version 1 (parser.c:722); no anchors."""

    num: int
    side: int
    softmax: bool
    sqrt: bool

    reads_channels = False

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Detection:
        """Reads the options."""
        classes = options.int("classes", 1, at_least=0)
        coords = options.int("coords", 1, at_least=1)
        num = options.int("num", 1, at_least=1)
        _refuse_many(options, "num", num)
        side = options.int("side", 7, at_least=1)
        needed = side * side * ((1 + coords) * num + classes)
        inputs = place.input_shape.floats
        if needed != inputs:
            raise options.fail(
                f"side={side} num={num} coords={coords} classes={classes} needs {needed} inputs, "
                f"the layer before has {inputs} outputs; set output={needed} there",
                "side",
                expected=needed,
                found=inputs,
            )
        return cls(
            **place.fields(place.input_shape),
            classes=classes,
            coords=coords,
            anchors=(),
            num=num,
            side=side,
            softmax=options.flag("softmax"),
            sqrt=options.flag("sqrt"),
        )

    def convolution(self, network: Surroundings) -> None:
        """None: its input is a row of floats for the whole image, not channels."""
        return

    @property
    def rule(self) -> BoxRule:
        """The options of the cfg."""
        return BoxRule(self.num, softmax=self.softmax, sqrt=self.sqrt, side=self.side)

    def undecodable(self) -> Refusal | None:
        """Other `coords` than 4."""
        return _other_coords(self)

    @property
    def fixes_size(self) -> bool:
        """True: it always has `side` rows and columns."""
        return True


def _other_coords(head: Head) -> Refusal | None:
    if head.coords == 4:
        return None
    return Refusal(
        f"coords={head.coords}: only boxes of 4 coordinates can be decoded; set coords=4", "coords"
    )


def compare(layers: Sequence[Layer], strides: Sequence[int], before: Before) -> None:
    """Warns if a `[yolo]` with a smaller stride has larger anchors.

    Args:
        layers: all sections.
        strides: the stride of each, in pixels of the image per cell.
        before: receives the warning.
    """
    areas = [
        (
            strides[head.index],
            sum(width * height for width, height in head.anchors) / len(head.anchors),
            head,
        )
        for head in of_class(layers, Yolo)
    ]
    for (stride, area, head), (coarser, other, _) in itertools.permutations(areas, 2):
        if stride < coarser and area > other > 0:
            before.warn(
                head.section,
                "mask",
                f"mask= gives the head of stride {stride} larger anchors than that of stride "
                f"{coarser}; sort anchors= or change mask=",
            )
            return


def _check_activation(before: Before, options: Options, place: Place, new_coords: bool) -> None:
    """Warns if the sigmoid is missing or applied twice (yolo_layer.c:673)."""
    convolution = before.layer(place.before)
    if convolution is None or convolution.type != "convolutional":
        return
    activation = activation_of(convolution)
    where = f"line {convolution.line_of('activation')}"
    if options.place:
        where = f"section {convolution.index}"
    if new_coords and activation != "logistic":
        before.warn(
            options.section,
            "new_coords",
            f"new_coords=1 needs activation=logistic in the convolution before, {where} has "
            f"{activation}; both Darknets decode values that are not probabilities",
        )
    elif not new_coords and activation == "logistic" and convolution.section.option("activation"):
        before.warn(
            convolution.section,
            "activation",
            "activation=logistic before a head without new_coords=1, which takes the sigmoid "
            "itself; use linear",
        )


def _pixels(
    before: Before, options: Options, anchors: tuple[tuple[float, float], ...]
) -> tuple[tuple[float, float], ...]:
    """Returns `anchors`; warns of those that cannot be sizes in pixels."""
    flat = [extent for anchor in anchors for extent in anchor]
    if min(flat) <= 0:
        width, height = next(anchor for anchor in anchors if min(anchor) <= 0)
        before.warn(
            options.section,
            "anchors",
            f"an anchor of {width:g}x{height:g} pixels; its boxes have no extent",
        )
    written = options.floats("anchors")
    if written and max(written) > 0:
        side = max(before.shape(NETWORK_INPUT)[:2])
        largest = max(written)
        # A v2 anchor spans at most the 13 or 19 cells of its grid, and has fractions.
        fractions = any(number != round(number) for number in written)
        if side >= 64 and (largest < side / 32 or (largest < 20 and fractions)):
            before.warn(
                options.section,
                "anchors",
                f"anchors= has nothing above {largest:g} pixels; if they are in grid cells, as in "
                "[region], multiply them by the stride",
            )
    return anchors


def _refuse_many(options: Options, key: str, count: int) -> None:
    limit = options.limits.anchors
    if limit is not None and count > limit:
        raise options.fail(
            f"{key}={count:,} is more than {limit:,} anchors; to lift this, pass limits= to "
            "parse_cfg",
            key,
            found=count,
            limit=limit,
        )


def _anchors(
    before: Before, options: Options, used: Sequence[int]
) -> tuple[tuple[float, float], ...]:
    """The anchors with the numbers `used`; missing ones are 0.5 (yolo_layer.c:54)."""
    floats = options.floats("anchors") or []
    missing = 2 * (max(used) + 1) - len(floats)
    if missing > 0:
        before.warn(
            options.section,
            "anchors",
            f"anchors= holds {len(floats)} numbers, {missing} fewer than are used; "
            "the rest is 0.5, as in Darknet",
        )

    def number(index: int) -> float:
        return floats[index] if index < len(floats) else 0.5

    return tuple((number(2 * anchor), number(2 * anchor + 1)) for anchor in used)


def _head_shape(options: Options, place: Place, each: int, count: int, classes: int) -> Shape:
    """The head's shape; raises if the layer before it has other channels (parser.c:457)."""
    shape, needed = place.input_shape, each * count
    if shape.channels != needed:
        raise options.fail(
            f"classes={classes} with {count} anchors needs filters={needed} in the layer before, "
            f"which has {shape.channels}; set filters={needed}, or classes and mask to match",
            "classes",
            expected=needed,
            found=shape.channels,
        )
    return shape
