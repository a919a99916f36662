"""Network and file -> detections: the serving path, plain TensorFlow operations, no Keras.

`InferenceFunction` (from `build_function`) adds fitting of pictures, decoding and suppression to a
`FoldedNetwork`, all in graphs; `Detector` reads pictures, swaps weights under load and exports.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from yolotf.darknet import cfg
from yolotf.darknet import rules as graph_rules
from yolotf.darknet import stock as networks
from yolotf.errors import YolotfError
from yolotf.graphs import decode, tracing
from yolotf.graphs.folded import FoldedNetwork
from yolotf.serving import collector as _collector
from yolotf.serving.detections import Detections
from yolotf.serving.pictures import Picture, read_picture
from yolotf.weights import sources

Tensor = Any
_Path = str | os.PathLike[str]
_Pictures = list[Picture] | tuple[Picture, ...]


class InferenceFunction:
    """Pictures to detections, in three graphs; made by `build_function`.

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
            graph_rules.check_any_size(network)
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
        # Three functions, of which the first and the last need no weights: they can be prepared
        # while the file is loaded, and the second serves every kind of picture.
        channels = network.input_shape.channels
        self._fit = {
            dtype: tf.function(
                self._fit_images,
                input_signature=[tf.TensorSpec([None, None, None, channels], dtype, "images")],
                autograph=False,
            )
            for dtype in (tf.uint8, tf.float32)
        }
        rows, columns = (None, None) if any_size else network.input_shape[:2]
        self._heads = tf.function(
            self._compute_heads,
            input_signature=[tf.TensorSpec([None, rows, columns, channels], tf.float32, "inputs")],
            autograph=False,
        )
        self._found = tf.function(
            self._find,
            input_signature=[
                self._head_specs(),
                tf.TensorSpec([None, 2], tf.int32, "image_sizes"),
                tf.TensorSpec([2], tf.int32, "input_size"),
            ],
            autograph=False,
        )

    @property
    def stride(self) -> int:
        """What the height and width of pictures are multiples of, with `any_size`."""
        shapes = [head.input_shape for head in self.network.heads]
        return max(self.network.input_shape.height // shape.height for shape in shapes)

    @sources.any_source("weights")
    def load(
        self,
        weights: sources.Weights,
        *,
        verify: bool = True,
        fresh: bool = False,
        trace: bool = False,
    ) -> None:
        """Loads a file into the variables; see `FoldedNetwork.load`.

        Args:
            weights: the file.
            verify: see `load_darknet_weights`.
            fresh: see `FoldedNetwork.load`.
            trace: traces the graphs for uint8 pictures in the meantime, and runs those that need
                none of the numbers; else the first call does.
        """
        weights = sources.path_of(weights)
        if not trace:
            self.folded.load(weights, verify=verify, fresh=fresh)
            return
        _collector.postpone()
        with ThreadPoolExecutor(2, "yolotf-load") as pool:
            loading = pool.submit(self.folded.load, weights, verify=verify, fresh=fresh)
            try:
                self._fit[tf.uint8].get_concrete_function()
                self._found.get_concrete_function()
                running = pool.submit(self._prepared, self._run_without_weights)
                _collector.postpone()
                self._heads.get_concrete_function()
                running.result()
            finally:
                loading.result()

    def _prepared(self, run: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a graph. With oneDNN's operation there is nothing that an optimizer would gain."""
        if self.folded.onednn and tf.executing_eagerly():
            with tracing.unoptimized():
                return run(*arguments)
        return run(*arguments)

    def _run_without_weights(self) -> None:
        self._fit[tf.uint8](tf.zeros([1, 1, 1, self.network.input_shape.channels], tf.uint8))
        nothing = [tf.zeros([0, *shape]) for shape in self._head_shapes()]
        self._found(nothing, tf.zeros([0, 2], tf.int32), self.network.input_shape[:2])

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
        if images.shape[0] == 0:
            return self._nothing()
        return self.fitted(self.fit(images), _sizes(images))

    def fit(self, images: Tensor) -> Tensor:
        """What `fitted` takes, of pictures as `__call__` takes them."""
        images = tf.convert_to_tensor(images)
        if images.dtype not in self._fit:
            images = tf.cast(images, tf.float32)
        return self._prepared(self._fit[images.dtype], images)

    def fitted(self, inputs: Tensor, image_sizes: Tensor) -> decode.Batch:
        """Detects in pictures that have the network's size already.

        Args:
            inputs: [batch, rows, columns, channels] float32, 0..1.
            image_sizes: [batch, 2] int32, (height, width) of the pictures they were made from, in
                whose pixels the answer is.
        """
        inputs = tf.convert_to_tensor(inputs)
        if inputs.shape[0] == 0:
            return self._nothing()
        raws = self.raw_heads(inputs)
        return decode.Batch(*self._prepared(self._found, raws, image_sizes, _size(inputs)))

    def _nothing(self) -> decode.Batch:
        """For an empty batch: oneDNN's convolutions give it the shape of their input."""
        rows = [0, self.max_boxes]
        classes, counts = tf.zeros(rows, tf.int32), tf.zeros([0], tf.int32)
        return decode.Batch(tf.zeros([*rows, 4]), tf.zeros(rows), classes, counts)

    def raw_heads(self, inputs: Tensor) -> list[Tensor]:
        """What enters the heads, for `inputs` as `fitted` takes them."""
        inputs = tf.convert_to_tensor(inputs)
        if self.folded.needs_no_optimizer:
            return list(self._prepared(self._heads, inputs))
        return list(self._heads(inputs))

    def warm(self, like: InferenceFunction) -> None:
        """Traces and runs once what `like` has been used for, so that no request has to wait."""
        height, width, channels = self.network.input_shape
        for dtype, traced in like._fit.items():
            if traced.experimental_get_tracing_count():
                self.fit(tf.zeros([1, height, width, channels], dtype))
        if like._heads.experimental_get_tracing_count():
            self.fitted(tf.zeros([1, height, width, channels]), [[height, width]])

    def detect(self, images: Tensor, variables: Mapping[str, Any]) -> decode.Batch:
        """`__call__` as one graph of standard operations, for a `tf.function` to trace.

        Args:
            images: see there.
            variables: see `FoldedNetwork.__call__`.
        """
        return self.detect_fitted(self._fit_images(images), _sizes(images), variables)

    def detect_fitted(
        self, inputs: Tensor, image_sizes: Tensor, variables: Mapping[str, Any]
    ) -> decode.Batch:
        """`fitted` likewise."""
        return self._find(self._compute_heads(inputs, variables), image_sizes, _size(inputs))

    def _head_shapes(self) -> list[cfg.Shape]:
        outputs = graph_rules.output_layers(self.network)
        return [graph_rules.shape_of(self.network, index) for index in outputs]

    def _head_specs(self) -> list[tf.TensorSpec]:
        return [
            tf.TensorSpec([None, None, None, shape.channels] if self._any_size else [None, *shape])
            for shape in self._head_shapes()
        ]

    def _fit_images(self, images: Tensor) -> Tensor:
        if self._any_size:
            return to_float(images)
        height, width, channels = self.network.input_shape
        inputs = fit(images, (height, width), letter_box=self.network.letter_box)
        return tf.ensure_shape(inputs, [None, height, width, channels])

    def _compute_heads(
        self, inputs: Tensor, variables: Mapping[str, Any] | None = None
    ) -> list[Tensor]:
        if self._any_size:
            text = f"height and width must be multiples of {self.stride}"
            wrong = tf.reduce_any(tf.shape(inputs)[1:3] % self.stride != 0)
            with tf.control_dependencies([tf.debugging.Assert(~wrong, [text])]):
                inputs = tf.identity(inputs)
        raws: list[Tensor] = self.folded(inputs, variables)
        return raws

    def _find(self, raws: list[Tensor], image_sizes: Tensor, input_size: Tensor) -> decode.Batch:
        size = self.network.input_shape[:2]
        found = decode.find_detections(
            raws,
            self.network,
            tuple(tf.unstack(input_size)) if self._any_size else size,
            max_boxes=self.max_boxes,
            # The picture is its own letter box where nothing is fitted.
            image_sizes=None if self._any_size else image_sizes,
            suppression=self._suppression,
            **self._thresholds,
        )
        return found._replace(boxes=decode.to_corners(found.boxes, image_sizes[:, None]))


def _size(images: Tensor) -> Tensor:
    """(height, width) of a batch of pictures, int32."""
    known = images.shape[1:3]
    return tf.constant(known.as_list()) if known.is_fully_defined() else tf.shape(images)[1:3]


def _sizes(images: Tensor) -> Tensor:
    """[batch, 2]: its `_size` for every picture."""
    return tf.tile(_size(images)[None], [tf.shape(images)[0], 1])


@sources.any_source("weights")
def build_function(
    network: cfg.Network | cfg.Source,
    weights: sources.Weights,
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
        weights: the `.weights` file, as `load_darknet_weights` takes it.
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
    function.load(weights, fresh=True, trace=True)
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

    @sources.any_source("weights")
    def __init__(
        self,
        network: cfg.Network | cfg.Source,
        weights: sources.Weights,
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
            weights: the `.weights` file, as `load_darknet_weights` takes it.
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
        self._active.function.load(weights, fresh=True, trace=True)

    @overload
    def __call__(self, pictures: Picture) -> Detections: ...

    @overload
    def __call__(self, pictures: _Pictures) -> list[Detections]: ...

    def __call__(self, pictures: Picture | _Pictures) -> Detections | list[Detections]:
        """Detects in one picture or in each of a list.

        Args:
            pictures: a path, a Pillow image, encoded bytes, an open file, or an array or tensor
                [height, width, channels] RGB (grey ones may lack the last axis), uint8 or float
                in 0..1; of any sizes.

        Returns:
            `Detections` in pixels of the picture, or a list of them.

        Raises:
            OSError: a picture cannot be read.
        """
        if isinstance(pictures, list | tuple):
            arrays = [self._read(picture) for picture in pictures]
            return self._detect(arrays)
        return self._detect([self._read(pictures)])[0]

    @sources.any_source("weights")
    def reload(self, weights: sources.Weights) -> None:
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
            # What the spare holds nobody will ask for, whether or not the file is good.
            spare.function.load(weights, fresh=True)
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
        return read_picture(picture, self.network.input_shape.channels)

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
            inputs = tf.concat([function.fit(array[None]) for array in arrays], 0)
            sizes = np.array([array.shape[:2] for array in arrays], np.int32)
            batch = function.fitted(inputs, sizes)
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
            for key, value in function.folded.unblocked_weights().items()
        }
        self.stored = list(variables.values())
        self.decodable = function.network.input_shape.channels in (1, 3)
        channels = function.network.input_shape.channels
        height, width = function.network.input_shape[:2]

        def images(images: Tensor) -> dict[str, Tensor]:
            padded = _not_empty(images)
            return _first(tf.shape(images)[0], function.detect(padded, variables))

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
            found = function.detect_fitted(_not_empty(inputs), _not_empty(sizes), variables)
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
