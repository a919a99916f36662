"""Lists the orders that the units of a model may have in a file.

A file stores the units in the order of its cfg. A model shows that order only indirectly: by the
numbers in the names of its layers, the creation order of its variables, its sub-models.
`candidates` lists these orders; `order_by_file.arrange` chooses between them by a file,
`order_by_network.bind` by a network.
"""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from yolotf.darknet import sections as sections  # registers their names
from yolotf.darknet.layer import names_that_store
from yolotf.errors import ModelMismatchError
from yolotf.models.units import Structure, Unit

Order = tuple[Unit, ...]


class Candidate(NamedTuple):
    """An order that the units may have in the file.

    Attributes:
        name: where the order comes from.
        tier: how reliable it is: 0 by the names of sections, 1 the order in which the model was
            written, 2 inferred from its structure, 3 merely possible.
        order: the units in this order.
    """

    name: str
    tier: int
    order: tuple[Unit, ...]


def candidates(structure: Structure) -> Iterator[Candidate]:
    """Yields every order the model suggests; the same order may occur more than once."""
    units = structure.units
    listed = tuple(units)
    if (order := _by_section_number(units)) is not None:
        yield Candidate("named after sections", 0, order)
    created = _by_creation(units)
    graph = structure.graph_order()
    # The creation order says little of a model read from a file, which creates its layers as
    # listed, and of a subclassed model, which creates them as they are called.
    creation = 2 if graph is None else 3 if created == listed else 1
    known = (created, None if graph is None else tuple(graph), listed)
    fallback = next(order for order in known if order is not None)
    if (order := _by_suffix(units, fallback)) is not None:
        yield Candidate("numeric suffixes", 1, order)
    if created is not None:
        yield Candidate("creation order", creation, created)
    if (order := _by_submodel(structure)) is not None:
        yield Candidate("sub-models by number", 2, order)
    yield Candidate("attribute order" if graph is None else "order of the layers", 2, listed)
    if graph is not None:
        yield Candidate("graph order", 3, tuple(graph))


_SECTION = re.compile(rf"(?:conv|{'|'.join(names_that_store())})_(\d+)(?:_bn)?")


def _by_section_number(units: Sequence[Unit]) -> tuple[Unit, ...] | None:
    matches = [(_SECTION.fullmatch(unit.name), unit) for unit in units]
    numbers = {int(match.group(1)): unit for match, unit in matches if match}
    if len(numbers) != len(units):
        return None
    return tuple(numbers[number] for number in sorted(numbers))


def _by_creation(units: Sequence[Unit]) -> tuple[Unit, ...] | None:
    ages = [unit.leaf.created for unit in units]
    if None in ages or len(set(ages)) != len(ages):
        return None
    return tuple(sorted(units, key=lambda unit: unit.leaf.created or 0))


def _by_suffix(units: Sequence[Unit], fallback: Sequence[Unit]) -> tuple[Unit, ...] | None:
    """Orders layers of one base name by number, and where numbers do not decide as `fallback`.

    `conv2d_7` comes before `conv2d_8`; the numbers of the batch normalizations order, for
    example, a `depthwise_conv2d_2` among them.
    """
    chains: dict[Hashable, list[tuple[int, Unit]]] = {}
    for unit in units:
        for leaf in (unit.leaf, unit.norm):
            if leaf is not None:
                base, number = base_and_number(leaf.name)
                chains.setdefault(base, []).append((number, unit))
    if all(len(chain) == 1 for chain in chains.values()):
        return None
    after: dict[Unit, list[Unit]] = {unit: [] for unit in units}
    waits = dict.fromkeys(units, 0)
    for chain in chains.values():
        if len({number for number, _ in chain}) != len(chain):
            continue  # names repeat in several sub-models
        chain.sort(key=lambda link: link[0])
        for (_, before), (_, unit) in itertools.pairwise(chain):
            after[before].append(unit)
            waits[unit] += 1
    rank = {unit: place for place, unit in enumerate(fallback)}
    ready = [rank[unit] for unit in units if not waits[unit]]
    heapq.heapify(ready)
    order: list[Unit] = []
    while ready:
        unit = fallback[heapq.heappop(ready)]
        order.append(unit)
        for later in after[unit]:
            waits[later] -= 1
            if not waits[later]:
                heapq.heappush(ready, rank[later])
    return tuple(order) if len(order) == len(units) else None


def base_and_number(name: str) -> tuple[str, int]:
    """Splits `conv2d_7` into `("conv2d", 7)`; a name without a number has -1."""
    match = re.fullmatch(r"(.*?)_?(\d+)", name)
    # Keras gives the first layer of a class in a process no number.
    return (match.group(1), int(match.group(2))) if match else (name, -1)


def _by_submodel(structure: Structure) -> tuple[Unit, ...] | None:
    """Orders units by the numbers of sub-models: backbone, conv_0, output_0, conv_1, output_1."""
    places: dict[str, int] = {}
    keys = []
    for unit in structure.units:
        path = unit.leaf.path[1:]
        if len(path) < 2:
            return None
        place = places.setdefault(path[0], len(places))
        keys.append((base_and_number(path[0])[1], place))
    if len(places) < 2:
        return None
    ranked = sorted(range(len(keys)), key=lambda index: keys[index])
    return tuple(structure.units[index] for index in ranked)


@dataclass
class Choice:
    """Distinct orders with their candidates, and the reasons why others failed."""

    structure: Structure
    kept: dict[Order, list[Candidate]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def add(self, candidate: Candidate) -> None:
        """Adds a candidate."""
        self.kept.setdefault(candidate.order, []).append(candidate)

    def drop(self, order: Order, why: str) -> None:
        """Removes an order for the reason `why`."""
        names = " and ".join(candidate.name for candidate in self.kept.pop(order))
        self.failed.append(f"{names}: {why}")

    def best(self) -> list[Order]:
        """Returns the orders of the lowest tier; more than one is ambiguous."""
        tiers = {
            order: min(candidate.tier for candidate in candidates)
            for order, candidates in self.kept.items()
        }
        lowest = min(tiers.values(), default=0)
        return [order for order, tier in tiers.items() if tier == lowest]

    def name(self, order: Order) -> str:
        """Returns the names of the candidates that have this order."""
        return " and ".join(candidate.name for candidate in self.kept[order])


def choices(structure: Structure) -> Choice:
    """Returns the candidates, without orders in which a unit comes before its inputs."""
    choice = Choice(structure)
    for candidate in candidates(structure):
        choice.add(candidate)
    for order in list(choice.kept):
        place = {unit: number for number, unit in enumerate(order)}
        for unit in order:
            # A shared kernel is stored at its first use.
            late = [
                [source for source in feeding if place[source] > place[unit]]
                for feeding in structure.upstream(unit)
            ]
            if late and all(late):
                choice.drop(order, f"{unit.name} comes before {late[0][0].name}, which feeds it")
                break
    return choice


def ambiguous(
    choice: Choice, best: Sequence[Order], name: str, *, has_network: bool = False
) -> ModelMismatchError:
    """Returns the error for several equally likely orders.

    Args:
        choice: all orders.
        best: the orders that are equally likely.
        name: name of the file or cfg.
        has_network: whether the caller passed `network=`, which did not decide.
    """
    first, second = best[:2]
    place = next(
        index for index, (a, b) in enumerate(zip(first, second, strict=True)) if a is not b
    )
    # A network has the connections between layers, which help only if the model's are known too.
    fix = "pass network=, or " if choice.structure.is_graph and not has_network else ""
    return ModelMismatchError(
        f"{name}: {len(best)} orders of the layers of {choice.structure.name} are equally likely: "
        f"layer {place} is {first[place].name} by {choice.name(first)}, {second[place].name} by "
        f"{choice.name(second)}; {fix}number the names of the layers in the order of the cfg",
        path=name,
        place=place,
        names=[order[place].name for order in best],
        tried=[choice.name(order) for order in best] + choice.failed,
    )
