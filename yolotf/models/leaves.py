"""Finds the layers of a model that have weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yolotf.errors import ModelMismatchError
from yolotf.models.traversal import children, class_names, is_variable, layers, name_of, own_weights
from yolotf.models.variables import ROLE_OF, slot_of, slots
from yolotf.weights.layout import Slot


@dataclass(eq=False)
class Leaf:
    """A layer with weights.

    Attributes:
        layer: the Keras layer or tf.Module; None for a group of plain variables.
        name: its name.
        path: the names of the containers it is in, and its name.
        container: id of the innermost container.
        kind: convolution, dense, norm, weights; or other, which Darknet does not have.
        slots: its variables by role.
        created: TensorFlow's number of its first variable in this process; None if unknown.
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
        """The number of its output channels."""
        kernel = self.slots.get("kernel")
        if kernel is None:
            return max((slot.shape[-1] for slot in self.slots.values() if slot.shape), default=0)
        if kernel.depthwise:
            return kernel.shape[-2] * kernel.shape[-1]
        return kernel.shape[-1]


class Leaves:
    """The layers with weights of a model.

    Attributes:
        leaves: the layers that a section may store, in the order in which the model lists them.
        unsupported: names of the layers with weights that no section can store.
        containers: every layer, module and container visited, with its path.
    """

    def __init__(self, model: Any) -> None:
        """Visits a built model, or groups a list of variables into layers by their names.

        Raises:
            ModelMismatchError: a layer has no variables yet, or variables have no usable names.
        """
        self.name = name_of(model)
        self.leaves: list[Leaf] = []
        self.unsupported: list[str] = []
        self.containers: list[tuple[Any, tuple[str, ...]]] = []
        if isinstance(model, (list, tuple)) and model and all(map(is_variable, model)):
            self.leaves = _grouped(model, self.name)
            return
        seen: set[int] = set()
        root = () if isinstance(model, (list, tuple, dict)) else (self.name,)
        stack = [(model, root, id(model))]
        while stack:
            visited, path, container = stack.pop()
            if id(visited) in seen:
                continue
            seen.add(id(visited))
            self.containers.append((visited, path))
            is_list = isinstance(visited, (list, tuple, dict))
            leaf = None if is_list else self._leaf(visited, path, container)
            if leaf is not None:
                self.leaves.append(leaf)
            # A list inside a layer does not count as a container.
            owner = container if is_list else id(visited)
            for child in reversed(children(visited)):
                name = (name_of(child),) if not isinstance(child, (list, tuple, dict)) else ()
                stack.append((child, (*path, *name), owner))

    def _leaf(self, layer: Any, path: tuple[str, ...], container: int) -> Leaf | None:
        layer_slots = slots(layer) if hasattr(layer, "name") else {}
        kind = _kind(layer, layer_slots)
        if kind is None:
            if _is_unbuilt(layer):
                raise ModelMismatchError(
                    f"{self.name}: layer {'/'.join(path)} has no variables yet; call the model "
                    "once on an image, or call model.build(...)",
                    layer=path[-1],
                )
            return None
        if kind == "other":
            self.unsupported.append(path[-1])
            return None
        return Leaf(layer, path[-1], path, container, kind, layer_slots, _created(layer_slots))


def unsupported_layers(model: Any) -> list[str]:
    """Returns the names of a model's layers with weights that no section of Darknet stores."""
    return [
        name_of(layer)
        for layer in (model, *layers(model))
        if hasattr(layer, "name") and _kind(layer, slots(layer)) == "other"
    ]


def _kind(layer: Any, layer_slots: Mapping[str, Slot]) -> str | None:
    """Returns the kind of a layer, see `Leaf.kind`; None for a layer without weights."""
    if "moving_variance" in layer_slots:
        return "norm"
    bases = class_names(layer)
    kernel = layer_slots.get("kernel")
    if kernel is not None:
        unsupported = any("Transpose" in base or "Separable" in base for base in bases)
        if unsupported or hasattr(layer, "recurrent_kernel"):
            return "other"
        rank = len(kernel.shape)
        if rank == 4 or (rank == 5 and "LocallyConnected2D" in bases):
            return "convolution"
        return "dense" if rank == 2 else "other"
    if "weights" in layer_slots:
        return "weights"
    return "other" if own_weights(layer) else None


_BUILDS = frozenset({"BaseConv", "Conv", "BaseDepthwiseConv", "Dense", "BatchNormalization"})


def _is_unbuilt(layer: Any) -> bool:
    return bool(_BUILDS & class_names(layer)) and not getattr(layer, "built", True)


def _age(variable: Any) -> int | None:
    """Returns the number of a variable, which TensorFlow counts over the process."""
    match = re.search(r"_(\d+)$", str(getattr(variable, "_unique_id", "")))
    return int(match.group(1)) if match else None


def _created(layer_slots: Mapping[str, Slot]) -> int | None:
    """Returns the number of a layer's first variable; None if one of them has no number."""
    ages = [_age(slot.variable) for slot in layer_slots.values()]
    known = [age for age in ages if age is not None]
    return min(known) if len(known) == len(ages) else None


def _grouped(variables: Sequence[Any], name: str) -> list[Leaf]:
    """Groups plain variables into leaves by their names: `conv2d_3/kernel:0`.

    Raises:
        ModelMismatchError: a name does not show its role, or the groups are not layers.
    """
    groups: dict[str, dict[str, Slot]] = {}
    for variable in variables:
        label = str(getattr(variable, "path", None) or variable.name).partition(":")[0]
        prefix, _, attribute = label.rpartition("/")
        if not prefix or attribute not in ROLE_OF:
            raise ModelMismatchError(
                f"{name}: the name of variable {label} does not show its layer and role; name "
                "variables like conv_0/kernel, conv_0/bias, bn_0/gamma, or pass the model itself",
                variable=label,
            )
        group = groups.setdefault(prefix, {})
        if ROLE_OF[attribute] in group:
            raise ModelMismatchError(
                f"{name}: two variables are named {label}; pass the model itself", variable=label
            )
        group[ROLE_OF[attribute]] = slot_of(None, prefix, attribute, variable)
    leaves = []
    for prefix, group in groups.items():
        kind = _kind(None, group)
        if kind not in ("convolution", "dense", "norm"):
            raise ModelMismatchError(
                f"{name}: the variables {', '.join(slot.name for slot in group.values())} are not "
                "those of a convolution, dense layer or batch normalization; pass the model itself",
                variable=prefix,
            )
        path = tuple(prefix.split("/"))
        created = _created(group)
        leaves.append(Leaf(None, prefix, path, id(variables), kind, group, created))
    return leaves
