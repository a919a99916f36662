"""`[yolo]`, `[Gaussian_yolo]`, `[region]`, `[detection]`: heads that decode boxes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from yolotf.darknet.layer import (
    NETWORK_INPUT,
    Before,
    Layer,
    Place,
    Shape,
    activation_of,
    section,
)
from yolotf.darknet.options import Options

# parser.c:493-500
NMS_KINDS = ("default", "greedynms", "diounms")


@dataclass(frozen=True, kw_only=True)
class Head(Layer):
    """A layer whose input is a raw output of a detector."""

    classes: int
    coords: int
    anchors: tuple[tuple[float, float], ...]
    """(width, height) of the anchors that this head uses, in the order of its mask."""

    def filters_for(self, classes: int) -> int | None:
        """Filters that the convolution before it needs for `classes` classes; None if not free."""
        return len(self.anchors) * (self.coords + 1 + classes)


@section("yolo")
@section("Gaussian_yolo")
@dataclass(frozen=True, kw_only=True)
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
            raise options.fail(f"mask={min(mask)} is not an anchor", "mask")
        _refuse_many(options, "mask", max(max(mask), len(mask)))
        if max(mask) >= num:
            # cspx-p7-mish.cfg does this; Darknet reads past the end of its anchors.
            before.warn(options.section, "mask", f"mask={max(mask)} but num={num}")
        new_coords = options.flag("new_coords")
        _check_activation(before, options, place, new_coords)
        nms_kind = options.text("nms_kind", "default")
        if nms_kind not in NMS_KINDS:
            before.warn(
                options.section,
                "nms_kind",
                f"unknown nms_kind={nms_kind[:60]}; default is used, as in Darknet",
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


@section("region")
@dataclass(frozen=True, kw_only=True)
class Region(Head):
    """`[region]` (parser.c:666); anchors in grid cells."""

    softmax: bool
    tree: str | None
    map: str | None

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


@section("detection")
@dataclass(frozen=True, kw_only=True)
class Detection(Head):
    """`[detection]` of YOLO version 1 (parser.c:722); no anchors."""

    num: int
    side: int
    softmax: bool
    sqrt: bool

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Detection:
        """Reads the options."""
        classes = options.int("classes", 1, at_least=0)
        coords = options.int("coords", 1, at_least=1)
        num = options.int("num", 1, at_least=1)
        _refuse_many(options, "num", num)
        side = options.int("side", 7, at_least=1)
        needed, found = side * side * ((1 + coords) * num + classes), place.input_shape.floats
        if needed != found:
            raise options.fail(
                f"side={side} num={num} coords={coords} classes={classes} needs {needed} inputs, "
                f"the layer before has {found} outputs",
                "side",
                expected=needed,
                found=found,
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

    def filters_for(self, classes: int) -> None:
        """None: its input is a row of floats for the whole image, not channels."""
        return

    @property
    def fixes_size(self) -> bool:
        """True: it always has `side` rows and columns."""
        return True


def compare(heads: Sequence[tuple[Yolo, int]], before: Before) -> None:
    """Warns if a head with a smaller stride has larger anchors.

    Args:
        heads: the heads with their strides, in pixels of the image per cell.
        before: receives the warning.
    """
    areas = [
        (stride, sum(width * height for width, height in head.anchors) / len(head.anchors), head)
        for head, stride in heads
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
    entering = before.layer(place.before)
    if entering is None or entering.type != "convolutional":
        return
    found = activation_of(entering)
    where = f"line {entering.line_of('activation')}"
    if options.place:
        where = f"section {entering.index}"
    if new_coords and found != "logistic":
        before.warn(
            options.section,
            "new_coords",
            f"new_coords=1 needs activation=logistic in the convolution before, {where} has "
            f"{found}; Darknet would decode values that are not probabilities",
        )
    elif not new_coords and found == "logistic" and entering.section.option("activation"):
        before.warn(
            entering.section,
            "activation",
            "activation=logistic before a head without new_coords=1, which takes the sigmoid "
            "itself; linear belongs there",
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
    most = options.limits.anchors
    if most is not None and count > most:
        raise options.fail(
            f"{key}={count:,} is more than {most:,} anchors; pass limits= to lift this",
            key,
            found=count,
            limit=most,
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
