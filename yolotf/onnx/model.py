"""Description of a network as an ONNX model: inputs, outputs, operations and weights.

`describe` needs the cfg only. The weights are added later from a `.weights` file, in the model or
in a separate file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from yolotf import __version__
from yolotf.darknet import cfg, graph_checks
from yolotf.darknet.decoding import check_heads
from yolotf.graphs import raw_heads
from yolotf.graphs.network import NetworkGraph
from yolotf.onnx import proto
from yolotf.onnx.operations import Operations
from yolotf.onnx.operations.suppression import suppress
from yolotf.onnx.proto import Dim
from yolotf.onnx.tensors import NCHW, NHWC, Operation, Tensor, Value

OPSET = 13
"""ONNX opset; read by onnxruntime since 1.8, TensorRT since 8.0, OpenVINO since 2021.4."""
_IR_VERSION = 7
"""The IR version released with this opset."""
LARGEST_MESSAGE = 2**31 - 1
"""Largest size of a protobuf message in bytes."""
PRODUCER = "yolotf"

Layout = Literal["NCHW", "NHWC"]
_ORDERS = {"NCHW": NCHW, "NHWC": NHWC}


class Suppression(NamedTuple):
    """The thresholds and limits of a model that outputs detections."""

    score: float
    """Scores have to be above it."""
    iou: float
    """Of boxes of one class that overlap more (IoU), only the best is kept."""
    max_boxes: int
    """Largest number of detections for each class of an image; the best are kept."""


@dataclass(frozen=True)
class Options:
    """Options of a model.

    Attributes:
        batch: the batch size; None: any.
        any_size: accept images of any height and width that are multiples of the stride.
        layout: order of the axes of images and raw heads.
        reverse_outputs: output the heads in reverse order.
        decode: output boxes and scores instead of raw heads.
        suppression: with `decode`, output only detections.
    """

    batch: int | None = None
    any_size: bool = False
    layout: Layout = "NCHW"
    reverse_outputs: bool = False
    decode: bool = False
    suppression: Suppression | None = None


@dataclass(frozen=True)
class Port:
    """An input or output: its name, type and shape in memory."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]

    def to_bytes(self) -> bytes:
        """Returns its ValueInfoProto, serialized."""
        return proto.value_info(self.name, self.dtype, self.shape)


@dataclass(frozen=True)
class Weight:
    """A weight array of the model.

    Attributes:
        key: in `NetworkGraph.shapes`.
        name: in the model.
        shape: in the model; values are in the order of the key's shape.
    """

    key: str
    name: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Size of its values in bytes."""
        size = 4
        for extent in self.shape:
            size *= extent
        return size


@dataclass(frozen=True)
class Model:
    """A network described with ONNX operations.

    Attributes:
        graph: defines the arrays.
        inputs: the images, then the recurrent state, by the keys of `graph.states`.
        outputs: the heads, then the next recurrent state.
        weights: in the order of the plan.
    """

    graph: NetworkGraph
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    weights: tuple[Weight, ...]
    operations: tuple[Operation, ...] = field(repr=False)

    @property
    def network(self) -> cfg.Network:
        """The network."""
        return self.graph.network

    def head(self, metadata: Mapping[str, str]) -> bytes:
        """Returns the ModelProto up to its graph, serialized."""
        opset = proto.text(1, "") + proto.number(2, OPSET)
        parts = [
            proto.number(1, _IR_VERSION),
            proto.text(2, PRODUCER),
            proto.text(3, __version__),
            proto.message(8, opset),
            *(proto.message(14, proto.entry(*item)) for item in metadata.items()),
        ]
        return b"".join(parts)

    def body(self, *, weights_as_inputs: bool = False) -> bytes:
        """Returns the GraphProto without its weights, serialized."""
        inputs = list(self.inputs)
        if weights_as_inputs:
            inputs += [Port(weight.name, "float32", weight.shape) for weight in self.weights]
        return b"".join(
            [
                *(proto.message(1, _node(operation)) for operation in self.operations),
                proto.text(2, self.network.name or "network"),
                *(proto.message(5, constant) for constant in self._constants()),
                *(proto.message(11, port.to_bytes()) for port in inputs),
                *(proto.message(12, port.to_bytes()) for port in self.outputs),
            ]
        )

    def _constants(self) -> Iterator[bytes]:
        written: set[str] = set()
        for operation in self.operations:
            for value in operation.inputs:
                if value is not None and value.constant is not None and value.name not in written:
                    written.add(value.name)
                    yield proto.tensor(value.name, value.constant)

    def skeleton(self) -> bytes:
        """Returns the model with its weights as inputs, so that it can be checked without them."""
        body = self.body(weights_as_inputs=True)
        return self.head({}) + proto.message(7, body)

    def chunks(
        self, metadata: Mapping[str, str], contents: Iterable[memoryview | bytes]
    ) -> Iterator[memoryview | bytes]:
        """Yields the bytes of the model, weights last.

        Args:
            metadata: entries of the model's metadata.
            contents: the float32 values of each of `weights`; read lazily.
        """
        body = self.body()
        starts = [proto.float_tensor_start(weight.name, weight.shape) for weight in self.weights]
        fields = [
            proto.start(5, len(start) + weight.size_bytes) + start
            for start, weight in zip(starts, self.weights, strict=True)
        ]
        size = len(body) + sum(map(len, fields))
        size += sum(weight.size_bytes for weight in self.weights)
        yield self.head(metadata) + proto.start(7, size) + body
        for field_start, content in zip(fields, contents, strict=True):
            yield field_start
            yield content


def _node(operation: Operation) -> bytes:
    inputs = [value.name if value is not None else "" for value in operation.inputs]
    outputs = [value.name for value in operation.outputs]
    return proto.node(operation.kind, outputs[0], inputs, outputs, operation.attributes)


def describe(network: cfg.Network, options: Options = Options()) -> Model:
    """Returns a network described with ONNX operations.

    Raises:
        UnsupportedSectionError: a section is not supported, has no weights in the file
            (`dontload`), or, with `any_size`, requires a fixed image size.
    """
    if options.any_size:
        graph_checks.check_any_size(network)
    graph = NetworkGraph(network, use_onednn=False, as_stored=True)
    ops = Operations()
    order = _ORDERS[options.layout]
    height, width, channels = network.input_shape
    batch: Dim = 1 if graph.states else options.batch or "batch"
    size: tuple[Dim, Dim] = ("height", "width") if options.any_size else (height, width)
    images = ops.input("images", (batch, *size, channels), order)
    states = {
        key: ops.input(_state_name(network, key, "in"), shape, order)
        for key, shape in graph.states.items()
    }
    heads, after = graph.heads(
        ops,
        images,
        lambda key: ops.weight(key, graph.shapes[key], graph.axes.get(key)),
        fused=False,
        resizable=options.any_size,
        states=states,
        written=lambda layer, output: ops.end_section(layer.name, output),
    )
    if options.decode:
        named = _decoded(ops, images, heads, network, options)
    else:
        named = list(zip(graph_checks.output_names(network), heads, strict=True))
        if options.reverse_outputs:
            named.reverse()
    named += [(_state_name(network, key, "out"), after[key]) for key in graph.states]
    return _model(graph, ops, [images, *states.values()], named, order)


def _decoded(
    ops: Operations,
    images: Tensor,
    heads: Sequence[Tensor],
    network: cfg.Network,
    options: Options,
) -> list[tuple[str, Tensor]]:
    """Returns boxes and scores of all heads, after suppression if requested."""
    check_heads(network)

    def size_of(tensor: Tensor) -> list[Any]:
        return [ops.scalar(extent) for extent in ops.Shape(input=tensor)[1:3]]

    grids = [size_of(head) for head in heads]
    decoded = raw_heads.corners_and_scores(ops, heads, network, grids, size_of(images))
    if options.suppression is None:
        if options.any_size:  # a name instead of a formula
            batch = decoded[0].shape[0]
            decoded = tuple(
                replace(tensor, shape=(batch, "boxes", tensor.shape[2])) for tensor in decoded
            )
        return list(zip(("boxes", "scores"), decoded, strict=True))
    score, iou, max_boxes = options.suppression
    kept = suppress(ops, *decoded, max_boxes, iou, score)
    return list(zip(("boxes", "scores", "classes", "pictures"), kept, strict=True))


def _state_name(network: cfg.Network, key: str, end: str) -> str:
    index, name = key.split("/")
    return f"{network.layers[int(index)].name}_{name}_{end}"


def _model(
    graph: NetworkGraph,
    ops: Operations,
    inputs: Sequence[Tensor],
    outputs: Sequence[tuple[str, Tensor]],
    order: tuple[int, ...],
) -> Model:
    """Returns the model with transposed outputs, named values and no unused operations."""
    input_values = {id(tensor.value) for tensor in inputs}
    finals: list[Value] = []
    ports = []
    for name, tensor in outputs:
        final = order if tensor.rank == 4 else tuple(range(tensor.rank))
        value = ops.in_order(tensor, final)
        if value.operation is None or id(value) in input_values or value in finals:
            value = ops.copy(value)
        finals.append(value)
        shape = tuple(tensor.shape[axis] for axis in final)
        ports.append(Port(name, value.dtype, shape))
    ops.end_section("outputs", outputs[-1][1])
    operations = _needed(ops.operations, finals)
    names = dict(zip(map(id, finals), (port.name for port in ports), strict=True))
    _assign_names(operations, names, {tensor.value.name for tensor in inputs})
    weights = _weights(graph, operations)
    input_ports = [
        Port(tensor.value.name, tensor.dtype, tuple(tensor.in_memory)) for tensor in inputs
    ]
    return Model(graph, tuple(input_ports), tuple(ports), weights, tuple(operations))


def _needed(operations: Sequence[Operation], outputs: Sequence[Value]) -> list[Operation]:
    """Returns the operations that the outputs depend on, in order."""
    wanted = {id(value) for value in outputs}
    needed = []
    for operation in reversed(operations):
        if any(id(value) in wanted for value in operation.outputs):
            needed.append(operation)
            wanted.update(id(value) for value in operation.inputs if value is not None)
    return needed[::-1]


def _assign_names(
    operations: Sequence[Operation], outputs: Mapping[int, str], inputs: Collection[str]
) -> None:
    """Names all values: after outputs and sections where possible, others `section/kind`."""
    taken = {*inputs, *outputs.values()}

    def unique(name: str) -> str:
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate)
        return candidate

    for operation in operations:
        for value in operation.outputs:
            section = value.name
            if id(value) in outputs:
                value.name = outputs[id(value)]
            elif section and section not in taken:
                taken.add(section)
            else:
                value.name = unique(f"{operation.section}/{operation.kind}")
    for operation in operations:
        for operand in operation.inputs:
            if operand is not None and operand.constant is not None and not operand.name:
                operand.name = unique("constant")


def _weights(graph: NetworkGraph, operations: Sequence[Operation]) -> tuple[Weight, ...]:
    """Returns the weights in use, in the order of the plan, named after their sections."""
    by_key: dict[str, Weight] = {}
    for operation in operations:
        for value in operation.inputs:
            if value is not None and value.weight:
                index, *part, role = value.weight.split("/")
                layer = graph.network.layers[int(index)]
                value.name = f"{'_'.join([layer.name, *part])}/{role}"
                by_key[value.weight] = Weight(value.weight, value.name, value.dims)
    assignments = graph.plan(transposed=False).assignments
    keys = [assignment.slot.variable for assignment in assignments]
    return tuple(by_key[key] for key in keys if key in by_key)
