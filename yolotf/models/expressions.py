"""What goes into a unit, with all that changes rows and columns on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yolotf.darknet import cfg
from yolotf.models.keras_calls import Enlarge, Window
from yolotf.models.keras_graph import Call
from yolotf.models.rearrangement import Rearrangement

MOVING = ("window", "enlarge", "rearrange")
"""Steps that change rows and columns, but not what the numbers are made from."""


@dataclass(eq=False)
class Node:
    """A step of what a tensor is made from.

    Attributes:
        operation: unit, in, cat, +, *, ?, window, enlarge, rearrange, opaque.
        parts: what it is made from.
        key: of the unit.
        call: in the model; None on the network's side.
        section: in the network; None on the model's side.
        form: a number that is equal for equal steps; what only moves or pools is left out.
    """

    operation: str
    parts: tuple[Node, ...] = ()
    key: int | None = None
    call: Call | None = None
    section: cfg.Layer | None = None
    effect: Window | Enlarge | Rearrangement | None = None
    zeros: bool = False
    form: int = 0


class Forms:
    """Numbers for what tensors are made from."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], int] = {}

    def node(self, operation: str, parts: Sequence[Node] = (), **fields: Any) -> Node:
        """A step; nested ones of the same operation are opened, the order of sums is none."""
        if operation in ("cat", "+", "*", "?"):
            parts = [
                inner
                for part in parts
                for inner in (part.parts if part.operation == operation else (part,))
            ]
            if operation != "cat":
                parts.sort(key=lambda part: part.form)
            # An activation written out, x * sigmoid(x), is no product.
            if len({part.form for part in parts}) == 1 and (operation != "cat" or len(parts) == 1):
                return parts[0]
        if operation in MOVING:
            form = parts[0].form
        else:
            key = (operation, fields.get("key"), tuple(part.form for part in parts))
            form = self._known.setdefault(key, len(self._known) + 1)
        return Node(operation, tuple(parts), form=form, **fields)
