"""The ways in which a file may store a model: with or without the biases that Darknet lacks."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from yolotf.models.units import Structure
from yolotf.weights.layout import Assignment, Slot


def readings(model: Any, *, skips_bare: bool = False) -> list[Structure]:
    """Splits a model in each way in which a file may store it, likelier first.

    There are two ways if a batch normalization follows a kernel with a bias: the bias is not in
    the file, or the batch normalization is a `[batchnorm]` section.
    """
    merged = Structure(model, merges_biases=True, skips_bare=skips_bare)
    if all(unit.extra_bias is None for unit in merged.units):
        return [merged]
    return [merged, Structure(model, skips_bare=skips_bare)]


def reading_of_size(model: Any, floats: Collection[int], *, skips_bare: bool = False) -> Structure:
    """Returns the first of `readings` with one of the numbers of floats; otherwise the likelier."""
    likelier, *others = readings(model, skips_bare=skips_bare)
    candidates = (likelier, *others)
    return next((structure for structure in candidates if structure.floats in floats), likelier)


def reading_of_load(model: Any, assignments: Iterable[Assignment]) -> Structure:
    """Returns the one of `readings` that `assignments` use; the likelier without assignments."""
    merged, *others = readings(model, skips_bare=True)
    written = {id(assignment.slot.variable) for assignment in assignments}
    if others and any(
        unit.extra_bias is not None and id(unit.extra_bias.variable) in written
        for unit in merged.units
    ):
        return others[0]
    return merged


def extra_biases(model: Any, assignments: Iterable[Assignment]) -> list[tuple[Slot, Slot]]:
    """Returns (bias, moving mean) of assigned units with a bias that Darknet does not have."""
    written = {id(assignment.slot.variable) for assignment in assignments}
    return [
        (unit.extra_bias, unit.slots["moving_mean"])
        for unit in reading_of_load(model, assignments).units
        if unit.extra_bias is not None and id(unit.slots["kernel"].variable) in written
    ]
