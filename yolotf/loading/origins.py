"""Header and layer order of the file a model was loaded from, so that saving round-trips."""

from __future__ import annotations

import contextlib
from typing import Any

from yolotf.models import notes
from yolotf.models.notes import Origin as Origin
from yolotf.weights import layout
from yolotf.weights.header import Header


def remember(model: Any, header: Header, plan: layout.Plan) -> None:
    """Remembers the header and order of the file that was loaded into `model`.

    A file that was loaded only in part is not remembered: the number of images another network
    has seen says nothing about this model.
    """
    floats = plan.floats if plan.network is None else layout.floats(plan.network)
    if plan.loaded_floats != floats:
        return
    # Some models, such as plain lists of layers, do not support weak references.
    with contextlib.suppress(TypeError):
        notes.edit(model).origin = Origin(header, plan)


def of(model: Any) -> Origin | None:
    """Returns header and plan of the file loaded into `model`; None unless it was a whole file."""
    return notes.read(model).origin
