"""`[convolutional]` and `[local]`, and the layers that Keras lacks for them."""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from yolotf.darknet import cfg
from yolotf.darknet import graph_checks as graph_rules
from yolotf.darknet.sections.antialiased import sharp
from yolotf.graphs import convolution, operations
from yolotf.graphs.sections.convolutional import convolve_locally
from yolotf.models import initial
from yolotf.models.building import Builder, builds
from yolotf.models.keras_module import keras
from yolotf.models.registration import Layer, initializers, layers, register
from yolotf.models.sections.antialiased import blurred
from yolotf.models.windows import Window


class _Kernels:
    """The layers whose kernels and norms several sections may have in common.

    Attributes:
        flexible: the owners of kernels that Keras' `Conv2D` cannot have.
        kernels: by the section that owns them.
        norms: likewise.
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
    owner = graph_rules.kernel_owner(builder.network, layer)
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
    """The owners of kernels that Keras' `Conv2D` cannot have.

    Those used with more than one geometry, with a stride and a dilation at once, by sign, or
    stored filters last.
    """
    geometries: dict[int, set[tuple[object, ...]]] = {}
    flexible = set()
    for layer in network.layers:
        if isinstance(layer, cfg.Convolutional) and layer.index in used:
            owner = graph_rules.kernel_owner(network, layer)
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
    """The initializer of a section's kernel."""
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


def _explicit(padding: Sequence[Sequence[int]]) -> list[list[int]]:
    return [[0, 0], *(list(side) for side in padding), [0, 0]]


def convolve(
    inputs: Any,
    kernel: Any,
    strides: Sequence[int],
    padding: str | list[list[int]],
    dilations: Sequence[int],
    bias: Any = None,
) -> Any:
    """A convolution with as many groups as the kernel's third axis leaves.

    TensorFlow's CPU kernels run groups and dilations, but only oneDNN's have their gradients; here
    the gradient goes group by group, dilations by space-to-batch as in `tf.nn.convolution`.

    Args:
        inputs: NHWC.
        kernel: HWIO, with `I` the channels of one group.
        strides: rows, columns.
        padding: `SAME`, `VALID`, or `tf.nn.conv2d`'s explicit list.
        dilations: rows, columns.
        bias: (filters,), if there is one.
    """
    inputs, kernel = tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel)
    groups = inputs.shape[-1] // kernel.shape[2]
    geometry = {"strides": list(strides), "padding": padding, "dilations": list(dilations)}
    if groups > 1 or max(dilations) > 1:
        outputs = _convolve_with_gradient(inputs, kernel, groups, geometry)
    else:
        outputs = tf.nn.conv2d(inputs, kernel, **geometry)
    if bias is not None:
        bias = tf.convert_to_tensor(bias)
        return operations.add_bias(tf.raw_ops, outputs, bias, groups=groups)
    if groups > 1 and keras().__name__ == "tf_keras":
        # Its fused batch normalization would be joined with a convolution by the same operation
        # without groups (see `operations.add_bias`). Not over this one, which copies nothing.
        return tf.ensure_shape(outputs, outputs.shape)
    return outputs


def _convolve_with_gradient(
    inputs: Any, kernel: Any, groups: int, geometry: Mapping[str, Any]
) -> Any:
    """`tf.nn.conv2d`, differentiated as `_convolve_one_group` of every group."""

    @tf.custom_gradient
    def convolve(x: Any, weights: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
        def gradient(upstream: Any) -> tuple[Any, Any]:
            with tf.GradientTape() as tape:
                tape.watch([x, weights])
                parts = zip(
                    tf.split(x, groups, axis=-1), tf.split(weights, groups, axis=-1), strict=True
                )
                outputs = tf.concat([_convolve_one_group(*part, **geometry) for part in parts], -1)
            of_x, of_weights = tape.gradient(outputs, [x, weights], output_gradients=upstream)
            return of_x, of_weights

        return tf.nn.conv2d(x, weights, **geometry), gradient

    return convolve(inputs, kernel)


def _convolve_one_group(
    inputs: Any,
    kernel: Any,
    strides: list[int],
    padding: str | list[list[int]],
    dilations: list[int],
) -> Any:
    """`tf.nn.conv2d` in operations whose gradients all CPU kernels have."""
    if max(dilations) == 1:
        return tf.nn.conv2d(inputs, kernel, strides, padding)
    if padding == "SAME":  # `tf.nn.convolution` has no strides with dilations
        reach = [(size - 1) * rate + 1 for size, rate in zip(kernel.shape, dilations, strict=False)]
        extents = tf.shape(inputs)[1:3]
        missing = tf.maximum((-(-extents // strides) - 1) * strides + reach - extents, 0)
        sides = tf.stack([missing // 2, missing - missing // 2], axis=1)
        inputs = tf.pad(inputs, tf.pad(sides, [[1, 1], [0, 0]]))
    elif padding != "VALID":
        inputs = tf.pad(inputs, padding)
    outputs = tf.nn.convolution(inputs, kernel, padding="VALID", dilations=dilations)
    return outputs[:, :: strides[0], :: strides[1]]


@tf.custom_gradient
def _signs(x: Any) -> tuple[Any, Callable[[Any], Any]]:
    """1 above 0, else -1; trained as the identity between -1 and 1 (convolutional_kernels.cu:808).

    There the gradient is `hardtan_gradient`, activations.h:97.
    """
    inside = tf.cast(tf.abs(x) < 1, x.dtype)
    return convolution.signs(tf.raw_ops, x), lambda upstream: upstream * inside


def _binarized(kernel: Any) -> Any:
    """`convolution.binarize`; trained as the identity, as Darknet updates the kernel itself."""

    @tf.custom_gradient
    def binarize(weights: Any) -> tuple[Any, Callable[[Any], Any]]:
        return convolution.binarize(tf.raw_ops, weights), lambda upstream: upstream

    return binarize(tf.convert_to_tensor(kernel))


@register
class GroupedConv2D(layers.Conv2D):
    """`Conv2D` with groups, without the XLA compilation that stock Keras falls back to."""

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

    For what `Conv2D` does not do: one kernel for several `[convolutional]` sections of unequal
    geometry (`share_index`, convolutional_layer.c:545), a stride together with a dilation,
    the signs of input and kernel (`xnor=1`), and kernels that are stored filters last
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
        """One kernel.

        Args:
            filters: it has.
            kernel_size: rows and columns.
            groups: of channels, as in `Conv2D`.
            use_bias: whether a bias is added.
            flipped: whether the kernel is stored filters last.
            kernel_initializer: as in `Conv2D`; Darknet's (`initial.kernel`) if not given.
            kwargs: Keras'.
        """
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = (kernel_size, kernel_size)
        self.groups = groups
        self.use_bias = use_bias
        self.flipped = flipped
        self.kernel_initializer = initializers.get(kernel_initializer)

    def build(self, input_shape: Sequence[int]) -> None:
        """Creates the kernel, HWIO or, where it is flipped, IHWO as in the file, and the bias."""
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
        """Convolves NHWC `inputs`; `padding` is `valid`, `same` or rows and columns.

        With `xnor` it convolves the inputs' signs, -1 around them, with the kernel's times each
        filter's mean size.
        """
        kernel = tf.convert_to_tensor(self.kernel)
        if self.flipped:
            kernel = tf.transpose(kernel, [1, 2, 0, 3])
        if xnor:
            inputs, kernel = _signs(tf.convert_to_tensor(inputs)), _binarized(kernel)
            if not isinstance(padding, str):
                inputs, padding = tf.pad(inputs, _explicit(padding), constant_values=-1), "valid"
        return convolve(
            inputs,
            kernel,
            strides,
            padding.upper() if isinstance(padding, str) else _explicit(padding),
            (dilation_rate, dilation_rate),
            self.bias,
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
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
    """`[local]`: a convolution with a kernel and a bias for every position (local_layer.c:91-119).

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
        """As many kernels as there are positions.

        Args:
            filters: of each kernel.
            kernel_size: rows and columns.
            strides: rows and columns from one position to the next.
            padding: zeros around the input.
            kernel_initializer: as in `Conv2D`; Darknet's (`initial.kernel`) if not given.
            kwargs: Keras'.
        """
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = (kernel_size, kernel_size)
        self.strides = (strides, strides)
        self.padding = padding
        self.kernel_initializer = initializers.get(kernel_initializer)

    def _positions(self, input_shape: Sequence[int]) -> tuple[int, int]:
        rows, columns = (
            (extent + 2 * self.padding - self.kernel_size[0]) // self.strides[0] + 1
            for extent in input_shape[1:3]
        )
        return rows, columns

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
        """NHWC to (batch, rows, columns, filters)."""
        outputs = convolve_locally(
            tf.raw_ops,
            inputs,
            tf.convert_to_tensor(self.kernel),
            self.bias.shape,
            channels=inputs.shape[-1],
            size=self.kernel_size[0],
            stride=self.strides[0],
            padding=[[self.padding] * 2] * 2,
        )
        return outputs + self.bias

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size[0],
            "strides": self.strides[0],
            "padding": self.padding,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
        }
