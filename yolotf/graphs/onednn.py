"""Convolutions as TensorFlow's fused oneDNN operation, written into the graph directly.

On CPUs, Grappler fuses a convolution with its bias and activation, but only at a graph's first run,
and for a graph of a hundred layers that takes 0.25 s, which delays a server's start. Writing the
fused operation directly makes Grappler unnecessary.

The operation also prefers a memory layout of its kernels. For small batches, reading the kernels of
wide layers takes longer than multiplying with them; in HWIO order they are read 64 numbers at a
time from rows several kilobytes apart, which collide in the processor's caches. `blocks` returns
how to split such a kernel into blocks with short rows.

This pays off with AVX-512 only. Without it, oneDNN multiplies matrices and applies the activation
to one number at a time: a convolution with Mish takes three times as long as one without. `kernels`
therefore decides for each process.

The operation is part of TensorFlow but not public, so it is verified before use (`check`), except
on the TensorFlow version that the tests cover. Graphs that leave the process (a SavedModel) use
standard operations. For processes that have imported TensorFlow, see `tf_operations`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from yolotf import _core
from yolotf.darknet import cfg
from yolotf.darknet.layer import of_class
from yolotf.graphs import activations, convolution
from yolotf.graphs.operations import Operations, Tensor

OPERATION = "_MklNativeFusedConv2D"
_FUSED = {
    "leaky": "LeakyRelu",
    "mish": "Mish",
    "relu": "Relu",
    "relu6": "Relu6",
    "swish": "_MklSwish",
}
"""Activations that can be fused, and oneDNN's names for them; others are separate operations."""

_BLOCK = 64
_WIDE = range(256, 2048 + 1)

_TESTED = "2.21."
"""The TensorFlow version covered by the tests, which servers therefore need not check."""


SWITCH = "TF_ENABLE_ONEDNN_OPTS"
"""Environment variable that turns TensorFlow's use of oneDNN on or off."""

_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_WITHOUT_AVX512 = frozenset({"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2"})
"""Values of oneDNN's limit on instruction sets that exclude AVX-512; others have no effect."""


class Kernels(NamedTuple):
    """What runs the convolutions of this process's own graphs, and why."""

    name: str
    fused: bool
    """Write them as `OPERATION`; False: as standard operations."""
    optimized: bool
    """TensorFlow's optimizer may fuse standard operations."""
    reason: str

    @property
    def fuses_mish(self) -> bool:
        """Whether convolutions and Mish may become one operation: oneDNN's, never Eigen's."""
        return self.fused or (self.optimized and self.name != EIGEN)


EIGEN = "Eigen"
"""The name of TensorFlow's own kernels."""


def kernels(enabled: bool, is_right: Callable[[], bool]) -> Kernels:
    """Returns the fastest kernels for this process.

    Args:
        enabled: TensorFlow uses oneDNN in this process.
        is_right: returns whether `OPERATION` computes what `convolve` expects.
    """
    machine = platform.machine()
    if not enabled:
        reason = (
            f"{SWITCH}={os.environ[SWITCH]}"
            if switched_off()
            else "TensorFlow leaves oneDNN off on this processor"
        )
        return Kernels(EIGEN, fused=False, optimized=True, reason=reason)
    if not _is_x86():
        reason = f"oneDNN's fused operation has not been measured on {machine}"
        return Kernels("TensorFlow's choice", fused=False, optimized=True, reason=reason)
    if missing := _why_no_avx512():
        # The optimizer would fuse them.
        reason = f"{missing}, and without AVX-512 oneDNN's fused operation is slow"
        return Kernels("oneDNN, not fused", fused=False, optimized=False, reason=reason)
    if not is_right():
        reason = "oneDNN's fused operation is missing in this TensorFlow, or another"
        return Kernels("TensorFlow's choice", fused=False, optimized=True, reason=reason)
    reason = "TensorFlow uses oneDNN, and oneDNN AVX-512"
    return Kernels("oneDNN, fused", fused=True, optimized=True, reason=reason)


def likely_fused() -> bool:
    """Returns the likely result of `kernels` before TensorFlow's libraries are loaded."""
    return not switched_off() and has_avx512()


def switched_off() -> bool:
    """Returns whether the environment disables TensorFlow's use of oneDNN."""
    return os.environ.get(SWITCH, "").lower() in ("0", "false")


def has_avx512() -> bool:
    """Returns whether the processor has AVX-512 and the environment lets oneDNN use it."""
    return _is_x86() and not _why_no_avx512()


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def _why_no_avx512() -> str:
    if not _core.has_avx512():
        return "the processor has no AVX-512"
    name = next((name for name in _LIMITS if os.environ.get(name)), "")
    limit = os.environ.get(name, "")
    return f"{name}={limit}" if limit.upper() in _WITHOUT_AVX512 else ""


def is_tested(version: str) -> bool:
    """Returns whether the tests cover the operation of this TensorFlow version."""
    return version.startswith(_TESTED)


def supports(layer: cfg.Convolutional) -> bool:
    """Returns whether `convolve` supports `layer`."""
    return not convolution.is_depthwise(layer)


def blocks(layer: cfg.Convolutional) -> int:
    """Returns the best number of blocks for the kernel of `layer`, 1 if it should stay whole.

    Kernels larger than their input are split. Measured with oneDNN's AVX-512 kernels, which compute
    64 filters at a time; those for AVX2 become slower, and 1x1 kernels gain nothing.
    """
    kernel = layer.size**2 * layer.input_shape.channels * layer.filters
    wide = layer.filters in _WIDE and layer.size > 1 and kernel > layer.input_shape.floats
    cuts = layer.filters % _BLOCK == 0 and layer.groups == 1 and not layer.flips_kernel
    return layer.filters // _BLOCK if wide and cuts and has_avx512() else 1


def convolve_in_parts(
    ops: Operations,
    x: Tensor,
    kernel: Tensor,
    bias: Tensor,
    layer: cfg.Convolutional,
    count: int = 1,
) -> list[Tensor]:
    """`convolve` with its channels in `count` parts, or whole if the activation needs them all."""
    padding, explicit = convolution.convolution_padding(layer)
    fused = ["BiasAdd"]
    if layer.activation in _FUSED:
        fused.append(_FUSED[layer.activation])
    write = getattr(ops, OPERATION)

    def part(its_kernel: Tensor, its_bias: Tensor) -> Tensor:
        return write(
            input=x,
            filter=its_kernel,
            args=[its_bias],
            host_args=[],
            num_args=1,
            strides=[1, layer.stride_y, layer.stride_x, 1],
            padding=padding,
            explicit_paddings=explicit,
            dilations=[1, layer.dilation, layer.dilation, 1],
            fused_ops=fused,
            leakyrelu_alpha=activations.LEAKY,
            _kernel="MklNameChangeOp",  # the label its kernels are registered with
        )

    if count == 1:
        parts = [part(kernel, bias)]
    else:
        # Unpack returns views, not copies.
        kernels = ops.Unpack(value=kernel, num=count, axis=0)
        biases = ops.Unpack(value=bias, num=count, axis=0)
        parts = list(map(part, kernels, biases))
    if layer.activation in _FUSED:
        return parts
    if layer.activation in activations.ACROSS_CHANNELS and count > 1:
        parts = [ops.ConcatV2(values=parts, axis=3)]
    return [activations.activate(ops, y, layer.activation) for y in parts]


def convolve(
    ops: Operations,
    x: Tensor,
    kernel: Tensor,
    bias: Tensor,
    layer: cfg.Convolutional,
    count: int = 1,
) -> Tensor:
    """Writes `[convolutional]` with bias and activation; only in a graph.

    Args:
        ops: where to write the operations; has to know `OPERATION`.
        x: [batch, rows, columns, channels].
        kernel: HWIO, or (blocks, size, size, channels, filters / blocks).
        bias: (filters,), or (blocks, filters / blocks).
        layer: geometry and activation.
        count: number of blocks.
    """
    parts = convolve_in_parts(ops, x, kernel, bias, layer, count)
    return parts[0] if len(parts) == 1 else ops.ConcatV2(values=parts, axis=3)


Written = Callable[[Operations, Tensor, Tensor, Tensor], list[Tensor]]


def check(run: Callable[[Written, list[Any]], list[Any]]) -> bool:
    """Returns whether small convolutions with every activation match standard operations.

    Args:
        run: runs the operations that its first argument writes on the arrays of its second, and
            returns the results as arrays.

    Raises:
        Exception: of any type, if the operation is missing or incompatible.
    """
    sections = "".join(
        f"[convolutional]\nfilters=3\nsize=3\npad=1\nstride={stride}\nactivation={name}\n"
        for name, stride in zip((*_FUSED, "linear"), (1, 2, 1, 1, 1, 1), strict=True)
    )
    network = cfg.parse_cfg(f"[net]\nwidth=5\nheight=4\nchannels=3\n{sections}")
    random = np.random.default_rng(1)
    picture = random.uniform(-3, 3, (2, 4, 5, 3)).astype(np.float32)
    kernel = random.uniform(-1, 1, (3, 3, 3, 3)).astype(np.float32)

    def differences(ops: Operations, x: Tensor, k: Tensor, bias: Tensor) -> list[Tensor]:
        values = []
        for layer in of_class(network.layers, cfg.Convolutional):
            plain = ops.BiasAdd(value=convolution.convolve(ops, x, k, layer), bias=bias)
            plain = activations.activate(ops, plain, layer.activation)
            values.append(ops.Sub(x=convolve(ops, x, k, bias, layer), y=plain))
        return values

    answers = run(differences, [picture, kernel, np.array([-1, 0, 1], np.float32)])
    return all(float(np.abs(answer).max()) < 1e-4 for answer in answers)
