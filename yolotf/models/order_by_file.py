"""Chooses between the possible orders of a model's units by the values of a file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yolotf import _core
from yolotf.darknet.roles import Role
from yolotf.errors import ContentError, ModelMismatchError, SizeMismatchError
from yolotf.models.candidate_orders import Candidate, Choice, Order, ambiguous, choices
from yolotf.models.order_by_network import Binding
from yolotf.models.stock import stock_networks
from yolotf.models.units import Structure, Unit, some
from yolotf.weights import layout, statistics
from yolotf.weights.file import ParsedFile
from yolotf.weights.layout import FLOAT_BYTES, Segment
from yolotf.weights.likelihood import Evidence


def segments(order: Sequence[Unit], *, transposed: bool = False) -> list[list[Segment]]:
    """Returns the segments of each unit in a file of this order; `layer` is its position."""
    by_unit: list[list[Segment]] = []
    offset = 0
    for place, unit in enumerate(order):
        of_unit: list[Segment] = []
        for role, shape in unit.stored(transposed):
            flipped = transposed and role == "kernel" and len(shape) == 2
            of_unit.append(Segment(place, "", Role(role), offset, shape, flipped))
            offset = of_unit[-1].end
        by_unit.append(of_unit)
    return by_unit


def assignments(
    order: Sequence[Unit], *, transposed: bool = False
) -> tuple[layout.Assignment, ...]:
    """Returns the segments of units in this order, each with its variable."""
    return tuple(
        layout.assignment(segment, unit.slots[segment.role])
        for unit, of_unit in zip(order, segments(order, transposed=transposed), strict=True)
        for segment in of_unit
    )


def arrange(structure: Structure, file: ParsedFile) -> Order:
    """Returns the order in which the file stores the units.

    Raises:
        SizeMismatchError: the file holds more or fewer floats than the model.
        ContentError: in every order some moving variance is negative or not finite.
        ModelMismatchError: several orders are equally likely, or the model has layers that no file
            has weights for.
    """
    if file.size_bytes != file.size_of(structure.floats):
        raise _wrong_size(structure, file)
    choice = choices(structure)
    compare_with_stock(choice)
    for order in list(choice.kept):
        wrong = _first_impossible(file, segments(order, transposed=file.header.transposed))
        if wrong is not None:
            unit = order[wrong.layer]
            choice.drop(
                order,
                f"moving_variance of {unit.norm.name if unit.norm else unit.name}, at byte "
                f"{file.header.size_bytes + wrong.offset}, would be negative or not finite",
            )
    if not choice.kept:
        raise ContentError(
            f"{file.name}: has the size of {structure.name}, but its values match no order of the "
            f"layers; tried {'; '.join(choice.failed)}; the file belongs to another network, or is "
            "damaged; if the model was written in another order than its cfg, pass network=",
            path=file.name,
            tried=choice.failed,
        )
    best = choice.best()
    if len(best) > 1:
        best = _likeliest(choice, best, file) or best
    if len(best) > 1:
        raise ambiguous(choice, best, file.name)
    return best[0]


def _wrong_size(structure: Structure, file: ParsedFile) -> SizeMismatchError:
    expected = file.size_of(structure.floats)
    text = (
        f"{file.name}: has {file.size_bytes} bytes, {structure.name} needs {expected} for its "
        f"{structure.floats} floats: {structure.unit_counts()}"
    )
    facts = {
        "path": file.name,
        "expected": expected,
        "found": file.size_bytes,
        "floats": structure.floats,
        "not_counted": structure.unsupported,
    }
    if structure.unsupported:
        text += f"; layers that no section of Darknet stores: {some(structure.unsupported)}"
    return SizeMismatchError(text, **facts)


def _first_impossible(file: ParsedFile, by_unit: Sequence[Sequence[Segment]]) -> Segment | None:
    """Returns the first moving variance with a negative or non-finite value."""
    variances = [
        segment for of_unit in by_unit for segment in of_unit if segment.role == "moving_variance"
    ]
    if not variances:
        return None
    stats = _core.scan(
        file.path,
        np.array([file.header.size_bytes + segment.offset for segment in variances], np.int64),
        np.array([segment.count for segment in variances], np.int64),
    )
    bad = np.flatnonzero(np.add(stats["negative"], stats["nonfinite"]))
    return variances[int(bad[0])] if bad.size else None


def compare_with_stock(choice: Choice) -> None:
    """Keeps only the orders in which the model is a stock network, if it is one in any.

    No value shows that two layers of the same shape have changed places, but their connections
    do. If none of the orders is right, one is searched for in the graph.
    """
    structure = choice.structure
    if not structure.inputs:
        return
    for network in stock_networks(structure.floats):
        binding = Binding(structure, network)
        right = binding.valid_orders(choice.kept)
        if len(right) == 1 and right[0] not in choice.kept:
            choice.add(Candidate(f"graph of {network.name}", 0, right[0]))
        if right and set(right) <= set(choice.kept):
            for order in set(choice.kept) - set(right):
                choice.drop(order, f"its layers do not read from each other as in {network.name}")
            return


_DECISIVE = 30.0
"""An order must be likelier than every other by this number of nats."""


def _likeliest(
    choice: Choice,
    best: Sequence[Order],
    file: ParsedFile,
) -> list[Order] | None:
    with Evidence(file) as evidence:
        weights = [
            evidence.log_likelihood_ratio(
                statistics.runs_of(
                    segment
                    for of_unit in segments(order, transposed=file.header.transposed)
                    for segment in of_unit
                )
            )
            for order in best
        ]
    ranked = sorted(weights, reverse=True)
    if ranked[0] - ranked[1] < _DECISIVE:
        return None
    return [best[weights.index(ranked[0])]]


def preferred(structure: Structure) -> Order:
    """Returns the likeliest order of the units without a file, for example to write one.

    Raises:
        ModelMismatchError: several orders are equally likely.
    """
    choice = choices(structure)
    compare_with_stock(choice)
    best = choice.best()
    if len(best) > 1:
        raise ambiguous(choice, best, structure.name)
    if not best:
        raise ModelMismatchError(
            f"{structure.name}: every possible order of its layers has a layer before the layers "
            f"that feed it; tried {'; '.join(choice.failed)}; pass network=",
            tried=choice.failed,
        )
    return best[0]


def likely(structure: Structure) -> list[Order]:
    """Returns all orders of the units that are the likeliest without a file."""
    choice = choices(structure)
    compare_with_stock(choice)
    return choice.best() or [tuple(structure.graph_order() or structure.units)]


def beginning(structure: Structure, floats: int) -> Order | None:
    """Returns the first units, in the preferred order, that hold `floats` floats in total.

    Returns:
        The units; None if `floats` ends inside a unit, or covers all units.

    Raises:
        ModelMismatchError: several orders are equally likely.
    """
    if not 0 < floats < structure.floats:
        return None
    order = preferred(structure)
    for number, of_unit in enumerate(segments(order), 1):
        if of_unit[-1].end >= FLOAT_BYTES * floats:
            return order[:number] if of_unit[-1].end == FLOAT_BYTES * floats else None
    return None
