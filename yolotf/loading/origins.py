"""Which file a model was filled from, so that saving it gives the same file again."""

from __future__ import annotations

import contextlib
from typing import Any

from yolotf.models import notes
from yolotf.models.notes import Origin as Origin
from yolotf.weights import layout
from yolotf.weights.header import Header


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
        notes.edit(model).origin = Origin(header, plan)


def of(model: Any) -> Origin | None:
    """The file that filled `model`, if it was one and did so as a whole."""
    return notes.read(model).origin
