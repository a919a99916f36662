"""Matches the units of a model to the sections of a network, by shapes and connections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from yolotf.darknet import cfg
from yolotf.darknet.graph_checks import used_layers
from yolotf.darknet.roles import SCALES, Role
from yolotf.errors import ModelMismatchError
from yolotf.models import keras_graph
from yolotf.models.candidate_orders import Choice, Order, ambiguous, choices
from yolotf.models.units import Structure, Unit, stored_shape
from yolotf.weights import layout
from yolotf.weights.layout import Segment


class Item(NamedTuple):
    """The segments of a section, or of a part of a recurrent section.

    Attributes:
        layer: index of the section.
        part: name of the part; "" without parts.
        segments: its segments; empty if it has `dontload=1`.
        scales: whether it stores gamma, moving mean and variance, if normalized.
    """

    layer: int
    part: str
    segments: tuple[Segment, ...]
    scales: bool


_COLLAPSES: tuple[tuple[str, ...], ...] = ((), ("*", "?"), ("*", "?", "+"), ("*", "?", "cat"))
"""Operations whose equal operands are merged. A written-out activation looks like a product or,
more rarely, a sum; rows and columns moved into channels look like a concatenation."""


class Binding:
    """Compares orders of units with the sections of a network."""

    def __init__(
        self, structure: Structure, network: cfg.Network, *, transposed: bool = False
    ) -> None:
        self.structure = structure
        self.network = network
        self.collapse: tuple[str, ...] = ()
        self.any_cat_order = False
        self.place = {unit: place for place, unit in enumerate(structure.units)}
        self.segments = layout.segments(network, transposed=transposed)
        used = used_layers(network)
        grouped: dict[tuple[int, str], list[Segment]] = {}
        for segment in self.segments:
            grouped.setdefault((segment.layer, segment.part), []).append(segment)
        for layer in network.layers:
            for array in layer.stored() if layer.dontload else ():
                if array.role is not Role.WEIGHTS:  # a unit of the model, which no file fills
                    grouped.setdefault((layer.index, array.part), [])
        self.items = [
            Item(index, part, tuple(segments), not network.layers[index].dontloadscales)
            for (index, part), segments in sorted(grouped.items(), key=lambda group: group[0][0])
            if index in used
        ]
        self._expected = keras_graph.network_inputs(
            network, {item.layer: item.layer for item in self.items}
        )

    def unit_fits(self, unit: Unit, item: Item) -> bool:
        """Returns whether the arrays of the section have the shapes of the unit's variables."""
        if not item.segments:
            return "kernel" in unit.slots or unit.leaf.kind == "norm"
        slots = unit.slots
        roles = {segment.role for segment in item.segments}
        optional = set() if item.scales else set(SCALES)
        if set(slots) - optional != roles - optional:
            return False
        return all(
            layout.assignment(segment, slots[segment.role]).shape == slots[segment.role].shape
            for segment in item.segments
        )

    def fits(self, order: Sequence[Unit]) -> bool:
        """Returns whether every unit has the shapes of its section."""
        return len(order) == len(self.items) and all(map(self.unit_fits, order, self.items))

    def valid_orders(self, orders: Iterable[Order]) -> list[Order]:
        """Returns the `orders` in which every unit has the right shapes and inputs.

        If none of them has and the model is a graph, the result of `search` is returned. Models
        that concatenate channels in another order are accepted too; `differences` warns about them.
        """
        fitting = [order for order in orders if self.fits(order)]
        for self.any_cat_order in (False, True):
            for self.collapse in _COLLAPSES:
                valid = [order for order in fitting if self.first_difference(order) is None]
                if not valid and self.structure.is_graph:
                    valid = self.search()
                if valid:
                    return valid
        return []

    def reads_alike(self, order: Order) -> bool:
        """Returns whether every unit has the right inputs, in any order of concatenation."""
        self.any_cat_order = True
        for collapse in _COLLAPSES:
            self.collapse = collapse
            if self.first_difference(order) is None:
                return True
        return False

    def first_difference(self, order: Sequence[Unit]) -> tuple[Unit, Item] | None:
        """Returns the first unit whose inputs are not those of its section; None if none."""
        sections = {
            self.place[unit]: item.layer for unit, item in zip(order, self.items, strict=True)
        }
        for unit, item in zip(order, self.items, strict=True):
            if not self._reads_alike(unit, item, sections):
                return unit, item
        return None

    def _reads_alike(self, unit: Unit, item: Item, sections: Mapping[int, int]) -> bool:
        actual = self.structure.inputs.get(unit)
        expected = self._expected.get(item.layer)
        if not actual or not expected:
            return True
        for entering in actual:
            expression = keras_graph.translate(entering, sections)
            if expression is None:
                return False
            simplified = self._simplified(expression)
            if not any(keras_graph.same(simplified, self._simplified(read)) for read in expected):
                return False
        return True

    def _simplified(self, expression: keras_graph.Expression) -> keras_graph.Expression:
        simplified = keras_graph.collapsed(expression, self.collapse)
        return keras_graph.unordered(simplified) if self.any_cat_order else simplified

    def search(self, limit: int = 20_000) -> list[Order]:
        """Returns at most two orders in which every unit has the right shapes and inputs.

        A backtracking search, section by section. It returns no order if it takes more than
        `limit` steps.
        """
        if len(self.structure.units) != len(self.items):
            return []
        orders: list[Order] = []
        taken: dict[int, int] = {}
        stack: list[Iterator[Unit]] = [self._choices(taken, 0)]
        chosen: list[Unit] = []
        while stack:
            limit -= 1
            if not limit:
                return []
            if len(chosen) == len(stack):
                del taken[self.place[chosen.pop()]]
            unit = next(stack[-1], None)
            if unit is None:
                stack.pop()
                continue
            chosen.append(unit)
            taken[self.place[unit]] = self.items[len(chosen) - 1].layer
            if len(chosen) == len(self.items):
                orders.append(tuple(chosen))
                if len(orders) == 2:
                    break
            else:
                stack.append(self._choices(taken, len(chosen)))
        return orders

    def _choices(self, taken: dict[int, int], turn: int) -> Iterator[Unit]:
        item = self.items[turn]
        for unit, place in self.place.items():
            if (
                place not in taken
                and self.unit_fits(unit, item)
                and self._reads_alike(unit, item, taken)
            ):
                yield unit

    def describe(self, item: Item) -> str:
        """Returns the section and the shape of its kernel in words."""
        where = self.network.where(self.network.layers[item.layer])
        shapes = {segment.role: segment.shape for segment in item.segments}
        kernel = shapes.get(Role.KERNEL)
        return f"{where} with kernel {'x'.join(map(str, kernel))}" if kernel else where


def bind(
    readings: Sequence[Structure], network: cfg.Network, *, transposed: bool = False
) -> tuple[layout.Assignment, ...]:
    """Assigns the segments of `network` to the variables of a model.

    It uses the first of the model's readings that has as many units as the network has sections.
    The orders that the model suggests are checked by shapes and connections. If none is right and
    the model's graph is known, the graph is searched for the sections.

    Raises:
        ModelMismatchError: the model is not this network, or matches it in several ways.
    """
    bindings = [Binding(structure, network, transposed=transposed) for structure in readings]
    of_size = [
        binding for binding in bindings if len(binding.structure.units) == len(binding.items)
    ]
    if not of_size:
        raise _other_network(bindings[0], None)
    binding = of_size[0]
    structure = binding.structure
    choice = choices(structure)
    valid = binding.valid_orders(choice.kept)
    for order in list(choice.kept):
        if not binding.fits(order):
            choice.drop(order, _first_mismatch(binding, order))
        elif order not in valid:
            unit, item = binding.first_difference(order) or (order[0], binding.items[0])
            choice.drop(order, f"{unit.name} reads from other layers than {binding.describe(item)}")
    best = choice.best() or valid
    if len(best) > 1:
        if choice.kept:
            raise ambiguous(choice, best, network.source, has_network=True)
        raise ModelMismatchError(
            f"{structure.name}: its layers match the sections of {network.source} in several "
            f"orders, none of which the model suggests; tried {'; '.join(choice.failed)}; number "
            "the names of the layers in the order of the cfg",
            tried=choice.failed,
        )
    if not best:
        raise _other_network(binding, choice)
    return tuple(
        layout.assignment(segment, unit.slots[segment.role])
        for unit, item in zip(best[0], binding.items, strict=True)
        for segment in item.segments
    )


def _first_mismatch(binding: Binding, order: Order) -> str:
    """Returns the first unit that does not have the shapes of its section, in words."""
    for unit, item in zip(order, binding.items, strict=True):
        if not binding.unit_fits(unit, item):
            normalized = {segment.role for segment in item.segments} >= {"gamma", "kernel"}
            if normalized and "bias" in unit.leaf.slots:
                return (
                    f"{unit.name} has a bias where {binding.describe(item)} has a batch "
                    "normalization, which may have been folded into it"
                )
            kernel = unit.slots.get("kernel")
            shape = "x".join(map(str, stored_shape(kernel, False))) if kernel else "none"
            return (
                f"{unit.name} with kernel {shape}"
                f"{' and batch normalization' if unit.norm else ''} is not "
                f"{binding.describe(item)}"
            )
    raise AssertionError("every unit has the shapes of its section")


def _other_network(binding: Binding, choice: Choice | None) -> ModelMismatchError:
    structure, network = binding.structure, binding.network
    text = (
        f"{structure.name}: does not match {network.source}: the model has "
        f"{structure.unit_counts()}, {structure.floats} floats; the cfg has {len(binding.items)} "
        f"sections with weights, {layout.floats(network)} floats"
    )
    tried = choice.failed if choice else []
    if tried:
        text += f"; tried {'; '.join(tried)}"
    return ModelMismatchError(
        text,
        expected=layout.floats(network),
        found=structure.floats,
        sections=len(binding.items),
        units=len(structure.units),
        tried=tried,
    )
