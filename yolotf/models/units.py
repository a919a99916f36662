"""Splits a model into units: a kernel with its bias or its batch normalization.

The model's graphs show which batch normalization belongs to which kernel, and the inputs of each
unit; without a graph, batch normalizations are assigned by the order of the layers.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolotf.darknet.roles import DENSE_ORDER, ORDER, SCALES
from yolotf.errors import ModelMismatchError
from yolotf.models import keras_graph
from yolotf.models.leaves import Leaf, Leaves
from yolotf.models.traversal import class_names, layers, name_of
from yolotf.weights.layout import Slot


@dataclass(eq=False)
class Unit:
    """The counterpart of a section: a kernel with its bias or its batch normalization.

    With `Structure.merges_biases` a kernel may have both. Darknet stores beta as the bias of such
    a layer (parser.c:2093-2195), so the model computes the same if its other bias is 0.
    """

    leaf: Leaf
    norm: Leaf | None = None

    @property
    def name(self) -> str:
        """The name of the layer with the kernel."""
        return self.leaf.name

    @property
    def slots(self) -> dict[str, Slot]:
        """The variables that Darknet stores, by role."""
        if self.norm is None:
            return dict(self.leaf.slots)
        own = {role: slot for role, slot in self.leaf.slots.items() if role != "bias"}
        return {**own, **self.norm.slots}

    @property
    def extra_bias(self) -> Slot | None:
        """The bias before the batch normalization, which Darknet does not have."""
        return None if self.norm is None else self.leaf.slots.get("bias")

    def stored(self, transposed: bool = False) -> list[tuple[str, tuple[int, ...]]]:
        """Returns (role, shape in the file) in file order (AlexeyAB/darknet parser.c:2093-2195)."""
        slots = self.slots
        roles = DENSE_ORDER if self.leaf.kind == "dense" else ORDER
        return [(role, stored_shape(slots[role], transposed)) for role in roles if role in slots]


def stored_shape(slot: Slot, transposed: bool) -> tuple[int, ...]:
    """Returns the shape a variable has in the file, in Darknet's order of axes."""
    match slot.role, slot.shape:
        case "kernel", (height, width, channels, multiplier) if slot.depthwise:
            return (channels * multiplier, 1, height, width)
        case "kernel", (height, width, channels, filters):
            return (filters, channels, height, width)
        case "kernel", (blocks, height, width, channels, filters):  # [local]
            return (blocks, filters, channels, height, width)
        case "kernel", (channels, filters):
            return (channels, filters) if transposed else (filters, channels)
        case "bias", (height, width, filters):  # [local]
            return (filters, height, width)
        case _:
            return slot.shape


class Structure:
    """The units of a model, and everything that tells their order.

    Attributes:
        units: the units, in the order in which the model lists their layers.
        unsupported: names of the layers with weights that no section can store.
        bare: names of those layers that are kernels without bias and batch normalization.
        inputs: the input expressions of each unit, with indices into `units` as keys; a unit is
            missing if no graph shows its inputs.
    """

    def __init__(
        self, model: Any, *, merges_biases: bool = False, skips_bare: bool = False
    ) -> None:
        """Splits a built model into units.

        Args:
            model: the model.
            merges_biases: whether a kernel with a bias and the batch normalization after it are a
                single unit, rather than two, [convolutional] and [batchnorm].
            skips_bare: whether kernels without bias and batch normalization count as `unsupported`,
                rather than being refused.

        Raises:
            ModelMismatchError: the model has no variables yet, or layers that no file has weights
                for.
        """
        self.name = name_of(model)
        self.model = model
        self.merges_biases = merges_biases
        self.skips_bare = skips_bare
        self.bare: list[str] = []
        weighted = Leaves(model)
        self.leaves = weighted.leaves
        self.unsupported = weighted.unsupported
        self.graphs = _graphs(weighted.containers)
        self.whole_graph = next((graph for graph in self.graphs if id(model) in graph.opened), None)
        self._by_layer = {id(leaf.layer): leaf for leaf in self.leaves if leaf.layer is not None}
        self.units = self._units()
        self._unit_of = {id(unit.leaf): unit for unit in self.units}
        self.inputs = self._inputs()

    @property
    def floats(self) -> int:
        """The number of floats in a file for the model."""
        return sum(
            int(np.prod(shape, dtype=np.int64)) for unit in self.units for _, shape in unit.stored()
        )

    def unit_counts(self) -> str:
        """Returns the number of units of each kind, in words.

        For example: `12 convolutions (9 with batch normalization), 2 dense layers`.
        """
        kinds: dict[str, int] = {}
        for unit in self.units:
            kinds[unit.leaf.kind] = kinds.get(unit.leaf.kind, 0) + 1
        normalized = sum(unit.norm is not None for unit in self.units)
        words = {
            "convolution": ("convolution", "convolutions"),
            "dense": ("dense layer", "dense layers"),
            "norm": ("batch normalization alone", "batch normalizations alone"),
            "weights": ("layer of factors", "layers of factors"),
        }
        texts = []
        for kind, count in kinds.items():
            text = f"{count} {words[kind][count != 1]}"
            if kind == "convolution" and normalized:
                text += f" ({normalized} with batch normalization)"
            texts.append(text)
        return ", ".join(texts)

    # Batch normalizations and the kernels they belong to

    def _units(self) -> list[Unit]:
        norm_of = self._connected()
        unconnected = [
            leaf for leaf in self.leaves if self._may_have_norm(leaf) and id(leaf) not in norm_of
        ]
        bare = [leaf for leaf in unconnected if "bias" not in leaf.slots]
        # For a layer in a graph, it is known that no batch normalization follows.
        called = {id(call.layer) for calls in self.graphs for call in calls.all}
        hidden = [leaf for leaf in unconnected if leaf in bare or id(leaf.layer) not in called]
        if hidden:
            taken = {id(norm) for norm in norm_of.values()}
            inside = [leaf for leaf in self.leaves if id(leaf) not in taken]
            pairs = max(
                self._adjacent(inside),
                key=lambda pairs: (
                    sum(id(leaf) in pairs for leaf in bare),
                    sum(id(leaf) in pairs for leaf in hidden),
                ),
            )
            norm_of.update({id(leaf): pairs[id(leaf)] for leaf in hidden if id(leaf) in pairs})
            self._without_norm([leaf for leaf in bare if id(leaf) not in pairs])
        taken = {id(norm) for norm in norm_of.values()}
        units = [Unit(leaf, norm_of.get(id(leaf))) for leaf in self.leaves if id(leaf) not in taken]
        for unit in units:
            self._check(unit)
        if not units:
            raise ModelMismatchError(
                f"{self.name}: none of its layers has weights that a .weights file may hold"
            )
        self._check_flattened()
        return units

    def _may_have_norm(self, leaf: Leaf) -> bool:
        has_kernel = leaf.kind in ("convolution", "dense")
        return has_kernel and (self.merges_biases or "bias" not in leaf.slots)

    def _connected(self) -> dict[int, Leaf]:
        """Returns the batch normalization of each kernel, by id of the kernel's leaf, by graph."""
        norm_of: dict[int, Leaf] = {}
        twice: set[int] = set()
        for calls in self.graphs:
            for call in calls.all:
                norm = self._by_layer.get(id(call.layer))
                if norm is None or norm.kind != "norm" or len(call.inputs) != 1:
                    continue
                source = call.inputs[0]
                while len(source.inputs) == 1 and _changes_no_channel(source.layer):
                    source = source.inputs[0]
                kernel = self._by_layer.get(id(source.layer))
                if kernel is None or not self._may_have_norm(kernel):
                    continue
                if not _is_linear(kernel.layer) or _are_two_sections(kernel, norm):
                    continue
                known = norm_of.setdefault(id(kernel), norm)
                if known is not norm and "bias" in kernel.slots:
                    twice.add(id(kernel))  # a [convolutional], and two [batchnorm] sections
                elif known is not norm:
                    raise ModelMismatchError(
                        f"{self.name}: {kernel.name} feeds both {known.name} and {norm.name}; "
                        "Darknet stores one batch normalization with each kernel",
                        layer=kernel.name,
                    )
        return {kernel: norm for kernel, norm in norm_of.items() if kernel not in twice}

    def _adjacent(self, leaves: Sequence[Leaf]) -> Iterator[dict[int, Leaf]]:
        """Yields ways to pair kernels and batch normalizations that no graph connects."""
        orders: list[Sequence[Leaf]] = []
        created = [leaf.created for leaf in leaves]
        if None not in created and len(set(created)) == len(created):
            # Layers create their variables when first called, so this is the order of calls.
            orders.append(sorted(leaves, key=lambda leaf: leaf.created or 0))
        blocks: dict[int, list[Leaf]] = {}
        for leaf in leaves:
            blocks.setdefault(leaf.container, []).append(leaf)
        orders.append([leaf for block in blocks.values() for leaf in block])
        for order in orders:
            pairs: dict[int, Leaf] = {}
            for leaf, after in itertools.pairwise(order):
                if self._fit(leaf, after):
                    pairs[id(leaf)] = after
            yield pairs
        # All convolutions of a block first, then all its batch normalizations.
        pairs = {}
        for block in blocks.values():
            kernels = [leaf for leaf in block if self._may_have_norm(leaf)]
            norms = [leaf for leaf in block if leaf.kind == "norm"]
            if len(kernels) == len(norms) and all(map(self._fit, kernels, norms)):
                pairs.update(
                    {id(kernel): norm for kernel, norm in zip(kernels, norms, strict=True)}
                )
        yield pairs

    def _fit(self, kernel: Leaf, norm: Leaf) -> bool:
        return (
            self._may_have_norm(kernel) and norm.kind == "norm" and kernel.channels == norm.channels
        )

    def _without_norm(self, leaves: Sequence[Leaf]) -> None:
        """Skips kernels with neither a bias nor a batch normalization, or refuses them."""
        if not leaves:
            return
        names = [leaf.name for leaf in leaves]
        if self.skips_bare:
            self.leaves = [leaf for leaf in self.leaves if leaf not in leaves]
            self.bare += names
            self.unsupported += names
            return
        kernels = sum(leaf.kind in ("convolution", "dense") for leaf in self.leaves)
        advice = "end a part of a network after a batch normalization"
        if len(leaves) < kernels:
            advice = (
                "pass skip_mismatch=True to leave "
                f"{'this layer' if len(leaves) == 1 else 'these layers'} unchanged and load the "
                f"others, or {advice}"
            )
        raise ModelMismatchError(
            f"{self.name}: {len(leaves)} of its layers {'has' if len(leaves) == 1 else 'have'} "
            f"neither a bias nor a batch normalization after it: {some(names)}; Darknet stores one "
            f"of the two with every kernel; {advice}",
            layers=names,
        )

    def _check(self, unit: Unit) -> None:
        norm = unit.norm or (unit.leaf if unit.leaf.kind == "norm" else None)
        if norm is None:
            return
        missing = [role for role in ("beta", *SCALES) if role not in norm.slots]
        if missing:
            raise ModelMismatchError(
                f"{self.name}: {norm.name} has no {' and no '.join(missing)}, which Darknet "
                "stores with every batch normalization; create it with center=True, scale=True",
                layer=norm.name,
                missing=missing,
            )

    def _check_flattened(self) -> None:
        """Refuses dense layers whose inputs are flattened in another order than Darknet's."""
        for calls in self.graphs:
            for call in calls.all:
                leaf = self._by_layer.get(id(call.layer))
                if leaf is None or leaf.kind != "dense" or len(call.inputs) != 1:
                    continue
                source = call.inputs[0]
                while len(source.inputs) == 1 and len(source.shape) < 4 and source.layer:
                    source = source.inputs[0]
                if len(call.inputs[0].shape) >= 4 or len(source.shape) != 4:
                    continue
                moved = {"Permute", "Transpose"} & class_names(source.layer)
                if moved or _symbol(source.layer) == "transpose" or source.shape[1:3] == (1, 1):
                    continue
                if source.shape[-1] == call.inputs[0].shape[-1]:
                    continue  # pooled rather than flattened
                raise ModelMismatchError(
                    f"{self.name}: {leaf.name} reads an input flattened as rows, columns, "
                    "channels; Darknet flattens channels, rows, columns; put Permute((3, 1, 2)) "
                    "before the Flatten layer",
                    layer=leaf.name,
                )

    # Connections

    def _inputs(self) -> dict[Unit, list[keras_graph.Expression]]:
        """Returns the input expressions of each unit; see `inputs`."""
        owner: dict[int, int] = {}
        for place, unit in enumerate(self.units):
            for leaf in (unit.leaf, unit.norm):
                if leaf is not None:
                    owner[id(leaf.layer)] = place

        def key_of(layer: Any) -> Any:
            if id(layer) in owner:
                return owner[id(layer)]
            inside = any(id(inner) in owner for inner in layers(layer)) if layer else False
            return keras_graph.OPAQUE if inside else None

        inputs: dict[Unit, list[keras_graph.Expression]] = {}
        for calls in self.graphs:
            whole = calls is self.whole_graph
            for place, entering in keras_graph.Expressions(calls, key_of).inputs.items():
                # The input of a block in a subclassed model comes from outside of any graph.
                known = [
                    expression for expression in entering if whole or keras_graph.units(expression)
                ]
                if known:
                    inputs.setdefault(self.units[place], []).extend(known)
        return inputs

    @property
    def is_graph(self) -> bool:
        """Whether the inputs of all units are known."""
        return all(unit in self.inputs for unit in self.units)

    def upstream(self, unit: Unit) -> list[set[Unit]]:
        """Returns the units that feed `unit` directly, for each of its uses, as far as known."""
        return [
            {self.units[place] for place in keras_graph.units(entering)}
            for entering in self.inputs.get(unit, ())
        ]

    def graph_order(self) -> list[Unit] | None:
        """Returns the units depth first from the outputs; None without a graph of all units."""
        if self.whole_graph is None:
            return None
        order: dict[Unit, None] = {}
        for call in self.whole_graph.depth_first():
            inside = [call.layer, *layers(call.layer)] if call.layer is not None else []
            for layer in inside:
                leaf = self._by_layer.get(id(layer))
                unit = self._unit_of.get(id(leaf)) if leaf is not None else None
                if unit is not None:
                    order.setdefault(unit)
        return list(order) if len(order) == len(self.units) else None


_PASSING = frozenset({"Dropout", "SpatialDropout2D", "GaussianNoise", "Identity"})
_AROUND = frozenset({"ZeroPadding2D", "Cropping2D"})


def passes(layer: Any) -> bool:
    """Returns whether a layer outputs its input unchanged at inference."""
    bases = class_names(layer)
    if "Activation" in bases:
        return _is_linear(layer)
    return bool(_PASSING & bases) or _symbol(layer) in ("identity", "cast")


def _changes_no_channel(layer: Any) -> bool:
    """Returns whether a batch normalization after this layer may belong to a kernel before it."""
    return passes(layer) or bool(_AROUND & class_names(layer)) or _symbol(layer) == "pad"


def _are_two_sections(kernel: Leaf, norm: Leaf) -> bool:
    """Returns whether both are named as sections: `conv_3` with a bias, and `batchnorm_4`."""
    first = re.fullmatch(r"(?:conv|connected)_(\d+)", kernel.name)
    second = re.fullmatch(r"batchnorm_(\d+)", norm.name)
    if first is None or second is None or "bias" not in kernel.slots:
        return False
    return first.group(1) != second.group(1)


def _symbol(layer: Any) -> str:
    """Returns the name of the TensorFlow function that a layer of tf_keras wraps; "" if none."""
    return str(getattr(layer, "symbol", "")).rpartition(".")[2]


def _is_linear(layer: Any) -> bool:
    activation = getattr(layer, "activation", None)
    return activation is None or getattr(activation, "__name__", "") == "linear"


def _graphs(containers: Iterable[tuple[Any, tuple[str, ...]]]) -> list[keras_graph.Calls]:
    """Returns the graphs of all functional models that are not inside another graph."""
    graphs: list[keras_graph.Calls] = []
    opened: set[int] = set()
    for container, _ in containers:
        if id(container) not in opened and keras_graph.functional(container) is not None:
            calls = keras_graph.Calls(container)
            opened |= calls.opened
            graphs.append(calls)
    return graphs


def some(names: Iterable[str]) -> str:
    """Returns the first three of `names`, separated by commas."""
    shown = list(names)
    return ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "")
