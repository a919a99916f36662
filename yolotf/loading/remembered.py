"""The plans of models from `build_model`, remembered while the model is what it was.

Finding a plan takes a good part of the time of a load. What it is read off (which layer has which
name and which variables) is looked at in every load, and compared object for object with what it
was: if anything is another one, the plan is found anew. In models of other origin a plan follows
from much more than that; theirs are found in every load.

Models and layers are referred to weakly; variables are held, as the model does.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

from yolotf.darknet.cfg import Network
from yolotf.models.built import named_after_sections
from yolotf.models.variables import held
from yolotf.weights import layout


class _Layer(NamedTuple):
    """A layer, its class (which tells a depthwise kernel) and its variables."""

    name: str
    layer: weakref.ref[Any]
    kind: weakref.ref[type]
    variables: tuple[Any, ...]

    def same(self, other: _Layer) -> bool:
        """Whether it is that layer, with these variables."""
        return (
            self.name == other.name
            and self.layer is other.layer  # there is one reference an object
            and self.kind is other.kind
            and all(one is its for one, its in zip(self.variables, other.variables, strict=True))
        )


class Sight(NamedTuple):
    """What the plan of a model from `build_model` is read off."""

    network: Network
    built: bool
    layers: tuple[_Layer, ...]

    @classmethod
    def of(cls, model: Any, network: Network) -> Sight:
        """What it is now."""
        layers = tuple(
            _Layer(name, weakref.ref(layer), weakref.ref(type(layer)), held(layer))
            for name, layer in named_after_sections(model, network).items()
        )
        return cls(network, getattr(model, "built", True), layers)

    def same(self, other: Sight) -> bool:
        """Whether the same plan follows."""
        return (
            self.network is other.network
            and self.built == other.built
            and len(self.layers) == len(other.layers)
            and all(one.same(its) for one, its in zip(self.layers, other.layers, strict=True))
        )


_plans: weakref.WeakKeyDictionary[Any, dict[bool, tuple[Sight, layout.Plan]]]
_plans = weakref.WeakKeyDictionary()


def plan_of(model: Any, sight: Sight, *, transposed: bool) -> layout.Plan | None:
    """The plan that was noted when the model was the same; None if it never was."""
    found = _plans.get(model, {}).get(transposed)
    return found[1] if found is not None and found[0].same(sight) else None


def note(model: Any, sight: Sight, plan: layout.Plan, *, transposed: bool) -> None:
    """Notes a plan, and what the model was before it was found."""
    _plans.setdefault(model, {})[transposed] = sight, plan
