"""What is remembered of Keras models and their layers, for as long as each lives."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from yolotf.darknet.cfg import Network
from yolotf.weights.header import Header
from yolotf.weights.layout import Plan


class Origin(NamedTuple):
    """The file that filled a whole model."""

    header: Header
    plan: Plan


@dataclass
class Notes:
    """What is known of a model or layer; nothing here refers to it, or it would live on.

    Attributes:
        network: that the model was built from.
        layer_network: that the model of the layer was built from.
        origin: the file that filled it as a whole.
        plans: by whether dense kernels are transposed: what the model was like, and its plan.
    """

    network: Network | None = None
    layer_network: Network | None = None
    origin: Origin | None = None
    plans: dict[bool, tuple[Any, Plan]] = field(default_factory=dict)


_notes: weakref.WeakKeyDictionary[Any, Notes] = weakref.WeakKeyDictionary()
_NOTHING = Notes()


def read(thing: Any) -> Notes:
    """What is known of a model or layer, to be read only."""
    try:
        return _notes.get(thing, _NOTHING)
    except TypeError:  # not hashable, or no weak references, as plain lists
        return _NOTHING


def edit(thing: Any) -> Notes:
    """What is known of a model or layer, to be changed.

    Raises:
        TypeError: it cannot be referred to weakly.
    """
    return _notes.setdefault(thing, Notes())
