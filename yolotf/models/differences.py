"""Finds where the results of a Keras model differ from those of the network whose weights it has.

A model with the right weights may still detect other objects: because of another leaky slope,
another activation or none, padding on other sides of the image, another order of concatenation,
smooth upsampling, or space_to_depth in place of [reorg]. `differences` finds these in the graphs of
the model and its sub-models, and in the attributes of layers that no graph connects.

The model is compared with the network it was loaded as, or with the stock network it matches. If
neither is known, only what no Darknet network does is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from yolotf.darknet import cfg, graph_checks
from yolotf.darknet.graph_checks import BN_EPSILON
from yolotf.darknet.layer import of_class
from yolotf.errors import ModelMismatchError
from yolotf.models import padding, rearrangement
from yolotf.models.activations import UnitActivations
from yolotf.models.difference_messages import Difference, Differences
from yolotf.models.expressions import MOVING, Forms, Node
from yolotf.models.keras_calls import (
    Enlarge,
    Response,
    Window,
    effect,
    has_weights,
    leaky,
    name_of_call,
    probe_enlargement,
    window_of,
)
from yolotf.models.keras_graph import Call, Calls, operation
from yolotf.models.layer_names import every_layer, network_of
from yolotf.models.order_by_file import preferred
from yolotf.models.order_by_network import Binding
from yolotf.models.readings import reading_of_load
from yolotf.models.rearrangement import Rearrangement, Rearrangements
from yolotf.models.stock import stock_networks
from yolotf.models.traversal import class_names, layers
from yolotf.models.units import Structure, Unit
from yolotf.weights import layout


def differences(
    model: Any,
    network: cfg.Network | None = None,
    assignments: Sequence[layout.Assignment] = (),
) -> tuple[Difference, ...]:
    """Returns every kind of difference between what `model` and Darknet compute.

    Args:
        model: any built Keras model. Of a model from `build_model`, only the epsilons are checked.
        network: the network it was loaded as, if known.
        assignments: the segments that were loaded, and their variables; without them and without
            a network, the order of the layers is inferred from the model.
    """
    collected = Differences()
    _add_epsilons(model, collected)
    if network_of(model) is None and not isinstance(model, (list, tuple, dict)):
        for name in separable_layers(model):
            collected.add("separable", name, "")
        try:
            structure = reading_of_load(model, assignments)
        except ModelMismatchError:  # no file could be loaded into the model
            return collected.all()
        sections = _sections(structure, network, assignments)
        _Comparison(structure, sections, collected).run()
    return collected.all()


def separable_layers(model: Any) -> list[str]:
    """Returns the names of SeparableConv2D layers, which have no counterpart in Darknet."""
    return [layer.name for layer in layers(model) if "SeparableConv2D" in class_names(layer)]


def _add_epsilons(model: Any, collected: Differences) -> None:
    """Adds the batch normalizations whose epsilon is not Darknet's."""
    for layer in norms(model):
        epsilon = float(layer.epsilon)
        if abs(epsilon - BN_EPSILON) > 1e-9:
            collected.add("epsilon", layer.name, f"epsilon {epsilon:g}")


def norms(model: Any) -> Iterator[Any]:
    """Yields the batch normalizations of a model that have an epsilon."""
    for layer in every_layer(model):
        if hasattr(layer, "epsilon") and hasattr(layer, "moving_variance"):
            yield layer


# The section of each unit


@dataclass(frozen=True)
class _Sections:
    """The sections that units were loaded as; none without a network."""

    network: cfg.Network | None = None
    of_unit: Mapping[Unit, int] = field(default_factory=dict)


def _sections(
    structure: Structure, network: cfg.Network | None, assignments: Sequence[layout.Assignment]
) -> _Sections:
    of_variable = {
        id(assignment.slot.variable): assignment.segment.layer for assignment in assignments
    }
    of_unit = {
        unit: of_variable[id(slot.variable)]
        for unit in structure.units
        for slot in unit.slots.values()
        if id(slot.variable) in of_variable
    }
    if network is not None:
        return _Sections(network, of_unit)
    if not assignments:
        try:
            of_unit = {unit: place for place, unit in enumerate(preferred(structure))}
        except ModelMismatchError:  # several orders are equally likely
            return _Sections()
    if len(of_unit) < len(structure.units):
        return _Sections()
    order = tuple(sorted(structure.units, key=lambda unit: of_unit[unit]))
    for stock in stock_networks(structure.floats):
        binding = Binding(structure, stock)
        if binding.fits(order) and binding.reads_alike(order):
            items = zip(order, binding.items, strict=True)
            return _Sections(stock, {unit: item.layer for unit, item in items})
    return _Sections()


class _Comparison:
    """Compares a model with a network, unit by unit."""

    def __init__(self, structure: Structure, sections: _Sections, collected: Differences) -> None:
        self.structure = structure
        self.sections = sections
        self.collected = collected
        self.forms = Forms()
        self.unit_activations = UnitActivations(structure)
        self.activations = self.unit_activations.activations
        self.expected = {} if sections.network is None else self._expected(sections.network)
        self.unit_of = {
            id(leaf.layer): unit
            for unit in structure.units
            for leaf in (unit.leaf, unit.norm)
            if leaf is not None and leaf.layer is not None
        }
        self.seen_calls: set[int] = set()
        self.compared: set[tuple[int, int]] = set()

    def run(self) -> None:
        """Compares everything that the graphs and attributes show."""
        for calls in self.structure.graphs:
            whole = calls is self.structure.whole_graph
            self._graph(calls, whole)
        for unit in self.structure.units:
            self._activation(unit)
        self._unconnected()

    def section(self, unit: Unit) -> cfg.Layer | None:
        """Returns the section the unit was loaded as, or None."""
        index = self.sections.of_unit.get(unit)
        network = self.sections.network
        return None if index is None or network is None else network.layers[index]

    # The network's side

    def _expected(self, network: cfg.Network) -> dict[int, Node]:
        """Returns the expected input of each section that stores floats."""
        values = {cfg.NETWORK_INPUT: self.forms.node("in")}
        expected: dict[int, Node] = {}
        stored = set(self.sections.of_unit.values())
        for layer in network.layers:
            sources = [values[index] for index in layer.inputs]
            operation = layer.makes_of_inputs
            section = None if operation in ("+", "*") else layer
            entering = (
                self.forms.node(operation, sources, section=section)
                if sources
                else values[cfg.NETWORK_INPUT]
            )
            owner = graph_checks.kernel_index(network, layer)
            if owner in stored:
                expected.setdefault(owner, entering)
                values[layer.index] = self.forms.node("unit", key=owner)
            else:
                values[layer.index] = entering
        return expected

    # The model's side

    def _graph(self, calls: Calls, whole: bool) -> None:
        """Compares the calls of a graph; `whole` if it is the graph of the whole model."""
        values: dict[int, Node] = {}
        rearrangements = Rearrangements()

        def node_of(call: Call) -> Node:
            return values.get(id(call)) or self.forms.node("in" if whole else "opaque")

        for call in calls.all:
            self.seen_calls.add(id(call.layer))
            sources = [node_of(source) for source in call.inputs]
            value = self._value(call, sources, whole)
            moved = rearrangements.ending_with(call)
            if moved is not None and moved.shrinks:
                start = node_of(moved.start)
                value = self.forms.node("rearrange", [start], call=call, effect=moved)
            values[id(call)] = value

    def _value(self, call: Call, sources: list[Node], whole: bool) -> Node:
        unit = self.unit_of.get(id(call.layer))
        entering = self._entering(call, sources)
        if unit is None:
            if has_weights(call.layer):
                return self.forms.node("opaque")
            return entering
        section = self.section(unit)
        key = None if section is None else section.index
        if call.layer is unit.leaf.layer:
            self._window(unit, call, section, whole)
            if section is not None and section.index in self.expected:
                self._compare(entering, self.expected[section.index], call)
        if key is None:
            key = -2 - self.structure.units.index(unit)
        return self.forms.node("unit", key=key)

    def _entering(self, call: Call, sources: list[Node]) -> Node:
        """Returns the node of what a call computes from `sources`, apart from its weights."""
        changes = effect(call)
        if isinstance(changes, Window) and len(sources) == 1:
            return self.forms.node("window", sources, call=call, effect=changes)
        if changes is None and len(sources) == 1:
            changes = probe_enlargement(call) if is_opaque(call.layer) else None
        if isinstance(changes, Enlarge) and len(sources) == 1:
            self._enlarged(call, changes)
            return self.forms.node("enlarge", sources, call=call, effect=changes)
        if not sources:
            return self.forms.node("in")
        return self.forms.node(operation(call.layer), sources, call=call)

    def _reorgs(self) -> tuple[cfg.Reorg, ...]:
        network = self.sections.network
        return () if network is None else of_class(network.layers, cfg.Reorg)

    def _enlarged(self, call: Call, changes: Enlarge) -> None:
        if changes.interpolation != "nearest" and (
            len(call.shape) != 4 or call.shape[1:3] != call.inputs[0].shape[1:3]
        ):
            self.collected.add("upsampling", name_of_call(call.layer), changes.interpolation)

    # Padding

    def _window(self, unit: Unit, call: Call, section: cfg.Layer | None, whole: bool) -> None:
        window = window_of(call.layer)
        if window is None or unit.leaf.kind != "convolution":
            return
        source, sides = padding.zeros_before(call)
        visible = whole or source.layer is not None or sides != padding.NO_SIDES
        self._add_padding(
            unit.name, padding.of_convolution(window, source.shape, sides, section, visible)
        )

    def _add_padding(self, name: str, difference: str | None) -> None:
        if difference is not None:
            self.collected.add("padding", name, difference)

    # Activations

    def _activation(self, unit: Unit) -> None:
        activation = self.unit_activations.of(unit)
        if activation is not None:
            self._compare_activation(unit, *activation)

    def _compare_activation(self, unit: Unit, actual: Response, at: Call | None) -> None:
        section = self.section(unit)
        name = unit.name if at is None or at.layer is None else name_of_call(at.layer)
        place = name if name == unit.name else f"{name} after {unit.name}"
        slope = actual.slope
        if section is None or self.sections.network is None:
            if slope not in (None, 0.0, 1.0) and not actual.same(leaky(0.1)):
                self.collected.add("leaky_slope", place, f"slope {slope:.3g}")
            return
        wanted = getattr(section, "activation", None)
        if wanted is None or self._feeds_heads_only(section):
            return
        expected = self.activations.darknet(wanted)
        if expected is None or expected.same(actual):
            return
        expected_slope = expected.slope
        if expected_slope not in (None, 0.0, 1.0) and slope not in (None, 0.0, 1.0):
            self.collected.add("leaky_slope", place, f"slope {slope:.3g}")
            return
        pooled = at is not None and (len(at.shape) == 2 or tuple(at.shape[1:3]) == (1, 1))
        if pooled and actual.name == "softmax" and self._feeds_softmax(section):
            return
        linear = actual.name == "linear"
        detail = f"{'none' if linear else actual.name}, Darknet {wanted}"
        self.collected.add("activation", unit.name if linear else place, detail)

    def _feeds_heads_only(self, section: cfg.Layer) -> bool:
        """Returns whether only heads read the section; models decode these in their own ways."""
        assert self.sections.network is not None
        return all(
            layer.ends_graph
            for layer in self.sections.network.layers
            if section.index in layer.inputs
        )

    def _feeds_softmax(self, section: cfg.Layer) -> bool:
        """Returns whether only [softmax] reads the section, directly or after [avgpool]."""
        assert self.sections.network is not None
        while True:
            readers = [
                layer for layer in self.sections.network.layers if section.index in layer.inputs
            ]
            if len(readers) != 1 or not readers[0].passes_classes:
                return bool(readers) and all(layer.normalizes_classes for layer in readers)
            section = readers[0]

    # Joins, pooling, upsampling

    def _compare(self, actual: Node, expected: Node, at: Call) -> None:
        """Compares the input of the model's call `at` with the section's, operand by operand."""
        if (id(actual), id(expected)) in self.compared or actual.operation in ("in", "unit"):
            return
        self.compared.add((id(actual), id(expected)))
        if actual.operation == "window" and expected.operation == "window":
            self._pools(actual, expected)
        if actual.operation == "rearrange" and expected.operation == "rearrange":
            self._rearranged(actual, expected)
        if actual.operation in MOVING and actual.operation == expected.operation:
            self._compare(actual.parts[0], expected.parts[0], at)
            return
        if actual.operation in MOVING:
            self._compare(actual.parts[0], expected, at)
            return
        if expected.operation in MOVING:
            self._compare(actual, expected.parts[0], at)
            return
        if actual.operation != expected.operation or len(actual.parts) != len(expected.parts):
            return
        if _forms(actual.parts) == _forms(expected.parts):
            self._compare_each(actual.parts, expected.parts, at)
            return
        actual_sorted = sorted(actual.parts, key=lambda part: part.form)
        expected_sorted = sorted(expected.parts, key=lambda part: part.form)
        if _forms(actual_sorted) != _forms(expected_sorted):
            # An earlier concatenation has another order.
            self._compare_each(actual.parts, expected.parts, at)
            return
        if actual.operation == "cat":
            call = actual.call or at
            self.collected.add("concat_order", name_of_call(call.layer), self._order_text(expected))
        self._compare_each(actual_sorted, expected_sorted, at)

    def _compare_each(self, actual: Iterable[Node], expected: Iterable[Node], at: Call) -> None:
        for actual_part, expected_part in zip(actual, expected, strict=True):
            self._compare(actual_part, expected_part, at)

    def _order_text(self, expected: Node) -> str:
        network = self.sections.network
        assert network is not None
        names = {index: unit.name for unit, index in self.sections.of_unit.items()}
        order = [
            names.get(part.key, "...") if part.key is not None else "..." for part in expected.parts
        ]
        where = "" if expected.section is None else f" in {network.where(expected.section)}"
        return f"Darknet has {', '.join(order)}{where}"

    def _pools(self, actual: Node, expected: Node) -> None:
        section, window, call = expected.section, actual.effect, actual.call
        if section is not None and isinstance(window, Window) and call is not None:
            self._add_padding(name_of_call(call.layer), padding.of_pool(window, call, section))

    def _rearranged(self, actual: Node, expected: Node) -> None:
        moved, call = actual.effect, actual.call
        section = cast("cfg.Reorg", expected.section)  # the only section that rearranges
        if isinstance(moved, Rearrangement) and call is not None:
            order = rearrangement.different_order(moved.run, section, moved.start.shape)
            self._add_reorg(name_of_call(call.layer), order, section)

    def _add_reorg(self, name: str, order: str | None, section: cfg.Reorg) -> None:
        network = self.sections.network
        if order is not None and network is not None:
            self.collected.add("reorg", name, f"{order} for {network.where(section)}")

    # Layers that no graph connects

    def _unconnected(self) -> None:
        """Checks the attributes of layers whose calls no graph shows."""
        for layer in layers(self.structure.model):
            if id(layer) in self.seen_calls:
                continue
            unit = self.unit_of.get(id(layer))
            if unit is not None and layer is unit.leaf.layer:
                window = window_of(layer)
                if window is not None and unit.leaf.kind == "convolution":
                    shape = (None, None, None, None)
                    section = self.section(unit)
                    self._add_padding(
                        unit.name,
                        padding.of_convolution(window, shape, padding.NO_SIDES, section, False),
                    )
                continue
            bases = class_names(layer)
            if "LeakyReLU" in bases:
                response = self.activations.of_layer(layer)
                if response is not None and not response.same(leaky(0.1)):
                    self.collected.add("leaky_slope", layer.name, f"slope {response.slope:.3g}")
            elif "UpSampling2D" in bases and layer.interpolation != "nearest":
                self.collected.add("upsampling", layer.name, str(layer.interpolation))
            elif is_opaque(layer) and not has_weights(layer):
                for section in self._reorgs():
                    order = rearrangement.different_order(layer, section, ())
                    self._add_reorg(name_of_call(layer), order, section)


def _forms(parts: Iterable[Node]) -> list[int]:
    return [part.form for part in parts]


def is_opaque(layer: Any) -> bool:
    """Returns whether a layer must be run to see what it does: a Lambda or a user's layer."""
    bases = class_names(layer)
    return "Lambda" in bases or (
        "Layer" in bases and not type(layer).__module__.startswith(("keras", "tf_keras"))
    )
