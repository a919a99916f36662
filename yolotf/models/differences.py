"""Where a Keras model computes otherwise than the Darknet network whose file it holds.

The floats fit, every variable is right, and still the model detects something else: another
slope below zero, another activation or none, zeros on other sides of the picture, channels joined
in another order, a smooth enlargement, space_to_depth for [reorg]. `differences` finds what of
this the model shows: in its graphs, in those of sub-models, and in the attributes of layers that
no graph connects.

What a model is compared with is the network it was loaded as. Where none is known and it is no
stock network either, only what no Darknet network does is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from yolotf.darknet import cfg, graph_checks
from yolotf.darknet.graph_checks import BN_EPSILON
from yolotf.errors import ModelMismatchError
from yolotf.models import rearrangement
from yolotf.models.activations import UnitActivations
from yolotf.models.difference_messages import Difference, Differences
from yolotf.models.expressions import MOVING, Forms, Node
from yolotf.models.keras_calls import (
    Enlarge,
    Pad,
    Response,
    Window,
    effect,
    has_weights,
    leaky,
    name_of_call,
    pads_of,
    tried_enlargement,
    window_of,
)
from yolotf.models.keras_graph import Call, Calls, operation
from yolotf.models.layer_names import every_layer, network_of
from yolotf.models.order_by_file import preferred
from yolotf.models.order_by_network import Binding
from yolotf.models.rearrangement import Rearrangement, Rearrangements
from yolotf.models.stock import stock_networks
from yolotf.models.traversal import class_names, layers
from yolotf.models.units import Structure, Unit, passes, reading_of_load
from yolotf.weights import layout


def differences(
    model: Any,
    network: cfg.Network | None = None,
    assignments: Sequence[layout.Assignment] = (),
) -> tuple[Difference, ...]:
    """Every kind in which `model` computes otherwise than Darknet, each once.

    Args:
        model: any built Keras model. One that `build_model` made is only asked for its epsilons.
        network: what it was loaded as, if that is known.
        assignments: which segments went to which variables; without them, and without a network,
            the order is the one the model suggests.
    """
    found = Differences()
    epsilons(model, found)
    if network_of(model) is None and not isinstance(model, (list, tuple, dict)):
        for name in separable_layers(model):
            found.add("separable", name, "")
        try:
            structure = reading_of_load(model, assignments)
        except ModelMismatchError:  # it is not one that a file could fill
            return found.all()
        sections = _sections(structure, network, assignments)
        _Comparison(structure, sections, found).run()
    return found.all()


def separable_layers(model: Any) -> list[str]:
    """The names of layers with two kernels and nothing between them."""
    return [layer.name for layer in layers(model) if "SeparableConv2D" in class_names(layer)]


def epsilons(model: Any, found: Differences) -> None:
    """Batch normalizations with another epsilon than Darknet's."""
    for layer in norms(model):
        epsilon = float(layer.epsilon)
        if abs(epsilon - BN_EPSILON) > 1e-9:
            found.add("epsilon", layer.name, f"epsilon {epsilon:g}")


def norms(model: Any) -> Iterator[Any]:
    """The batch normalizations of a model that have an epsilon."""
    for layer in every_layer(model):
        if hasattr(layer, "epsilon") and hasattr(layer, "moving_variance"):
            yield layer


# Which section each unit is


@dataclass(frozen=True)
class _Sections:
    """The sections that units were loaded as; without a network there are none."""

    network: cfg.Network | None = None
    of_unit: Mapping[Unit, int] = field(default_factory=dict)


def _sections(
    structure: Structure, network: cfg.Network | None, assignments: Sequence[layout.Assignment]
) -> _Sections:
    of_variable = {id(one.slot.variable): one.segment.layer for one in assignments}
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
        except ModelMismatchError:  # several orders are as likely
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
    """One model and one network, unit by unit."""

    def __init__(self, structure: Structure, sections: _Sections, found: Differences) -> None:
        self.structure = structure
        self.sections = sections
        self.found = found
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
        """Compares everything that is visible."""
        for calls in self.structure.graphs:
            whole = calls is self.structure.whole_graph
            self._graph(calls, whole)
        for unit in self.structure.units:
            self._activation(unit)
        self._unconnected()

    def section(self, unit: Unit) -> cfg.Layer | None:
        """What the unit was loaded as."""
        index = self.sections.of_unit.get(unit)
        network = self.sections.network
        return None if index is None or network is None else network.layers[index]

    # the network's side

    def _expected(self, network: cfg.Network) -> dict[int, Node]:
        """What enters each section that stores floats."""
        values = {cfg.NETWORK_INPUT: self.forms.node("in")}
        found: dict[int, Node] = {}
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
                found.setdefault(owner, entering)
                values[layer.index] = self.forms.node("unit", key=owner)
            else:
                values[layer.index] = entering
        return found

    # the model's side

    def _graph(self, calls: Calls, whole: bool) -> None:
        values: dict[int, Node] = {}
        rearrangements = Rearrangements()

        def node_of(call: Call) -> Node:
            return values.get(id(call)) or self.forms.node("in" if whole else "opaque")

        for call in calls.all:
            self.seen_calls.add(id(call.layer))
            sources = [node_of(source) for source in call.inputs]
            value = self._value(call, sources, whole)
            moved = rearrangements.through(call)
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
        """What comes out of a call without weights."""
        changes = effect(call)
        if isinstance(changes, Window) and len(sources) == 1:
            return self.forms.node("window", sources, call=call, effect=changes)
        if changes is None and len(sources) == 1:
            changes = tried_enlargement(call) if is_opaque(call.layer) else None
        if isinstance(changes, Enlarge) and len(sources) == 1:
            self._enlarged(call, changes)
            return self.forms.node("enlarge", sources, call=call, effect=changes)
        if not sources:
            return self.forms.node("in")
        return self.forms.node(operation(call.layer), sources, call=call)

    def _reorgs(self) -> Iterator[cfg.Reorg]:
        network = self.sections.network
        for layer in () if network is None else network.layers:
            if isinstance(layer, cfg.Reorg):
                yield layer

    def _enlarged(self, call: Call, changes: Enlarge) -> None:
        if changes.interpolation != "nearest" and (
            len(call.shape) != 4 or call.shape[1:3] != call.inputs[0].shape[1:3]
        ):
            self.found.add("upsampling", name_of_call(call.layer), changes.interpolation)

    # padding

    def _window(self, unit: Unit, call: Call, section: cfg.Layer | None, whole: bool) -> None:
        window = window_of(call.layer)
        if window is None or unit.leaf.kind != "convolution":
            return
        source, sides = _before_pads(call)
        visible = whole or source.layer is not None or sides != _NO_SIDES
        self._convolution(unit, window, source.shape, sides, section, visible)

    def _convolution(
        self,
        unit: Unit,
        window: Window,
        shape: Sequence[int | None],
        sides: Any,
        section: cfg.Layer | None,
        visible: bool,
    ) -> None:
        """Compares where a convolution's windows begin and how many there are.

        Args:
            unit: of the convolution.
            window: its own.
            shape: of what it reads, before `sides`.
            sides: explicit zeros around it.
            section: what it was loaded as.
            visible: whether `sides` are all the zeros there are.
        """
        convolution = section if isinstance(section, cfg.Convolutional) else None
        extents = _extents(shape, convolution)
        padded = [extent + sum(side) for extent, side in zip(extents, sides, strict=True)]
        own, positions = pads_of(window, padded)
        begins = [before + more for (before, _), (more, _) in zip(sides, own, strict=True)]
        # Zeros after the last window are read by nobody.
        ends = [
            max(0, (count - 1) * stride + size - extent - before)
            for count, stride, size, extent, before in zip(
                positions, window.strides, window.size, extents, begins, strict=True
            )
        ]
        text = _pads_text(begins, ends)
        if not visible and window.padding != "same":
            return
        if convolution is None:
            if any(end > begin for begin, end in zip(begins, ends, strict=True)):
                self.found.add("padding", unit.name, f"{text}, Darknet as many on both sides")
            return
        if window.strides != (convolution.stride_y, convolution.stride_x):
            return
        before = convolution.padding * convolution.dilation
        expected = [
            (extent + 2 * before - size) // stride + 1
            for extent, size, stride in zip(extents, window.size, window.strides, strict=True)
        ]
        if begins != [before, before] or list(positions) != expected:
            self.found.add("padding", unit.name, f"{text}, Darknet {before} on all sides")

    # activations

    def _activation(self, unit: Unit) -> None:
        found = self.unit_activations.of(unit)
        if found is not None:
            self._judge(unit, *found)

    def _judge(self, unit: Unit, actual: Response, at: Call | None) -> None:
        section = self.section(unit)
        name = unit.name if at is None or at.layer is None else name_of_call(at.layer)
        place = name if name == unit.name else f"{name} after {unit.name}"
        slope = actual.slope
        if section is None or self.sections.network is None:
            if slope not in (None, 0.0, 1.0) and not actual.same(leaky(0.1)):
                self.found.add("leaky_slope", place, f"slope {slope:.3g}")
            return
        wanted = getattr(section, "activation", None)
        if wanted is None or self._feeds_heads_only(section):
            return
        expected = self.activations.darknet(wanted)
        if expected is None or expected.same(actual):
            return
        falls = expected.slope
        if falls not in (None, 0.0, 1.0) and slope not in (None, 0.0, 1.0):
            self.found.add("leaky_slope", place, f"slope {slope:.3g}")
            return
        pooled = at is not None and (len(at.shape) == 2 or tuple(at.shape[1:3]) == (1, 1))
        if pooled and actual.name == "softmax" and self._feeds_softmax(section):
            return
        linear = actual.name == "linear"
        what = f"{'none' if linear else actual.name}, Darknet {wanted}"
        self.found.add("activation", unit.name if linear else place, what)

    def _feeds_heads_only(self, section: cfg.Layer) -> bool:
        """Whether what comes after it may be the decoding of a head, which models do as they do."""
        assert self.sections.network is not None
        readers = [one for one in self.sections.network.layers if section.index in one.inputs]
        return not readers or all(isinstance(one, cfg.Head) for one in readers)

    def _feeds_softmax(self, section: cfg.Layer) -> bool:
        """Whether [softmax] reads it, or reads the average of it."""
        assert self.sections.network is not None
        while True:
            readers = [
                layer for layer in self.sections.network.layers if section.index in layer.inputs
            ]
            if len(readers) != 1 or not isinstance(readers[0], (cfg.Avgpool, cfg.Passive)):
                return bool(readers) and all(isinstance(one, cfg.Softmax) for one in readers)
            section = readers[0]

    # joins, pools, enlargements

    def _compare(self, actual: Node, expected: Node, at: Call) -> None:
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
        mine, theirs = list(actual.parts), list(expected.parts)
        if [part.form for part in mine] == [part.form for part in theirs]:
            for one, other in zip(mine, theirs, strict=True):
                self._compare(one, other, at)
            return
        mine.sort(key=lambda part: part.form)
        theirs.sort(key=lambda part: part.form)
        if [part.form for part in mine] != [part.form for part in theirs]:
            # A concatenation further back is in another order.
            for one, other in zip(actual.parts, expected.parts, strict=True):
                self._compare(one, other, at)
            return
        if actual.operation == "cat":
            call = actual.call or at
            self.found.add("concat_order", name_of_call(call.layer), self._order_text(expected))
        for one, other in zip(mine, theirs, strict=True):
            self._compare(one, other, at)

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
        if not isinstance(section, cfg.Pool) or not isinstance(window, Window) or call is None:
            return
        strides = (section.stride_y, section.stride_x)
        if window.size != (section.size, section.size) or window.strides != strides:
            return
        source, sides = _before_pads(call)
        extents = _extents(source.shape, section)
        padded = [extent + sum(side) for extent, side in zip(extents, sides, strict=True)]
        own, positions = pads_of(window, padded)
        begins = [before + more for (before, _), (more, _) in zip(sides, own, strict=True)]
        before = section.padding // 2
        wanted = [
            (extent + section.padding - section.size) // stride + 1
            for extent, stride in zip(extents, strides, strict=True)
        ]
        if begins == [before, before] and list(positions) == wanted and sides == _NO_SIDES:
            return
        if sides != _NO_SIDES:
            what = "zeros around a pooling, Darknet pools what is there"
        else:
            what = (
                f"{begins[0]} rows before and {positions[0]} out of {extents[0]}, Darknet "
                f"{before} before and {wanted[0]} out"
            )
        self.found.add("padding", name_of_call(call.layer), what)

    def _rearranged(self, actual: Node, expected: Node) -> None:
        section, moved, call = expected.section, actual.effect, actual.call
        if isinstance(section, cfg.Reorg) and isinstance(moved, Rearrangement) and call is not None:
            what = rearrangement.unlike(moved.run, section, moved.start.shape)
            self._note_reorg(name_of_call(call.layer), what, section)

    def _note_reorg(self, name: str, what: str | None, section: cfg.Reorg) -> None:
        network = self.sections.network
        if what is not None and network is not None:
            self.found.add("reorg", name, f"{what} for {network.where(section)}")

    # layers that no graph connects

    def _unconnected(self) -> None:
        """What attributes say of layers that are called where no graph shows it."""
        for layer in layers(self.structure.model):
            if id(layer) in self.seen_calls:
                continue
            unit = self.unit_of.get(id(layer))
            if unit is not None and layer is unit.leaf.layer:
                window = window_of(layer)
                if window is not None and unit.leaf.kind == "convolution":
                    section = self.section(unit)
                    shape = (None, None, None, None)
                    self._convolution(unit, window, shape, _NO_SIDES, section, visible=False)
                continue
            bases = class_names(layer)
            if "LeakyReLU" in bases:
                response = self.activations.of_layer(layer)
                if response is not None and not response.same(leaky(0.1)):
                    self.found.add("leaky_slope", layer.name, f"slope {response.slope:.3g}")
            elif "UpSampling2D" in bases and layer.interpolation != "nearest":
                self.found.add("upsampling", layer.name, str(layer.interpolation))
            elif is_opaque(layer) and not has_weights(layer):
                for section in self._reorgs():
                    what = rearrangement.unlike(layer, section, ())
                    self._note_reorg(name_of_call(layer), what, section)


def is_opaque(layer: Any) -> bool:
    """Whether only its numbers tell what a layer does."""
    bases = class_names(layer)
    return "Lambda" in bases or (
        "Layer" in bases and not type(layer).__module__.startswith(("keras", "tf_keras"))
    )


_NO_SIDES = ((0, 0), (0, 0))


def _before_pads(call: Call) -> tuple[Call, Any]:
    """What a call reads before zeros are put around it, and how many."""
    source = call.inputs[0]
    sides: Any = _NO_SIDES
    while source.layer is not None and len(source.inputs) == 1:
        changes = effect(source)
        if isinstance(changes, Pad):
            sides = tuple(
                (before + more_before, after + more_after)
                for (before, after), (more_before, more_after) in zip(
                    sides, changes.sides, strict=True
                )
            )
        elif not passes(source.layer):
            break
        source = source.inputs[0]
    return source, sides


def _extents(shape: Sequence[int | None], section: cfg.Layer | None) -> list[int]:
    """Rows and columns; the section's, or some even numbers, where the model leaves them open."""
    usual = (64, 64) if section is None else section.input_shape[:2]
    known = shape[1:3] if len(shape) == 4 else (None, None)
    return [one if one is not None else other for one, other in zip(known, usual, strict=True)]


def _pads_text(begins: Iterable[int], ends: Iterable[int]) -> str:
    (top, left), (bottom, right) = begins, ends
    if top == left == bottom == right:
        return f"{top} on all sides"
    if (top, bottom) == (left, right):
        return f"{top} before and {bottom} after"
    return f"{top} above, {bottom} below, {left} left, {right} right"
