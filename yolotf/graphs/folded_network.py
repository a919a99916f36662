"""The network with batch normalization folded into its kernels, in TensorFlow's variables.

`FoldedNetwork` holds the variables, loads them and is the graph from a picture to raw heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from yolotf.darknet import cfg
from yolotf.darknet.graph_checks import check_forgetful, output_layers
from yolotf.errors import TensorFlowVersionError, YolotfError
from yolotf.graphs import tf_errors, tf_operations
from yolotf.graphs.frame_loop import in_order
from yolotf.graphs.memory_budget import RunMemory
from yolotf.graphs.network import NetworkGraph
from yolotf.weights import layout
from yolotf.weights import op_library as _native
from yolotf.weights import write as writing
from yolotf.weights.file import WeightsFile, WeightsSource
from yolotf.weights.once import once_each

Tensor = Any


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


def check_eager() -> None:
    """Raises inside of a `tf.function`, which a load is no part of.

    Raises:
        YolotfError: a function is being traced.
    """
    if not tf.executing_eagerly():
        raise YolotfError(
            "weights are loaded inside a tf.function: that would happen once, while it is traced, "
            "and never when it is called; load them before"
        )


class FoldedNetwork:
    """A network whose batch normalizations are part of its kernels and biases.

    The variables are allocated, not initialised: `load` has to come first.

    Attributes:
        graph: what it computes; see `NetworkGraph`.
        stored: the variables, by the keys of `NetworkGraph.shapes`.
        states: what is kept from one frame to the next, by the keys of `NetworkGraph.states`; with
            any, a batch is frames of one video in their order.
    """

    def __init__(self, network: cfg.Network, *, use_onednn: bool | None = None) -> None:
        """Allocates the variables.

        Args:
            network: the network.
            use_onednn: False for standard operations only; None for what this process can do.

        Raises:
            UnsupportedSectionError: a section that cannot be built, or that the file holds
                nothing for (`dontload`).
            OutOfMemoryError: there is no memory for the variables, or cannot be for one picture.
        """
        kernels = tf_operations.kernels()
        if use_onednn is None:
            use_onednn = kernels.fused
        self.graph = NetworkGraph(network, use_onednn=use_onednn)
        self._optimized = kernels.optimized and not self.graph.needs_no_optimizer
        self._memory = RunMemory.of(network, self.graph.shapes.values())
        self._on_gpu = bool(tf.config.get_visible_devices("GPU"))
        if not self._on_gpu:
            self._memory.check()
        with tf.init_scope(), tf_errors.explained(network):
            variables = make_variables(list(self.graph.shapes.values()))
            self.states = {
                key: tf.Variable(tf.zeros(shape), trainable=False)
                for key, shape in self.graph.states.items()
            }
        self.stored: dict[str, Variable] = dict(zip(self.graph.shapes, variables, strict=True))

    @property
    def network(self) -> cfg.Network:
        """What it was built from."""
        return self.graph.network

    @property
    def onednn(self) -> bool:
        """Whether convolutions are oneDNN's operation, see `yolotf.graphs.onednn`."""
        return self.graph.onednn

    @property
    def needs_no_optimizer(self) -> bool:
        """Whether TensorFlow's optimizer has nothing to gain in the graph."""
        return not self._optimized

    def load(
        self,
        weights: WeightsSource,
        *,
        verify: bool = True,
        contents_disposable: bool = False,
    ) -> None:
        """Loads a `.weights` file; see `load_darknet_weights` for the checks. Forgets all frames.

        Args:
            weights: the file.
            verify: see `load_darknet_weights`.
            contents_disposable: what the variables hold is of no use, as before the first load.
                They are then written while the file is still being read.

        Raises:
            WeightsMismatch: file and network do not belong together; nothing was changed, unless
                `contents_disposable`.
            OSError: the file cannot be read.
            YolotfError: inside of a `tf.function`.
        """
        check_eager()
        opened = WeightsFile.open(weights, network=self.network)
        with opened as file, tf_errors.explained(self.network):
            header = file.header(layout.floats(self.network))
            plan = self._plan(transposed=header.transposed)
            writing.write(
                file,
                header,
                plan,
                cast=False,
                verify=verify,
                contents_disposable=contents_disposable,
            )
        self.reset()

    @once_each
    def _plan(self, *, transposed: bool) -> layout.Plan:
        """Which floats of a file go into which variable."""
        return self.graph.plan(transposed=transposed).bound(self.stored)

    def reset(self) -> None:
        """Forgets all frames."""
        for state in self.states.values():
            state.assign(tf.zeros(state.shape))

    @contextmanager
    def running(self, batch: int, share: float = 1.0) -> Iterator[None]:
        """For what runs now, and is not a part of a graph that is being traced.

        It is run as it is written where the optimizer has nothing to gain.

        Args:
            batch: pictures of the run.
            share: of the pixels of the network's input.

        Raises:
            OutOfMemoryError: there is no memory for the run.
            TensorFlowError: TensorFlow refuses to run it.
        """
        if not tf.executing_eagerly():
            yield
            return
        at_once = min(batch, 1) if self.states else batch
        held = nullcontext() if self._on_gpu else self._memory.held(at_once, share)
        as_written = tf_operations.unoptimized() if self.needs_no_optimizer else nullcontext()
        with tf_errors.explained(self.network, batch), held, as_written:
            yield

    def unblocked_weights(self) -> dict[str, Tensor]:
        """What `stored` holds, wide convolutions in one piece."""
        return {key: self._unblocked(key, _read(variable)) for key, variable in self.stored.items()}

    def _unblocked(self, key: str, value: Tensor) -> Tensor:
        if self.graph.blocks_of(key) == 1:
            return value
        return tf.concat(tf.unstack(value), -1)

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def __call__(
        self, pictures: Tensor, variables: Mapping[str, Any] | None = None
    ) -> list[Tensor]:
        """Raw heads in cfg order, or what the last section puts out if there is no head.

        Args:
            pictures: [batch, rows, columns, channels] float32, 0..1.
            variables: read in place of `stored`, in the shapes of `unblocked_weights`; the graph
                then holds standard operations only.
        """
        pictures = tf.convert_to_tensor(pictures)
        if variables is not None:
            check_forgetful(self.network, "a separate graph has no video to keep it for")
        if not self.states:
            return self._run(pictures, {}, variables)[0]
        heads, after = self.step(pictures, self.states)
        for key, state in self.states.items():
            state.assign(after[key])
        return heads

    def step(
        self, frames: Tensor, states: Mapping[str, Any]
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`__call__` of a network with a memory that is given and answered.

        Args:
            frames: see there.
            states: what has been kept, by the keys of `NetworkGraph.states`.
        """
        keys = list(self.graph.states)

        def one(frame: Tensor, kept: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
            heads, after = self._run(frame, dict(zip(keys, kept, strict=True)), None)
            return heads, [after[key] for key in keys]

        before = [tf.convert_to_tensor(states[key]) for key in keys]
        shapes = [self.network.shape(index) for index in output_layers(self.network)]
        heads, kept = in_order(one, frames, before, shapes)
        return heads, dict(zip(keys, kept, strict=True))

    def _run(
        self, pictures: Tensor, states: Mapping[str, Tensor], variables: Mapping[str, Any] | None
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
            pictures,
            weights,
            fused=fused,
            resizable=pictures.shape[1:3].as_list() != list(self.network.input_shape[:2]),
            states=states,
        )
