"""Network and file -> detections: the serving path, plain TensorFlow operations, no Keras.

`FoldedNetwork` is the network with batch normalization folded into its kernels,
`InferenceFunction` (from `build_function`) adds fitting of pictures, decoding and suppression in
one graph, `Detector` reads pictures, swaps weights under load and exports.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from yolotf import cfg, decode, graph_rules, layout, networks, onednn, planning, tf_layers, writing
from yolotf.detections import Detections, Picture, open_picture
from yolotf.errors import YolotfError

Tensor = Any
_Path = str | os.PathLike[str]
_Pictures = list[Picture] | tuple[Picture, ...]


class Variable:
    """A float32 resource variable: the handle and memory that is allocated, not initialised.

    A `tf.Variable` has the same and takes seven times as long to make, which 220 of them turn
    into a good part of a server's start. Functions capture the handle; the memory is freed with
    the last of them.

    Attributes:
        handle: scalar resource tensor.
        shape: as of a `tf.Variable`.
        dtype: float32.
    """

    __slots__ = ("dtype", "handle", "shape")

    def __init__(self, shape: Sequence[int]) -> None:
        """Allocates; the numbers are whatever the memory holds."""
        self.shape = tf.TensorShape(shape)
        self.dtype = tf.float32
        # Without the shape, which would be one more kind of operation for TensorFlow to prepare.
        self.handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=None, shared_name=_ANONYMOUS)
        empty = tf.raw_ops.Empty(shape=shape, dtype=tf.float32, init=False)
        tf.raw_ops.AssignVariableOp(resource=self.handle, value=empty)

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


_ANONYMOUS = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"
"""Not shared, and freed with its last handle (ResourceHandle::ANONYMOUS_NAME)."""


def _read(variable: Any) -> Tensor:
    """The value of a `Variable` or `tf.Variable`."""
    value = tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=tf.float32)
    value.set_shape(variable.shape)
    return value


class FoldedNetwork:
    """A network whose batch normalizations are part of its kernels and biases.

    The variables are allocated, not initialised: `load` has to come first.

    Attributes:
        network: what it was built from.
        onednn: whether convolutions are oneDNN's operation, see `yolotf.onednn`.
        ready: whether TensorFlow's optimizer has nothing to do in the graph.
        stored: the variables by section and role, `17/kernel`. A convolution has `kernel` (HWIO,
            or (size, size, channels, multiplier) where it is depthwise) and `bias`, with
            or without batch norm; `[batchnorm]` has `scale` and `bias`. With `onednn`, wide
            convolutions have both in blocks, see `onednn.convolve`.
    """

    def __init__(self, network: cfg.Network, *, use_onednn: bool | None = None) -> None:
        """Allocates the variables.

        Args:
            network: the network.
            use_onednn: False for standard operations only; None for what this process can do.

        Raises:
            UnsupportedSectionError: a section that cannot be built, or that the file holds
                nothing for (`dontload`).
        """
        self.network = network
        self.onednn = onednn.available() if use_onednn is None else use_onednn
        self._used = sorted(graph_rules.used_layers(network))
        self._blocks: dict[int, int] = {}
        self.stored: dict[str, Variable] = {}
        with tf.init_scope():
            for index in self._used:
                layer = network.layers[index]
                graph_rules.check_layer(network, layer)
                if self.onednn and isinstance(layer, cfg.Convolutional):
                    self._blocks[index] = onednn.blocks(layer)
                for role, shape in _folded_shapes(network, layer).items():
                    self.stored[_key(index, role)] = Variable(self._in_blocks(index, shape))
        convolutions = [network.layers[index] for index in self._used]
        self.ready = self.onednn and all(
            onednn.takes(layer) for layer in convolutions if isinstance(layer, cfg.Convolutional)
        )

    def _in_blocks(self, index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        blocks = self._blocks.get(index, 1)
        return shape if blocks == 1 else (blocks, *shape[:-1], shape[-1] // blocks)

    def load(self, weights: _Path, *, verify: bool = True) -> None:
        """Loads a `.weights` file; see `load_darknet_weights` for the checks.

        Raises:
            WeightsMismatch: file and network do not belong together; nothing was changed.
            OSError: the file cannot be read.
        """
        _load_folded(weights, self.network, self.stored, self._blocks, verify)

    def whole(self) -> dict[str, Tensor]:
        """What `stored` holds, wide convolutions in one piece."""
        return {key: self._joined(key, _read(variable)) for key, variable in self.stored.items()}

    def _joined(self, key: str, value: Tensor) -> Tensor:
        if self._blocks.get(int(key.split("/")[0]), 1) == 1:
            return value
        return tf.concat(tf.unstack(value), -1)

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def __call__(
        self, pictures: Tensor, variables: Mapping[str, Any] | None = None
    ) -> list[Tensor]:
        """Raw heads in cfg order, or what the last section puts out if there is no head.

        Args:
            pictures: [batch, rows, columns, channels] float32, 0..1.
            variables: read in place of `stored`, in the shapes of `whole`; the graph then holds
                standard operations only.
        """
        values = _Values(self, pictures, variables)
        tensors = {cfg.NETWORK_INPUT: pictures}
        for index in self._used:
            layer = self.network.layers[index]
            inputs = [tensors[number] for number in layer.inputs]
            x = self._section(layer, inputs, values)
            if not isinstance(layer, cfg.Convolutional | cfg.Connected):
                x = tf_layers.activate(x, getattr(layer, "activation", "linear"))
            tensors[index] = x
        return [tensors[index] for index in graph_rules.output_layers(self.network)]

    def _section(self, layer: cfg.Layer, inputs: list[Tensor], values: _Values) -> Tensor:
        match layer:
            case cfg.Convolutional():
                owner = graph_rules.kernel_owner(self.network, layer)
                kernel, bias = values.of(owner, "kernel"), values.of(owner, "bias")
                if values.onednn and onednn.takes(layer):
                    return onednn.convolve(inputs[0], kernel, bias, layer)
                return tf_layers.add_bias(
                    tf_layers.convolve(inputs[0], kernel, layer), bias, layer.activation
                )
            case cfg.Connected():
                x = tf_layers.connect(inputs[0], values.of(layer, "kernel"))
                return tf_layers.add_bias(x, values.of(layer, "bias"), layer.activation)
            case cfg.Local():
                x = tf_layers.convolve_locally(inputs[0], values.of(layer, "kernel"), layer)
                return x + values.of(layer, "bias")
            case cfg.Batchnorm():
                scale, bias = values.of(layer, "scale"), values.of(layer, "bias")
                return inputs[0] * scale + bias
            case cfg.Pool():
                return tf_layers.pool(inputs[0], layer)
            case cfg.Avgpool():
                return tf_layers.average(inputs[0])
            case cfg.Route():
                return tf_layers.route(inputs, layer)
            case cfg.Shortcut():
                factors = None
                if layer.nweights:
                    weights = values.of(layer, "weights")
                    factors = tf_layers.shortcut_factors(weights, layer.weights_normalization)
                shapes = [graph_rules.shape_of(self.network, index) for index in layer.inputs]
                return tf_layers.shortcut(inputs, shapes, factors)
            case cfg.ScaleChannels() | cfg.Sam():
                return inputs[0] * inputs[1]
            case cfg.Upsample():
                return tf_layers.upsample(inputs[0], layer)
            case cfg.Reorg():
                return tf_layers.reorg(inputs[0], layer)
            case cfg.Softmax():
                return tf_layers.softmax(inputs[0], layer)
            case cfg.Crop():
                return tf_layers.crop(inputs[0], layer)
            case cfg.Normalization():
                return tf_layers.normalize(inputs[0], layer)
            case cfg.Implicit():
                weights = tf.transpose(values.of(layer, "weights"))
                return tf.tile(weights[None, :, None, :], [values.batch, 1, 1, 1])
            case cfg.Dropout() | cfg.Passive() | cfg.Activation():
                return inputs[0]
            case _:
                raise graph_rules.refuse(self.network, layer, f"[{layer.type}] cannot be built")


class _Values:
    """What variables hold while a function runs, each read once."""

    def __init__(
        self, folded: FoldedNetwork, pictures: Tensor, variables: Mapping[str, Any] | None
    ) -> None:
        self.onednn = folded.onednn and variables is None and not tf.executing_eagerly()
        self._folded = folded
        self._variables = variables or folded.stored
        self._pictures = pictures
        self._whole = variables is None and not self.onednn
        self._read: dict[str, Tensor] = {}

    @property
    def batch(self) -> Tensor:
        return tf.shape(self._pictures)[0]

    def of(self, layer: cfg.Layer, role: str) -> Tensor:
        """In blocks, where `FoldedNetwork.stored` has them, only with `onednn`."""
        key = _key(layer.index, role)
        if key not in self._read:
            value = _read(self._variables[key])
            self._read[key] = self._folded._joined(key, value) if self._whole else value
        return self._read[key]


class InferenceFunction:
    """Pictures to detections in one graph; made by `build_function`.

    Attributes:
        network: what it was built from.
        folded: the variables.
        max_boxes: rows of the answer for each picture.
    """

    def __init__(
        self,
        network: cfg.Network,
        *,
        score: float = 0.25,
        iou: float = 0.45,
        max_boxes: int = 300,
        nms_kind: str | None = None,
        any_size: bool = False,
    ) -> None:
        """See `build_function`; the variables are allocated only."""
        for what, value in (("score", score), ("iou", iou)):
            if not 0 <= value < 1:
                raise ValueError(f"{what}={value} must be at least 0 and below 1")
        if max_boxes < 1:
            raise ValueError(f"max_boxes={max_boxes} must be at least 1")
        decode.check_heads(network)
        if any_size:
            _check_any_size(network)
        self.network = network
        self.folded = FoldedNetwork(network)
        self.max_boxes = max_boxes
        self._any_size = any_size
        self._suppression = decode.suppression_of(network)
        if nms_kind is not None:
            if nms_kind not in ("default", "greedynms", "diounms"):
                raise ValueError(f"nms_kind={nms_kind!r}; one of default, greedynms, diounms")
            self._suppression = self._suppression._replace(kind=nms_kind)
        self._thresholds = {"score_threshold": score, "iou_threshold": iou}
        channels = network.input_shape.channels
        self._traced = {
            dtype: tf.function(
                self._detect,
                input_signature=[tf.TensorSpec([None, None, None, channels], dtype, "images")],
                autograph=False,
            )
            for dtype in (tf.uint8, tf.float32)
        }
        rows, columns = (None, None) if any_size else network.input_shape[:2]
        self._traced_fitted = tf.function(
            self._detect_fitted,
            input_signature=[
                tf.TensorSpec([None, rows, columns, channels], tf.float32, "inputs"),
                tf.TensorSpec([None, 2], tf.int32, "image_sizes"),
            ],
            autograph=False,
        )
        self._traced_heads = tf.function(self.folded, autograph=False, reduce_retracing=True)

    @property
    def stride(self) -> int:
        """What the height and width of pictures are multiples of, with `any_size`."""
        shapes = [head.input_shape for head in self.network.heads]
        return max(self.network.input_shape.height // shape.height for shape in shapes)

    def load(self, weights: _Path, *, verify: bool = True, trace: bool = False) -> None:
        """Loads a file into the variables; see `FoldedNetwork.load`.

        Args:
            weights: the file.
            verify: see `load_darknet_weights`.
            trace: traces the graph for uint8 pictures in the meantime, which needs none of the
                numbers; else the first call does.
        """
        if not trace:
            self.folded.load(weights, verify=verify)
            return
        with ThreadPoolExecutor(1, "yolotf-load") as pool:
            loading = pool.submit(self.folded.load, weights, verify=verify)
            try:
                self._traced[tf.uint8].get_concrete_function()
            finally:
                loading.result()

    def __call__(self, images: Tensor) -> decode.Batch:
        """Detects in a batch of pictures of one size.

        Args:
            images: [batch, height, width, channels], RGB; uint8, or float32 in 0..1. Pictures of
                another size than the network's are resized as Darknet does, with `letter_box`
                keeping their proportions; with `any_size` they are taken as they are.

        Returns:
            `Batch`; boxes [batch, max_boxes, 4] are left, top, right, bottom in pixels.
        """
        images = tf.convert_to_tensor(images)
        if images.dtype not in self._traced:
            images = tf.cast(images, tf.float32)
        if images.shape[0] == 0:
            return self._nothing()
        return self._run(self._traced[images.dtype], images)

    def _run(self, traced: Any, *arguments: Tensor) -> decode.Batch:
        if self.folded.ready and tf.executing_eagerly():
            with onednn.unoptimized():
                return decode.Batch(*traced(*arguments))
        return decode.Batch(*traced(*arguments))

    def fitted(self, inputs: Tensor, image_sizes: Tensor) -> decode.Batch:
        """Detects in pictures that have the network's size already.

        Args:
            inputs: [batch, rows, columns, channels] float32, 0..1.
            image_sizes: [batch, 2] int32, (height, width) of the pictures they were made from, in
                whose pixels the answer is.
        """
        if inputs.shape[0] == 0:
            return self._nothing()
        return self._run(self._traced_fitted, inputs, image_sizes)

    def _nothing(self) -> decode.Batch:
        """For an empty batch: oneDNN's convolutions give it the shape of their input."""
        rows = [0, self.max_boxes]
        classes, counts = tf.zeros(rows, tf.int32), tf.zeros([0], tf.int32)
        return decode.Batch(tf.zeros([*rows, 4]), tf.zeros(rows), classes, counts)

    def raw_heads(self, inputs: Tensor) -> list[Tensor]:
        """What enters the heads, for `inputs` as `fitted` takes them."""
        raws: list[Tensor] = self._traced_heads(tf.convert_to_tensor(inputs))
        return raws

    def warm(self, like: InferenceFunction) -> None:
        """Traces and runs once what `like` has been used for, so that no request has to wait."""
        height, width, channels = self.network.input_shape
        for dtype, traced in like._traced.items():
            if traced.experimental_get_tracing_count():
                self(tf.zeros([1, height, width, channels], dtype))
        if like._traced_fitted.experimental_get_tracing_count():
            self.fitted(tf.zeros([1, height, width, channels]), [[height, width]])

    def _detect(self, images: Tensor, variables: Mapping[str, Any] | None = None) -> decode.Batch:
        return self._detect_fitted(self._fit(images), tf.shape(images)[None, 1:3], variables)

    def _fit(self, images: Tensor) -> Tensor:
        if self._any_size:
            return to_float(images)
        height, width, channels = self.network.input_shape
        inputs = fit(images, (height, width), letter_box=self.network.letter_box)
        return tf.ensure_shape(inputs, [None, height, width, channels])

    def _detect_fitted(
        self,
        inputs: Tensor,
        image_sizes: Tensor,
        variables: Mapping[str, Any] | None = None,
    ) -> decode.Batch:
        size = tuple(self.network.input_shape[:2])
        if self._any_size:
            size = (tf.shape(inputs)[1], tf.shape(inputs)[2])
            text = f"height and width must be multiples of {self.stride}"
            checks = [
                tf.debugging.assert_equal(extent % self.stride, 0, message=text) for extent in size
            ]
            with tf.control_dependencies([check for check in checks if check is not None]):
                inputs = tf.identity(inputs)
        found = decode.find_detections(
            self.folded(inputs, variables),
            self.network,
            size,
            max_boxes=self.max_boxes,
            # The picture is its own letter box where nothing is fitted.
            image_sizes=None if self._any_size else image_sizes,
            suppression=self._suppression,
            **self._thresholds,
        )
        return found._replace(boxes=decode.to_corners(found.boxes, image_sizes[:, None]))


def build_function(
    network: cfg.Network | cfg.Source,
    weights: _Path,
    *,
    score: float = 0.25,
    iou: float = 0.45,
    max_boxes: int = 300,
    nms_kind: str | None = None,
    any_size: bool = False,
) -> InferenceFunction:
    """An inference function of plain TensorFlow operations, batch normalization folded.

    Args:
        network: a `Network`, a stock name, or a cfg's path or text.
        weights: the `.weights` file.
        score: lowest score of a detection; at least 0, below 1.
        iou: boxes of one class that overlap more exclude each other.
        max_boxes: detections per picture, the best ones.
        nms_kind: `default`, `greedynms` or `diounms` in place of the cfg's.
        any_size: pictures are not resized; height and width may be any multiple of
            `InferenceFunction.stride`.

    Returns:
        A callable, see `InferenceFunction.__call__`.

    Raises:
        WeightsMismatch: file and network do not belong together.
        UnsupportedSectionError: the network has sections or heads this cannot express.
    """
    function = InferenceFunction(
        networks.find(network),
        score=score,
        iou=iou,
        max_boxes=max_boxes,
        nms_kind=nms_kind,
        any_size=any_size,
    )
    function.load(weights, trace=True)
    return function


def to_float(images: Tensor) -> Tensor:
    """uint8 to float32 in 0..1; floats as they are."""
    if images.dtype == tf.uint8:
        return tf.cast(images, tf.float32) / 255.0
    return tf.cast(images, tf.float32)


def fit(images: Tensor, size: decode.Size, *, letter_box: bool) -> Tensor:
    """Resizes pictures to the network's input as Darknet does (image.c:1006 and 1399).

    Bilinear, the corners of picture and input on each other; with `letter_box` the picture keeps
    its proportions on a ground of 0.5.

    Args:
        images: [batch, height, width, channels], uint8, or float32 in 0..1.
        size: (height, width) of the input.
        letter_box: as in `[net]`.

    Returns:
        [batch, *size, channels] float32 in 0..1.
    """
    found = tf.shape(images)[1:3]
    inner = decode.letter_box_size(found, size) if letter_box else tf.stack(size)
    values = tf.raw_ops.ResizeBilinear(images=images, size=inner, align_corners=True)
    if images.dtype == tf.uint8:
        values = values / 255.0
    if not letter_box:
        return values
    before = (tf.stack(size) - inner) // 2
    after = tf.stack(size) - inner - before
    sides = tf.stack([[0, 0], [before[0], after[0]], [before[1], after[1]], [0, 0]])
    return tf.pad(values, sides, constant_values=0.5)


class _Slot:
    """One set of variables, and how many requests are using it."""

    def __init__(self, function: InferenceFunction) -> None:
        self.function = function
        self.users = 0


class Detector:
    """Finds things in pictures; safe to call from many threads, also while it reloads.

    Attributes:
        network: the network.
        names: class names, empty if none are known.
    """

    def __init__(
        self,
        network: cfg.Network | cfg.Source,
        weights: _Path,
        *,
        names: _Path | Sequence[str] | None = None,
        score: float = 0.25,
        iou: float = 0.45,
        max_boxes: int = 300,
        nms_kind: str | None = None,
        batch_size: int = 8,
    ) -> None:
        """Builds the function and loads the file.

        Args:
            network: a `Network`, a stock name, or a cfg's path or text.
            weights: the `.weights` file.
            names: class names, or a file with one a line.
            score: lowest score of a detection.
            iou: boxes of one class that overlap more exclude each other.
            max_boxes: detections per picture, the best ones.
            nms_kind: see `build_function`.
            batch_size: pictures of a list that go through the network at once.

        Raises:
            WeightsMismatch: file and network do not belong together.
            UnsupportedSectionError: the network has sections or heads this cannot express.
            YolotfError: there are more or fewer names than classes.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        self.network = networks.find(network)
        self.names = read_names(names)
        classes = self.network.classes
        if self.names and classes is not None and len(self.names) != classes:
            raise YolotfError(
                f"{len(self.names)} names for the {classes} classes of {self.network.source}; "
                "the names file belongs to another network",
                expected=classes,
                found=len(self.names),
            )
        self._new_function = functools.partial(
            InferenceFunction,
            self.network,
            score=score,
            iou=iou,
            max_boxes=max_boxes,
            nms_kind=nms_kind,
        )
        self._batch_size = batch_size
        self._active = _Slot(self._new_function())
        self._spare: _Slot | None = None
        self._changed = threading.Condition()
        self._reloading = threading.Lock()
        self._active.function.load(weights, trace=True)

    @overload
    def __call__(self, pictures: Picture) -> Detections: ...

    @overload
    def __call__(self, pictures: _Pictures) -> list[Detections]: ...

    def __call__(self, pictures: Picture | _Pictures) -> Detections | list[Detections]:
        """Detects in one picture or in each of a list.

        Args:
            pictures: a path, a Pillow image or an array [height, width, channels] RGB (grey ones
                may lack the last axis), uint8 or float in 0..1; of any sizes.

        Returns:
            `Detections` in pixels of the picture, or a list of them.

        Raises:
            OSError: a picture cannot be read.
        """
        if isinstance(pictures, list | tuple):
            arrays = [self._read(picture) for picture in pictures]
            return self._detect(arrays)
        return self._detect([self._read(pictures)])[0]

    def reload(self, weights: _Path) -> None:
        """Changes to another file of the same network while requests are served.

        The file is checked and loaded into a second set of variables (which stays allocated), run
        once, and put in place in one step. Requests that have begun finish on the old
        weights, later ones use the new.

        Raises:
            WeightsMismatch: the file does not belong to the network; nothing has changed.
            OSError: the file cannot be read; nothing has changed.
        """
        with self._reloading:
            spare = self._spare or _Slot(self._new_function())
            self._spare = spare
            with self._changed:
                # Nobody begins on the spare; who still runs on it began before the last reload.
                self._changed.wait_for(lambda: spare.users == 0)
            spare.function.load(weights)
            spare.function.warm(self._active.function)
            with self._changed:
                self._active, self._spare = spare, self._active

    def export(self, folder: _Path) -> None:
        """Writes a SavedModel of standard operations only.

        Signatures, both answering `boxes` [batch, max_boxes, 4] (left, top, right, bottom in
        pixels), `scores` and `classes` [batch, max_boxes] and `counts` [batch]:

        * `serving_default`: `images` uint8 [batch, height, width, channels], of any one size;
        * `encoded`: `images` string [batch], JPEG or PNG files, for networks of 1 or 3 channels.
          Unlike `__call__` it does not turn photographs upright.

        Names, if there are any, are written to `assets.extra/classes.names`.

        Raises:
            OSError: the folder cannot be written.
        """
        with self._using() as function:
            module = _Exported(function)
            signatures = {"serving_default": module.images.get_concrete_function()}
            if module.decodable:
                signatures["encoded"] = module.encoded.get_concrete_function()
            tf.saved_model.save(module, os.fspath(folder), signatures=signatures)
        if self.names:
            extra = Path(folder) / "assets.extra"
            extra.mkdir(exist_ok=True)
            (extra / "classes.names").write_text("\n".join(self.names) + "\n", encoding="utf-8")

    @contextmanager
    def _using(self) -> Iterator[InferenceFunction]:
        with self._changed:
            slot = self._active
            slot.users += 1
        try:
            yield slot.function
        finally:
            with self._changed:
                slot.users -= 1
                self._changed.notify_all()

    def _read(self, picture: Picture) -> npt.NDArray[Any]:
        """[height, width, channels], uint8 or float32, in the network's channels."""
        channels = self.network.input_shape.channels
        if isinstance(picture, np.ndarray):
            array = picture[..., None] if picture.ndim == 2 else picture
            if array.ndim != 3:
                raise ValueError(f"a picture is [height, width, channels], not {picture.shape}")
            if array.shape[2] == channels:
                return array if array.dtype == np.uint8 else array.astype(np.float32)
        if channels not in (1, 3):
            raise ValueError(
                f"{self.network.source} takes arrays of {channels} channels, not pictures of 1 or 3"
            )
        pixels = np.asarray(open_picture(picture).convert("L" if channels == 1 else "RGB"))
        return pixels[..., None] if channels == 1 else pixels

    def _detect(self, arrays: Sequence[npt.NDArray[Any]]) -> list[Detections]:
        found: list[Detections] = []
        with self._using() as function:
            for start in range(0, len(arrays), self._batch_size):
                found += self._detect_batch(function, arrays[start : start + self._batch_size])
        return found

    def _detect_batch(
        self, function: InferenceFunction, arrays: Sequence[npt.NDArray[Any]]
    ) -> list[Detections]:
        if len({(array.shape, array.dtype) for array in arrays}) == 1:
            batch = function(np.stack(arrays))
        else:
            size, letter_box = self.network.input_shape[:2], self.network.letter_box
            inputs = [
                fit(tf.convert_to_tensor(a[None]), size, letter_box=letter_box) for a in arrays
            ]
            sizes = np.array([array.shape[:2] for array in arrays], np.int32)
            batch = function.fitted(tf.concat(inputs, 0), sizes)
        boxes, scores, classes, counts = (column.numpy() for column in batch)
        return [
            Detections.of(boxes[i, :count], scores[i, :count], classes[i, :count], self.names)
            for i, count in enumerate(counts)
        ]


class _Exported(tf.Module):  # type: ignore[misc]
    """What a SavedModel of a detector holds."""

    def __init__(self, function: InferenceFunction) -> None:
        super().__init__(name="detector")
        # SavedModels hold tf.Variables. These share the memory: a reload leaves it to them.
        variables = {
            key: tf.Variable(value, trainable=False, name=key.replace("/", "_"))
            for key, value in function.folded.whole().items()
        }
        self.stored = list(variables.values())
        self.decodable = function.network.input_shape.channels in (1, 3)
        channels = function.network.input_shape.channels
        height, width = function.network.input_shape[:2]

        def images(images: Tensor) -> dict[str, Tensor]:
            padded = _not_empty(images)
            return _first(tf.shape(images)[0], function._detect(padded, variables))

        def fitted(encoded: Tensor) -> tuple[Tensor, Tensor]:
            # This operation decodes PNG too. The transform is the one Pillow uses.
            image = tf.io.decode_jpeg(encoded, channels, dct_method="INTEGER_ACCURATE")
            inputs = fit(image[None], (height, width), letter_box=function.network.letter_box)
            return inputs[0], tf.shape(image)[:2]

        def encoded(images: Tensor) -> dict[str, Tensor]:
            inputs, sizes = tf.map_fn(
                fitted,
                images,
                fn_output_signature=(
                    tf.TensorSpec([height, width, channels], tf.float32),
                    tf.TensorSpec([2], tf.int32),
                ),
            )
            found = function._detect_fitted(_not_empty(inputs), _not_empty(sizes), variables)
            return _first(tf.shape(images)[0], found)

        pictures = tf.TensorSpec([None, None, None, channels], tf.uint8, "images")
        self.images = tf.function(images, input_signature=[pictures], autograph=False)
        files = tf.TensorSpec([None], tf.string, "images")
        self.encoded = tf.function(encoded, input_signature=[files], autograph=False)


def _not_empty(values: Tensor) -> Tensor:
    """An empty batch gets one row of ones (see `InferenceFunction._nothing`)."""
    missing = tf.cast(tf.equal(tf.shape(values)[0], 0), tf.int32)
    rows = tf.ones(tf.concat([missing[None], tf.shape(values)[1:]], 0), values.dtype)
    return tf.concat([values, rows], 0)


def _first(count: Tensor, found: decode.Batch) -> dict[str, Tensor]:
    return {name: column[:count] for name, column in found._asdict().items()}


def read_names(names: _Path | Sequence[str] | None) -> tuple[str, ...]:
    """Class names from a file with one a line (blank lines at the end do not count), or a list."""
    if names is None:
        return ()
    if isinstance(names, str | os.PathLike):
        text = Path(names).read_text(encoding="utf-8-sig").rstrip()
        return tuple(line.strip() for line in text.splitlines())
    return tuple(names)


def _check_any_size(network: cfg.Network) -> None:
    """Raises for sections whose arithmetic fixes the picture's size."""
    for index in sorted(graph_rules.used_layers(network)):
        layer = network.layers[index]
        fixed = cfg.Connected | cfg.Local | cfg.Crop | cfg.Softmax
        if isinstance(layer, fixed) or (isinstance(layer, cfg.Reorg) and layer.type == "reorg"):
            raise graph_rules.refuse(
                network, layer, f"[{layer.type}] is made for one picture size; leave any_size out"
            )
    for head in network.heads:
        if isinstance(head, cfg.Detection):
            raise graph_rules.refuse(
                network, head, "[detection] is made for one picture size; leave any_size out"
            )


def _key(index: int, role: str) -> str:
    return f"{index}/{role}"


def _folded_shapes(network: cfg.Network, layer: cfg.Layer) -> dict[str, tuple[int, ...]]:
    """Role and shape of what a section needs once batch normalization is folded."""
    channels = layer.input_shape.channels
    shapes: dict[str, tuple[int, ...]]
    match layer:
        case cfg.Convolutional(share_index=None, size=size, filters=filters):
            kernel = (size, size, channels // layer.groups, filters)
            if tf_layers.is_depthwise(layer):
                kernel = (size, size, channels, filters // channels)
            shapes = {"kernel": kernel, "bias": (filters,)}
        case cfg.Connected(output=output):
            shapes = {"kernel": (layer.input_shape.floats, output), "bias": (output,)}
        case cfg.Local(size=size, filters=filters):
            rows, columns, _ = layer.output_shape
            kernel_shape = (rows * columns, size, size, channels, filters)
            shapes = {"kernel": kernel_shape, "bias": (rows, columns, filters)}
        case cfg.Batchnorm():
            shapes = {"scale": (channels,), "bias": (channels,)}
        case cfg.Shortcut() if layer.nweights:
            count = len(layer.inputs)
            shapes = {"weights": (count, layer.nweights // count)}
        case cfg.Implicit():
            shapes = {"weights": (layer.filters, layer.atoms)}
        case _:
            return {}
    keys = ["dontload"]
    if getattr(layer, "batch_normalize", isinstance(layer, cfg.Batchnorm)):
        keys.append("dontloadscales")
    key = graph_rules.set_key(layer, *keys)
    if key:
        raise graph_rules.refuse(
            network, layer, f"{key}=1: the file holds no numbers for it, so nothing can run", key
        )
    return shapes


def _load_folded(
    path: _Path,
    network: cfg.Network,
    stored: dict[str, Any],
    blocks: dict[int, int],
    verify: bool,
) -> None:
    """Checks the file, then writes what it holds into `stored`, batch normalization folded.

    Args:
        path: the file.
        network: the network.
        stored: see `FoldedNetwork`.
        blocks: of the layers whose kernel and bias are cut, how often.
        verify: see `load_darknet_weights`.

    Raises:
        WeightsMismatch: before anything was written.
    """
    floats = layout.floats(network)
    header, _ = planning.read_header(path, floats)
    used = graph_rules.used_layers(network)
    by_layer: dict[int, dict[str, layout.Segment]] = {}
    for segment in layout.segments(network, transposed=header.transposed):
        if segment.layer in used:
            by_layer.setdefault(segment.layer, {})[segment.role] = segment
    moves: list[layout.Move] = []
    for index, segments in by_layer.items():
        moves += _folded_moves(
            network, network.layers[index], segments, stored, blocks.get(index, 1)
        )
    writing.write(
        path, header, layout.Plan(tuple(moves), floats, network), cast=False, verify=verify
    )


def _folded_moves(
    network: cfg.Network,
    layer: cfg.Layer,
    segments: dict[str, layout.Segment],
    stored: dict[str, Any],
    blocks: int,
) -> list[layout.Move]:
    depthwise = isinstance(layer, cfg.Convolutional) and tf_layers.is_depthwise(layer)

    def slot(role: str) -> layout.Slot:
        variable = stored[_key(layer.index, role)]
        return layout.Slot(
            name=f"{layer.type}_{layer.index}/{role}",
            role=role,
            variable=variable,
            shape=tuple(variable.shape),
            dtype="float32",
            depthwise=depthwise and role == "kernel",
            blocks=blocks,
        )

    gamma = segments.get("gamma")
    if gamma is None:
        return [layout.move(segment, slot(role)) for role, segment in segments.items()]
    kernel = segments.get("kernel")
    if kernel is None:
        multiplier = layout.folded(gamma, gamma, slot("scale"))
    elif kernel.transposed:
        raise graph_rules.refuse(
            network,
            layer,
            "batch_normalize=1 in a file with a transposed kernel",
            "batch_normalize",
        )
    else:
        multiplier = layout.folded(kernel, gamma, slot("kernel"))
    return [layout.folded(segments["beta"], gamma, slot("bias")), multiplier]
