"""Caches the plans of models from `build_model` for as long as the model is unchanged.

Making a plan takes a large part of the time of a load. Each load compares the layers, their names
and their variables, by identity, with those the cached plan was made from; if any differs, a new
plan is made. The plans of other models depend on much more and are not cached.

Models and layers are referenced weakly; variables are referenced strongly, as by the model.
"""

from __future__ import annotations

import operator
import weakref
from typing import Any, NamedTuple

from yolotf.darknet.cfg import Network
from yolotf.models import notes
from yolotf.models.layer_names import named_after_sections
from yolotf.models.variables import weight_attributes
from yolotf.weights import layout


class ModelFingerprint(NamedTuple):
    """Everything that the plan of a model from `build_model` depends on.

    Attributes:
        network: the network the model was built from.
        built: whether the model has variables.
        names: the names of its layers.
        references: weak references to the layers and their classes (which identify depthwise
            kernels), and the variables.
    """

    network: Network
    built: bool
    names: list[str]
    references: list[Any]

    @classmethod
    def of(cls, model: Any, network: Network) -> ModelFingerprint:
        """Returns the fingerprint of the model in its present state."""
        named = named_after_sections(model, network)
        layers = list(named.values())
        # Python shares one weak reference per object, so `is` compares the objects themselves.
        references = [*map(weakref.ref, layers), *map(weakref.ref, map(type, layers))]
        built = getattr(model, "built", True)
        return cls(network, built, list(named), references + weight_attributes(layers))

    def matches(self, other: ModelFingerprint) -> bool:
        """Returns whether models with these fingerprints have the same plan."""
        return (
            self.network is other.network
            and self.built == other.built
            and self.names == other.names
            and all(map(operator.is_, self.references, other.references))
        )


def cached_plan(
    model: Any, fingerprint: ModelFingerprint, *, transposed: bool
) -> layout.Plan | None:
    """Returns the plan cached for this fingerprint, or None."""
    entry = notes.read(model).plans.get(transposed)
    if entry is None:
        return None
    cached_for, plan = entry
    return plan if cached_for.matches(fingerprint) else None


def cache_plan(
    model: Any, fingerprint: ModelFingerprint, plan: layout.Plan, *, transposed: bool
) -> None:
    """Caches a plan with the fingerprint the model had before it was made."""
    notes.edit(model).plans[transposed] = fingerprint, plan
