"""Finds the activation after each unit of a model, as far as its graphs show it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from yolotf.models.keras_calls import (
    Activations,
    Response,
    consumers,
    effect,
    function_name,
    has_weights,
)
from yolotf.models.keras_graph import Call, Calls
from yolotf.models.units import Structure, Unit

_LONGEST_ACTIVATION = 12
"""The most calls that a written-out activation may consist of."""
_NOT_POINTWISE = frozenset(
    {"concat", "concatenate", "reshape", "transpose", "permute", "flatten", "getitem", "softmax"}
)


class _Last(NamedTuple):
    """The last call of a unit, and the graph it is in.

    Attributes:
        call: the call of the batch normalization, or of the kernel without one.
        readers: the calls that read each call, by its id.
        outputs: ids of the calls that compute the graph's outputs.
        whole: whether it is the graph of the whole model.
    """

    call: Call
    readers: Mapping[int, list[Call]]
    outputs: set[int]
    whole: bool


class UnitActivations:
    """Finds the activations of a model's units.

    Attributes:
        activations: cache of the responses of activations.
    """

    def __init__(self, structure: Structure) -> None:
        self.activations = Activations()
        self._unit_of = {
            id(leaf.layer): unit
            for unit in structure.units
            for leaf in (unit.leaf, unit.norm)
            if leaf is not None and leaf.layer is not None
        }
        self._last: dict[Unit, _Last] = {}
        for calls in structure.graphs:
            self._find_last(calls, calls is structure.whole_graph)

    def _find_last(self, calls: Calls, whole: bool) -> None:
        readers = consumers(calls.all)
        outputs = {id(call) for call in calls.outputs}
        for call in calls.all:
            unit = self._unit_of.get(id(call.layer))
            if unit is not None and (unit.norm is None or call.layer is unit.norm.layer):
                self._last.setdefault(unit, _Last(call, readers, outputs, whole))

    def of(self, unit: Unit) -> tuple[Response, Call | None] | None:
        """Returns a unit's activation, and the call that computes it (None for the layer's own).

        Returns None if no graph shows it.
        """
        last = self._last.get(unit)
        if last is None:
            return None
        own = getattr(unit.leaf.layer, "activation", None) if unit.norm is None else None
        actual: Response | None = None
        at: Call | None = last.call
        if own is not None and getattr(own, "__name__", "") != "linear":
            actual = self.activations.of_function(own)
            actual = None if actual is None else self.activations.named(actual)
            if actual is None:
                return None
        if actual is None or actual.name == "linear":
            actual, at = self._after(*last)
        return None if actual is None else (actual, at)

    def _after(
        self,
        start: Call,
        readers: Mapping[int, list[Call]],
        outputs: set[int],
        whole: bool,
    ) -> tuple[Response | None, Call | None]:
        """Returns the pointwise function between a call and all its readers, and its last call.

        Both are None if no graph shows the function.
        """
        linear = self.activations.darknet("linear")
        region: list[Call] = []
        inside = {id(start)}
        waiting = list(readers.get(id(start), ()))
        while waiting and len(region) < _LONGEST_ACTIVATION:
            call = waiting.pop(0)
            if id(call) in inside or not self._is_pointwise(call, start):
                continue
            if all(id(source) in inside for source in call.inputs):
                region.append(call)
                inside.add(id(call))
                waiting += readers.get(id(call), ())
        exits = [
            call
            for call in (start, *region)
            if (id(call) in outputs and (whole or call is not start))
            or any(id(reader) not in inside for reader in readers.get(id(call), ()))
        ]
        if id(start) in outputs and not whole:
            return None, None
        if not exits:
            return None, None
        answers = []
        for end in exits:
            steps = [call for call in region if _leads_to(call, end, inside)]
            answer = linear if end is start else self.activations.of_region(start, steps, end)
            if answer is None:
                return None, None
            answers.append((answer, end))
        first, end = answers[0]
        if any(not first.same(other) for other, _ in answers[1:]):
            return None, None
        return first, None if end is start else end

    def _is_pointwise(self, call: Call, start: Call) -> bool:
        """Returns whether a call may be part of an activation."""
        if id(call.layer) in self._unit_of or has_weights(call.layer):
            return False
        if tuple(call.shape) != tuple(start.shape) or effect(call) is not None:
            return False
        return function_name(call.layer).lower() not in _NOT_POINTWISE


def _leads_to(call: Call, end: Call, inside: Collection[int]) -> bool:
    """Returns whether `end` is computed from `call` by calls whose ids are in `inside`."""
    stack, seen = [end], set()
    while stack:
        current = stack.pop()
        if current is call:
            return True
        if id(current) not in seen and id(current) in inside:
            seen.add(id(current))
            stack += current.inputs
    return False
