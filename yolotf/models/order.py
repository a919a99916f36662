"""Keras model -> its weight-bearing layers in Darknet order, and the variables they hold.

A model built by yolotf names its layers after the sections of the cfg. Any other model is taken
apart into units: a convolution or dense layer with the batch normalization that belongs to it.
A file stores the units in the order of its cfg, which the model knows only indirectly: by the
numbers in its layers' names, by the order its variables were created in, by its sub-models.
`candidates` lists these orders; `arrange` lets the file decide between them, `bind` a network.
"""

from __future__ import annotations

import heapq
import itertools
import os
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from yolotf import _core
from yolotf.darknet import cfg
from yolotf.errors import ContentError, PlanError, SizeMismatchError
from yolotf.models import walk as _model_graph
from yolotf.weights import layout
from yolotf.weights.layout import FLOAT_BYTES, Segment, Slot
from yolotf.weights.write import replicas as replicas

# Attributes of Keras layers and of plain tf.Modules, by the role of what Darknet stores.
_ATTRIBUTES = {
    "beta": ("beta",),
    "bias": ("bias", "b"),
    "gamma": ("gamma",),
    "kernel": ("kernel", "depthwise_kernel", "w"),
    "moving_mean": ("moving_mean",),
    "moving_variance": ("moving_variance",),
    "weights": ("implicit", "shortcut"),
}
_ROLE_OF = {name: role for role, names in _ATTRIBUTES.items() for name in names}
_SCALES = ("gamma", "moving_mean", "moving_variance")
# In file order.
_ROLES = ("bias", "beta", *_SCALES, "kernel", "weights")
_DENSE_ROLES = ("bias", "beta", "kernel", *_SCALES)


def plain(variable: Any) -> Any:
    """The `tf.Variable` behind what a Keras layer holds.

    Keras 3 wraps it in a `keras.Variable`, tf_keras under mixed precision in an
    `AutoCastVariable`. Distributed variables stay as they are: see `write.replicas`.
    """
    value = getattr(variable, "value", None)
    if value is not None and not callable(value):  # of a tf.Variable it is a method
        return value
    if type(variable).__name__.startswith("AutoCast"):
        return variable._variable
    return variable


def slots(layer: Any) -> dict[str, Slot]:
    """The variables of one layer by role."""
    found: dict[str, Slot] = {}
    for role, names in _ATTRIBUTES.items():
        for name in names:
            variable = getattr(layer, name, None)
            if _is_variable(variable):
                found[role] = _slot(layer, layer.name, name, variable)
                break
    return found


def _is_variable(value: Any) -> bool:
    return value is not None and hasattr(value, "shape") and hasattr(value, "assign")


def _slot(layer: Any, prefix: str, name: str, variable: Any) -> Slot:
    raw = plain(variable)
    return Slot(
        name=f"{prefix}/{name}",
        role=_ROLE_OF[name],
        variable=raw,
        shape=tuple(int(extent) for extent in raw.shape),
        dtype=_dtype_name(raw.dtype),
        depthwise=name == "depthwise_kernel"
        or (_ROLE_OF[name] == "kernel" and "DepthwiseConv2D" in _class_names(layer)),
    )


def _dtype_name(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))


def _class_names(value: Any) -> set[str]:
    return {base.__name__ for base in type(value).__mro__}


def layers(model: Any) -> Iterator[Any]:
    """Every layer of a model, those inside other layers too, each once."""
    seen: set[int] = set()
    stack = list(reversed(_children(model)))
    while stack:
        layer = stack.pop()
        if id(layer) not in seen:
            seen.add(id(layer))
            yield layer
            stack += reversed(_children(layer))


def _children(container: Any) -> list[Any]:
    """What a container holds, in the order it was given it."""
    if isinstance(container, (list, tuple)):
        return [one for one in container if _holds(one)]
    if isinstance(container, dict):
        return [one for one in container.values() if _holds(one)]
    bases = _class_names(container)
    if "Model" in bases:
        return list(container.layers)
    if "Layer" in bases:
        return list(container._flatten_layers(recursive=False, include_self=False))
    if "Module" in bases:
        return [one for one in vars(container).values() if _holds(one)]
    return []


def _holds(value: Any) -> bool:
    return isinstance(value, (list, tuple, dict)) or bool(
        {"Layer", "Module"} & _class_names(value) and not _is_variable(value)
    )


def by_section(model: Any, network: cfg.Network) -> dict[tuple[int, str], Slot]:
    """The variables of a model whose layers are called after sections, by (section, role)."""
    from yolotf.models.build import layer_name, network_of

    # What build_model makes has no layers in layers.
    all_layers = model.layers if network_of(model) is not None else layers(model)
    named = {getattr(layer, "name", None): layer for layer in all_layers}
    found: dict[tuple[int, str], Slot] = {}
    for section in network.layers:
        name = layer_name(section)
        for candidate in (name, f"{name}_bn"):
            if candidate in named:
                for role, slot in slots(named[candidate]).items():
                    found[section.index, role] = slot
    return found


# The layers with weights of any model


@dataclass(eq=False)
class Leaf:
    """A layer that holds weights itself.

    Attributes:
        layer: the Keras layer, the tf.Module, or None for a bare group of variables.
        name: its own.
        path: the names of what it is in, and its own.
        container: identity of what it is in.
        kind: convolution, dense, norm, weights; or other, which Darknet has nothing for.
        slots: its variables by role.
        created: when its first variable was made, counted over the process; None if unknown.
    """

    layer: Any
    name: str
    path: tuple[str, ...]
    container: int
    kind: str
    slots: dict[str, Slot]
    created: int | None = None

    @property
    def channels(self) -> int:
        """What it puts out."""
        kernel = self.slots.get("kernel")
        if kernel is None:
            return max((slot.shape[-1] for slot in self.slots.values() if slot.shape), default=0)
        if kernel.depthwise:
            return kernel.shape[-2] * kernel.shape[-1]
        return kernel.shape[-1]


@dataclass(eq=False)
class Unit:
    """What one section stores: a kernel with its bias or its batch normalization."""

    leaf: Leaf
    norm: Leaf | None = None

    @property
    def name(self) -> str:
        """Of the layer with the kernel."""
        return self.leaf.name

    @property
    def slots(self) -> dict[str, Slot]:
        """The variables by role."""
        return {**self.leaf.slots, **(self.norm.slots if self.norm else {})}

    def stored(self, transposed: bool = False) -> list[tuple[str, tuple[int, ...]]]:
        """(role, shape in the file) in file order (AlexeyAB/darknet parser.c:2093-2195)."""
        mine = self.slots
        roles = _DENSE_ROLES if self.leaf.kind == "dense" else _ROLES
        return [(role, _stored_shape(mine[role], transposed)) for role in roles if role in mine]


def _stored_shape(slot: Slot, transposed: bool) -> tuple[int, ...]:
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
    """A model taken apart: its units, and everything that says something about their order."""

    def __init__(self, model: Any) -> None:
        self.name = _name_of(model)
        self.model = model
        self.leaves: list[Leaf] = []
        self.containers: list[tuple[Any, tuple[str, ...]]] = []
        self.others: list[str] = []
        self._walk(model)
        self.graphs = _graphs(self.containers)
        self._by_layer = {id(leaf.layer): leaf for leaf in self.leaves if leaf.layer is not None}
        self.units = self._units()
        self._unit_of = {id(unit.leaf): unit for unit in self.units}
        self.inputs = self._inputs()

    @property
    def floats(self) -> int:
        """What a file for the model must hold, the header aside."""
        return sum(
            int(np.prod(shape, dtype=np.int64)) for unit in self.units for _, shape in unit.stored()
        )

    def facts(self) -> str:
        """`12 convolutions (9 with batch normalization), 2 dense layers`."""
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

    # taking apart

    def _walk(self, model: Any) -> None:
        if isinstance(model, (list, tuple)) and model and all(map(_is_variable, model)):
            self.leaves = _grouped(model, self.name)
            return
        seen: set[int] = set()
        root = () if isinstance(model, (list, tuple, dict)) else (self.name,)
        stack = [(model, root, id(model))]
        while stack:
            one, path, container = stack.pop()
            if id(one) in seen:
                continue
            seen.add(id(one))
            self.containers.append((one, path))
            leaf = (
                None if isinstance(one, (list, tuple, dict)) else self._leaf(one, path, container)
            )
            if leaf is not None:
                self.leaves.append(leaf)
            for child in reversed(_children(one)):
                name = (_name_of(child),) if not isinstance(child, (list, tuple, dict)) else ()
                # Lists inside a layer are no containers of their own.
                owner = container if isinstance(one, (list, tuple, dict)) else id(one)
                stack.append((child, (*path, *name), owner))

    def _leaf(self, layer: Any, path: tuple[str, ...], container: int) -> Leaf | None:
        found = slots(layer) if hasattr(layer, "name") else {}
        kind = _kind(layer, found)
        if kind is None:
            if _is_unbuilt(layer):
                raise PlanError(
                    f"{self.name}: layer {'/'.join(path)} has no variables yet; call the model "
                    "once on a picture, or model.build(...)",
                    layer=path[-1],
                )
            return None
        if kind == "other":
            self.others.append(path[-1])
            return None
        ages = [age for slot in found.values() if (age := _age(slot.variable)) is not None]
        created = min(ages) if len(ages) == len(found) else None
        return Leaf(layer, path[-1], path, container, kind, found, created)

    # norms and the kernels they belong to

    def _units(self) -> list[Unit]:
        norm_of = self._connected()
        left = [leaf for leaf in self.leaves if self._lacks_norm(leaf) and id(leaf) not in norm_of]
        if left:
            taken = {id(norm) for norm in norm_of.values()}
            inside = [leaf for leaf in self.leaves if id(leaf) not in taken]
            for pairs in self._adjacent(inside):
                if all(id(leaf) in pairs for leaf in left):
                    norm_of.update({id(leaf): pairs[id(leaf)] for leaf in left})
                    break
            else:
                self._unpaired(left)
        taken = {id(norm) for norm in norm_of.values()}
        found = [Unit(leaf, norm_of.get(id(leaf))) for leaf in self.leaves if id(leaf) not in taken]
        for unit in found:
            self._check(unit)
        if not found:
            raise PlanError(f"{self.name}: no layer with weights that Darknet has too")
        self._check_flattened()
        return found

    def _lacks_norm(self, leaf: Leaf) -> bool:
        return leaf.kind in ("convolution", "dense") and "bias" not in leaf.slots

    def _connected(self) -> dict[int, Leaf]:
        """Norms by the leaf that feeds them, from the graphs."""
        found: dict[int, Leaf] = {}
        for calls in self.graphs:
            for call in calls.all:
                norm = self._by_layer.get(id(call.layer))
                if norm is None or norm.kind != "norm" or len(call.inputs) != 1:
                    continue
                source = call.inputs[0]
                while len(source.inputs) == 1 and _changes_no_channel(source.layer):
                    source = source.inputs[0]
                kernel = self._by_layer.get(id(source.layer))
                if kernel is None or not self._lacks_norm(kernel) or not _is_linear(kernel.layer):
                    continue
                known = found.setdefault(id(kernel), norm)
                if known is not norm:
                    raise PlanError(
                        f"{self.name}: {kernel.name} feeds both {known.name} and {norm.name}; "
                        "Darknet stores one batch normalization with each kernel",
                        layer=kernel.name,
                    )
        return found

    def _adjacent(self, leaves: Sequence[Leaf]) -> Iterator[dict[int, Leaf]]:
        """Ways to pair kernels and norms that no graph connects."""
        orders: list[Sequence[Leaf]] = []
        created = [leaf.created for leaf in leaves]
        if None not in created and len(set(created)) == len(created):
            # Layers build themselves when they are first called, so this is the order of calls.
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
        # First all convolutions of a block, then all its norms.
        pairs = {}
        for block in blocks.values():
            kernels = [leaf for leaf in block if self._lacks_norm(leaf)]
            norms = [leaf for leaf in block if leaf.kind == "norm"]
            if len(kernels) == len(norms) and all(map(self._fit, kernels, norms)):
                pairs.update(
                    {id(kernel): norm for kernel, norm in zip(kernels, norms, strict=True)}
                )
        yield pairs

    def _fit(self, kernel: Leaf, norm: Leaf) -> bool:
        return self._lacks_norm(kernel) and norm.kind == "norm" and kernel.channels == norm.channels

    def _unpaired(self, left: Sequence[Leaf]) -> None:
        raise PlanError(
            f"{self.name}: {len(left)} of its layers have neither a bias nor a batch normalization "
            f"that follows them: {_some(leaf.name for leaf in left)}; Darknet stores one of the "
            "two with every kernel",
            layers=[leaf.name for leaf in left],
        )

    def _check(self, unit: Unit) -> None:
        norm = unit.norm or (unit.leaf if unit.leaf.kind == "norm" else None)
        if norm is None:
            return
        missing = [role for role in ("beta", *_SCALES) if role not in norm.slots]
        if missing:
            raise PlanError(
                f"{self.name}: {norm.name} has no {' and no '.join(missing)}, which Darknet "
                "stores with every batch normalization; create it with center=True, scale=True",
                layer=norm.name,
                missing=missing,
            )

    def _check_flattened(self) -> None:
        """Refuses dense layers whose inputs lie in another order than Darknet's."""
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
                moved = {"Permute", "Transpose"} & _class_names(source.layer)
                if moved or _symbol(source.layer) == "transpose" or source.shape[1:3] == (1, 1):
                    continue
                if source.shape[-1] == call.inputs[0].shape[-1]:
                    continue  # pooled, not flattened
                raise PlanError(
                    f"{self.name}: {leaf.name} reads rows, columns and channels flattened in this "
                    "order; Darknet has the channels first; put Permute((3, 1, 2)) before the "
                    "flattening",
                    layer=leaf.name,
                )

    # what the graph says

    def _inputs(self) -> dict[Unit, list[_model_graph.Expression]]:
        """What enters each unit, of places in `units`; without an entry where no graph shows it."""
        owner: dict[int, int] = {}
        for place, unit in enumerate(self.units):
            for leaf in (unit.leaf, unit.norm):
                if leaf is not None:
                    owner[id(leaf.layer)] = place

        def key_of(layer: Any) -> Any:
            if id(layer) in owner:
                return owner[id(layer)]
            inside = any(id(inner) in owner for inner in layers(layer)) if layer else False
            return _model_graph.OPAQUE if inside else None

        found: dict[Unit, list[_model_graph.Expression]] = {}
        for calls in self.graphs:
            whole = id(self.model) in calls.opened
            for place, entering in _model_graph.Expressions(calls, key_of).inputs.items():
                # What enters a block of a subclassed model comes from where no graph shows.
                known = [one for one in entering if whole or _model_graph.units(one)]
                if known:
                    found.setdefault(self.units[place], []).extend(known)
        return found

    @property
    def is_graph(self) -> bool:
        """Whether it is known of every unit what enters it."""
        return all(unit in self.inputs for unit in self.units)

    def upstream(self, unit: Unit) -> set[Unit]:
        """The units that feed `unit` directly, as far as they are known."""
        return {
            self.units[place]
            for entering in self.inputs.get(unit, ())
            for place in _model_graph.units(entering)
        }

    def graph_order(self) -> list[Unit] | None:
        """Depth first from the outputs; None without one graph over the whole model."""
        for calls in self.graphs:
            if id(self.model) not in calls.opened:
                continue
            order: list[Unit] = []
            for call in calls.depth_first():
                inside = [call.layer, *layers(call.layer)] if call.layer is not None else []
                for layer in inside:
                    leaf = self._by_layer.get(id(layer))
                    unit = self._unit_of.get(id(leaf)) if leaf is not None else None
                    if unit is not None and unit not in order:
                        order.append(unit)
            return order if len(order) == len(self.units) else None
        return None


def _name_of(model: Any) -> str:
    name = getattr(model, "name", None)
    return str(name) if name else type(model).__name__


def _kind(layer: Any, found: Mapping[str, Slot]) -> str | None:
    """What a layer is to Darknet; None without weights of its own."""
    if "moving_variance" in found:
        return "norm"
    bases = _class_names(layer)
    kernel = found.get("kernel")
    if kernel is not None:
        unlike = any("Transpose" in base or "Separable" in base for base in bases)
        if unlike or hasattr(layer, "recurrent_kernel"):
            return "other"
        rank = len(kernel.shape)
        if rank == 4 or (rank == 5 and "LocallyConnected2D" in bases):
            return "convolution"
        return "dense" if rank == 2 else "other"
    if "weights" in found:
        return "weights"
    own = (
        *getattr(layer, "_trainable_variables", ()),
        *getattr(layer, "_trainable_weights", ()),
        *getattr(layer, "_non_trainable_variables", ()),
        *getattr(layer, "_non_trainable_weights", ()),
    )
    return "other" if own else None


_BUILDS = frozenset({"BaseConv", "Conv", "BaseDepthwiseConv", "Dense", "BatchNormalization"})


def _is_unbuilt(layer: Any) -> bool:
    return bool(_BUILDS & _class_names(layer)) and not getattr(layer, "built", True)


def _age(variable: Any) -> int | None:
    """TensorFlow numbers the variables of a process one after the other."""
    found = re.search(r"_(\d+)$", str(getattr(variable, "_unique_id", "")))
    return int(found.group(1)) if found else None


_PASSING = frozenset(
    {"ZeroPadding2D", "Cropping2D", "Dropout", "SpatialDropout2D", "GaussianNoise", "Identity"}
)


def _changes_no_channel(layer: Any) -> bool:
    """Whether batch normalization still belongs to the kernel if this is in between."""
    bases = _class_names(layer)
    if "Activation" in bases:
        return _is_linear(layer)
    return bool(_PASSING & bases) or _symbol(layer) in ("identity", "cast", "pad")


def _symbol(layer: Any) -> str:
    """The TensorFlow function that a layer of tf_keras wraps."""
    return str(getattr(layer, "symbol", "")).rpartition(".")[2]


def _is_linear(layer: Any) -> bool:
    activation = getattr(layer, "activation", None)
    return activation is None or getattr(activation, "__name__", "") == "linear"


def _grouped(variables: Sequence[Any], name: str) -> list[Leaf]:
    """Bare variables as leaves, told apart by their names: `conv2d_3/kernel:0`."""
    groups: dict[str, dict[str, Slot]] = {}
    for variable in variables:
        label = str(getattr(variable, "path", None) or variable.name).partition(":")[0]
        prefix, _, attribute = label.rpartition("/")
        if not prefix or attribute not in _ROLE_OF:
            raise PlanError(
                f"{name}: variable {label} does not say what it is; name it like conv_0/kernel, "
                f"conv_0/bias, bn_0/gamma, or pass the model itself",
                variable=label,
            )
        found = groups.setdefault(prefix, {})
        if _ROLE_OF[attribute] in found:
            raise PlanError(
                f"{name}: two variables are called {label}; pass the model itself", variable=label
            )
        found[_ROLE_OF[attribute]] = _slot(None, prefix, attribute, variable)
    leaves = []
    for prefix, found in groups.items():
        kind = _kind(None, found)
        if kind not in ("convolution", "dense", "norm"):
            raise PlanError(
                f"{name}: the variables {', '.join(slot.name for slot in found.values())} are no "
                "convolution, dense layer or batch normalization",
                variable=prefix,
            )
        ages = [age for slot in found.values() if (age := _age(slot.variable)) is not None]
        created = min(ages) if len(ages) == len(found) else None
        path = tuple(prefix.split("/"))
        leaves.append(Leaf(None, prefix, path, id(variables), kind, found, created))
    return leaves


def _graphs(containers: Iterable[tuple[Any, tuple[str, ...]]]) -> list[_model_graph.Calls]:
    """The graphs of all functional models that are not part of another's graph."""
    found: list[_model_graph.Calls] = []
    opened: set[int] = set()
    for container, _ in containers:
        if id(container) not in opened and _model_graph.functional(container) is not None:
            calls = _model_graph.Calls(container)
            opened |= calls.opened
            found.append(calls)
    return found


# Orders


class Candidate(NamedTuple):
    """One order the units may have in the file.

    Attributes:
        name: where it comes from.
        tier: how much that says: 0 names the sections themselves, 1 tells the order in which
            the model was written down, 2 is read off its structure, 3 merely possible.
        order: the units.
    """

    name: str
    tier: int
    order: tuple[Unit, ...]


def candidates(structure: Structure) -> Iterator[Candidate]:
    """Every order the model suggests; the same order may come more than once."""
    units = structure.units
    listed = tuple(units)
    if (order := _by_section_number(units)) is not None:
        yield Candidate("named after sections", 0, order)
    created = _by_creation(units)
    graph = structure.graph_order()
    # A model read from a file is created in the order it lists its layers, which says little; one
    # that is no graph is built as it is called, not as it was written.
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


_SECTION = re.compile(
    r"(?:conv|convolutional|connected|batchnorm|local|implicit|shortcut)_(\d+)(?:_bn)?"
)


def _by_section_number(units: Sequence[Unit]) -> tuple[Unit, ...] | None:
    found = [(_SECTION.fullmatch(unit.name), unit) for unit in units]
    numbers = {int(match.group(1)): unit for match, unit in found if match}
    if len(numbers) != len(units):
        return None
    return tuple(numbers[number] for number in sorted(numbers))


def _by_creation(units: Sequence[Unit]) -> tuple[Unit, ...] | None:
    ages = [unit.leaf.created for unit in units]
    if None in ages or len(set(ages)) != len(ages):
        return None
    return tuple(sorted(units, key=lambda unit: unit.leaf.created or 0))


def _by_suffix(units: Sequence[Unit], fallback: Sequence[Unit]) -> tuple[Unit, ...] | None:
    """Layers of one base name by number, `fallback` where the numbers say nothing.

    `conv2d_7` is before `conv2d_8`, and with the numbers of the batch normalizations a
    `depthwise_conv2d_2` finds its place between them.
    """
    chains: dict[Hashable, list[tuple[int, Unit]]] = {}
    for unit in units:
        for leaf in (unit.leaf, unit.norm):
            if leaf is not None:
                base, number = _base_and_number(leaf.name)
                chains.setdefault(base, []).append((number, unit))
    if all(len(chain) == 1 for chain in chains.values()):
        return None
    after: dict[Unit, list[Unit]] = {unit: [] for unit in units}
    waits = dict.fromkeys(units, 0)
    for chain in chains.values():
        if len({number for number, _ in chain}) != len(chain):
            continue  # the same name in several sub-models
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


def _base_and_number(name: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.*?)_?(\d+)", name)
    # Keras calls the first one of a process without a number.
    return (found.group(1), int(found.group(2))) if found else (name, -1)


def _by_submodel(structure: Structure) -> tuple[Unit, ...] | None:
    """Numbered sub-models in turn: backbone, conv_0, output_0, conv_1, output_1."""
    places: dict[str, int] = {}
    keys = []
    for unit in structure.units:
        path = unit.leaf.path[1:]
        if len(path) < 2:
            return None
        place = places.setdefault(path[0], len(places))
        keys.append((_base_and_number(path[0])[1], place))
    if len(places) < 2:
        return None
    ranked = sorted(range(len(keys)), key=lambda index: keys[index])
    return tuple(structure.units[index] for index in ranked)


# An order and the file


def segments(order: Sequence[Unit], *, transposed: bool = False) -> list[list[Segment]]:
    """The file of units in this order: the segments of each; `layer` is its place."""
    found: list[list[Segment]] = []
    offset = 0
    for place, unit in enumerate(order):
        mine: list[Segment] = []
        for role, shape in unit.stored(transposed):
            flipped = transposed and role == "kernel" and len(shape) == 2
            mine.append(Segment(place, "", role, offset, shape, flipped))
            offset = mine[-1].end
        found.append(mine)
    return found


def moves(order: Sequence[Unit], *, transposed: bool = False) -> tuple[layout.Move, ...]:
    """The segments of units in this order, each with its variable."""
    return tuple(
        layout.move(segment, unit.slots[segment.role])
        for unit, mine in zip(order, segments(order, transposed=transposed), strict=True)
        for segment in mine
    )


Order = tuple[Unit, ...]


@dataclass
class _Choice:
    """Distinct orders, each with the candidates it came from, and what became of the others."""

    structure: Structure
    kept: dict[Order, list[Candidate]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def add(self, candidate: Candidate) -> None:
        self.kept.setdefault(candidate.order, []).append(candidate)

    def drop(self, order: Order, why: str) -> None:
        names = " and ".join(candidate.name for candidate in self.kept.pop(order))
        self.failed.append(f"{names}: {why}")

    def best(self) -> list[Order]:
        """The orders of the lowest tier; several are ambiguous."""
        tiers = {order: min(one.tier for one in found) for order, found in self.kept.items()}
        lowest = min(tiers.values(), default=0)
        return [order for order, tier in tiers.items() if tier == lowest]

    def name(self, order: Order) -> str:
        return " and ".join(candidate.name for candidate in self.kept[order])


def _choices(structure: Structure) -> _Choice:
    """The candidates, without those in which a unit comes before what feeds it."""
    choice = _Choice(structure)
    for candidate in candidates(structure):
        choice.add(candidate)
    for order in list(choice.kept):
        place = {unit: number for number, unit in enumerate(order)}
        for unit in order:
            late = [one for one in structure.upstream(unit) if place[one] > place[unit]]
            if late:
                choice.drop(order, f"{unit.name} comes before {late[0].name}, which feeds it")
                break
    return choice


def arrange(
    structure: Structure,
    path: str | os.PathLike[str],
    header_bytes: int,
    size_bytes: int,
    *,
    transposed: bool = False,
) -> Order:
    """The order in which the file at `path` stores the units.

    Raises:
        SizeMismatchError: the file holds more or fewer floats than the model.
        ContentError: no order makes every moving variance one.
        PlanError: several orders do, and nothing decides between them; or the model has what
            no file can fill.
    """
    name = os.fspath(path)
    if size_bytes != header_bytes + FLOAT_BYTES * structure.floats:
        raise _wrong_size(structure, name, header_bytes, size_bytes)
    choice = _choices(structure)
    _compare_with_stock(choice)
    for order in list(choice.kept):
        wrong = _first_impossible(path, header_bytes, segments(order, transposed=transposed))
        if wrong is not None:
            unit = order[wrong.layer]
            choice.drop(
                order,
                f"moving_variance of {unit.norm.name if unit.norm else unit.name}, at byte "
                f"{header_bytes + wrong.offset}, would be negative or not finite",
            )
    if not choice.kept:
        raise ContentError(
            f"{name}: has the size of {structure.name}, but no order of its layers fits; tried "
            f"{'; '.join(choice.failed)}; the file belongs to another network, or is damaged; "
            "if the model was written in another order than its cfg, pass cfg=",
            path=name,
            tried=choice.failed,
        )
    best = choice.best()
    if len(best) > 1:
        best = _likelier(choice, best, path, header_bytes, transposed) or best
    if len(best) > 1:
        raise _ambiguous(choice, best, name)
    return best[0]


def _wrong_size(
    structure: Structure, name: str, header_bytes: int, size_bytes: int
) -> SizeMismatchError | PlanError:
    expected = header_bytes + FLOAT_BYTES * structure.floats
    text = (
        f"{name}: has {size_bytes} bytes, {structure.name} needs {expected} for its "
        f"{structure.floats} floats: {structure.facts()}"
    )
    facts = {
        "path": name,
        "expected": expected,
        "found": size_bytes,
        "floats": structure.floats,
        "not_counted": structure.others,
    }
    biased = [unit.leaf for unit in structure.units if _feeds_norm(structure, unit.leaf)]
    without = structure.floats - sum(leaf.channels for leaf in biased)
    if biased and size_bytes - FLOAT_BYTES * without in (layout.HEADER_BYTES, 16):
        return PlanError(
            f"{text}; {len(biased)} layers have a bias before their batch normalization, which "
            f"Darknet does not store: {_some(leaf.name for leaf in biased)}; create them with "
            "use_bias=False",
            layers=[leaf.name for leaf in biased],
            **facts,
        )
    if structure.others:
        text += f"; not counted, as Darknet has nothing like it: {_some(structure.others)}"
    return SizeMismatchError(text, **facts)


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "")


def _feeds_norm(structure: Structure, leaf: Leaf) -> bool:
    """Whether a layer with a bias goes into a batch normalization, by graph or by place."""
    if "bias" not in leaf.slots:
        return False
    for unit, entering in structure.inputs.items():
        if unit.leaf.kind == "norm" and any(
            one[0] == "unit" and structure.units[one[1]].leaf is leaf for one in entering
        ):
            return True
    norms = [unit.leaf for unit in structure.units if unit.leaf.kind == "norm"]
    return not structure.inputs and any(
        norm.container == leaf.container and norm.channels == leaf.channels for norm in norms
    )


def _first_impossible(
    path: str | os.PathLike[str], header_bytes: int, found: Sequence[Sequence[Segment]]
) -> Segment | None:
    """The first moving variance with a number that is none."""
    variances = [one for mine in found for one in mine if one.role == "moving_variance"]
    if not variances:
        return None
    stats = _core.scan(
        path,
        np.array([header_bytes + one.offset for one in variances], np.int64),
        np.array([one.count for one in variances], np.int64),
    )
    bad = np.flatnonzero(np.add(stats["negative"], stats["nonfinite"]))
    return variances[int(bad[0])] if bad.size else None


def _compare_with_stock(choice: _Choice) -> None:
    """Keeps only the orders under which the model is a network that ships with Darknet.

    Layers of one shape can change places without any number showing it, but not without
    reading from other layers. If none of the orders is right, the graph is searched for one.
    """
    from yolotf.models.network_like import stock_networks

    structure = choice.structure
    if not structure.inputs:
        return
    for network in stock_networks(structure.floats):
        binding = _Binding(structure, network)
        right = binding.right(choice.kept)
        if len(right) == 1 and right[0] not in choice.kept:
            choice.add(Candidate(f"graph of {network.name}", 0, right[0]))
        if right and set(right) <= set(choice.kept):
            for order in set(choice.kept) - set(right):
                choice.drop(order, f"its layers do not read from each other as in {network.name}")
            return


_DECISIVE = 30.0
"""Nats by which one order must be likelier than every other."""


def _likelier(
    choice: _Choice,
    best: Sequence[Order],
    path: str | os.PathLike[str],
    header_bytes: int,
    transposed: bool,
) -> list[Order] | None:
    from yolotf.weights import content as _content

    with _content.Evidence(path, header_bytes) as evidence:
        weights = [
            evidence.weigh(
                _content.runs_of(
                    one for mine in segments(order, transposed=transposed) for one in mine
                )
            )
            for order in best
        ]
    ranked = sorted(weights, reverse=True)
    if ranked[0] - ranked[1] < _DECISIVE:
        return None
    return [best[weights.index(ranked[0])]]


def _ambiguous(choice: _Choice, best: Sequence[Order], name: str) -> PlanError:
    one, other = best[:2]
    place = next(index for index, (a, b) in enumerate(zip(one, other, strict=True)) if a is not b)
    # A cfg says which layer reads from which, so it helps where the model says so too.
    fix = "pass cfg=, or " if choice.structure.is_graph else ""
    return PlanError(
        f"{name}: {len(best)} orders of the layers of {choice.structure.name} fit, and "
        f"nothing decides between them: layer {place} is {one[place].name} by "
        f"{choice.name(one)}, {other[place].name} by {choice.name(other)}; {fix}give the layers "
        "numbers in their names, in the order of the cfg",
        path=name,
        place=place,
        names=[order[place].name for order in best],
        tried=[choice.name(order) for order in best] + choice.failed,
    )


def preferred(structure: Structure) -> Order:
    """The order of the units where there is no file to ask: what a file to be written holds.

    Raises:
        PlanError: several orders are equally likely.
    """
    choice = _choices(structure)
    _compare_with_stock(choice)
    best = choice.best()
    if len(best) > 1:
        raise _ambiguous(choice, best, structure.name)
    if not best:
        raise PlanError(
            f"{structure.name}: no order of its layers puts each after what feeds it; tried "
            f"{'; '.join(choice.failed)}; pass network=",
            tried=choice.failed,
        )
    return best[0]


def beginning(structure: Structure, floats: int) -> Order | None:
    """The first units that hold `floats` together, in the preferred order; not all of them.

    Raises:
        PlanError: several orders are equally likely.
    """
    if not 0 < floats < structure.floats:
        return None
    order = preferred(structure)
    for number, mine in enumerate(segments(order), 1):
        if mine[-1].end >= FLOAT_BYTES * floats:
            return order[:number] if mine[-1].end == FLOAT_BYTES * floats else None
    return None


# An order and a network


class _Item(NamedTuple):
    """What one section, or one part of a recurrent one, stores."""

    layer: int
    part: str
    segments: tuple[Segment, ...]
    scales: bool


class _Binding:
    """Compares orders of units with the sections of a network."""

    def __init__(
        self, structure: Structure, network: cfg.Network, *, transposed: bool = False
    ) -> None:
        from yolotf.darknet.rules import used_layers

        self.structure = structure
        self.network = network
        self.collapse: tuple[str, ...] = ()
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
            _Item(index, part, tuple(found), not network.layers[index].dontloadscales)
            for (index, part), found in sorted(grouped.items(), key=lambda entry: entry[0][0])
            if index in used
        ]
        self._expected = _model_graph.network_inputs(
            network, {item.layer: item.layer for item in self.items}
        )

    def unit_fits(self, unit: Unit, item: _Item) -> bool:
        """Whether the section stores what the unit holds, array by array."""
        if not item.segments:
            return "kernel" in unit.slots or unit.leaf.kind == "norm"
        mine = unit.slots
        roles = {segment.role for segment in item.segments}
        optional = set() if item.scales else set(_SCALES)
        if set(mine) - optional != roles - optional:
            return False
        return all(
            layout.move(segment, mine[segment.role]).shape == mine[segment.role].shape
            for segment in item.segments
        )

    def fits(self, order: Sequence[Unit]) -> bool:
        """Whether every unit fits its section."""
        return len(order) == len(self.items) and all(map(self.unit_fits, order, self.items))

    def right(self, orders: Iterable[Order]) -> list[Order]:
        """Those of `orders` in which every unit fits and reads from the right ones.

        If there is none and the model is a graph, what `search` finds in it.
        """
        fitting = [order for order in orders if self.fits(order)]
        # An activation written out looks like a product, more rarely like a sum.
        for self.collapse in ((), ("*", "?"), ("*", "?", "+")):
            found = [order for order in fitting if self.first_difference(order) is None]
            if not found and self.structure.is_graph:
                found = self.search()
            if found:
                return found
        return []

    def first_difference(self, order: Sequence[Unit]) -> tuple[Unit, _Item] | None:
        """The first unit that reads from other units than its section does."""
        sections = {
            self.place[unit]: item.layer for unit, item in zip(order, self.items, strict=True)
        }
        for unit, item in zip(order, self.items, strict=True):
            if not self._reads_alike(unit, item, sections):
                return unit, item
        return None

    def _reads_alike(self, unit: Unit, item: _Item, sections: Mapping[int, int]) -> bool:
        actual = self.structure.inputs.get(unit)
        expected = self._expected.get(item.layer)
        if not actual or not expected:
            return True
        for entering in actual:
            said = _model_graph.translate(entering, sections)
            if said is None or not any(
                _model_graph.same(*(_model_graph.collapsed(side, self.collapse) for side in pair))
                for pair in ((said, one) for one in expected)
            ):
                return False
        return True

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

    def describe(self, item: _Item) -> str:
        """The section in words, with what it stores."""
        where = self.network.where(self.network.layers[item.layer])
        shapes = {segment.role: segment.shape for segment in item.segments}
        kernel = shapes.get("kernel")
        return f"{where} with kernel {'x'.join(map(str, kernel))}" if kernel else where


def _has_kernel(layer: cfg.Layer) -> bool:
    if isinstance(layer, cfg.Convolutional):
        return layer.share_index is None
    return isinstance(layer, (cfg.Connected, cfg.Batchnorm, cfg.Local))


def bind(
    structure: Structure, network: cfg.Network, *, transposed: bool = False
) -> tuple[layout.Move, ...]:
    """The segments of `network`, each with the variable it goes to.

    The orders the model suggests are tried by shape and by what reads from what; if none is
    right and the model's graph is known, the sections are looked for in the graph.

    Raises:
        PlanError: the model is not this network, or matches it in several ways.
    """
    binding = _Binding(structure, network, transposed=transposed)
    if len(structure.units) != len(binding.items):
        raise _other_network(binding, None)
    choice = _choices(structure)
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
            raise _ambiguous(choice, best, network.source)
        raise PlanError(
            f"{structure.name}: matches {network.source} in several ways, and none is the order "
            f"of its layers; tried {'; '.join(choice.failed)}",
            tried=choice.failed,
        )
    if not best:
        raise _other_network(binding, choice)
    return tuple(
        layout.move(segment, unit.slots[segment.role])
        for unit, item in zip(best[0], binding.items, strict=True)
        for segment in item.segments
    )


def _unlike(binding: _Binding, order: Order) -> str:
    for unit, item in zip(order, binding.items, strict=True):
        if not binding.unit_fits(unit, item):
            normalized = {segment.role for segment in item.segments} >= {"gamma", "kernel"}
            if normalized and "bias" in unit.leaf.slots:
                return (
                    f"{unit.name} has a bias where {binding.describe(item)} has a batch "
                    "normalization, which may have been folded into it"
                )
            kernel = unit.slots.get("kernel")
            shape = "x".join(map(str, _stored_shape(kernel, False))) if kernel else "none"
            return (
                f"{unit.name} with kernel {shape}"
                f"{' and batch normalization' if unit.norm else ''} is not "
                f"{binding.describe(item)}"
            )
    raise AssertionError("fits after all")


def _other_network(binding: _Binding, choice: _Choice | None) -> PlanError:
    structure, network = binding.structure, binding.network
    text = (
        f"{structure.name}: is not {network.source}: it has {structure.facts()}, "
        f"{structure.floats} floats; the cfg has {len(binding.items)} sections with weights, "
        f"{layout.floats(network)} floats"
    )
    tried = choice.failed if choice else []
    if tried:
        text += f"; tried {'; '.join(tried)}"
    return PlanError(
        text,
        expected=layout.floats(network),
        found=structure.floats,
        sections=len(binding.items),
        units=len(structure.units),
        tried=tried,
    )
