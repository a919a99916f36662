"""Which file a model was filled from, so that saving it gives the same file again."""

from __future__ import annotations

import contextlib
import weakref
from typing import Any, NamedTuple

from yolotf.weights import layout
from yolotf.weights.header import Header


class Origin(NamedTuple):
    """What is known of a model that a whole file was loaded into."""

    header: Header
    plan: layout.Plan


_origins: weakref.WeakKeyDictionary[Any, Origin] = weakref.WeakKeyDictionary()


def remember(model: Any, header: Header, plan: layout.Plan) -> None:
    """Notes header and order of a file that has filled `model`, for the way back.

    Files that filled only a part of it are not noted: another network's picture count says
    nothing about this model.
    """
    floats = plan.floats if plan.network is None else layout.floats(plan.network)
    if plan.loaded_floats != floats:
        return
    # Plain lists cannot be referred to weakly.
    with contextlib.suppress(TypeError):
        _origins[model] = Origin(header, plan)


def of(model: Any) -> Origin | None:
    """The file that filled `model`, if it was one and did so as a whole."""
    try:
        return _origins.get(model)
    except TypeError:
        return None
