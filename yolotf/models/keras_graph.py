"""The connections between layers with weights, in functional Keras models and in cfgs.

To compare a model with a cfg, the input of a layer is written as an expression of the layers with
weights it is computed from: `("cat", a, b)` concatenates channels, `("+", a, b)` and
`("*", a, b)` are sums and products, and `("?", a, b)` is an unknown operation, whose operands
have no order. Layers without weights (activation, pooling, padding) are left out, and sub-models
are replaced by their layers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from yolotf.darknet import cfg, graph_checks

Expression = tuple[Any, ...]

INPUT: Expression = ("in",)
OPAQUE: Expression = ("opaque",)
"""The output of a layer with weights whose inside is not a graph."""

_SYMMETRIC = ("+", "*", "?")


def unit(key: Hashable) -> Expression:
    """Returns the expression of the output of the layer with weights `key`."""
    return ("unit", key)


def join(operation: str, parts: Iterable[Expression]) -> Expression:
    """Joins `parts` by an operation; flattens nested ones, and returns a single part itself."""
    flat: list[Expression] = []
    for part in parts:
        flat += part[1:] if part[0] == operation else (part,)
    if OPAQUE in flat:
        return OPAQUE
    if operation in _SYMMETRIC:
        flat.sort(key=repr)
    return flat[0] if len(flat) == 1 else (operation, *flat)


def units(expression: Expression) -> set[Any]:
    """Returns the keys of the layers with weights in an expression."""
    if expression[0] == "unit":
        return {expression[1]}
    return {key for part in expression[1:] if isinstance(part, tuple) for key in units(part)}


def translate(expression: Expression, keys: Mapping[Any, Hashable]) -> Expression | None:
    """Returns the expression with its keys replaced; None if a key is missing in `keys`."""
    if expression[0] == "unit":
        return unit(keys[expression[1]]) if expression[1] in keys else None
    if expression in (INPUT, OPAQUE):
        return expression
    parts = [translate(part, keys) for part in expression[1:]]
    if any(part is None for part in parts):
        return None
    return join(expression[0], [part for part in parts if part is not None])


def collapsed(expression: Expression, operations: Collection[str]) -> Expression:
    """Returns the expression with equal operands of `operations` merged.

    For example, a written-out `x * tanh(softplus(x))` is an activation of `x`, not a product.
    """
    if expression[0] == "unit" or expression in (INPUT, OPAQUE):
        return expression
    parts = [collapsed(part, operations) for part in expression[1:]]
    joined = join(expression[0], parts)
    if joined[0] in operations:
        return join(joined[0], dict.fromkeys(joined[1:]))
    return joined


def unordered(expression: Expression) -> Expression:
    """Returns the expression with all operands sorted, so that their order does not count."""
    if expression[0] == "unit" or expression in (INPUT, OPAQUE):
        return expression
    parts = [unordered(part) for part in expression[1:]]
    return (expression[0], *sorted(parts, key=repr))


def same(first: Expression, second: Expression) -> bool:
    """Returns whether two expressions are the same, as far as they are known."""
    if OPAQUE in (first, second):
        return True
    if _unknown(first) or _unknown(second):
        return units(first) == units(second)
    return first == second


def _unknown(expression: Expression) -> bool:
    return expression[0] == "?" or any(
        isinstance(part, tuple) and _unknown(part) for part in expression[1:]
    )


# Keras


class Call:
    """A use of a layer on symbolic tensors; compared by identity.

    Attributes:
        layer: the layer or operation; None for a model's input.
        inputs: the calls that compute its inputs.
        shape: the shape of its output.
        node: Keras' own record of the call, which has its arguments.
    """

    def __init__(
        self, layer: Any, inputs: Sequence[Call], shape: Sequence[int | None], node: Any = None
    ) -> None:
        self.layer = layer
        self.inputs = tuple(inputs)
        self.shape = tuple(shape)
        self.node = node

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns the arguments of the call, including symbolic tensors."""
        if hasattr(self.node, "arguments"):  # Keras 3
            return self.node.arguments.args, self.node.arguments.kwargs
        return self.node.call_args, self.node.call_kwargs

    def tensors(self) -> list[Any]:
        """Returns its symbolic input tensors, in the order of `inputs`."""
        return _inputs(self.node)


class Calls:
    """The calls of a functional model, producers before consumers.

    Attributes:
        all: every call; the call of a functional sub-model is replaced by those inside.
        outputs: the calls that compute the model's outputs.
        opened: ids of the model and its functional sub-models.
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
                    continue  # an input of the model
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
        """Yields every call after its inputs, depth first from the outputs in order."""
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
    """Returns the graph of a functional or built sequential model; None for other models."""
    graph = getattr(model, "_functional", None) or model  # Keras 3: Sequential has one inside
    if getattr(graph, "_nodes_by_depth", None) and getattr(graph, "outputs", None):
        return graph
    return None


def _operation(node: Any) -> Any:
    return node.operation if hasattr(node, "operation") else node.layer


def _inputs(node: Any) -> list[Any]:
    return list(node.keras_inputs if hasattr(node, "keras_inputs") else node.input_tensors)


def _flat(outputs: Any) -> list[Any]:
    import tensorflow as tf  # imported here: slow

    return list(tf.nest.flatten(outputs))


_JOINS = {"concat": "cat", "concatenate": "cat", "add": "+", "multiply": "*", "mul": "*"}


def operation(layer: Any) -> str:
    """Returns the operation by which a layer joins its inputs: cat, +, * or ?.

    Recognizes layers of Keras, `keras.ops` of Keras 3 and functions wrapped by tf_keras.
    """
    name = getattr(layer, "symbol", None) or type(layer).__name__
    return _JOINS.get(str(name).rpartition(".")[2].lower(), "?")


class Expressions:
    """The input expressions of the layers with weights of a functional model, by key.

    Args:
        calls: the calls of the model.
        key_of: returns the key of a layer's unit; None for a layer without weights, `OPAQUE` for
            a layer with weights somewhere inside.
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
                # A batch normalization that reads its own kernel belongs to the same unit.
                if entering != unit(key):
                    self.inputs.setdefault(key, []).append(entering)


# cfg


def network_inputs(network: cfg.Network, stored: Mapping[int, Any]) -> dict[Any, list[Expression]]:
    """Returns the input expressions of each section in `stored`, which maps index to key."""
    values: dict[int, Expression] = {cfg.NETWORK_INPUT: INPUT}
    inputs: dict[Any, list[Expression]] = {}
    for layer in network.layers:
        sources = [values[index] for index in layer.inputs]
        operation = layer.makes_of_inputs
        joined = operation if operation in ("+", "*") else "cat"
        entering = join(joined, sources) if sources else INPUT
        owner = graph_checks.kernel_index(network, layer)
        if owner in stored:
            values[layer.index] = unit(stored[owner])
            inputs.setdefault(stored[owner], []).append(entering)
        else:
            values[layer.index] = entering
    return inputs
