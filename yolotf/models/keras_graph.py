"""What feeds what: in a functional Keras model with its sub-models opened, and in a cfg.

Both are brought to one form, an expression of the layers with weights that a tensor is made
from, so that a model and a cfg can be compared: `("cat", a, b)` joins channels, `("+", a, b)`
and `("*", a, b)` are sums and products, `("?", a, b)` is an operation not known here, whose
order of operands says nothing. What changes no weights (activation, pooling, padding) is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from yolotf.darknet import cfg, graph_checks

Expression = tuple[Any, ...]

INPUT: Expression = ("in",)
OPAQUE: Expression = ("opaque",)
"""Comes out of a layer whose inside is not a graph."""

_SYMMETRIC = ("+", "*", "?")


def unit(key: Hashable) -> Expression:
    """What the layer with weights `key` puts out."""
    return ("unit", key)


def join(operation: str, parts: Iterable[Expression]) -> Expression:
    """`parts` under one operation; nested ones are opened, one part alone is itself."""
    flat: list[Expression] = []
    for part in parts:
        flat += part[1:] if part[0] == operation else (part,)
    if OPAQUE in flat:
        return OPAQUE
    if operation in _SYMMETRIC:
        flat.sort(key=repr)
    return flat[0] if len(flat) == 1 else (operation, *flat)


def units(expression: Expression) -> set[Any]:
    """The layers with weights in an expression."""
    if expression[0] == "unit":
        return {expression[1]}
    return {key for part in expression[1:] if isinstance(part, tuple) for key in units(part)}


def translate(expression: Expression, keys: Mapping[Any, Hashable]) -> Expression | None:
    """The same expression of other names; None if one has no other name."""
    if expression[0] == "unit":
        return unit(keys[expression[1]]) if expression[1] in keys else None
    if expression in (INPUT, OPAQUE):
        return expression
    parts = [translate(part, keys) for part in expression[1:]]
    if any(part is None for part in parts):
        return None
    return join(expression[0], [part for part in parts if part is not None])


def collapsed(expression: Expression, operations: Collection[str]) -> Expression:
    """The same with equal operands of `operations` counted once.

    `x * tanh(softplus(x))` written out is an activation of `x`, not a product.
    """
    if expression[0] == "unit" or expression in (INPUT, OPAQUE):
        return expression
    parts = [collapsed(part, operations) for part in expression[1:]]
    joined = join(expression[0], parts)
    if joined[0] in operations:
        return join(joined[0], dict.fromkeys(joined[1:]))
    return joined


def unordered(expression: Expression) -> Expression:
    """The same with joined channels in one order, whatever theirs is."""
    if expression[0] == "unit" or expression in (INPUT, OPAQUE):
        return expression
    parts = [unordered(part) for part in expression[1:]]
    return (expression[0], *sorted(parts, key=repr))


def same(one: Expression, other: Expression) -> bool:
    """Whether both say the same, as far as they say anything."""
    if OPAQUE in (one, other):
        return True
    if _unknown(one) or _unknown(other):
        return units(one) == units(other)
    return one == other


def _unknown(expression: Expression) -> bool:
    return expression[0] == "?" or any(
        isinstance(part, tuple) and _unknown(part) for part in expression[1:]
    )


# Keras


class Call:
    """One use of a layer on symbolic tensors; compared by identity.

    Attributes:
        layer: the layer or operation; None for a model's input.
        inputs: what made its inputs.
        shape: its output's.
        node: Keras' own record of it, which has the arguments too.
    """

    def __init__(
        self, layer: Any, inputs: Sequence[Call], shape: Sequence[int | None], node: Any = None
    ) -> None:
        self.layer = layer
        self.inputs = tuple(inputs)
        self.shape = tuple(shape)
        self.node = node

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the layer is called with, symbolic tensors among it."""
        if hasattr(self.node, "arguments"):  # Keras 3
            return self.node.arguments.args, self.node.arguments.kwargs
        return self.node.call_args, self.node.call_kwargs

    def tensors(self) -> list[Any]:
        """The symbolic tensors that enter it, in the order of `inputs`."""
        return _inputs(self.node)


class Calls:
    """The calls of one functional model, producers before consumers.

    Attributes:
        all: every call, those inside functional sub-models instead of the sub-model's own.
        outputs: those that put out the model's outputs.
        opened: ids of the sub-models.
    """

    def __init__(self, model: Any) -> None:
        self.all: list[Call] = []
        self.opened: set[int] = {id(model)}
        graph = functional(model)
        inputs = [Call(None, (), tensor.shape) for tensor in graph.inputs]
        self.outputs = self._open(graph, inputs)

    def _open(self, graph: Any, inputs: Sequence[Call]) -> list[Call]:
        values = {id(tensor): call for tensor, call in zip(graph.inputs, inputs, strict=True)}
        nodes = graph._nodes_by_depth
        for depth in sorted(nodes, reverse=True):
            for node in nodes[depth]:
                outputs = _flat(node.outputs)
                if all(id(tensor) in values for tensor in outputs):
                    continue  # an input
                layer = _operation(node)
                sources = [values[id(tensor)] for tensor in _inputs(node) if id(tensor) in values]
                inner = functional(layer)
                if inner is not None and len(inner.inputs) == len(sources):
                    self.opened.add(id(layer))
                    calls = self._open(inner, sources)
                else:
                    call = Call(layer, sources, outputs[0].shape if outputs else (), node)
                    self.all.append(call)
                    calls = [call] * len(outputs)
                values.update(zip(map(id, outputs), calls, strict=True))
        return [values[id(tensor)] for tensor in graph.outputs]

    def depth_first(self) -> Iterator[Call]:
        """Every call after its inputs, from the first output back, then the next."""
        seen: set[int] = set()
        stack = [(call, False) for call in reversed(self.outputs)]
        while stack:
            call, ready = stack.pop()
            if ready:
                yield call
            elif id(call) not in seen:
                seen.add(id(call))
                stack.append((call, True))
                stack += [(source, False) for source in reversed(call.inputs)]


def functional(model: Any) -> Any:
    """The graph of a functional or built sequential model; None for anything else."""
    graph = getattr(model, "_functional", None) or model  # Keras 3: Sequential has one inside
    if getattr(graph, "_nodes_by_depth", None) and getattr(graph, "outputs", None):
        return graph
    return None


def _operation(node: Any) -> Any:
    return node.operation if hasattr(node, "operation") else node.layer


def _inputs(node: Any) -> list[Any]:
    return list(node.keras_inputs if hasattr(node, "keras_inputs") else node.input_tensors)


def _flat(outputs: Any) -> list[Any]:
    import tensorflow as tf  # only models that need it come here

    return list(tf.nest.flatten(outputs))


_JOINS = {"concat": "cat", "concatenate": "cat", "add": "+", "multiply": "*", "mul": "*"}


def operation(layer: Any) -> str:
    """Under which operation of an expression a layer joins its inputs.

    Covers Keras' layers, Keras 3's `keras.ops` and tf_keras' wrapped TensorFlow functions.
    """
    name = getattr(layer, "symbol", None) or type(layer).__name__
    return _JOINS.get(str(name).rpartition(".")[2].lower(), "?")


class Expressions:
    """What enters each layer with weights of a functional model.

    Args:
        calls: of the model.
        key_of: from a layer to the key of its unit; None for layers without weights; `OPAQUE`
            for layers with weights somewhere inside.
    """

    def __init__(self, calls: Calls, key_of: Callable[[Any], Any]) -> None:
        self.inputs: dict[Any, list[Expression]] = {}
        values: dict[int, Expression] = {}
        for call in calls.all:
            sources = [values.get(id(source), INPUT) for source in call.inputs]
            entering = join(operation(call.layer), sources) if sources else INPUT
            key = key_of(call.layer)
            if key is None:
                values[id(call)] = entering
            elif key is OPAQUE:
                values[id(call)] = OPAQUE
            else:
                values[id(call)] = unit(key)
                # A layer's own normalization is part of it.
                if entering != unit(key):
                    self.inputs.setdefault(key, []).append(entering)


# cfg


def network_inputs(network: cfg.Network, stored: Mapping[int, Any]) -> dict[Any, list[Expression]]:
    """What enters each section that stores floats; `stored` gives its key by index."""
    values: dict[int, Expression] = {cfg.NETWORK_INPUT: INPUT}
    found: dict[Any, list[Expression]] = {}
    for layer in network.layers:
        sources = [values[index] for index in layer.inputs]
        operation = layer.makes_of_inputs
        joined = operation if operation in ("+", "*") else "cat"
        entering = join(joined, sources) if sources else INPUT
        owner = graph_checks.kernel_index(network, layer)
        if owner in stored:
            values[layer.index] = unit(stored[owner])
            found.setdefault(stored[owner], []).append(entering)
        else:
            values[layer.index] = entering
    return found
