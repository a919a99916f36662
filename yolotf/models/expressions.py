"""Hash-consed expressions of a unit's input, including padding, pooling and upsampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yolotf.darknet import cfg
from yolotf.models.keras_calls import Enlarge, Window
from yolotf.models.keras_graph import Call
from yolotf.models.rearrangement import Rearrangement

MOVING = ("window", "enlarge", "rearrange")
"""Operations that change rows and columns, but not what a tensor is computed from."""


@dataclass(eq=False)
class Node:
    """A node of the expression that a tensor is computed by.

    Attributes:
        operation: unit, in, cat, +, *, ?, window, enlarge, rearrange, opaque.
        parts: its operands.
        key: identifies the unit, if it is one.
        call: its call in the model; None on the network's side.
        section: its section in the network; None on the model's side.
        effect: what a window, enlargement or rearrangement does.
        form: a number that is the same for equal expressions, ignoring `MOVING` operations.
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
    """Creates nodes, and numbers their expressions."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], int] = {}

    def node(self, operation: str, parts: Sequence[Node] = (), **fields: Any) -> Node:
        """Returns a node; flattens nested operations, and ignores the order of all but `cat`."""
        if operation in ("cat", "+", "*", "?"):
            parts = [
                inner
                for part in parts
                for inner in (part.parts if part.operation == operation else (part,))
            ]
            if operation != "cat":
                parts.sort(key=lambda part: part.form)
            # Equal operands are a written-out activation, such as x * sigmoid(x), not a product.
            if len({part.form for part in parts}) == 1 and (operation != "cat" or len(parts) == 1):
                return parts[0]
        if operation in MOVING:
            form = parts[0].form
        else:
            key = (operation, fields.get("key"), tuple(part.form for part in parts))
            form = self._known.setdefault(key, len(self._known) + 1)
        return Node(operation, tuple(parts), form=form, **fields)
