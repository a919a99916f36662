"""Darknet's layers as functions of TensorFlow operations, channels last. No Keras.

Each function is what one section does at inference (AlexeyAB/darknet src/). Rows and columns
may be unknown while tracing, except where a function says so.

What a network has a hundred of is written in `tf.raw_ops`: a server waits for the trace when it
starts, and the wrappers take as long as the operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from yolotf.darknet import cfg

Tensor = Any

_NORMALIZE_EPSILON = 0.0001  # activations.c:199, blas.c:85


def convolve(x: Tensor, kernel: Tensor, layer: cfg.Convolutional) -> Tensor:
    """`[convolutional]` without bias and activation (convolutional_layer.c:1141).

    Args:
        x: [batch, rows, columns, channels].
        kernel: HWIO, `I` the channels of one group; for `is_depthwise` layers
            (size, size, channels, multiplier).
        layer: geometry.
    """
    padding, explicit = convolution_padding(layer)
    strides = [1, layer.stride_y, layer.stride_x, 1]
    if not is_depthwise(layer):
        return tf.raw_ops.Conv2D(
            input=x,
            filter=kernel,
            strides=strides,
            padding=padding,
            explicit_paddings=explicit,
            dilations=[1, layer.dilation, layer.dilation, 1],
        )
    if explicit:
        # TensorFlow 2.21 aborts the process over DepthwiseConv2dNative with explicit padding:
        # its shape function fails a check when the graph is optimized (tensor_format.h:428).
        x, padding = tf.pad(x, list(zip(explicit[::2], explicit[1::2], strict=True))), "VALID"
    return tf.nn.depthwise_conv2d(x, kernel, strides, padding, dilations=[layer.dilation] * 2)


def convolution_padding(layer: cfg.Convolutional) -> tuple[str, list[int]]:
    """TensorFlow's `padding` and `explicit_paddings` (of batch, rows, columns, channels)."""
    sides = layer.padding * layer.dilation
    below, right = layer.overhang
    if below or right:
        return "EXPLICIT", [0, 0, sides, sides + below, sides, sides + right, 0, 0]
    if not sides:
        return "VALID", []
    if layer.stride_y == layer.stride_x == 1 and 2 * layer.padding == layer.size - 1:
        return "SAME", []  # both sides alike, as size is odd
    return "EXPLICIT", [0, 0, sides, sides, sides, sides, 0, 0]


def is_depthwise(layer: cfg.Convolutional) -> bool:
    """Whether TensorFlow's depthwise kernels can do what `layer` does.

    They have one stride for rows and columns, and no dilation with it.
    """
    return (
        layer.groups == layer.input_shape.channels > 1
        and layer.stride_y == layer.stride_x
        and 1 in (layer.stride_y, layer.dilation)
    )


def connect(x: Tensor, kernel: Tensor) -> Tensor:
    """`[connected]` without bias; Darknet's order of inputs is channels, rows, columns."""
    flat = tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [-1, kernel.shape[0]])
    return tf.matmul(flat, kernel)[:, None, None, :]


def convolve_locally(x: Tensor, kernel: Tensor, layer: cfg.Local) -> Tensor:
    """`[local]` without bias: a kernel for every position (local_layer.c:95).

    Args:
        x: [batch, rows, columns, channels], rows and columns known.
        kernel: (positions, size, size, channels, filters).
        layer: geometry.
    """
    rows, columns, filters = layer.output_shape
    side = int(layer.pad)
    below, right = layer.overhang
    patches = tf.image.extract_patches(
        tf.pad(x, [[0, 0], [side, side + below], [side, side + right], [0, 0]]),
        sizes=[1, layer.size, layer.size, 1],
        strides=[1, layer.stride, layer.stride, 1],
        rates=[1, 1, 1, 1],
        padding="VALID",
    )
    depth = layer.size**2 * layer.input_shape.channels
    patches = tf.reshape(patches, [-1, rows * columns, depth])
    weights = tf.reshape(kernel, [rows * columns, depth, filters])
    return tf.reshape(tf.einsum("bpi,pif->bpf", patches, weights), [-1, rows, columns, filters])


def pool(x: Tensor, layer: cfg.Pool) -> Tensor:
    """`[maxpool]` and `[local_avgpool]` (maxpool_layer.c:286 and 355).

    The smaller half of the padding comes first; what lies outside takes no part.
    """
    if layer.maxpool_depth:
        return _pool_channels(x, layer.out_channels)
    strides = [layer.stride_y, layer.stride_x]
    before = layer.padding // 2
    after = layer.padding - before
    below, right = layer.overhang
    padding: Any = [[0, 0], [before, after + below], [before, after + right], [0, 0]]
    if layer.padding >= layer.size or below or right:
        # TensorFlow's pooling has no padding as wide as its window.
        if layer.type == "maxpool":
            x, padding = tf.pad(x, padding, constant_values=x.dtype.min), "VALID"
    elif not layer.padding:
        padding = "VALID"
    elif layer.padding == layer.size - 1 and (
        strides == [1, 1] or strides == [2, 2] == [layer.size] * 2
    ):
        padding = "SAME"
    if layer.type == "maxpool":
        return tf.nn.max_pool2d(x, layer.size, strides, padding)

    def mean(values: Tensor) -> Tensor:
        sides = [[0, 0]] * 4 if isinstance(padding, str) else padding
        mode = padding if isinstance(padding, str) else "VALID"
        return tf.nn.avg_pool2d(tf.pad(values, sides), layer.size, strides, mode)

    if isinstance(padding, str):
        return mean(x)  # `same` does not count what is outside either
    return mean(x) / mean(tf.ones_like(x[:1, ..., :1]))


def _pool_channels(x: Tensor, filters: int) -> Tensor:
    """`maxpool_depth`: the largest of channels i, i + filters, ... (maxpool_layer.c:242)."""
    channels = x.shape[-1]
    missing = -channels % filters
    padded = tf.pad(x, [[0, 0]] * 3 + [[0, missing]], constant_values=x.dtype.min)
    shape = tf.concat([tf.shape(x)[:3], [(channels + missing) // filters, filters]], 0)
    return tf.reduce_max(tf.reshape(padded, shape), 3)


def average(x: Tensor) -> Tensor:
    """`[avgpool]`: [batch, 1, 1, channels]."""
    return tf.reduce_mean(x, [1, 2], keepdims=True)


def route(inputs: Sequence[Tensor], layer: cfg.Route) -> Tensor:
    """`[route]`: joins channels, of each input the part `group_id` (route_layer.c:92)."""
    if layer.groups > 1:
        inputs = [_group(x, layer.groups, layer.group_id) for x in inputs]
    return inputs[0] if len(inputs) == 1 else tf.concat(inputs, -1)


def _group(x: Tensor, groups: int, group_id: int) -> Tensor:
    return tf.split(x, groups, -1)[group_id]


def shortcut(
    inputs: Sequence[Tensor], shapes: Sequence[cfg.Shape], factors: Tensor | None
) -> Tensor:
    """`[shortcut]` without activation (blas.c:78-129).

    Of other inputs only the channels both have are added, and of larger ones only every n-th
    row and column, as in the Darknet that had no weights (shortcut_cpu, blas.c:190).

    Args:
        inputs: the first gives the shape.
        shapes: theirs, by the cfg.
        factors: one row an input, one column or one a channel; see `shortcut_factors`.
    """
    first, target = inputs[0], shapes[0]
    outputs = first if factors is None else first * factors[0]
    for number, (other, shape) in enumerate(zip(inputs[1:], shapes[1:], strict=True), 1):
        if shape[:2] != target[:2]:
            steps = shape.height // target.height, shape.width // target.width
            rows, columns = tf.shape(first)[1], tf.shape(first)[2]
            other = other[:, :: steps[0], :: steps[1]][:, :rows, :columns]
        common = min(shape.channels, target.channels)
        if shape.channels > common:
            other = other[..., :common]
        if factors is not None:
            factor = factors[number]
            other = other * (factor[:common] if factor.shape[0] > 1 else factor)
        if target.channels > common:
            other = tf.pad(other, [[0, 0]] * 3 + [[0, target.channels - common]])
        outputs += other
    return outputs


def shortcut_factors(weights: Tensor, normalization: str) -> Tensor:
    """The factors that stored `weights` (one row an input) stand for (blas.c:85-107)."""
    if normalization == "relu":
        factors = tf.nn.relu(weights)
    elif normalization == "softmax":
        factors = tf.exp(weights - tf.reduce_max(weights, 0, keepdims=True))
    else:
        return weights
    return factors / (tf.reduce_sum(factors, 0, keepdims=True) + _NORMALIZE_EPSILON)


def upsample(x: Tensor, layer: cfg.Upsample) -> Tensor:
    """`[upsample]`: nearest neighbour; a negative stride sums down (blas.c:483)."""
    stride = layer.stride
    if layer.reverse:
        return tf.nn.avg_pool2d(x, stride, stride, "VALID") * (layer.scale * stride**2)
    if stride > 1:
        known = None not in x.shape[1:3]
        extents = [stride * extent for extent in x.shape[1:3]] if known else None
        size = tf.shape(x)[1:3] * stride if extents is None else tf.constant(extents)
        x = tf.raw_ops.ResizeNearestNeighbor(images=x, size=size, half_pixel_centers=True)
    return x if layer.scale == 1 else x * layer.scale


def reorg(x: Tensor, layer: cfg.Reorg) -> Tensor:
    """`[reorg]`, Darknet's own shuffle (blas.c:9-37), and `[reorg3d]`.

    `[reorg]` is not space-to-depth: Darknet calls it with the input's shape where it expects
    the output's (reorg_old_layer.c:81); `[reorg3d]` with reverse does the opposite
    (reorg_layer.c:82). Rows and columns have to be known.
    """
    stride = layer.stride
    if layer.type == "reorg3d" and not layer.reverse:
        return tf.nn.space_to_depth(x, stride)
    height, width, channels = layer.output_shape if layer.type == "reorg3d" else layer.input_shape
    depth = channels // stride**2
    flat = tf.transpose(x, [0, 3, 1, 2])
    if layer.reverse:
        parts = tf.reshape(flat, [-1, stride, stride, depth, height, width])
        shuffled = tf.transpose(parts, [0, 3, 4, 1, 5, 2])
    else:
        parts = tf.reshape(flat, [-1, depth, height, stride, width, stride])
        shuffled = tf.transpose(parts, [0, 3, 5, 1, 2, 4])
    rows, columns, filters = layer.output_shape
    return tf.transpose(tf.reshape(shuffled, [-1, filters, rows, columns]), [0, 2, 3, 1])


def softmax(x: Tensor, layer: cfg.Softmax) -> Tensor:
    """`[softmax]` over all numbers of a picture, or of a group of channels; sizes known."""
    height, width, channels = layer.input_shape
    if layer.temperature != 1:
        x = x / layer.temperature
    split = [-1, height * width, layer.groups, channels // layer.groups]
    parts = tf.transpose(tf.reshape(x, split), [0, 2, 1, 3])
    flat = tf.reshape(parts, [-1, layer.groups, layer.input_shape.floats // layer.groups])
    parts = tf.reshape(tf.nn.softmax(flat), [-1, layer.groups, height * width, split[3]])
    return tf.reshape(tf.transpose(parts, [0, 2, 1, 3]), [-1, height, width, channels])


def crop(x: Tensor, layer: cfg.Crop) -> Tensor:
    """`[crop]`: the middle part; 0..1 becomes -1..1 unless `noadjust` (crop_layer.c:76)."""
    top = (layer.input_shape.height - layer.output_shape.height) // 2
    left = (layer.input_shape.width - layer.output_shape.width) // 2
    height, width, _ = layer.output_shape
    x = x[:, top : top + height, left : left + width]
    return x if layer.noadjust else 2 * x - 1


def normalize(x: Tensor, layer: cfg.Normalization) -> Tensor:
    """`[normalization]`: divides by a power of the neighbouring channels' squares.

    Darknet moves its window over the channels by adding one square and taking one away, and
    starts with a window that is too small (normalization_layer.c:71-84). What it sums is
    linear in the squares, so it is one matrix.
    """
    channels = layer.input_shape.channels
    column = [1.0 if channel < layer.size // 2 else 0.0 for channel in range(channels)]
    columns = [column]
    for channel in range(1, channels):
        column = list(column)
        leaving = channel - (layer.size - 1) // 2 - 1
        entering = channel + layer.size // 2
        if leaving >= 0:
            column[leaving] -= 1.0
        if entering < channels:
            column[entering] += 1.0
        columns.append(column)
    window = tf.transpose(tf.constant(columns, x.dtype))
    norms = layer.kappa + layer.alpha * tf.tensordot(tf.square(x), window, 1)
    return x * tf.pow(norms, -layer.beta)


def add_bias(x: Tensor, bias: Tensor, activation: str) -> Tensor:
    """Bias and activation behind a convolution or matrix product, which TensorFlow fuses with it.

    Fusing needs these operations in this order.
    """
    x = tf.raw_ops.BiasAdd(value=x, bias=bias)
    if activation == "leaky":
        return tf.raw_ops.LeakyRelu(features=x, alpha=LEAKY)
    return activate(x, activation)


def activate(x: Tensor, activation: str) -> Tensor:
    """Any of `cfg.ACTIVATIONS`; channels last (activations.h:41-84, activations.c:160-260).

    `relu6` is Darknet's GPU code, its CPU code has none and answers 0.
    """
    return _FORMULAS[activation](x)


LEAKY = 0.1


def _leaky(x: Tensor) -> Tensor:
    # Not tf.nn.leaky_relu: TensorFlow 2.21 fuses convolution, bias, sum and LeakyRelu into one
    # operation that forgets the slope and takes 0.2.
    return tf.maximum(x, LEAKY * x)


def _mish(x: Tensor) -> Tensor:
    # In this form TensorFlow fuses it with the convolution: oneDNN has a mish of its own.
    return tf.raw_ops.Mul(x=x, y=tf.raw_ops.Tanh(x=tf.raw_ops.Softplus(features=x)))


def _gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + tf.tanh(0.797885 * x + 0.035677 * x * x * x))


def _hard_mish(x: Tensor) -> Tensor:
    return tf.where(x > 0, x, tf.where(x > -2, x * x / 2 + x, tf.zeros_like(x)))


def _lhtan(x: Tensor) -> Tensor:
    return tf.where(x < 0, 0.001 * x, tf.where(x > 1, 0.001 * (x - 1) + 1, x))


def _plse(x: Tensor) -> Tensor:
    middle = tf.where(x > 4, 0.01 * (x - 4) + 1, 0.125 * x + 0.5)
    return tf.where(x < -4, 0.01 * (x + 4), middle)


def _selu(x: Tensor) -> Tensor:
    return 1.0507 * tf.where(x >= 0, x, 1.6732 * tf.math.expm1(tf.minimum(x, 0)))


def _stair(x: Tensor) -> Tensor:
    whole, steps = tf.floor(x), tf.floor(x / 2)
    return tf.where(tf.equal(tf.math.floormod(whole, 2), 0), steps, x - whole + steps)


def _normalize_channels(x: Tensor) -> Tensor:
    positive = tf.nn.relu(x)
    return positive / (tf.reduce_sum(positive, -1, keepdims=True) + _NORMALIZE_EPSILON)


def _normalize_channels_softmax(x: Tensor) -> Tensor:
    powers = tf.exp(x)
    return powers / (tf.reduce_sum(powers, -1, keepdims=True) + _NORMALIZE_EPSILON)


_FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": tf.nn.elu,
    "gelu": _gelu,
    "hard_mish": _hard_mish,
    "hardtan": lambda x: tf.clip_by_value(x, -1.0, 1.0),
    "leaky": _leaky,
    "lhtan": _lhtan,
    "linear": lambda x: x,
    "loggy": lambda x: 2 * tf.sigmoid(x) - 1,
    "logistic": tf.sigmoid,
    "mish": _mish,
    "normalize_channels": _normalize_channels,
    "normalize_channels_softmax": _normalize_channels_softmax,
    "normalize_channels_softmax_maxval": lambda x: _normalize_channels_softmax(
        x - tf.reduce_max(x, -1, keepdims=True)
    ),
    "plse": _plse,
    "ramp": lambda x: tf.nn.relu(x) + 0.1 * x,
    "relie": lambda x: tf.maximum(x, 0.01 * x),
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "revleaky": _leaky,
    "selu": _selu,
    "stair": _stair,
    "swish": lambda x: x * tf.sigmoid(x),
    "tanh": tf.tanh,
}
