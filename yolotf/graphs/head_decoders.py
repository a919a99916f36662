"""The functions that decode heads, by class; `yolotf.graphs.sections.heads` registers them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from yolotf.darknet.cfg import Head
from yolotf.darknet.class_tree import Tree
from yolotf.darknet.layer import Layer, registers
from yolotf.graphs.operations import Operations
from yolotf.interfaces import Tensor


class Decoded(NamedTuple):
    """All N boxes of a head, ordered by row, column and anchor as in Darknet."""

    boxes: Tensor
    """[B, N, 4] float32: center x, y, width, height relative to the network's input."""
    objectness: Tensor
    """[B, N] float32."""
    probabilities: Tensor
    """[B, N, C] float32: class probabilities, not multiplied by `objectness`."""


class Rows(NamedTuple):
    """Rows of a head that reads channels, one a box, and the constants of each."""

    box: Tensor
    """[..., coords]: raw."""
    classes: Tensor
    """[..., classes]: raw."""
    anchor: Tensor
    """[..., 2]: the anchor's width and height, relative to the input."""
    center_rule: Tensor
    """[..., 2]: the factor of the center in its cell, and the offset subtracted after it."""


class BoxParts(NamedTuple):
    """What a class of heads computes from `Rows`."""

    center: Tensor
    """[..., 2]: in the box's cell."""
    size: Tensor
    """[..., 2]: relative to the input."""
    probabilities: Tensor
    """[..., classes]: of the classes."""


DecodeRows = Callable[[Operations, Any, Rows, "Tree | None"], BoxParts]
DecodeImage = Callable[[Operations, Tensor, Any], Decoded]

ROW_DECODERS: dict[type[Layer], DecodeRows] = {}
"""The function of each class of heads that reads channels."""
IMAGE_DECODERS: dict[type[Layer], DecodeImage] = {}
"""The function of each class whose input is one row for the whole image."""

_Rows = TypeVar("_Rows", bound=Callable[..., BoxParts])
_Image = TypeVar("_Image", bound=Callable[..., Decoded])


def decodes_rows(cls: type[Head]) -> Callable[[_Rows], _Rows]:
    """Registers `(ops, head, rows, tree) -> BoxParts` for a class."""
    return registers(ROW_DECODERS, [cls])


def decodes_image(cls: type[Head]) -> Callable[[_Image], _Image]:
    """Registers `(ops, raw, head) -> Decoded` for a class."""
    return registers(IMAGE_DECODERS, [cls])
