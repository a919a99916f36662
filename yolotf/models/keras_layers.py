"""Keras layers for what Darknet does and no stock layer does.

They are written in TensorFlow operations and work with Keras 3 and tf_keras. Importing this
module registers them, so that `keras.models.load_model` finds them in a saved `.keras` file.
"""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from yolotf.darknet import cfg
from yolotf.darknet.graph_checks import BN_EPSILON
from yolotf.darknet.sections import antialiased
from yolotf.graphs import activations, convolution, operations
from yolotf.graphs.frame_loop import in_order
from yolotf.graphs.sections import antialiased as blurring
from yolotf.graphs.sections import convolutional, joins, pointwise, recurrent, resampling
from yolotf.models import initial
from yolotf.models.keras_module import keras

_layers: Any = keras().layers
_initializers: Any = keras().initializers
_Layer: Any = _layers.Layer
_Conv2D: Any = _layers.Conv2D
_register = keras().saving.register_keras_serializable(package="yolotf")

BN_MOMENTUM = 0.99
"""batchnorm_layer.c:310,332, on a GPU; on a CPU it is 0.9 (:196)."""

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Rows before and after, columns before and after."""


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


@_register
class GroupedConv2D(_Conv2D):
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


@_register
class FlexibleConv2D(_Layer):
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
        self.kernel_initializer = _initializers.get(kernel_initializer)

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
            "kernel_initializer": _initializers.serialize(self.kernel_initializer),
        }


@_register
class LocallyConnected2D(_Layer):
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
        self.kernel_initializer = _initializers.get(kernel_initializer)

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
        outputs = convolutional.convolve_locally(
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
            "kernel_initializer": _initializers.serialize(self.kernel_initializer),
        }


@_register
class Implicit(_Layer):
    """`[implicit]`: a stored constant, one copy a picture (representation_layer.c:58-64).

    `implicit` is (filters, atoms), as in the file. The input only tells how many pictures.
    """

    def __init__(
        self, filters: int, atoms: int, mean: float = 0.0, std: float = 0.2, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.atoms = atoms
        self.mean = mean
        self.std = std

    def build(self, input_shape: Sequence[int]) -> None:
        """Creates the constant, before training within `std` of `mean`."""
        self.implicit = self.add_weight(
            name="implicit",
            shape=(self.filters, self.atoms),
            initializer=initial.implicit(self.mean, self.std),
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """(batch, atoms, 1, filters)."""
        weights = tf.convert_to_tensor(self.implicit)
        return pointwise.implicit(tf.raw_ops, weights, inputs, self.filters, self.atoms)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "atoms": self.atoms,
            "mean": self.mean,
            "std": self.std,
        }


@_register
class Shortcut(_Layer):
    """`[shortcut]` where a plain `Add` will not do; see `joins.shortcut`.

    With `weights_type` every input has a factor, `shortcut`: one number (`per_feature`) or one
    a channel (`per_channel`), so (inputs, 1 or channels).
    """

    def __init__(
        self, weights_type: str = "none", weights_normalization: str = "none", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.weights_type = weights_type
        self.weights_normalization = weights_normalization

    def build(self, input_shape: Sequence[Sequence[int]]) -> None:
        """Creates the factors."""
        if self.weights_type != "none":
            channels = input_shape[0][-1] if self.weights_type == "per_channel" else 1
            self.shortcut = self.add_weight(
                name="shortcut", shape=(len(input_shape), channels), initializer="ones"
            )
        self.built = True

    def call(self, inputs: Sequence[Any]) -> Any:
        """Adds the others to the first of `inputs`, all NHWC."""
        factors = None
        if self.weights_type != "none":
            weights = tf.convert_to_tensor(self.shortcut)
            factors = joins.shortcut_factors(tf.raw_ops, weights, self.weights_normalization)
        shapes = [cfg.Shape(*one.shape[1:]) for one in inputs]
        columns = 0 if factors is None else factors.shape[1]
        return joins.shortcut(tf.raw_ops, inputs, shapes, factors, columns)

    def compute_output_shape(self, input_shape: Sequence[Sequence[int]]) -> tuple[int, ...]:
        """The first input's shape."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "weights_type": self.weights_type,
            "weights_normalization": self.weights_normalization,
        }


@_register
class ChannelSlice(_Layer):
    """`[route]` with `groups`: one of `groups` equal parts of the channels (route_layer.c:91)."""

    def __init__(self, groups: int, group_id: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = groups
        self.group_id = group_id

    def call(self, inputs: Any) -> Any:
        """NHWC in and out."""
        count = inputs.shape[-1] // self.groups
        return inputs[..., count * self.group_id : count * (self.group_id + 1)]

    def compute_output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """A `groups`-th of the channels."""
        return (*input_shape[:-1], input_shape[-1] // self.groups)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "groups": self.groups, "group_id": self.group_id}


@_register
class PaddedPooling2D(_Layer):
    """`[maxpool]` and `[local_avgpool]` with a padding that is neither `valid` nor `same`.

    What lies outside the picture takes no part: it is never the largest, nor counted in a
    mean (maxpool_layer.c:283-311, 346-374).
    """

    def __init__(
        self,
        mode: str,
        pool_size: int,
        strides: Sequence[int],
        padding: Sequence[Sequence[int]],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mode = mode
        self.pool_size = pool_size
        self.strides = tuple(strides)
        self.padding = tuple(tuple(side) for side in padding)

    def call(self, inputs: Any) -> Any:
        """NHWC in and out."""
        return resampling.pool_window(
            tf.raw_ops, inputs, self.mode == "max", self.pool_size, self.strides, self.padding
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "mode": self.mode,
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
        }


@_register
class Blur(_Layer):
    """What `antialiasing` puts behind a section: a fixed kernel over each channel."""

    def __init__(
        self,
        kernel: Sequence[Sequence[float]],
        padding: Sequence[Sequence[int]],
        stride_y: int,
        stride_x: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        rows, columns = ((int(before), int(after)) for before, after in padding)
        self.blur = antialiased.Blur(tuple(map(tuple, kernel)), (rows, columns), stride_y, stride_x)

    def call(self, inputs: Any) -> Any:
        """NHWC in and out."""
        return blurring.blur(tf.raw_ops, inputs, self.blur, inputs.shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), **self.blur._asdict()}


@_register
class ChannelMaxPooling(_Layer):
    """`[maxpool]` with `maxpool_depth`: the largest of every `filters`-th channel.

    Output channel `i` is the largest of the input channels `i`, `i + filters`, ...
    (maxpool_layer.c:245-270).
    """

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters

    def call(self, inputs: Any) -> Any:
        """(batch, rows, columns, channels) to (batch, rows, columns, filters)."""
        return resampling.pool_channels(tf.raw_ops, inputs, inputs.shape[-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "filters": self.filters}


@_register
class Reorg(_Layer):
    """`[reorg]`: Darknet's shuffle of rows, columns and channels (blas.c:10-37).

    It is not space-to-depth: Darknet calls it with the input's shape where it expects the
    output's (reorg_old_layer.c:81-86). `target_shape` is the output's (rows, columns,
    channels), `view` the (rows, columns, channels) the shuffle is done in.
    """

    def __init__(
        self,
        stride: int,
        reverse: bool,
        view: Sequence[int],
        target_shape: Sequence[int],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.stride = stride
        self.reverse = reverse
        self.view = tuple(view)
        self.target_shape = tuple(target_shape)

    def call(self, inputs: Any) -> Any:
        """NHWC in and out."""
        return resampling.shuffle(
            tf.raw_ops, inputs, self.stride, self.reverse, self.view, self.target_shape
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "stride": self.stride,
            "reverse": self.reverse,
            "view": self.view,
            "target_shape": self.target_shape,
        }


@_register
class TreeSoftmax(_Layer):
    """`[softmax] tree=`: a softmax over each of `groups`, runs of classes with one parent."""

    def __init__(self, groups: Sequence[int], temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = tuple(groups)
        self.temperature = temperature

    def call(self, inputs: Any) -> Any:
        """NHWC in and out."""
        return pointwise.tree_softmax(
            tf.raw_ops, inputs, inputs.shape[1:], self.groups, self.temperature
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "groups": self.groups,
            "temperature": self.temperature,
        }


@_register
class SpaceToDepth(_Layer):
    """`[reorg3d]` (reorg_layer.c:79-87)."""

    def __init__(self, block_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.block_size = block_size

    def call(self, inputs: Any) -> Any:
        """NHWC in and out."""
        return tf.nn.space_to_depth(inputs, self.block_size)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "block_size": self.block_size}


@_register
class LocalResponseNormalization(_Layer):
    """`[normalization]`: a channel divided by a power of its neighbours' squares."""

    def __init__(self, size: int, alpha: float, beta: float, kappa: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.kappa = kappa

    def call(self, inputs: Any) -> Any:
        """NHWC in and out."""
        return pointwise.normalize(
            tf.raw_ops,
            inputs,
            inputs.shape[-1],
            size=self.size,
            alpha=self.alpha,
            beta=self.beta,
            kappa=self.kappa,
        )

    def compute_output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """The input's shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "size": self.size,
            "alpha": self.alpha,
            "beta": self.beta,
            "kappa": self.kappa,
        }


def mish_of_small_numbers(x: Any) -> Any:
    """Mish, its softplus without a number larger than `x` in between."""
    return x * tf.tanh(tf.nn.relu(x) + tf.math.log1p(tf.exp(-tf.abs(x))))


def repeated(rows: int, columns: int) -> Callable[[Any], Any]:
    """What `UpSampling2D` computes of nearest neighbors, as one resize operation."""

    def resize(inputs: Any) -> Any:
        height, width = inputs.shape[1:3]
        return tf.raw_ops.ResizeNearestNeighbor(
            images=inputs, size=[height * rows, width * columns], half_pixel_centers=True
        )

    return resize


def _tanh(x: Any) -> Any:
    return 2 * tf.sigmoid(2 * x) - 1


# TensorFlow joins a convolution, the fused batch normalization of tf_keras and one of these into
# an operation that a CPU does not have: "Fusion is not implemented: [FusedBatchNorm,Mish]". It
# does not recognise them in these words.
_NOT_FUSED = {"mish": mish_of_small_numbers, "tanh": _tanh}


def activated(x: Any, activation: str) -> Any:
    """Any of Darknet's activations; channels last."""
    formula = _NOT_FUSED.get(activation)
    return formula(x) if formula else activations.activate(tf.raw_ops, x, activation)


@_register
class Activation(_Layer):
    """Darknet's activations that Keras lacks or rounds otherwise (activations.h:41-84).

    Darknet's selu and gelu have constants of five or six digits.
    """

    def __init__(self, activation: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activation

    def call(self, inputs: Any) -> Any:
        """Any shape, channels last."""
        return activated(inputs, self.activation)

    def compute_output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """The input's shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "activation": self.activation}


@_register
class History(_Layer):
    """`[history]` of one time step: the frame's channels, then zeros (conv_lstm_layer.c:290)."""

    def __init__(self, history_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.history_size = history_size

    def call(self, inputs: Any) -> Any:
        """NHWC to as many frames' channels."""
        return recurrent.history(tf.raw_ops, inputs, self.history_size)

    def compute_output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """The channels of all frames."""
        return (*input_shape[:-1], input_shape[-1] * self.history_size)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "history_size": self.history_size}


@_register
class Recurrent(_Layer):
    """`[rnn]`, `[crnn]`, `[gru]`, `[lstm]` and `[conv_lstm]`: layers around a memory.

    A batch is frames of one video in their order. What the section keeps (`states`, variables that
    no file holds) goes on from call to call until `reset_states`. In training every batch is a
    video of its own, as `time_steps` are in Darknet; `states` are neither read nor changed.

    `parts` are its layers by name, `input` and `input_bn`, in the order of a file.
    """

    def __init__(self, section: str, **kwargs: Any) -> None:
        """One section.

        Args:
            section: as in the cfg, `[crnn]` and its options.
            kwargs: Keras'.
        """
        super().__init__(**kwargs)
        self.section = section
        self.stateful = True
        self.supports_jit = False  # a batch has as many steps as it has frames

    def _described(self, input_shape: Sequence[int]) -> cfg.Recurrent:
        height, width, channels = input_shape[1:]
        net = f"[net]\nheight={height}\nwidth={width}\nchannels={channels}\n"
        (layer,) = cfg.parse_text(net + self.section, source=self.name).layers
        assert isinstance(layer, cfg.Recurrent)
        return layer

    def build(self, input_shape: Sequence[int]) -> None:
        """Creates the parts and what is kept."""
        self._layer = self._described(input_shape)
        self.parts = {}
        for part in self._layer.sublayers:
            kernel = self._kernel(f"{self.name}_{part.name}", part.layer)
            kernel.build((1, *part.layer.input_shape))
            self.parts[part.name] = kernel
            if part.layer.batch_normalize:
                norm = _layers.BatchNormalization(
                    momentum=BN_MOMENTUM,
                    epsilon=BN_EPSILON,
                    dtype=self.dtype_policy,
                    name=f"{self.name}_{part.name}_bn",
                )
                norm.build((1, *part.layer.output_shape))
                self.parts[f"{part.name}_bn"] = norm
        self.states = [
            self.add_weight(name=name, shape=(1, *shape), initializer="zeros", trainable=False)
            for name, shape in self._layer.states.items()
        ]
        self.built = True

    def _kernel(self, name: str, layer: cfg.Convolutional | cfg.Connected) -> Any:
        options = {"use_bias": not layer.batch_normalize, "dtype": self.dtype_policy, "name": name}
        if isinstance(layer, cfg.Connected):
            drawn = initial.kernel(layer.input_shape.floats)
            return _layers.Dense(layer.output, kernel_initializer=drawn, **options)
        return FlexibleConv2D(layer.filters, layer.size, groups=layer.groups, **options)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """[frames, rows, columns, channels] in and out."""
        layer = self._layer
        parts = {part.name: part.layer for part in layer.sublayers}
        names = list(layer.states)

        def part(name: str, x: Any) -> Any:
            one, kernel = parts[name], self.parts[name]
            if isinstance(one, cfg.Connected):
                # Darknet's order of floats is channels, rows, columns.
                flat = tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [1, one.input_shape.floats])
                x = kernel(flat)[:, None, None]
            else:
                side = [one.padding * one.dilation] * 2
                strides = (one.stride_y, one.stride_x)
                x = kernel(x, strides=strides, padding=(side, side), dilation_rate=one.dilation)
            if one.batch_normalize:
                x = self.parts[f"{name}_bn"](x, training=training)
            return activated(x, one.activation)

        def step(frame: Any, kept: Sequence[Any]) -> tuple[list[Any], list[Any]]:
            states = dict(zip(names, kept, strict=True))
            y, after = recurrent.step(tf.raw_ops, layer, frame, states, part)
            return [y], [after[name] for name in names]

        before = [tf.cast(tf.convert_to_tensor(one), inputs.dtype) for one in self.states]
        if training:
            before = [tf.zeros_like(one) for one in before]
        (outputs,), after = in_order(step, inputs, before, [layer.output_shape])
        if not training:
            for state, value in zip(self.states, after, strict=True):
                state.assign(tf.cast(value, state.dtype))
        return outputs

    def reset_states(self) -> None:
        """Forgets all frames: the next is the first of another video."""
        for state in self.states:
            state.assign(tf.zeros(state.shape, state.dtype))

    reset_state = reset_states  # Keras 3 calls it so

    def compute_output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """What the section puts out."""
        return (input_shape[0], *self._described(input_shape).output_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "section": self.section}


def reset_states(model: Any) -> None:
    """Forgets all frames a model has seen: the next is the first of another video."""
    for layer in model.layers:
        if isinstance(layer, Recurrent):
            layer.reset_states()


def activation_layer(activation: str, **kwargs: Any) -> Any:
    """The layer for Darknet's `activation`, a stock one where its formula is Darknet's."""
    match activation:
        case "leaky" | "revleaky":
            return _layers.LeakyReLU(0.1, **kwargs)
        case "relie":
            return _layers.LeakyReLU(0.01, **kwargs)
        case "relu6":
            return _layers.ReLU(6.0, **kwargs)
        case "logistic":
            return _layers.Activation("sigmoid", **kwargs)
        case "mish" | "tanh" if keras().__name__ == "tf_keras":
            return Activation(activation, **kwargs)
        case "mish" | "swish" | "relu" | "tanh" | "elu":
            return _layers.Activation(activation, **kwargs)
        case _:
            return Activation(activation, **kwargs)
