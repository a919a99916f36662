"""A network with folded batch normalization, in TensorFlow variables.

`FoldedNetwork` holds and loads the variables, and builds the graph from images to raw heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from yolotf.argument_numbers import flags_checked
from yolotf.darknet import cfg
from yolotf.darknet.graph_checks import check_stateless, output_layers
from yolotf.errors import TensorFlowVersionError, YolotfError
from yolotf.graphs import tf_errors, tf_operations
from yolotf.graphs.frame_loop import run_in_order
from yolotf.graphs.memory_budget import RunMemory
from yolotf.graphs.network import NetworkGraph
from yolotf.interfaces import Tensor
from yolotf.weights import layout, op_library
from yolotf.weights import write as writing
from yolotf.weights.file import WeightsFile, WeightsSource


class Variable:
    """A float32 resource variable: a handle with allocated, uninitialized memory.

    Creating a `tf.Variable` takes ten times as long, which adds up for a network's 220 variables
    when a server starts. Functions capture the handle; the memory is freed with the last of them.

    Attributes:
        handle: scalar resource tensor.
        shape: the shape, as of a `tf.Variable`.
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
        """The device that holds the memory."""
        return str(self.handle.device)

    def read_value(self) -> Tensor:
        """Returns the value, which later loads do not change."""
        return _read(self)

    def numpy(self) -> npt.NDArray[np.float32]:
        """Returns the value as an array."""
        array: npt.NDArray[np.float32] = self.read_value().numpy()
        return array

    def assign(self, value: Any) -> None:
        """Replaces the value."""
        value = tf.ensure_shape(tf.convert_to_tensor(value, tf.float32), self.shape)
        tf.raw_ops.AssignVariableOp(resource=self.handle, value=value)

    def is_initialized(self) -> Tensor:
        """True: the memory is allocated even before a load."""
        return tf.raw_ops.VarIsInitializedOp(resource=self.handle)


def make_variables(shapes: Sequence[Sequence[int]]) -> list[Variable]:
    """Allocates variables with uninitialized values."""
    if not shapes:
        return []
    handles = _make_handles(shapes)
    return [Variable(shape, handle) for shape, handle in zip(shapes, handles, strict=True)]


def _make_handles(shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    if not tf.config.get_visible_devices("GPU"):
        try:
            return list(op_library.op_library().yolotf_variables(N=len(shapes), shapes=shapes))
        except TensorFlowVersionError:
            pass  # the load reports it
    handles = []
    for shape in shapes:
        # A shape attribute would make each shape another kind of operation to prepare.
        handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=None, shared_name=_ANONYMOUS)
        empty = tf.raw_ops.Empty(shape=shape, dtype=tf.float32, init=False)
        tf.raw_ops.AssignVariableOp(resource=handle, value=empty)
        handles.append(handle)
    return handles


_ANONYMOUS = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"
"""Not shared, and freed with its last handle (ResourceHandle::ANONYMOUS_NAME)."""


def _read(variable: Any) -> Tensor:
    """Returns the value of a `Variable` or `tf.Variable`."""
    value = tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=tf.float32)
    value.set_shape(variable.shape)
    return value


def check_eager() -> None:
    """Checks that no `tf.function` is being traced.

    Raises:
        YolotfError: a function is being traced.
    """
    if not tf.executing_eagerly():
        raise YolotfError(
            "weights are loaded inside a tf.function: that would happen once, while it is traced, "
            "and never when it is called; load them before"
        )


class FoldedNetwork:
    """A network whose batch normalization is folded into kernels and biases.

    The variables are allocated, not initialized: call `load` first.

    Attributes:
        graph: the network's graph; see `NetworkGraph`.
        stored: the variables, by the keys of `NetworkGraph.shapes`.
        states: the recurrent state, by the keys of `NetworkGraph.states`; if there is any, a batch
            holds consecutive frames of one video.
    """

    def __init__(self, network: cfg.Network, *, use_onednn: bool | None = None) -> None:
        """Allocates the variables.

        Args:
            network: the network.
            use_onednn: False: standard operations only; None: whatever this process supports.

        Raises:
            UnsupportedSectionError: a section is not supported, or has no weights in the file
                (`dontload`).
            OutOfMemoryError: there is not enough memory for the variables, or for one image.
        """
        kernels = tf_operations.kernels()
        if use_onednn is None:
            use_onednn = kernels.fused
        self.graph = NetworkGraph(network, use_onednn=use_onednn)
        self._fuses_mish = kernels.fuses_mish
        self._optimized = kernels.optimized and not self.graph.skip_grappler
        self._memory = RunMemory.of(network, self.graph.shapes.values())
        self._on_gpu = bool(tf.config.get_visible_devices("GPU"))
        if not self._on_gpu:
            self._memory.check()
        with tf.init_scope(), tf_errors.translate_errors(network):
            variables = make_variables(list(self.graph.shapes.values()))
            self.states = {
                key: tf.Variable(tf.zeros(shape), trainable=False)
                for key, shape in self.graph.states.items()
            }
        self._plans: dict[bool, layout.Plan] = {}
        self.stored: dict[str, Variable] = dict(zip(self.graph.shapes, variables, strict=True))

    @property
    def network(self) -> cfg.Network:
        """The network."""
        return self.graph.network

    @property
    def onednn(self) -> bool:
        """Whether convolutions use oneDNN's operation, see `yolotf.graphs.onednn`."""
        return self.graph.onednn

    @property
    def skip_grappler(self) -> bool:
        """Whether TensorFlow's graph optimizer (Grappler) cannot improve the graph."""
        return not self._optimized

    @flags_checked("verify", "contents_disposable")
    def load(
        self,
        weights: WeightsSource,
        *,
        verify: bool = True,
        contents_disposable: bool = False,
    ) -> None:
        """Loads a `.weights` file like `load_darknet_weights`; resets the recurrent state.

        Args:
            weights: the file.
            verify: see `load_darknet_weights`.
            contents_disposable: the current values are not needed, as before the first load. They
                are then overwritten while the file is still being read.

        Raises:
            WeightsMismatch: the file does not match the network; no variable was changed, unless
                `contents_disposable`.
            OSError: the file cannot be read.
            YolotfError: called inside a `tf.function`.
        """
        check_eager()
        opening = WeightsFile.open(weights, network=self.network)
        with opening as file, tf_errors.translate_errors(self.network):
            parsed = file.parsed(layout.floats(self.network))
            plan = self._plan(transposed=parsed.header.transposed)
            writing.write(
                parsed,
                plan,
                cast=False,
                verify=verify,
                contents_disposable=contents_disposable,
            )
        self.reset()

    def _plan(self, *, transposed: bool) -> layout.Plan:
        """Returns which floats of a file go into which variable; bound once for each value."""
        if transposed not in self._plans:
            self._plans[transposed] = self.graph.plan(transposed=transposed).bound(self.stored)
        return self._plans[transposed]

    def reset(self) -> None:
        """Resets the recurrent state."""
        for state in self.states.values():
            state.assign(tf.zeros(state.shape))

    @contextmanager
    def running(self, batch: int, share: float = 1.0) -> Iterator[None]:
        """Context of an eager run; does nothing while a graph is traced.

        Turns Grappler off where it cannot improve the graph, and translates errors.

        Args:
            batch: number of images.
            share: pixels of an image relative to the network's input.

        Raises:
            OutOfMemoryError: the run needs more memory than the process may use.
            TensorFlowError: TensorFlow fails to run the graph.
        """
        if not tf.executing_eagerly():
            yield
            return
        at_once = min(batch, 1) if self.states else batch
        reserved = nullcontext() if self._on_gpu else self._memory.reserve(at_once, share)
        unoptimized = tf_operations.unoptimized() if self.skip_grappler else nullcontext()
        with tf_errors.translate_errors(self.network, batch), reserved, unoptimized:
            yield

    def hwio_weights(self) -> dict[str, Tensor]:
        """Returns the values of `stored`, with kernels stored in blocks joined to HWIO."""
        return {key: self._unblocked(key, _read(variable)) for key, variable in self.stored.items()}

    def _unblocked(self, key: str, value: Tensor) -> Tensor:
        if self.graph.blocks_of(key) == 1:
            return value
        return tf.concat(tf.unstack(value), -1)

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def __call__(self, images: Tensor, variables: Mapping[str, Any] | None = None) -> list[Tensor]:
        """Returns the raw heads in cfg order, or the last section's output if there is no head.

        Args:
            images: images, [batch, rows, columns, channels] float32, 0..1.
            variables: used instead of `stored`, in the shapes of `hwio_weights`; the graph
                then has standard operations only.
        """
        images = tf.convert_to_tensor(images)
        if variables is not None:
            check_stateless(
                self.network,
                "a graph with variables= cannot keep it; call the network without",
            )
        if not self.states:
            return self._run(images, {}, variables)[0]
        heads, after = self.step(images, self.states)
        for key, state in self.states.items():
            state.assign(after[key])
        return heads

    def step(
        self, frames: Tensor, states: Mapping[str, Any]
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Like `__call__`, with explicit recurrent state in and out.

        Args:
            frames: as `images` of `__call__`.
            states: the recurrent state, by the keys of `NetworkGraph.states`.
        """
        keys = list(self.graph.states)

        def run_frame(frame: Tensor, values: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
            heads, after = self._run(frame, dict(zip(keys, values, strict=True)), None)
            return heads, [after[key] for key in keys]

        before = [tf.convert_to_tensor(states[key]) for key in keys]
        shapes = [self.network.shape(index) for index in output_layers(self.network)]
        heads, after = run_in_order(run_frame, frames, before, shapes)
        return heads, dict(zip(keys, after, strict=True))

    def _run(
        self, images: Tensor, states: Mapping[str, Tensor], variables: Mapping[str, Any] | None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        fused = self.onednn and variables is None and not tf.executing_eagerly()
        source = self.stored if variables is None else variables

        def weights(key: str) -> Tensor:
            if fused:
                return tf_operations.read(source[key])
            value = _read(source[key])
            return self._unblocked(key, value) if variables is None else value

        return self.graph.heads(
            tf_operations.Operations() if fused else tf.raw_ops,
            images,
            weights,
            fused=fused,
            # Other variables are those of an export, which may run anywhere.
            fuses_mish=self._fuses_mish or variables is not None,
            resizable=images.shape[1:3].as_list() != list(self.network.input_shape[:2]),
            states=states,
        )
