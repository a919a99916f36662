"""The plans of models from `build_model`, remembered while the model is what it was.

Finding a plan takes a good part of the time of a load. What it is read off (which layer has which
name and which variables) is looked at in every load, and compared object for object with what it
was: if anything is another one, the plan is found anew. In models of other origin a plan follows
from much more than that; theirs are found in every load.

Models and layers are referred to weakly; variables are held, as the model does.
"""

from __future__ import annotations

import operator
import weakref
from typing import Any, NamedTuple

from yolotf.darknet.cfg import Network
from yolotf.models import notes
from yolotf.models.layer_names import named_after_sections
from yolotf.models.variables import held
from yolotf.weights import layout


class Sight(NamedTuple):
    """What the plan of a model from `build_model` is read off.

    Attributes:
        network: it was made of.
        built: whether it has variables.
        names: of the layers.
        things: references to the layers and their classes (which tell a depthwise kernel), and
            their variables.
    """

    network: Network
    built: bool
    names: list[str]
    things: list[Any]

    @classmethod
    def of(cls, model: Any, network: Network) -> Sight:
        """What it is now."""
        named = named_after_sections(model, network)
        layers = list(named.values())
        # There is one reference an object.
        references = [*map(weakref.ref, layers), *map(weakref.ref, map(type, layers))]
        built = getattr(model, "built", True)
        return cls(network, built, list(named), references + held(layers))

    def same(self, other: Sight) -> bool:
        """Whether the same plan follows."""
        return (
            self.network is other.network
            and self.built == other.built
            and self.names == other.names
            and all(map(operator.is_, self.things, other.things))
        )


def plan_of(model: Any, sight: Sight, *, transposed: bool) -> layout.Plan | None:
    """The plan that was noted when the model was the same; None if it never was."""
    noted = notes.read(model).plans.get(transposed)
    return noted[1] if noted is not None and noted[0].same(sight) else None


def note(model: Any, sight: Sight, plan: layout.Plan, *, transposed: bool) -> None:
    """Notes a plan, and what the model was before it was found."""
    notes.edit(model).plans[transposed] = sight, plan
