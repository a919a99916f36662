"""Data about Keras models and layers, kept for as long as they exist."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from yolotf.darknet.cfg import Network
from yolotf.weights.header import Header
from yolotf.weights.layout import Plan


class Origin(NamedTuple):
    """Header and plan of a complete file that was loaded into a model."""

    header: Header
    plan: Plan


@dataclass
class Notes:
    """Data about a model or layer; it must not refer to it, which would keep it alive.

    Attributes:
        network: the network the model was built from.
        layer_network: the network that the layer's model was built from.
        origin: the complete file that was loaded into the model.
        plans: by whether dense kernels are transposed: the model's fingerprint, and its plan.
    """

    network: Network | None = None
    layer_network: Network | None = None
    origin: Origin | None = None
    plans: dict[bool, tuple[Any, Plan]] = field(default_factory=dict)


_notes: weakref.WeakKeyDictionary[Any, Notes] = weakref.WeakKeyDictionary()
_EMPTY = Notes()


def read(owner: Any) -> Notes:
    """Returns the data about a model or layer, not to be modified."""
    try:
        return _notes.get(owner, _EMPTY)
    except TypeError:  # not hashable or not weakly referenceable, such as a list
        return _EMPTY


def edit(owner: Any) -> Notes:
    """Returns the data about a model or layer, to be modified.

    Raises:
        TypeError: it does not support weak references.
    """
    return _notes.setdefault(owner, Notes())
