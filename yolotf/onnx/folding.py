"""Constant folding of operations that depend on weights only.

Examples are the binarized kernels of `xnor=1`, the normalized weights of a `[shortcut]` and the
transposed kernels of `flipped=1`. Most engines fold such operations when they load a model, but
OpenCV does not, and TensorRT requires kernels to be constants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotf.onnx import proto
from yolotf.onnx.model import Model, Port, Weight
from yolotf.onnx.tensors import Operation, Value


def constant_weights(model: Model) -> tuple[Weight, ...]:
    """Returns the weights that are inputs of operations which depend on weights only."""
    operations = _constant_operations(model)
    names = _weights_of(operations)
    return tuple(weight for weight in model.weights if weight.name in names)


def folded(model: Model, arrays: Mapping[str, npt.NDArray[np.float32]]) -> Model:
    """Returns the model with operations on weights only folded; needs the onnx package.

    Args:
        model: any model.
        arrays: the values of `constant_weights`, by name.
    """
    operations = _constant_operations(model)
    if not operations:
        return model
    foldable = {id(operation) for operation in operations}
    remaining = [operation for operation in model.operations if id(operation) not in foldable]
    replaced = {
        id(value): value
        for operation in remaining
        for value in operation.inputs
        if value is not None and value.operation is not None and id(value.operation) in foldable
    }
    results = _computed(model, operations, list(replaced.values()), arrays)
    constants = {
        key: Value(value.dtype, constant=array, name=value.name)
        for (key, value), array in zip(replaced.items(), results, strict=True)
    }
    rewritten = [
        replace(operation, inputs=[_or_same(constants, value) for value in operation.inputs])
        for operation in remaining
    ]
    used = _weights_of(rewritten)
    return replace(
        model,
        operations=tuple(rewritten),
        weights=tuple(weight for weight in model.weights if weight.name in used),
    )


def _weights_of(operations: Iterable[Operation]) -> set[str]:
    """Returns the names of the weights among the inputs of operations."""
    return {
        value.name
        for operation in operations
        for value in operation.inputs
        if value is not None and value.weight
    }


def _or_same(constants: Mapping[int, Value], value: Value | None) -> Value | None:
    return constants.get(id(value), value)


def _constant_operations(model: Model) -> list[Operation]:
    """Returns the operations with constant inputs, except those that compute a model output."""
    outputs = {port.name for port in model.outputs}
    known: set[int] = set()
    operations = []
    for operation in model.operations:
        constant = all(
            value is None or value.constant is not None or value.weight or id(value) in known
            for value in operation.inputs
        )
        if constant and not any(value.name in outputs for value in operation.outputs):
            known.update(id(value) for value in operation.outputs)
            operations.append(operation)
    return operations


def _computed(
    model: Model,
    operations: list[Operation],
    results: list[Value],
    arrays: Mapping[str, npt.NDArray[np.float32]],
) -> list[npt.NDArray[Any]]:
    """Returns the values of `results`, evaluated by the onnx package's reference implementation."""
    import onnx  # optional
    from onnx.reference import ReferenceEvaluator

    weights = constant_weights(model)
    part = replace(
        model,
        operations=tuple(operations),
        inputs=tuple(Port(weight.name, "float32", weight.shape) for weight in weights),
        outputs=tuple(Port(value.name, value.dtype, ()) for value in results),
        weights=(),
    )
    content = part.head({}) + proto.message(7, part.body())
    evaluator = ReferenceEvaluator(onnx.load_from_string(content))
    inputs = {weight.name: arrays[weight.name].reshape(weight.shape) for weight in weights}
    outputs: list[npt.NDArray[Any]] = evaluator.run(None, inputs)
    return [np.array(output, order="C") for output in outputs]
