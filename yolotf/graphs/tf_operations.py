"""Writes operations in a process that has imported TensorFlow: `tf.raw_ops` and a few more.

The additions are oneDNN's convolution, which `tf.raw_ops` lacks, and operations that a network has
by the hundred: tracing delays a server's start, and the wrappers take half of its time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from yolotf.graphs import onednn
from yolotf.interfaces import Tensor as Tensor

_Value = tf.compat.v1.AttrValue
_FLOAT32 = _Value(type=tf.float32.as_datatype_enum)


def is_compiled_by_xla() -> bool:
    """Returns whether XLA compiles the function that is being traced."""
    # TensorFlow has no public name for it; Keras asks in the same way.
    return bool(control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


@contextmanager
def outside_of_xla() -> Iterator[None]:
    """Keeps operations out of the clusters that XLA compiles (`--tf_xla_auto_jit`)."""
    if tf.executing_eagerly():
        yield
        return
    with tf.xla.experimental.jit_scope(compile_ops=False):
        yield


class Operations:
    """`tf.raw_ops` with oneDNN's convolution; only in a graph, with float32."""

    def __getattr__(self, name: str) -> Any:
        if name == onednn.OPERATION:
            return _convolve
        return getattr(tf.raw_ops, name)

    def Unpack(self, *, value: Tensor, num: int, axis: int) -> list[Tensor]:
        """As in `tf.raw_ops`."""
        attributes = {"num": _Value(i=num), "T": _FLOAT32, "axis": _Value(i=axis)}
        return _operation("Unpack", [value], attributes, num)


def _convolve(
    *, input: Tensor, filter: Tensor, args: list[Tensor], host_args: list[Tensor], **values: Any
) -> Tensor:
    attributes = {
        "T": _FLOAT32,
        "TArgs": _values(type=[tf.float32.as_datatype_enum] * len(args)),
        "num_host_args": _Value(i=len(host_args)),
        "num_args": _Value(i=values["num_args"]),
        "strides": _values(i=values["strides"]),
        "padding": _Value(s=values["padding"].encode()),
        "explicit_paddings": _values(i=values["explicit_paddings"]),
        "dilations": _values(i=values["dilations"]),
        "fused_ops": _values(s=[name.encode() for name in values["fused_ops"]]),
        "leakyrelu_alpha": _Value(f=values["leakyrelu_alpha"]),
        "_kernel": _Value(s=values["_kernel"].encode()),
    }
    return _operation(onednn.OPERATION, [input, filter, *args, *host_args], attributes)[0]


def read(variable: Any) -> Tensor:
    """Returns the value of a float32 variable; only in a graph."""
    value = _operation("ReadVariableOp", [variable.handle], {"dtype": _FLOAT32})[0]
    value.set_shape(variable.shape)
    return value


def _operation(
    kind: str, inputs: list[Tensor], attributes: dict[str, Any], outputs: int = 1
) -> list[Tensor]:
    """Adds an operation with float32 outputs to the graph being traced.

    Not by `tf.raw_ops`, which lacks private operations and takes twice as long, nor by the public
    `create_op`, which is deprecated and inspects its caller on each call.
    """
    graph = tf.compat.v1.get_default_graph()
    types = [tf.float32] * outputs
    operation = graph._create_op_internal(kind, inputs, types, name="yolotf", attrs=attributes)
    return list(operation.outputs)


def _values(**items: Any) -> Any:
    return _Value(list=_Value.ListValue(**items))


@functools.cache
def kernels() -> onednn.Kernels:
    """Returns what runs the convolutions of this process's functions; see `onednn.kernels`.

    A GPU, if present, takes precedence.
    """
    try:
        from tensorflow.python.util import _pywrap_util_port  # not public

        enabled = _pywrap_util_port.IsMklEnabled() and not tf.config.get_visible_devices("GPU")
    except Exception:  # another TensorFlow version, in which any of this may be missing or differ
        enabled = False
    return onednn.kernels(enabled, _is_right)


def _is_right() -> bool:
    try:
        return onednn.is_tested(tf.__version__) or matches_reference()
    except Exception:  # as above
        return False


def matches_reference() -> bool:
    """Returns the result of `onednn.check` in a function.

    Raises:
        Exception: of any type, if the operation is missing or incompatible.
    """

    def run(written: onednn.Written, arrays: list[Any]) -> list[Any]:
        function = tf.function(lambda *tensors: written(Operations(), *tensors), autograph=False)
        return [answer.numpy() for answer in function(*map(tf.constant, arrays))]

    return onednn.check(run)


@contextmanager
def unoptimized() -> Iterator[None]:
    """Runs functions first called in the block without Grappler.

    For graphs that `onednn.convolve` has already fused. Later calls must be made in such a block
    too, or the function is prepared again.
    """
    try:
        from tensorflow.python.eager import context as eager  # not public

        context, options = eager.context(), _options()
        before = context.function_call_options
    except (ImportError, AttributeError):  # without it, runs just start more slowly
        yield
        return
    context.function_call_options = options  # per thread
    try:
        yield
    finally:
        context.function_call_options = before


@functools.cache
def _options() -> Any:
    """Returns this process's function options, with the optimizer off."""
    from tensorflow.python.eager import context as eager  # not public

    now = eager.context().function_call_options
    config = tf.compat.v1.ConfigProto.FromString(now.config_proto_serialized)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return eager.FunctionCallOptions(executor_type=now.executor_type, config_proto=config)
