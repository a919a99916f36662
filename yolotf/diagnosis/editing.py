"""The registry of how a section's options may differ between a cfg and a file, by class.

`yolotf.diagnosis.sections` registers functions for the classes of sections; `mutations` calls them
and names no section.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from yolotf.darknet.cfg import Layer
from yolotf.darknet.layer import registers
from yolotf.diagnosis.channel_flow import ChannelFlow
from yolotf.diagnosis.edit import Edit, Option

Single = Callable[[ChannelFlow, Any, int], Iterator[Edit]]
Usual = Callable[[ChannelFlow, Any], Iterator[tuple[Edit, float]]]
Values = Iterator[tuple[Option, int, list[int]]]

_SINGLE: dict[type[Layer], Single] = {}
_USUAL: dict[type[Layer], Usual] = {}
_SPATIAL: dict[type[Layer], Callable[[Any], Values]] = {}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def single_edits(*classes: type[Layer]) -> Callable[[_Function], _Function]:
    """Registers `(flow, layer, difference)`: the changes that explain a difference in floats."""
    return registers(_SINGLE, classes)


def usual_edits(*classes: type[Layer]) -> Callable[[_Function], _Function]:
    """Registers `(flow, layer)`: the common changes, each with the floats that it adds."""
    return registers(_USUAL, classes)


def spatial_options(*classes: type[Layer]) -> Callable[[_Function], _Function]:
    """Registers `(layer)`: the options through which rows and columns change, and values to try."""
    return registers(_SPATIAL, classes)


def single_edits_of(flow: ChannelFlow, layer: Layer, difference: int) -> Iterator[Edit]:
    """Yields the changes of one option of `layer` that add `difference` floats to the file."""
    edits = _SINGLE.get(type(layer))
    return edits(flow, layer, difference) if edits else iter(())


def usual_edits_of(flow: ChannelFlow, layer: Layer) -> Iterator[tuple[Edit, float]]:
    """Yields the common changes of `layer`, each with the floats that it adds to the file."""
    edits = _USUAL.get(type(layer))
    return edits(flow, layer) if edits else iter(())


def spatial_options_of(layer: Layer) -> Values:
    """Yields (option, its value, values to try) of a layer that changes rows and columns."""
    options = _SPATIAL.get(type(layer))
    return options(layer) if options else iter(())
