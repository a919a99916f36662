"""Network -> `keras.Model`: the training path, with every section as a layer of its own.

A layer is called after its section, counted from 0 after `[net]`: `conv_17`, its batch
normalization `conv_17_bn`, its activation `conv_17_mish`; likewise `connected_25`,
`batchnorm_3`, `shortcut_4`, `local_27`. Sections that only name what another one put out
(a route to one layer, `[cost]`, the detection heads) have no layer.

The arithmetic is Darknet's at inference (AlexeyAB/darknet). What Darknet does in training only
(`assisted_excitation`, drop block, deformed kernels, losses) is not part of the graph; `[dropout]`
is a Keras `Dropout`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from yolotf.darknet import cfg
from yolotf.darknet import graph_checks as graph_rules
from yolotf.darknet.class_tree import tree_of
from yolotf.darknet.graph_checks import used_layers
from yolotf.darknet.sections.antialiased import sharp
from yolotf.graphs import forked
from yolotf.graphs.convolution import is_depthwise
from yolotf.models import initial, undrawn
from yolotf.models.keras_module import check_backend, keras
from yolotf.models.layer_names import layer_name, network_of, remember_network
from yolotf.models.saved import read_model as read_model

# TensorFlow, which is imported next, imports Keras.
check_backend()

from yolotf.models.keras_layers import (  # noqa: E402
    BN_MOMENTUM,
    Activation,
    Blur,
    ChannelMaxPooling,
    FlexibleConv2D,
    GroupedConv2D,
    History,
    Implicit,
    LocallyConnected2D,
    LocalResponseNormalization,
    PaddedPooling2D,
    Padding,
    Recurrent,
    Reorg,
    Shortcut,
    SpaceToDepth,
    TreeSoftmax,
    activation_layer,
)

__all__ = [
    "BN_MOMENTUM",
    "build_model",
    "layer_name",
    "network_of",
    "used_layers",
]


def build_model(network: cfg.Network, *, dtype: Any = None, name: str | None = None) -> Any:
    """Builds the Keras functional model of `network`, with kernels drawn as Darknet draws them.

    `yolotf.build_model`, which says more, is this and a load.
    """
    check_call(network)
    return build_undrawn(network, undrawn.Kernels(filled=False), dtype=dtype, name=name)


def check_call(network: object) -> None:
    """Refuses what is no network, and a process in which the model could never run.

    Raises:
        TypeError: with the right call.
        ForkedProcessError: the process was forked after TensorFlow had run.
    """
    if not isinstance(network, cfg.Network):
        raise TypeError(
            f"network is {type(network).__name__}, must be a Network, the name of one or a cfg: "
            "yolotf.build_model('yolov4') or yolotf.build_model('yolov4.cfg')"
        )
    forked.check_process("build_model")


def build_undrawn(
    network: cfg.Network, kernels: undrawn.Kernels, *, dtype: Any = None, name: str | None = None
) -> Any:
    """`build_model`, which leaves to `kernels` when the kernels are drawn."""
    graph = _Graph(network, dtype, kernels)
    picture = graph.tensors[cfg.NETWORK_INPUT]
    outputs = [graph.tensors[index] for index in graph_rules.output_layers(network)]
    # Keras 3.12, the last for Python 3.10, refuses a model that puts out its very input.
    outputs = [keras().layers.Identity()(x) if x is picture else x for x in outputs]
    model = keras().Model(picture, outputs, name=_model_name(network, name))
    kernels.release()
    remember_network(model, network)
    return model


def _model_name(network: cfg.Network, name: str | None) -> str:
    if name is not None:
        return name
    found = network.name or network.source.removesuffix(".cfg")
    # TensorFlow opens a name scope of this name.
    return re.sub(r"[^A-Za-z0-9._-]+", "_", found).strip("_.-") or "darknet"


@dataclass(frozen=True)
class _Window:
    """How a window walks over one input: what `padding=` of a Keras layer must say."""

    padding: str | Padding
    sides: Padding

    @classmethod
    def of(
        cls,
        layer: cfg.Layer,
        size: int,
        strides: tuple[int, int],
        before: int,
    ) -> _Window:
        """For windows of `size` (dilation included) that start `before` floats outside."""
        sides, same = [], True
        for extent, positions, stride in zip(
            layer.input_shape[:2], layer.output_shape[:2], strides, strict=True
        ):
            reach = (positions - 1) * stride + size
            after = max(0, reach - extent - before)
            sides.append((before, after))
            # TensorFlow's `same`: as many positions as there are strides, the smaller half
            # of what is missing first.
            missing = max(0, reach - extent)
            same &= positions == -(-extent // stride) and before == missing // 2
        rows, columns = sides
        if rows == columns == (0, 0):
            return cls("valid", (rows, columns))
        return cls("same" if same else (rows, columns), (rows, columns))


def _drawn(layer: cfg.Convolutional | cfg.Local) -> Any:
    """The initializer of a section's kernel."""
    groups = layer.groups if isinstance(layer, cfg.Convolutional) else 1
    return initial.kernel(layer.size**2 * layer.input_shape.channels // groups)


_STOCK_BEHIND_SUMS = frozenset({"elu", "logistic", "relu", "relu6", "swish"})
"""Activations whose stock layer is right behind a sum, too."""


class _Graph:
    """The symbolic tensors of a network, section by section."""

    def __init__(self, network: cfg.Network, dtype: Any, undrawn: undrawn.Kernels) -> None:
        self.network = network
        self.undrawn = undrawn
        self.keras = keras().layers
        self.options = {} if dtype is None else {"dtype": dtype}
        self.used = used_layers(network)
        self.kernels: dict[int, Any] = {}
        self.norms: dict[int, Any] = {}
        self.flexible = self._flexible_kernels()
        self.tensors: dict[int, Any] = {
            cfg.NETWORK_INPUT: self.keras.Input(tuple(network.input_shape), name="input")
        }
        used = [network.layers[index] for index in sorted(self.used)]
        for layer in used:
            graph_rules.check_layer(network, layer)
        for layer in used:
            self.tensors[layer.index] = self._section(layer)

    def named(self, layer: cfg.Layer, suffix: str = "") -> dict[str, Any]:
        """The arguments every Keras layer of a section gets."""
        return {"name": layer_name(layer) + suffix, **self.options}

    def spatial(self, layer: cfg.Layer, suffix: str = "") -> dict[str, Any]:
        """`named`, for layers that ask `keras.config.image_data_format()` if not told."""
        return {"data_format": "channels_last", **self.named(layer, suffix)}

    def _section(self, layer: cfg.Layer) -> Any:
        inputs = [self.tensors[index] for index in layer.inputs]
        match layer:
            case cfg.Convolutional() | cfg.Pool() if layer.antialiasing:
                kept = sharp(layer)
                x = (
                    self._convolutional(kept, *inputs)
                    if isinstance(kept, cfg.Convolutional)
                    else self._pool(kept, *inputs)
                )
                return Blur(*layer.blur, **self.named(layer, "_blur"))(x)
            case cfg.Convolutional():
                return self._convolutional(layer, *inputs)
            case cfg.Connected():
                return self._connected(layer, *inputs)
            case cfg.Local():
                return self._local(layer, *inputs)
            case cfg.Batchnorm():
                return self._batch_normalization(layer, "")(*inputs)
            case cfg.Pool():
                return self._pool(layer, *inputs)
            case cfg.Avgpool():
                return self.keras.GlobalAveragePooling2D(keepdims=True, **self.spatial(layer))(
                    *inputs
                )
            case cfg.Route():
                return self._route(layer, inputs)
            case cfg.Shortcut():
                return self._shortcut(layer, inputs)
            case cfg.ScaleChannels() | cfg.Sam():
                product = self.keras.Multiply(**self.named(layer))(inputs)
                return self._activated(layer, layer.activation, product)
            case cfg.Upsample():
                return self._upsample(layer, *inputs)
            case cfg.Reorg():
                return self._reorg(layer, *inputs)
            case cfg.Dropout():
                if graph_rules.set_key(layer, "dropblock"):
                    return inputs[0]
                return self.keras.Dropout(layer.probability, **self.named(layer))(*inputs)
            case cfg.Softmax():
                return self._softmax(layer, *inputs)
            case cfg.Activation():
                return self._activated(layer, layer.activation, *inputs)
            case cfg.Crop():
                return self._crop(layer, *inputs)
            case cfg.Normalization():
                return LocalResponseNormalization(
                    layer.size, layer.alpha, layer.beta, layer.kappa, **self.named(layer)
                )(*inputs)
            case cfg.Implicit():
                return Implicit(
                    layer.filters, layer.atoms, layer.mean, layer.std, **self.named(layer)
                )(self.tensors[cfg.NETWORK_INPUT])
            case cfg.Recurrent():
                text = cfg.sections_to_cfg([layer.section])
                return Recurrent(text, **self.named(layer))(*inputs)
            case cfg.History():
                return History(layer.history_size, **self.named(layer))(*inputs)
            case cfg.Passive():
                return inputs[0]
            case _:
                raise graph_rules.refuse(self.network, layer, f"[{layer.type}] cannot be built")

    def _activated(self, layer: cfg.Layer, activation: str, x: Any) -> Any:
        if activation == "linear":
            return x
        # [activation] is nothing else, so it needs no suffix.
        suffix = "" if isinstance(layer, cfg.Activation) else f"_{activation}"
        # Behind a sum, TensorFlow 2.21 fuses a convolution without batch norm, the sum and what it
        # recognises: LeakyRelu then has a slope of 0.2, and Mish is not implemented.
        stock = isinstance(layer, cfg.Convolutional) or activation in _STOCK_BEHIND_SUMS
        make = activation_layer if stock else Activation
        return make(activation, **self.named(layer, suffix))(x)

    def _batch_normalization(self, layer: cfg.Layer, suffix: str = "_bn") -> Any:
        return self.keras.BatchNormalization(
            momentum=BN_MOMENTUM, epsilon=graph_rules.BN_EPSILON, **self.named(layer, suffix)
        )

    # [convolutional]

    def _convolutional(self, layer: cfg.Convolutional, x: Any) -> Any:
        size = layer.dilation * (layer.size - 1) + 1
        strides = (layer.stride_y, layer.stride_x)
        window = _Window.of(layer, size, strides, layer.padding * layer.dilation)
        owner = graph_rules.kernel_owner(self.network, layer)
        kernel = self.kernels.get(owner.index)
        if owner.index in self.flexible:
            if kernel is None:
                kernel = FlexibleConv2D(
                    layer.filters,
                    layer.size,
                    groups=layer.groups,
                    use_bias=not layer.batch_normalize,
                    flipped=owner.flips_kernel,
                    kernel_initializer=_drawn(layer),
                    **self.named(owner),
                )
                self.undrawn.hold(kernel)
            options: dict[str, Any] = {"padding": window.padding}
            if layer.xnor:
                options = {"padding": window.sides, "xnor": True}
            x = kernel(x, strides=strides, dilation_rate=layer.dilation, **options)
        else:
            padding = window.padding
            if not isinstance(padding, str):
                x = self.keras.ZeroPadding2D(padding, **self.spatial(layer, "_pad"))(x)
                padding = "valid"
            if kernel is None:
                kernel = self.undrawn.hold(self._kernel(layer, strides, padding))
            x = kernel(x)
        self.kernels[owner.index] = kernel
        if layer.batch_normalize:
            norm = self.norms.get(owner.index) or self._batch_normalization(owner)
            self.norms[owner.index] = norm
            x = norm(x)
        return self._activated(layer, layer.activation, x)

    def _flexible_kernels(self) -> frozenset[int]:
        """The owners of kernels that Keras' `Conv2D` cannot have.

        Those used with more than one geometry, with a stride and a dilation at once, by sign, or
        stored filters last.
        """
        geometries: dict[int, set[tuple[object, ...]]] = {}
        found = set()
        for layer in self.network.layers:
            if isinstance(layer, cfg.Convolutional) and layer.index in self.used:
                flipped = graph_rules.kernel_owner(self.network, layer).flips_kernel
                owner = graph_rules.kernel_owner(self.network, layer).index
                layer = sharp(layer)
                strides = layer.stride_y, layer.stride_x
                seen = geometries.setdefault(owner, set())
                seen.add((strides, layer.padding, layer.dilation, layer.input_shape))
                strided = layer.dilation > 1 and max(strides) > 1
                if len(seen) > 1 or strided or layer.xnor or flipped:
                    found.add(owner)
        return frozenset(found)

    def _kernel(self, layer: cfg.Convolutional, strides: tuple[int, int], padding: str) -> Any:
        options = {
            "strides": strides,
            "padding": padding,
            "dilation_rate": layer.dilation,
            "use_bias": not layer.batch_normalize,
            **self.spatial(layer),
        }
        if is_depthwise(layer):
            return self.keras.DepthwiseConv2D(
                layer.size,
                depth_multiplier=layer.filters // layer.groups,
                depthwise_initializer=_drawn(layer),
                **options,
            )
        convolution = self.keras.Conv2D if layer.groups == 1 else GroupedConv2D
        return convolution(
            layer.filters,
            layer.size,
            groups=layer.groups,
            kernel_initializer=_drawn(layer),
            **options,
        )

    # the other sections with weights

    def _connected(self, layer: cfg.Connected, x: Any) -> Any:
        height, width, _ = layer.input_shape
        if height * width > 1:
            # Darknet's order of floats is channels, rows, columns.
            x = self.keras.Permute((3, 1, 2), **self.named(layer, "_permute"))(x)
            flat = (1, 1, layer.input_shape.floats)
            x = self.keras.Reshape(flat, **self.named(layer, "_flatten"))(x)
        dense = self.keras.Dense(
            layer.output,
            use_bias=not layer.batch_normalize,
            kernel_initializer=initial.kernel(layer.input_shape.floats),
            **self.named(layer),
        )
        x = self.undrawn.hold(dense)(x)
        if layer.batch_normalize:
            x = self._batch_normalization(layer)(x)
        return self._activated(layer, layer.activation, x)

    def _local(self, layer: cfg.Local, x: Any) -> Any:
        local = LocallyConnected2D(
            layer.filters,
            layer.size,
            strides=layer.stride,
            padding=int(layer.pad),
            kernel_initializer=_drawn(layer),
            **self.named(layer),
        )
        x = self.undrawn.hold(local)(x)
        return self._activated(layer, layer.activation, x)

    def _shortcut(self, layer: cfg.Shortcut, inputs: list[Any]) -> Any:
        first = layer.input_shape
        others = (graph_rules.shape_of(self.network, index) for index in layer.inputs[1:])
        if layer.weights_type == "none" and all(shape == first for shape in others):
            x = self.keras.Add(**self.named(layer))(inputs)
        else:
            x = Shortcut(layer.weights_type, layer.weights_normalization, **self.named(layer))(
                inputs
            )
        return self._activated(layer, layer.activation, x)

    # sections without weights

    def _pool(self, layer: cfg.Pool, x: Any) -> Any:
        if layer.maxpool_depth:
            return ChannelMaxPooling(layer.out_channels, **self.named(layer))(x)
        strides = (layer.stride_y, layer.stride_x)
        padding = _Window.of(layer, layer.size, strides, layer.padding // 2).padding
        maximum = layer.type == "maxpool"
        if not isinstance(padding, str):
            return PaddedPooling2D(
                "max" if maximum else "mean", layer.size, strides, padding, **self.named(layer)
            )(x)
        pooling = self.keras.MaxPooling2D if maximum else self.keras.AveragePooling2D
        return pooling(layer.size, strides=strides, padding=padding, **self.spatial(layer))(x)

    def _route(self, layer: cfg.Route, inputs: list[Any]) -> Any:
        if layer.groups > 1:
            several = len(inputs) > 1
            inputs = [
                self._channels(layer, x, f"_group_{number}" if several else "")
                for number, x in enumerate(inputs)
            ]
        if len(inputs) == 1:
            return inputs[0]
        return self.keras.Concatenate(**self.named(layer))(inputs)

    def _channels(self, layer: cfg.Route, x: Any, suffix: str) -> Any:
        """The part `group_id` of the channels, by a stock layer that every Keras can read.

        `channels_first` makes rows and columns of what are columns and channels here.
        """
        channels = x.shape[-1]
        count = channels // layer.groups
        before = count * layer.group_id
        sides = ((0, 0), (before, channels - before - count))
        named = self.named(layer, suffix)
        return self.keras.Cropping2D(sides, data_format="channels_first", **named)(x)

    def _upsample(self, layer: cfg.Upsample, x: Any) -> Any:
        stride, scale = layer.stride, layer.scale
        if layer.reverse:
            # Darknet sums the window up (blas.c:483-498).
            scale *= stride**2
            x = self.keras.AveragePooling2D(stride, **self.spatial(layer))(x)
        else:
            x = self.keras.UpSampling2D(stride, interpolation="nearest", **self.spatial(layer))(x)
        return x if scale == 1 else self._rescaled(layer, scale, 0.0, x)

    def _rescaled(self, layer: cfg.Layer, scale: float, offset: float, x: Any) -> Any:
        return self.keras.Rescaling(scale, offset, **self.named(layer, "_scale"))(x)

    def _reorg(self, layer: cfg.Reorg, x: Any) -> Any:
        stride = layer.stride
        if stride == 1:
            return x
        if layer.type == "reorg3d":
            if not layer.reverse:
                return SpaceToDepth(stride, **self.named(layer))(x)
            # reorg_layer.c:82 gives the output's shape where reorg_old_layer.c:82 gives the
            # input's.
            view = layer.output_shape
        else:
            view = layer.input_shape
        return Reorg(stride, layer.reverse, view, layer.output_shape, **self.named(layer))(x)

    def _softmax(self, layer: cfg.Softmax, x: Any) -> Any:
        height, width, channels = layer.input_shape
        if layer.tree:
            groups = tree_of(self.network, layer.tree, layer.input_shape.floats).groups
            return TreeSoftmax(groups, layer.temperature, **self.named(layer))(x)
        if layer.temperature != 1:
            x = self._rescaled(layer, 1 / layer.temperature, 0.0, x)
        if layer.groups == 1:
            axis = -1 if height == width == 1 else (1, 2, 3)
            return self.keras.Softmax(axis, **self.named(layer))(x)
        split = (height, width, layer.groups, channels // layer.groups)
        x = self.keras.Reshape(split, **self.named(layer, "_split"))(x)
        x = self.keras.Softmax((1, 2, 4), **self.named(layer))(x)
        return self.keras.Reshape(tuple(layer.input_shape), **self.named(layer, "_join"))(x)

    def _crop(self, layer: cfg.Crop, x: Any) -> Any:
        sides = []
        for extent, kept in zip(layer.input_shape[:2], layer.output_shape[:2], strict=True):
            before = (extent - kept) // 2
            sides.append((before, extent - kept - before))
        if sides != [(0, 0), (0, 0)]:
            x = self.keras.Cropping2D(tuple(sides), **self.spatial(layer))(x)
        # crop_layer.c:76: 0..1 becomes -1..1.
        return x if layer.noadjust else self._rescaled(layer, 2.0, -1.0, x)
