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

SingleEdits = Callable[[ChannelFlow, Any, int], Iterator[Edit]]
UsualEdits = Callable[[ChannelFlow, Any], Iterator[tuple[Edit, float]]]
OptionValues = Iterator[tuple[Option, int, list[int]]]

_SINGLE: dict[type[Layer], SingleEdits] = {}
_USUAL: dict[type[Layer], UsualEdits] = {}
_SPATIAL: dict[type[Layer], Callable[[Any], OptionValues]] = {}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def single_edits(*classes: type[Layer]) -> Callable[[_Function], _Function]:
    """Registers a function `(flow, layer, difference)`; see `single_edits_of`."""
    return registers(_SINGLE, classes)


def usual_edits(*classes: type[Layer]) -> Callable[[_Function], _Function]:
    """Registers a function `(flow, layer)`; see `usual_edits_of`."""
    return registers(_USUAL, classes)


def spatial_options(*classes: type[Layer]) -> Callable[[_Function], _Function]:
    """Registers a function `(layer)`; see `spatial_options_of`."""
    return registers(_SPATIAL, classes)


def single_edits_of(flow: ChannelFlow, layer: Layer, difference: int) -> Iterator[Edit]:
    """Yields the changes of one option of `layer` that add `difference` floats to the file."""
    edits = _SINGLE.get(type(layer))
    return edits(flow, layer, difference) if edits else iter(())


def usual_edits_of(flow: ChannelFlow, layer: Layer) -> Iterator[tuple[Edit, float]]:
    """Yields the common changes of `layer`, each with the floats that it adds to the file."""
    edits = _USUAL.get(type(layer))
    return edits(flow, layer) if edits else iter(())


def spatial_options_of(layer: Layer) -> OptionValues:
    """Yields (option, its value, values to try) for each option that changes rows and columns."""
    options = _SPATIAL.get(type(layer))
    return options(layer) if options else iter(())
