"""The network with batch normalization folded into its kernels, in plain TensorFlow operations.

`FoldedNetwork` holds the variables, loads them and is the graph from a picture to raw heads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from yolotf.darknet import cfg
from yolotf.darknet import rules as graph_rules
from yolotf.errors import TensorFlowVersionError
from yolotf.graphs import onednn
from yolotf.graphs import operations as tf_layers
from yolotf.weights import layout
from yolotf.weights import native as _native
from yolotf.weights import write as writing
from yolotf.weights.header import read_header

Tensor = Any
_Path = str | os.PathLike[str]


class Variable:
    """A float32 resource variable: the handle and memory that is allocated, not initialised.

    A `tf.Variable` has the same and takes ten times as long to make, which 220 of them turn
    into a good part of a server's start. Functions capture the handle; the memory is freed with
    the last of them.

    Attributes:
        handle: scalar resource tensor.
        shape: as of a `tf.Variable`.
        dtype: float32.
    """

    __slots__ = ("dtype", "handle", "shape")

    def __init__(self, shape: Sequence[int], handle: Tensor) -> None:
        """See `make_variables`."""
        self.shape = tf.TensorShape(shape)
        self.dtype = tf.float32
        self.handle = handle

    @property
    def device(self) -> str:
        """Where the memory is."""
        return str(self.handle.device)

    def read_value(self) -> Tensor:
        """The numbers; later loads do not change them."""
        return _read(self)

    def numpy(self) -> npt.NDArray[np.float32]:
        """The numbers as an array."""
        array: npt.NDArray[np.float32] = self.read_value().numpy()
        return array

    def assign(self, value: Any) -> None:
        """Replaces the numbers."""
        value = tf.ensure_shape(tf.convert_to_tensor(value, tf.float32), self.shape)
        tf.raw_ops.AssignVariableOp(resource=self.handle, value=value)

    def is_initialized(self) -> Tensor:
        """True: there is memory, even before a load."""
        return tf.raw_ops.VarIsInitializedOp(resource=self.handle)


def make_variables(shapes: Sequence[Sequence[int]]) -> list[Variable]:
    """Allocates variables; their numbers are whatever the memory holds."""
    if not shapes:
        return []
    handles = _make_handles(shapes)
    return [Variable(shape, handle) for shape, handle in zip(shapes, handles, strict=True)]


def _make_handles(shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    if not tf.config.get_visible_devices("GPU"):
        try:
            return list(_native.op_library().yolotf_variables(N=len(shapes), shapes=shapes))
        except TensorFlowVersionError:
            pass  # the load will say so
    handles = []
    for shape in shapes:
        # Without the shape, which would be one more kind of operation for TensorFlow to prepare.
        handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=None, shared_name=_ANONYMOUS)
        empty = tf.raw_ops.Empty(shape=shape, dtype=tf.float32, init=False)
        tf.raw_ops.AssignVariableOp(resource=handle, value=empty)
        handles.append(handle)
    return handles


_ANONYMOUS = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"
"""Not shared, and freed with its last handle (ResourceHandle::ANONYMOUS_NAME)."""


def _read(variable: Any) -> Tensor:
    """The value of a `Variable` or `tf.Variable`."""
    value = tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=tf.float32)
    value.set_shape(variable.shape)
    return value


class FoldedNetwork:
    """A network whose batch normalizations are part of its kernels and biases.

    The variables are allocated, not initialised: `load` has to come first.

    Attributes:
        network: what it was built from.
        onednn: whether convolutions are oneDNN's operation, see `yolotf.onednn`.
        ready: whether TensorFlow's optimizer has nothing to do in the graph.
        stored: the variables by section and role, `17/kernel`. A convolution has `kernel` (HWIO,
            or (size, size, channels, multiplier) where it is depthwise) and `bias`, with
            or without batch norm; `[batchnorm]` has `scale` and `bias`. With `onednn`, wide
            convolutions have both in blocks, see `onednn.convolve`.
    """

    def __init__(self, network: cfg.Network, *, use_onednn: bool | None = None) -> None:
        """Allocates the variables.

        Args:
            network: the network.
            use_onednn: False for standard operations only; None for what this process can do.

        Raises:
            UnsupportedSectionError: a section that cannot be built, or that the file holds
                nothing for (`dontload`).
        """
        self.network = network
        self.onednn = onednn.available() if use_onednn is None else use_onednn
        self._used = sorted(graph_rules.used_layers(network))
        self._blocks: dict[int, int] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for index in self._used:
            layer = network.layers[index]
            graph_rules.check_layer(network, layer)
            if self.onednn and isinstance(layer, cfg.Convolutional):
                self._blocks[index] = onednn.blocks(layer)
            for role, shape in _folded_shapes(network, layer).items():
                shapes[_key(index, role)] = self._in_blocks(index, shape)
        with tf.init_scope():
            variables = make_variables(list(shapes.values()))
        self.stored: dict[str, Variable] = dict(zip(shapes, variables, strict=True))
        used = [network.layers[index] for index in self._used]
        self.ready = self.onednn and all(
            onednn.takes(layer) for layer in used if isinstance(layer, cfg.Convolutional)
        )

    def _in_blocks(self, index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        blocks = self._blocks.get(index, 1)
        return shape if blocks == 1 else (blocks, *shape[:-1], shape[-1] // blocks)

    def load(self, weights: _Path, *, verify: bool = True, fresh: bool = False) -> None:
        """Loads a `.weights` file; see `load_darknet_weights` for the checks.

        Args:
            weights: the file.
            verify: see `load_darknet_weights`.
            fresh: what the variables hold is of no use, as before the first load. They are then
                written while the file is still being read.

        Raises:
            WeightsMismatch: file and network do not belong together; nothing was changed, unless
                `fresh`.
            OSError: the file cannot be read.
        """
        floats = layout.floats(self.network)
        header, _ = read_header(weights, floats)
        by_layer: dict[int, dict[str, layout.Segment]] = {index: {} for index in self._used}
        for segment in layout.segments(self.network, transposed=header.transposed):
            if segment.layer in by_layer:
                by_layer[segment.layer][segment.role] = segment
        moves: list[layout.Move] = []
        for index, segments in by_layer.items():
            moves += self._moves(self.network.layers[index], segments)
        plan = layout.Plan(tuple(moves), floats, self.network)
        writing.write(weights, header, plan, cast=False, verify=verify, fresh=fresh)

    def _moves(self, layer: cfg.Layer, segments: dict[str, layout.Segment]) -> list[layout.Move]:
        """What goes where of one section, batch normalization folded."""
        depthwise = isinstance(layer, cfg.Convolutional) and tf_layers.is_depthwise(layer)

        def slot(role: str) -> layout.Slot:
            variable = self.stored[_key(layer.index, role)]
            return layout.Slot(
                name=f"{layer.type}_{layer.index}/{role}",
                role=role,
                variable=variable,
                shape=tuple(variable.shape),
                dtype="float32",
                depthwise=depthwise and role == "kernel",
                blocks=self._blocks.get(layer.index, 1),
            )

        gamma = segments.get("gamma")
        if gamma is None:
            return [layout.move(segment, slot(role)) for role, segment in segments.items()]
        kernel = segments.get("kernel")
        if kernel is None:
            multiplier = layout.folded(gamma, gamma, slot("scale"))
        elif kernel.transposed:
            raise graph_rules.refuse(
                self.network,
                layer,
                "batch_normalize=1 in a file with a transposed kernel",
                "batch_normalize",
            )
        else:
            multiplier = layout.folded(kernel, gamma, slot("kernel"))
        return [layout.folded(segments["beta"], gamma, slot("bias")), multiplier]

    def whole(self) -> dict[str, Tensor]:
        """What `stored` holds, wide convolutions in one piece."""
        return {key: self._joined(key, _read(variable)) for key, variable in self.stored.items()}

    def _joined(self, key: str, value: Tensor) -> Tensor:
        if self._blocks.get(int(key.split("/")[0]), 1) == 1:
            return value
        return tf.concat(tf.unstack(value), -1)

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def __call__(
        self, pictures: Tensor, variables: Mapping[str, Any] | None = None
    ) -> list[Tensor]:
        """Raw heads in cfg order, or what the last section puts out if there is no head.

        Args:
            pictures: [batch, rows, columns, channels] float32, 0..1.
            variables: read in place of `stored`, in the shapes of `whole`; the graph then holds
                standard operations only.
        """
        values = _Values(self, pictures, variables)
        tensors = {cfg.NETWORK_INPUT: pictures}
        for index in self._used:
            layer = self.network.layers[index]
            inputs = [tensors[number] for number in layer.inputs]
            x = self._section(layer, inputs, values)
            if not isinstance(layer, cfg.Convolutional | cfg.Connected):
                x = tf_layers.activate(x, getattr(layer, "activation", "linear"))
            tensors[index] = x
        return [tensors[index] for index in graph_rules.output_layers(self.network)]

    def _section(self, layer: cfg.Layer, inputs: list[Tensor], values: _Values) -> Tensor:
        match layer:
            case cfg.Convolutional():
                owner = graph_rules.kernel_owner(self.network, layer)
                kernel, bias = values.of(owner, "kernel"), values.of(owner, "bias")
                if values.onednn and onednn.takes(layer):
                    return onednn.convolve(inputs[0], kernel, bias, layer)
                return tf_layers.add_bias(
                    tf_layers.convolve(inputs[0], kernel, layer), bias, layer.activation
                )
            case cfg.Connected():
                x = tf_layers.connect(inputs[0], values.of(layer, "kernel"))
                return tf_layers.add_bias(x, values.of(layer, "bias"), layer.activation)
            case cfg.Local():
                x = tf_layers.convolve_locally(inputs[0], values.of(layer, "kernel"), layer)
                return x + values.of(layer, "bias")
            case cfg.Batchnorm():
                scale, bias = values.of(layer, "scale"), values.of(layer, "bias")
                return inputs[0] * scale + bias
            case cfg.Pool():
                return tf_layers.pool(inputs[0], layer)
            case cfg.Avgpool():
                return tf_layers.average(inputs[0])
            case cfg.Route():
                return tf_layers.route(inputs, layer)
            case cfg.Shortcut():
                factors = None
                if layer.nweights:
                    weights = values.of(layer, "weights")
                    factors = tf_layers.shortcut_factors(weights, layer.weights_normalization)
                shapes = [graph_rules.shape_of(self.network, index) for index in layer.inputs]
                return tf_layers.shortcut(inputs, shapes, factors)
            case cfg.ScaleChannels() | cfg.Sam():
                return inputs[0] * inputs[1]
            case cfg.Upsample():
                return tf_layers.upsample(inputs[0], layer)
            case cfg.Reorg():
                return tf_layers.reorg(inputs[0], layer)
            case cfg.Softmax():
                return tf_layers.softmax(inputs[0], layer)
            case cfg.Crop():
                return tf_layers.crop(inputs[0], layer)
            case cfg.Normalization():
                return tf_layers.normalize(inputs[0], layer)
            case cfg.Implicit():
                weights = tf.transpose(values.of(layer, "weights"))
                return tf.tile(weights[None, :, None, :], [values.batch, 1, 1, 1])
            case cfg.Dropout() | cfg.Passive() | cfg.Activation():
                return inputs[0]
            case _:
                raise graph_rules.refuse(self.network, layer, f"[{layer.type}] cannot be built")


class _Values:
    """What variables hold while a function runs, each read once."""

    def __init__(
        self, folded: FoldedNetwork, pictures: Tensor, variables: Mapping[str, Any] | None
    ) -> None:
        self.onednn = folded.onednn and variables is None and not tf.executing_eagerly()
        self._folded = folded
        self._variables = variables or folded.stored
        self._pictures = pictures
        self._whole = variables is None and not self.onednn
        self._read: dict[str, Tensor] = {}

    @property
    def batch(self) -> Tensor:
        return tf.shape(self._pictures)[0]

    def of(self, layer: cfg.Layer, role: str) -> Tensor:
        """In blocks, where `FoldedNetwork.stored` has them, only with `onednn`."""
        key = _key(layer.index, role)
        if key not in self._read:
            variable = self._variables[key]
            value = onednn.read(variable) if self.onednn else _read(variable)
            self._read[key] = self._folded._joined(key, value) if self._whole else value
        return self._read[key]


def _key(index: int, role: str) -> str:
    return f"{index}/{role}"


def _folded_shapes(network: cfg.Network, layer: cfg.Layer) -> dict[str, tuple[int, ...]]:
    """Role and shape of what a section needs once batch normalization is folded."""
    channels = layer.input_shape.channels
    shapes: dict[str, tuple[int, ...]]
    match layer:
        case cfg.Convolutional(share_index=None, size=size, filters=filters):
            kernel = (size, size, channels // layer.groups, filters)
            if tf_layers.is_depthwise(layer):
                kernel = (size, size, channels, filters // channels)
            shapes = {"kernel": kernel, "bias": (filters,)}
        case cfg.Connected(output=output):
            shapes = {"kernel": (layer.input_shape.floats, output), "bias": (output,)}
        case cfg.Local(size=size, filters=filters):
            rows, columns, _ = layer.output_shape
            kernel_shape = (rows * columns, size, size, channels, filters)
            shapes = {"kernel": kernel_shape, "bias": (rows, columns, filters)}
        case cfg.Batchnorm():
            shapes = {"scale": (channels,), "bias": (channels,)}
        case cfg.Shortcut() if layer.nweights:
            count = len(layer.inputs)
            shapes = {"weights": (count, layer.nweights // count)}
        case cfg.Implicit():
            shapes = {"weights": (layer.filters, layer.atoms)}
        case _:
            return {}
    keys = ["dontload"]
    if getattr(layer, "batch_normalize", isinstance(layer, cfg.Batchnorm)):
        keys.append("dontloadscales")
    key = graph_rules.set_key(layer, *keys)
    if key:
        raise graph_rules.refuse(
            network, layer, f"{key}=1: the file holds no numbers for it, so nothing can run", key
        )
    return shapes
