"""`[convolutional]` and `[local]`, with the layers for them that Keras lacks."""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from yolotf.darknet import cfg, graph_checks
from yolotf.darknet.layer import positions
from yolotf.darknet.sections.antialiased import sharp
from yolotf.graphs import convolution
from yolotf.graphs.sections.convolutional import convolve_locally
from yolotf.models import initial
from yolotf.models.builder import Builder, builds
from yolotf.models.convolution import binarized, convolve, explicit_padding, signs
from yolotf.models.registration import Layer, initializers, layers, register
from yolotf.models.sections.antialiased import blurred
from yolotf.models.windows import Window


class _Kernels:
    """Layers with kernels and batch normalizations that several sections may share.

    Attributes:
        flexible: indices of the sections whose kernels Keras' `Conv2D` does not support.
        kernels: the layers with kernels, by index of the section that owns the kernel.
        norms: the batch normalizations, by index of the same section.
    """

    def __init__(self, builder: Builder) -> None:
        self.flexible = _flexible_kernels(builder.network, builder.used)
        self.kernels: dict[int, Any] = {}
        self.norms: dict[int, Any] = {}


@builds(cfg.Convolutional)
@blurred
def _convolutional(builder: Builder, layer: cfg.Convolutional, inputs: Sequence[Any]) -> Any:
    (x,) = inputs
    shared = builder.shared(_Kernels)
    size = layer.dilation * (layer.size - 1) + 1
    strides = (layer.stride_y, layer.stride_x)
    window = Window.of(layer, size, strides, layer.padding * layer.dilation)
    owner = graph_checks.kernel_owner(builder.network, layer)
    kernel = shared.kernels.get(owner.index)
    if owner.index in shared.flexible:
        if kernel is None:
            kernel = FlexibleConv2D(
                layer.filters,
                layer.size,
                groups=layer.groups,
                use_bias=not layer.batch_normalize,
                flipped=owner.flips_kernel,
                kernel_initializer=_drawn(layer),
                **builder.named(owner),
            )
            builder.undrawn.hold(kernel)
        options: dict[str, Any] = {"padding": window.padding}
        if layer.xnor:
            options = {"padding": window.sides, "xnor": True}
        x = kernel(x, strides=strides, dilation_rate=layer.dilation, **options)
    else:
        padding = window.padding
        if not isinstance(padding, str):
            x = layers.ZeroPadding2D(padding, **builder.spatial(layer, "_pad"))(x)
            padding = "valid"
        if kernel is None:
            kernel = builder.undrawn.hold(_stock_kernel(builder, layer, strides, padding))
        x = kernel(x)
    shared.kernels[owner.index] = kernel
    if layer.batch_normalize:
        norm = shared.norms.get(owner.index) or builder.batch_normalization(owner)
        shared.norms[owner.index] = norm
        x = norm(x)
    return builder.activated(layer, x, behind_kernel=True)


def _flexible_kernels(network: cfg.Network, used: frozenset[int]) -> frozenset[int]:
    """Returns indices of the sections whose kernels Keras' `Conv2D` does not support.

    These kernels are used with several geometries, with both a stride and a dilation, or
    binarized (`xnor=1`), or they are stored filters last (`flipped=1`).
    """
    geometries: dict[int, set[tuple[object, ...]]] = {}
    flexible = set()
    for layer in network.layers:
        if isinstance(layer, cfg.Convolutional) and layer.index in used:
            owner = graph_checks.kernel_owner(network, layer)
            layer = sharp(layer)
            strides = layer.stride_y, layer.stride_x
            seen = geometries.setdefault(owner.index, set())
            seen.add((strides, layer.padding, layer.dilation, layer.input_shape))
            strided = layer.dilation > 1 and max(strides) > 1
            if len(seen) > 1 or strided or layer.xnor or owner.flips_kernel:
                flexible.add(owner.index)
    return frozenset(flexible)


def _stock_kernel(
    builder: Builder, layer: cfg.Convolutional, strides: tuple[int, int], padding: str
) -> Any:
    options = {
        "strides": strides,
        "padding": padding,
        "dilation_rate": layer.dilation,
        "use_bias": not layer.batch_normalize,
        **builder.spatial(layer),
    }
    if convolution.is_depthwise(layer):
        return layers.DepthwiseConv2D(
            layer.size,
            depth_multiplier=layer.filters // layer.groups,
            depthwise_initializer=_drawn(layer),
            **options,
        )
    kind = layers.Conv2D if layer.groups == 1 else GroupedConv2D
    return kind(
        layer.filters,
        layer.size,
        groups=layer.groups,
        kernel_initializer=_drawn(layer),
        **options,
    )


def _drawn(layer: cfg.Convolutional) -> Any:
    """Returns the initializer of a section's kernel."""
    return initial.kernel(layer.size**2 * layer.input_shape.channels // layer.groups)


@builds(cfg.Local)
def _local(builder: Builder, layer: cfg.Local, inputs: Sequence[Any]) -> Any:
    local = LocallyConnected2D(
        layer.filters,
        layer.size,
        strides=layer.stride,
        padding=int(layer.pad),
        kernel_initializer=initial.kernel(layer.size**2 * layer.input_shape.channels),
        **builder.named(layer),
    )
    x = builder.undrawn.hold(local)(*inputs)
    return builder.activated(layer, x)


@register
class GroupedConv2D(layers.Conv2D):
    """A `Conv2D` with groups, without the XLA compilation that stock Keras uses for them."""

    def call(self, inputs: Any) -> Any:
        """Convolves NHWC `inputs`."""
        outputs = convolve(
            inputs,
            self.kernel,
            self.strides,
            self.padding.upper(),
            self.dilation_rate,
            self.bias if self.use_bias else None,
        )
        return outputs if self.activation is None else self.activation(outputs)


@register
class FlexibleConv2D(Layer):
    """A convolution whose stride, padding and dilation are arguments of the call.

    It supports what `Conv2D` does not: a kernel for several `[convolutional]` sections of
    different geometry (`share_index`, convolutional_layer.c:545), a stride together with a
    dilation, binarized inputs and kernels (`xnor=1`), and kernels stored filters last
    (`flipped=1`).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        groups: int = 1,
        use_bias: bool = True,
        flipped: bool = False,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Sets the options of the kernel.

        Args:
            filters: number of filters.
            kernel_size: rows and columns of the kernel.
            groups: groups of channels, as in `Conv2D`.
            use_bias: whether a bias is added.
            flipped: whether the kernel is stored filters last.
            kernel_initializer: as in `Conv2D`; by default Darknet's (`initial.kernel`).
            kwargs: arguments of `keras.layers.Layer`.
        """
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = (kernel_size, kernel_size)
        self.groups = groups
        self.use_bias = use_bias
        self.flipped = flipped
        self.kernel_initializer = initializers.get(kernel_initializer)

    def build(self, input_shape: Sequence[int]) -> None:
        """Creates the kernel, HWIO or, if flipped, IHWO as in the file, and the bias."""
        channels = input_shape[-1] // self.groups
        drawn = initial.kernel(math.prod(self.kernel_size) * channels)
        shape = (*self.kernel_size, channels, self.filters)
        if self.flipped:
            shape = (channels, *self.kernel_size, self.filters)
        self.kernel = self.add_weight(
            name="kernel", shape=shape, initializer=self.kernel_initializer or drawn
        )
        self.bias = (
            self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
            if self.use_bias
            else None
        )
        self.built = True

    def call(
        self,
        inputs: Any,
        strides: Sequence[int] = (1, 1),
        padding: str | Sequence[Sequence[int]] = "valid",
        dilation_rate: int = 1,
        xnor: bool = False,
    ) -> Any:
        """Convolves NHWC `inputs`; `padding` is `valid`, `same` or that of rows and columns.

        With `xnor` it convolves the signs of the inputs, padded with -1, with the signs of the
        kernel scaled by the mean absolute value of each filter.
        """
        kernel = tf.convert_to_tensor(self.kernel)
        if self.flipped:
            kernel = tf.transpose(kernel, [1, 2, 0, 3])
        if xnor:
            inputs, kernel = signs(tf.convert_to_tensor(inputs)), binarized(kernel)
            if not isinstance(padding, str):
                inputs, padding = (
                    tf.pad(inputs, explicit_padding(padding), constant_values=-1),
                    "valid",
                )
        return convolve(
            inputs,
            kernel,
            strides,
            padding.upper() if isinstance(padding, str) else explicit_padding(padding),
            (dilation_rate, dilation_rate),
            self.bias,
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size[0],
            "groups": self.groups,
            "use_bias": self.use_bias,
            "flipped": self.flipped,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
        }


@register
class LocallyConnected2D(Layer):
    """`[local]`: a convolution with a kernel and bias for each position (local_layer.c:91-119).

    `kernel` is (positions, size, size, channels, filters), positions row by row; `bias` is
    (rows, columns, filters).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        padding: int = 0,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Sets the options of the kernels.

        Args:
            filters: number of filters of each kernel.
            kernel_size: rows and columns of each kernel.
            strides: stride along rows and columns.
            padding: rows and columns of zeros on each side of the input.
            kernel_initializer: as in `Conv2D`; by default Darknet's (`initial.kernel`).
            kwargs: arguments of `keras.layers.Layer`.
        """
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = (kernel_size, kernel_size)
        self.strides = (strides, strides)
        self.padding = padding
        self.kernel_initializer = initializers.get(kernel_initializer)

    def _positions(self, input_shape: Sequence[int]) -> tuple[int, int]:
        rows, columns = (
            positions(extent + 2 * self.padding, self.kernel_size[0], self.strides[0])
            for extent in input_shape[1:3]
        )
        return rows, columns

    def _sides(self, input_shape: Sequence[int]) -> list[list[int]]:
        """Padding before and after; the only window may overhang the input."""
        reach = [
            (count - 1) * self.strides[0] + self.kernel_size[0]
            for count in self._positions(input_shape)
        ]
        return [
            [self.padding, max(self.padding, end - extent - self.padding)]
            for end, extent in zip(reach, input_shape[1:3], strict=True)
        ]

    def build(self, input_shape: Sequence[int]) -> None:
        """Creates the kernels and biases."""
        rows, columns = self._positions(input_shape)
        window = (*self.kernel_size, input_shape[-1])
        self.kernel = self.add_weight(
            name="kernel",
            shape=(rows * columns, *window, self.filters),
            initializer=self.kernel_initializer or initial.kernel(math.prod(window)),
        )
        self.bias = self.add_weight(
            name="bias", shape=(rows, columns, self.filters), initializer="zeros"
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Convolves NHWC `inputs` to (batch, rows, columns, filters)."""
        outputs = convolve_locally(
            tf.raw_ops,
            inputs,
            tf.convert_to_tensor(self.kernel),
            self.bias.shape,
            channels=inputs.shape[-1],
            size=self.kernel_size[0],
            stride=self.strides[0],
            padding=self._sides(inputs.shape),
        )
        return outputs + self.bias

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size[0],
            "strides": self.strides[0],
            "padding": self.padding,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
        }
