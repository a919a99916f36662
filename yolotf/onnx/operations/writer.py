"""The writer of operations, and the registry of functions that write them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from yolotf.onnx.proto import Dim
from yolotf.onnx.tensors import (
    Axes,
    Extent,
    Filled,
    Operation,
    Sizes,
    Tensor,
    Value,
    identity,
    same_in_memory,
)

_Function = TypeVar("_Function", bound=Callable[..., Any])
_WRITERS: dict[str, Callable[..., Any]] = {}
"""The function that writes each TensorFlow operation: `(ops, **arguments)`."""


def writes(kind: str) -> Callable[[_Function], _Function]:
    """Registers the function that writes TensorFlow's operation `kind`."""

    def register(function: _Function) -> _Function:
        _WRITERS[kind] = function
        return function

    return register


class Operations:
    """Writes operations into a list, with the signatures of `tf.raw_ops`.

    Attributes:
        operations: in topological order.
    """

    def __init__(self) -> None:
        """Starts with an empty list."""
        self.operations: list[Operation] = []
        self._constants: dict[tuple[Any, ...], Value] = {}
        self._arranged: dict[tuple[int, Axes], Value] = {}
        self._unnamed = 0

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        if kind not in _WRITERS:
            raise AttributeError(f"no operation {kind}")
        write = functools.partial(_WRITERS[kind], self)
        self.__dict__[kind] = write
        return write

    def input(self, name: str, shape: Sequence[Dim], order: Axes, dtype: str = "float32") -> Tensor:
        """Adds an input of the model; `shape` is the one that the description works with."""
        return Tensor(Value(dtype, name=name), tuple(shape), order)

    def weight(self, key: str, stored: tuple[int, ...], axes: Axes | None) -> Tensor:
        """Adds a weight array of the network.

        Args:
            key: in `NetworkGraph.shapes`.
            stored: its shape there.
            axes: its axis order there, see `NetworkGraph.axes`; None: the description's.
        """
        order = axes or identity(len(stored))
        shape = tuple(stored[order.index(axis)] for axis in range(len(stored)))
        return Tensor(Value(weight=key, dims=stored), shape, order)

    def end_section(self, name: str, output: Tensor) -> None:
        """Assigns all operations written since the previous section to this section."""
        for operation in self.operations[self._unnamed :]:
            operation.section = name
            if output.value in operation.outputs:
                output.value.name = name
        self._unnamed = len(self.operations)

    def in_order(self, tensor: Tensor | Filled, order: Axes) -> Value:
        """Returns the value with its axes in this order in memory."""
        tensor = self.materialized(tensor)
        value = tensor.value
        if tensor.order == order and not value.weight:
            return value
        key = (id(value), order)
        if value.weight or key not in self._arranged:
            arranged = self._rearranged(tensor, order)
            if value.weight:
                return arranged
            self._arranged[key] = arranged
        return self._arranged[key]

    def copy(self, value: Value) -> Value:
        """Returns an identical value with another name."""
        return self.write("Identity", [value], dtype=value.dtype)[0]

    def scalar(self, size: int | Extent) -> Any:
        """Returns a size as an int, or as an int64 tensor."""
        if isinstance(size, int):
            return size
        value = self.vector(Sizes([size]))
        return Tensor(self.reshaped(value, (1,), ()), (), ())

    def Shape(self, *, input: Tensor) -> Sizes:
        """Returns the sizes of the axes, static where known."""
        return Sizes(
            extent if isinstance(extent, int) else Extent(input, axis)
            for axis, extent in enumerate(input.shape)
        )

    def write(
        self,
        kind: str,
        inputs: Sequence[Value | None],
        *,
        dtype: str = "float32",
        count: int = 1,
        **attributes: Any,
    ) -> list[Value]:
        """Adds an ONNX operation and returns its outputs."""
        operation = Operation(kind, list(inputs), attributes)
        for value in inputs:
            if value is not None:
                value.uses += 1
        operation.outputs = [Value(dtype, operation=operation) for _ in range(count)]
        self.operations.append(operation)
        return operation.outputs

    def tensor(self, value: Any, dtype: str = "float32") -> Tensor:
        """Returns a tensor for a tensor, a filled tensor or numbers."""
        if isinstance(value, Tensor):
            return value
        if isinstance(value, Filled):
            return self.materialized(value)
        array: npt.NDArray[Any] = np.array(value, dtype)
        return Tensor(self.constant(array), array.shape, identity(array.ndim))

    def materialized(self, tensor: Tensor | Filled) -> Tensor:
        """Returns the tensor, with a filled one written out in its full shape."""
        if isinstance(tensor, Tensor):
            return tensor
        like = tensor.like
        extents = like.in_memory
        if all(isinstance(extent, int) for extent in extents):
            array = np.full(static_sizes(extents), tensor.number, np.float32)
            return Tensor(self.constant(array), like.shape, like.order)
        (shape,) = self.write("Shape", [self.value_of(like)], dtype="int64")
        number = self.constant(np.float32(tensor.number))
        (output,) = self.write("Expand", [number, shape])
        return Tensor(output, like.shape, like.order)

    def value_of(self, tensor: Tensor) -> Value:
        """Returns the value as it is in memory."""
        return self.in_order(tensor, tensor.order)

    def _rearranged(self, tensor: Tensor, order: Axes) -> Value:
        value = tensor.value
        before = value.dims if value.weight else tensor.in_memory
        after = tuple(tensor.shape[axis] for axis in order)
        if same_in_memory(tensor.shape, tensor.order, order):
            return self.reshaped(value, before, after)
        value = self.reshaped(value, before, tensor.in_memory)
        perm = [tensor.order.index(axis) for axis in order]
        if value.constant is not None:
            return self.constant(np.transpose(value.constant, perm))
        (output,) = self.write("Transpose", [value], dtype=value.dtype, perm=perm)
        return output

    def reshaped(
        self,
        value: Value,
        before: Sequence[Dim],
        after: Sequence[Dim],
        wanted: Sizes | None = None,
    ) -> Value:
        """Reshapes a value from `before` to `after`; the numbers keep their order in memory."""
        if tuple(before) == tuple(after):
            return value
        if value.constant is not None:
            return self.constant(value.constant.reshape(static_sizes(after)))
        if value.weight:
            if not value.uses:
                value.dims = tuple(static_sizes(after))
            if value.dims == tuple(after):
                return value
        (output,) = self.write(
            "Reshape", [value, self._shape(before, after, wanted)], dtype=value.dtype
        )
        return output

    def _shape(self, before: Sequence[Dim], after: Sequence[Dim], wanted: Sizes | None) -> Value:
        """Returns the shape input of a Reshape; a single dynamic size is inferred."""
        sizes = [extent if isinstance(extent, int) else -1 for extent in after]
        if sizes.count(-1) > 1:
            # 0 copies the size of the input's axis with the same index.
            same = [
                len(before) > place and before[place] == extent
                for place, extent in enumerate(after)
            ]
            for place, extent in enumerate(after):
                if sizes.count(-1) > 1 and isinstance(extent, str) and same[place]:
                    sizes[place] = 0
        if sizes.count(-1) <= 1:
            return self.integers(sizes)
        assert wanted is not None
        return self.vector(wanted)

    def vector(self, sizes: Sizes) -> Value:
        """Returns sizes as an int64 tensor."""
        if sizes.is_static:
            return self.integers(sizes)
        parts = []
        for size in sizes:
            if not isinstance(size, Extent):
                parts.append(self.integers([size]))
                continue
            (shape,) = self.write("Shape", [self.value_of(size.tensor)], dtype="int64")
            axis = self.integers([size.tensor.order.index(size.axis)])
            (part,) = self.write("Gather", [shape, axis], dtype="int64", axis=0)
            if size.factor != 1:
                (part,) = self.write("Mul", [part, self.integers([size.factor])], dtype="int64")
            parts.append(part)
        if len(parts) == 1:
            return parts[0]
        return self.write("Concat", parts, dtype="int64", axis=0)[0]

    def integers(self, values: Sequence[Any]) -> Value:
        """Returns integers as an int64 constant."""
        return self.constant(np.array(values, np.int64))

    def constant(self, array: npt.NDArray[Any] | np.generic) -> Value:
        """Returns a constant; equal constants share a value."""
        array = np.asarray(array)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = Value(array.dtype.name, array.copy(order="C"))
        return self._constants[key]


def static_sizes(extents: Sequence[Dim]) -> list[int]:
    """Returns sizes that must be static, such as those of kernels."""
    assert all(isinstance(extent, int) for extent in extents), extents
    return [extent for extent in extents if isinstance(extent, int)]
