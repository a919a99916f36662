"""Convolutions as TensorFlow's oneDNN kernels run them, written into the graph directly.

On a CPU TensorFlow makes one operation of a convolution, its bias and its activation, but only when
a function is called for the first time, after a quarter of a second of search in a graph of a
hundred layers. A server waits for it. Here the operation that the search ends with is written at
once, and `unoptimized` leaves the search out.

The operation also has an order of kernels that it likes. With few pictures in a batch, reading the
kernels of wide layers takes longer than multiplying with them; as HWIO they are read 64 numbers at
a time from rows of some kilobytes, which a processor's caches map onto each other. `blocks` says
how to cut such a kernel so that rows are short.

The operation is TensorFlow's own but not public, so `available` tries it before it is used, on all
but the TensorFlow the tests run on. Graphs that leave the process (a SavedModel) are written in
standard operations, `tf_layers`.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from yolotf import _core
from yolotf.darknet import cfg
from yolotf.graphs import operations as tf_layers

Tensor = Any

_Value = tf.compat.v1.AttrValue
_FLOAT32 = _Value(type=tf.float32.as_datatype_enum)

_OPERATION = "_MklNativeFusedConv2D"
_FUSED = {
    "leaky": "LeakyRelu",
    "mish": "Mish",
    "relu": "Relu",
    "relu6": "Relu6",
    "swish": "_MklSwish",
}
"""Activations that are part of the operation, and what it calls them; any other comes behind it."""

_BLOCK = 64
_WIDE = range(256, 2048 + 1)

_TESTED = "2.21."
"""The TensorFlow that the tests call `is_right` on, so that servers need not on x86-64."""


@functools.cache
def available() -> bool:
    """Whether graphs of this process can hold the operation: it is there, and right.

    False with a GPU, which TensorFlow prefers, and where its own use of oneDNN is off: by
    `TF_ENABLE_ONEDNN_OPTS=0`, or because the processor is of a kind that gains nothing.
    """
    try:
        from tensorflow.python.util import _pywrap_util_port

        if not _pywrap_util_port.IsMklEnabled() or tf.config.get_visible_devices("GPU"):
            return False
        tested = tf.__version__.startswith(_TESTED) and platform.machine() == "x86_64"
        return tested or is_right()
    except Exception:  # another TensorFlow, where any of it may be missing or mean something else
        return False


def is_right() -> bool:
    """Runs every activation behind a small convolution and compares it with `tf_layers`.

    Raises:
        Exception: of any kind, where the operation is not what it is here.
    """
    sections = "".join(
        f"[convolutional]\nfilters=3\nsize=3\npad=1\nstride={stride}\nactivation={name}\n"
        for name, stride in zip((*_FUSED, "linear"), (1, 2, 1, 1, 1, 1), strict=True)
    )
    network = cfg.parse_cfg(f"[net]\nwidth=5\nheight=4\nchannels=3\n{sections}")
    random = np.random.default_rng(1)
    picture = random.uniform(-3, 3, (2, 4, 5, 3)).astype(np.float32)
    weights = random.uniform(-1, 1, (3, 3, 3, 3)).astype(np.float32)

    def differences() -> Tensor:
        x, kernel, bias = tf.constant(picture), tf.constant(weights), tf.constant([-1.0, 0.0, 1.0])
        found = []
        for layer in network.layers:
            assert isinstance(layer, cfg.Convolutional)
            plain = tf_layers.activate(
                tf_layers.convolve(x, kernel, layer) + bias, layer.activation
            )
            found.append(tf.reduce_max(tf.abs(convolve(x, kernel, bias, layer) - plain)))
        return tf.stack(found)

    return bool(tf.function(differences, autograph=False)().numpy().max() < 1e-4)


def takes(layer: cfg.Convolutional) -> bool:
    """Whether `convolve` can do what `layer` does."""
    return not tf_layers.is_depthwise(layer)


def blocks(layer: cfg.Convolutional) -> int:
    """How many kernels of fewer filters the kernel of `layer` is best stored as; 1 for one.

    Those that are larger than what they are multiplied with. Measured with oneDNN's kernels for
    AVX-512, which take 64 filters at a time; those for AVX2 become slower by it, and kernels of one
    position gain nothing.
    """
    kernel = layer.size**2 * layer.input_shape.channels * layer.filters
    wide = layer.filters in _WIDE and layer.size > 1 and kernel > layer.input_shape.floats
    cuts = layer.filters % _BLOCK == 0 and layer.groups == 1 and takes(layer)
    return layer.filters // _BLOCK if wide and cuts and _core.has_avx512() else 1


def convolve(x: Tensor, kernel: Tensor, bias: Tensor, layer: cfg.Convolutional) -> Tensor:
    """`[convolutional]` with bias and activation; only in a graph.

    Args:
        x: [batch, rows, columns, channels].
        kernel: HWIO, or (blocks, size, size, channels, filters / blocks).
        bias: (filters,), or (blocks, filters / blocks).
        layer: geometry and activation.
    """
    attributes = _attributes(layer)

    def part(its_kernel: Tensor, its_bias: Tensor) -> Tensor:
        return _operation(_OPERATION, [x, its_kernel, its_bias], attributes)[0]

    if kernel.shape.rank == 4:
        y = part(kernel, bias)
    else:
        count = kernel.shape[0]
        unpack = {"num": _Value(i=count), "T": _FLOAT32, "axis": _Value(i=0)}
        # Parts of the same memory.
        kernels = _operation("Unpack", [kernel], unpack, count)
        biases = _operation("Unpack", [bias], unpack, count)
        y = tf.raw_ops.ConcatV2(values=list(map(part, kernels, biases)), axis=3)
    return y if layer.activation in _FUSED else tf_layers.activate(y, layer.activation)


def read(variable: Any) -> Tensor:
    """What a float32 variable holds; only in a graph."""
    value = _operation("ReadVariableOp", [variable.handle], {"dtype": _FLOAT32})[0]
    value.set_shape(variable.shape)
    return value


def _operation(
    kind: str, inputs: list[Tensor], attributes: dict[str, Any], outputs: int = 1
) -> list[Tensor]:
    """Adds an operation to the graph that is being traced, with float32 outputs.

    Neither `tf.raw_ops`, which has no private operations and takes twice as long, nor the public
    `create_op`, which is deprecated and looks at its caller at every call.
    """
    graph = tf.compat.v1.get_default_graph()
    types = [tf.float32] * outputs
    operation = graph._create_op_internal(kind, inputs, types, name="yolotf", attrs=attributes)
    return list(operation.outputs)


def _attributes(layer: cfg.Convolutional) -> dict[str, Any]:
    padding, explicit = tf_layers.convolution_padding(layer)
    fused = [b"BiasAdd"]
    if layer.activation in _FUSED:
        fused.append(_FUSED[layer.activation].encode())
    return {
        "T": _FLOAT32,
        "TArgs": _values(type=[tf.float32.as_datatype_enum]),
        "num_args": _Value(i=1),
        "num_host_args": _Value(i=0),
        "strides": _values(i=[1, layer.stride_y, layer.stride_x, 1]),
        "padding": _Value(s=padding.encode()),
        "explicit_paddings": _values(i=explicit),
        "dilations": _values(i=[1, layer.dilation, layer.dilation, 1]),
        "fused_ops": _values(s=fused),
        "leakyrelu_alpha": _Value(f=tf_layers.LEAKY),
        "_kernel": _Value(s=b"MklNameChangeOp"),  # the label its kernels are registered with
    }


def _values(**items: Any) -> Any:
    return _Value(list=_Value.ListValue(**items))


@contextmanager
def unoptimized() -> Iterator[None]:
    """Functions called for the first time inside are run as they are written.

    For graphs in which `convolve` has left the optimizer nothing to do. Later calls have to be made
    inside, too, or the function is prepared once more.
    """
    try:
        from tensorflow.python.eager import context as eager

        context, options = eager.context(), _options()
        before = context.function_call_options
    except (ImportError, AttributeError):  # not public: without it, it only takes longer
        yield
        return
    context.function_call_options = options  # of this thread
    try:
        yield
    finally:
        context.function_call_options = before


@functools.cache
def _options() -> Any:
    """This process's settings for functions, less the optimizer."""
    from tensorflow.python.eager import context as eager

    now = eager.context().function_call_options
    config = tf.compat.v1.ConfigProto.FromString(now.config_proto_serialized)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return eager.FunctionCallOptions(executor_type=now.executor_type, config_proto=config)
