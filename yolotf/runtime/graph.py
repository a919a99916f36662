"""Graphs of the runtime, written with the same calls as `tf.raw_ops`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yolotf import _runtime
from yolotf.graphs import onednn


class Node(NamedTuple):
    """An output of an operation."""

    number: int
    """Its number in the graph."""
    dtype: str
    """NumPy's name of its type."""


_TYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int64": 9, "bool": 10}
_NAMES = {number: name for name, number in _TYPES.items()}

# The inputs of each operation, in its order (tensorflow/core/ops). Constants for inputs between `|`
# and `:` (or the end) are int32; others have the type of the first input that is a Node.
_INPUTS = {
    "Abs": "x",
    "AddV2": "x y",
    "AvgPool": "value",
    "BatchMatMulV2": "x y",
    "BatchToSpaceND": "input | block_shape crops",
    "BiasAdd": "value bias",
    "ConcatV2": "values | axis",
    "Conv2D": "input filter",
    "DepthwiseConv2dNative": "input filter",
    "Elu": "features",
    "Equal": "x y",
    "Exp": "x",
    "Expm1": "x",
    "ExtractImagePatches": "images",
    "Floor": "x",
    "FloorMod": "x y",
    "GatherV2": "params | indices axis",
    "Greater": "x y",
    "GreaterEqual": "x y",
    "Identity": "input",
    "LeakyRelu": "features",
    "Less": "x y",
    "MatMul": "a b",
    "Max": "input | axis",
    "MaxPool": "input",
    "Maximum": "x y",
    "Mean": "input | axis",
    "Minimum": "x y",
    "Mul": "x y",
    "Neg": "x",
    "OnesLike": "x",
    "Pack": "values",
    "Pad": "input | paddings",
    "PadV2": "input | paddings : constant_values",
    "Placeholder": "",
    "Pow": "x y",
    "RealDiv": "x y",
    "Relu": "features",
    "Relu6": "features",
    "Reshape": "tensor | shape",
    "ResizeNearestNeighbor": "images | size",
    "SelectV2": "condition t e",
    "Shape": "input",
    "Sigmoid": "x",
    "Slice": "input | begin size",
    "Softmax": "logits",
    "Softplus": "features",
    "SpaceToBatchND": "input | block_shape paddings",
    "SpaceToDepth": "input",
    "Split": "| axis : value",
    "SplitV": "value | size_splits axis",
    "Square": "x",
    "SquaredDifference": "x y",
    "StridedSlice": "input | begin end strides",
    "Sub": "x y",
    "Sum": "input | axis",
    "Tanh": "x",
    "Tile": "input | multiples",
    "Transpose": "x | perm",
    "Unpack": "value",
    "ZerosLike": "x",
    onednn.OPERATION: "input filter args host_args",
}

_ATTRIBUTES = {
    "_kernel": "string",
    "align_corners": "bool",
    "alpha": "float",
    "block_size": "int",
    "dilations": "ints",
    "dtype": "type",
    "end_mask": "int",
    "explicit_paddings": "ints",
    "fused_ops": "strings",
    "half_pixel_centers": "bool",
    "keep_dims": "bool",
    "ksize": "ints",
    "ksizes": "ints",
    "leakyrelu_alpha": "float",
    "num": "int",
    "num_args": "int",
    "num_split": "int",
    "padding": "string",
    "rates": "ints",
    "shape": "shape",
    "strides": "ints",
}
_ATTRIBUTES_OF = {("Pack", "axis"): "int", ("Unpack", "axis"): "int"}
_LISTS = frozenset({"Split", "SplitV", "Unpack"})


class Operations:
    """Writes operations into a graph: the `ops` of `yolotf.graphs`."""

    def __init__(self) -> None:
        """Starts an empty graph."""
        self.graph = _runtime.Graph()
        self._count = 0
        self._constants: dict[tuple[Any, ...], Node] = {}

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        if kind not in _INPUTS:
            raise AttributeError(f"no operation {kind}")
        write = functools.partial(self._write, kind)
        self.__dict__[kind] = write
        return write

    def placeholder(self, shape: Sequence[int | None], dtype: str = "float32") -> Node:
        """Returns a node that is fed in each run."""
        extents = [-1 if extent is None else extent for extent in shape]
        node: Node = self.Placeholder(dtype=_TYPES[dtype], shape=extents)
        return node

    def _write(self, kind: str, **arguments: Any) -> Any:
        names = _INPUTS[kind].split()
        dtype = _dtype_of(arguments[name] for name in names if name not in "|:")
        inputs: list[int | list[int]] = []
        is_integer = False
        for name in names:
            if name in "|:":
                is_integer = name == "|"  # shapes, axes and the like follow
                continue
            value = arguments.pop(name)
            inputs.append(self._input(value, "int32" if is_integer else dtype))
        attributes = {
            name: (_ATTRIBUTES_OF.get((kind, name)) or _ATTRIBUTES[name], value)
            for name, value in arguments.items()
        }
        outputs = self._add(kind, inputs, attributes)
        return outputs if kind in _LISTS else outputs[0]

    def _input(self, value: Any, dtype: str) -> int | list[int]:
        if isinstance(value, Node):
            return value.number
        if isinstance(value, list) and (not value or any(isinstance(part, Node) for part in value)):
            nodes = [
                part if isinstance(part, Node) else self._constant(part, dtype) for part in value
            ]
            return [node.number for node in nodes]
        return self._constant(value, dtype).number

    def _constant(self, value: Any, dtype: str) -> Node:
        array: npt.NDArray[Any] = np.array(value, dtype, order="C")
        key = (dtype, array.shape, array.tobytes())
        if key not in self._constants:
            attributes = {"dtype": ("type", _TYPES[dtype]), "value": ("tensor", array)}
            self._constants[key] = self._add("Const", [], attributes)[0]
        return self._constants[key]

    def _add(
        self, kind: str, inputs: list[int | list[int]], attributes: dict[str, tuple[str, Any]]
    ) -> list[Node]:
        self._count += 1
        outputs = self.graph.add(kind, f"{kind.lstrip('_')}_{self._count}", inputs, attributes)
        return [Node(number, _NAMES[dtype]) for number, dtype in outputs]


def _dtype_of(values: Any) -> str:
    """Returns the type of the first Node among `values` that is not a bool; else float32."""
    for value in values:
        if isinstance(value, Node) and value.dtype != "bool":
            return value.dtype
        if isinstance(value, list):
            nodes = [part for part in value if isinstance(part, Node)]
            if nodes:
                return nodes[0].dtype
    return "float32"
