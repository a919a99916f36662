"""An order of units and a network: by their shapes, and by what reads from what."""

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
    """What one section, or one part of a recurrent one, stores."""

    layer: int
    part: str
    segments: tuple[Segment, ...]
    scales: bool


_COLLAPSES: tuple[tuple[str, ...], ...] = ((), ("*", "?"), ("*", "?", "+"), ("*", "?", "cat"))
"""Operations of which equal operands count once: an activation written out looks like a product,
more rarely like a sum; rows and columns moved into channels look like a concatenation."""


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
            if layer.dontload and _has_kernel(layer):
                grouped[layer.index, ""] = []
        self.items = [
            Item(index, part, tuple(found), not network.layers[index].dontloadscales)
            for (index, part), found in sorted(grouped.items(), key=lambda entry: entry[0][0])
            if index in used
        ]
        self._expected = keras_graph.network_inputs(
            network, {item.layer: item.layer for item in self.items}
        )

    def unit_fits(self, unit: Unit, item: Item) -> bool:
        """Whether the section stores what the unit holds, array by array."""
        if not item.segments:
            return "kernel" in unit.slots or unit.leaf.kind == "norm"
        mine = unit.slots
        roles = {segment.role for segment in item.segments}
        optional = set() if item.scales else set(SCALES)
        if set(mine) - optional != roles - optional:
            return False
        return all(
            layout.assignment(segment, mine[segment.role]).shape == mine[segment.role].shape
            for segment in item.segments
        )

    def fits(self, order: Sequence[Unit]) -> bool:
        """Whether every unit fits its section."""
        return len(order) == len(self.items) and all(map(self.unit_fits, order, self.items))

    def right(self, orders: Iterable[Order]) -> list[Order]:
        """Those of `orders` in which every unit fits and reads from the right ones.

        If there is none and the model is a graph, what `search` finds in it. A model that joins
        channels in another order than Darknet is still recognized; `arithmetic` warns of it.
        """
        fitting = [order for order in orders if self.fits(order)]
        for self.any_cat_order in (False, True):
            for self.collapse in _COLLAPSES:
                found = [order for order in fitting if self.first_difference(order) is None]
                if not found and self.structure.is_graph:
                    found = self.search()
                if found:
                    return found
        return []

    def reads_alike(self, order: Order) -> bool:
        """Whether every unit reads from the right ones, in whatever order they are joined."""
        self.any_cat_order = True
        for collapse in _COLLAPSES:
            self.collapse = collapse
            found = self.first_difference(order)
            if found is None:
                break
        return found is None

    def first_difference(self, order: Sequence[Unit]) -> tuple[Unit, Item] | None:
        """The first unit that reads from other units than its section does."""
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
            said = keras_graph.translate(entering, sections)
            if said is None or not any(
                keras_graph.same(self._simplified(said), self._simplified(one)) for one in expected
            ):
                return False
        return True

    def _simplified(self, expression: keras_graph.Expression) -> keras_graph.Expression:
        found = keras_graph.collapsed(expression, self.collapse)
        return keras_graph.unordered(found) if self.any_cat_order else found

    def search(self, limit: int = 20_000) -> list[Order]:
        """Orders in which every unit fits and reads from the right ones; at most two.

        Goes through the sections, trying for each the units that are left, and back where
        none fits. Empty if it takes more than `limit` steps.
        """
        if len(self.structure.units) != len(self.items):
            return []
        found: list[Order] = []
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
                found.append(tuple(chosen))
                if len(found) == 2:
                    break
            else:
                stack.append(self._choices(taken, len(chosen)))
        return found

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
        """The section in words, with what it stores."""
        where = self.network.where(self.network.layers[item.layer])
        shapes = {segment.role: segment.shape for segment in item.segments}
        kernel = shapes.get(Role.KERNEL)
        return f"{where} with kernel {'x'.join(map(str, kernel))}" if kernel else where


def _has_kernel(layer: cfg.Layer) -> bool:
    if isinstance(layer, cfg.Convolutional):
        return layer.share_index is None
    return isinstance(layer, (cfg.Connected, cfg.Batchnorm, cfg.Local))


def bind(
    readings: Sequence[Structure], network: cfg.Network, *, transposed: bool = False
) -> tuple[layout.Assignment, ...]:
    """The segments of `network`, each with the variable it goes to.

    Of the ways in which the model can be taken apart that with as many units as the network has
    sections counts, if there is one. The orders the model suggests are tried by shape and by what
    reads from what; if none is right and the model's graph is known, the sections are looked for
    in the graph.

    Raises:
        ModelMismatchError: the model is not this network, or matches it in several ways.
    """
    bindings = [Binding(structure, network, transposed=transposed) for structure in readings]
    of_size = [one for one in bindings if len(one.structure.units) == len(one.items)]
    if not of_size:
        raise _other_network(bindings[0], None)
    binding = of_size[0]
    structure = binding.structure
    choice = choices(structure)
    right = binding.right(choice.kept)
    for order in list(choice.kept):
        if not binding.fits(order):
            choice.drop(order, _unlike(binding, order))
        elif order not in right:
            unit, item = binding.first_difference(order) or (order[0], binding.items[0])
            choice.drop(order, f"{unit.name} reads from other layers than {binding.describe(item)}")
    best = choice.best() or right
    if len(best) > 1:
        if choice.kept:
            raise ambiguous(choice, best, network.source, told=True)
        raise ModelMismatchError(
            f"{structure.name}: matches {network.source} in several ways, and none is the order "
            f"of its layers; tried {'; '.join(choice.failed)}",
            tried=choice.failed,
        )
    if not best:
        raise _other_network(binding, choice)
    return tuple(
        layout.assignment(segment, unit.slots[segment.role])
        for unit, item in zip(best[0], binding.items, strict=True)
        for segment in item.segments
    )


def _unlike(binding: Binding, order: Order) -> str:
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
    raise AssertionError("fits after all")


def _other_network(binding: Binding, choice: Choice | None) -> ModelMismatchError:
    structure, network = binding.structure, binding.network
    text = (
        f"{structure.name}: is not {network.source}: it has {structure.facts()}, "
        f"{structure.floats} floats; the cfg has {len(binding.items)} sections with weights, "
        f"{layout.floats(network)} floats"
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
