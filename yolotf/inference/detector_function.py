"""`InferenceFunction`: images to detections in TensorFlow functions, without Keras.

It adds resizing, decoding and non-maximum suppression to a `FoldedNetwork`, all in graphs.
Importing this module imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import tensorflow as tf

from yolotf._public import public
from yolotf.argument_numbers import flags_checked
from yolotf.darknet import cfg, graph_checks
from yolotf.darknet.class_names import Names, class_names_for
from yolotf.darknet.decoding import check_heads
from yolotf.darknet.detection_options import DetectionOptions
from yolotf.errors import YolotfError
from yolotf.graphs import decode, forked, tf_errors, tf_operations
from yolotf.graphs.folded_network import FoldedNetwork, check_eager
from yolotf.inference import gc_pause
from yolotf.inference.diagnosed_errors import FUNCTION_ADVICE, diagnosed
from yolotf.inference.image_operations import fit, image_batch, input_batch, to_float
from yolotf.interfaces import Tensor
from yolotf.runtime.native_work import native_work
from yolotf.runtime.options import ServingOptions
from yolotf.weights.file import WeightsFile, WeightsSource


@public
class InferenceFunction:
    """Detects objects in batches of images, in three graphs; made by `build_function`.

    Attributes:
        network: the network.
        folded: the network's variables and graph.
        max_boxes: number of rows for each image in the result.
        resize: how images are resized to the network's size.
    """

    def __init__(
        self,
        network: cfg.Network,
        wanted: DetectionOptions | None = None,
        *,
        class_names: Names = None,
        any_size: bool = False,
    ) -> None:
        """Creates the functions and allocates the variables; `load` fills them.

        Args:
            network: the network, with heads.
            wanted: which detections to return; None: the defaults.
            class_names: see `build_function`.
            any_size: see `build_function`.
        """
        wanted = wanted or DetectionOptions()
        check_heads(network)
        unwanted = wanted.unwanted(network, class_names_for(network, class_names))
        if any_size:
            graph_checks.check_any_size(network)
        self.network = network
        self.folded = FoldedNetwork(network)
        self.max_boxes = wanted.max_boxes
        self.resize = wanted.resize
        self._any_size = any_size
        self._suppression = wanted.suppression(network)
        self._thresholds: dict[str, Any] = {
            "score_threshold": wanted.score_threshold,
            "iou_threshold": wanted.iou_threshold,
            "agnostic": wanted.agnostic,
            "unwanted": unwanted,
        }
        # The first and the last of the three functions need no weights, so they are traced while
        # the file loads; the second serves images of any size and dtype.
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
        self._detections = tf.function(
            self._find_detections,
            input_signature=[
                self._head_specs(),
                tf.TensorSpec([None, 2], tf.int32, "image_sizes"),
                tf.TensorSpec([2], tf.int32, "input_size"),
            ],
            autograph=False,
        )

    @property
    def stride(self) -> int:
        """Pixels that height and width must be multiples of, with `any_size`."""
        shapes = [head.input_shape for head in self.network.heads]
        return max(self.network.input_shape.height // shape.height for shape in shapes)

    @flags_checked("trace")
    def load(
        self,
        weights: WeightsSource,
        *,
        verify: bool = True,
        contents_disposable: bool = False,
        trace: bool = False,
        timeout: float | None = ServingOptions.timeout,
    ) -> None:
        """Loads a file into the variables; see `FoldedNetwork.load`.

        Args:
            weights: the file.
            verify: see `load_darknet_weights`.
            contents_disposable: see `FoldedNetwork.load`.
            trace: trace the graphs for uint8 images during the load, and run those without weights;
                False: the first call does it.
            timeout: see `load_darknet_weights`.

        Raises:
            WeightsMismatch: the file does not match the network; has a `diagnosis`.
            YolotfError: called inside a `tf.function`.
            TensorFlowError: TensorFlow rejects the graphs.
        """
        check_eager()
        with (
            WeightsFile.open(weights, network=self.network, timeout=timeout) as file,
            diagnosed(file, self.network, FUNCTION_ADVICE),
            tf_errors.translate_errors(self.network),
        ):
            self._load(file, verify, contents_disposable, trace)

    def _load(
        self, file: WeightsFile, verify: bool, contents_disposable: bool, trace: bool
    ) -> None:
        if not trace:
            self.folded.load(file, verify=verify, contents_disposable=contents_disposable)
            return
        gc_pause.postpone()
        with ThreadPoolExecutor(2, "yolotf-load") as pool:
            loading = pool.submit(
                self.folded.load, file, verify=verify, contents_disposable=contents_disposable
            )
            try:
                self._fit[tf.uint8].get_concrete_function()
                self._detections.get_concrete_function()
                running = pool.submit(self._run_unoptimized, self._run_without_weights)
                gc_pause.postpone()
                self._heads.get_concrete_function()
                running.result()
            finally:
                loading.result()

    def _run_unoptimized(self, run: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a graph without Grappler, which only pays off for graphs with convolutions."""
        if self.folded.onednn and tf.executing_eagerly():
            with tf_operations.unoptimized():
                return run(*arguments)
        return run(*arguments)

    def _run_without_weights(self) -> None:
        self._fit[tf.uint8](tf.zeros([1, 1, 1, self.network.input_shape.channels], tf.uint8))
        raws = [tf.zeros([0, *shape]) for shape in self._head_shapes()]
        self._detections(raws, tf.zeros([0, 2], tf.int32), self.network.input_shape[:2])

    def reset(self) -> None:
        """Resets the recurrent state: the next image starts a new video."""
        self.folded.reset()

    def __call__(self, images: Tensor) -> decode.Batch:
        """Detects objects in a batch of images of one size.

        A recurrent network treats the images of all calls as consecutive frames of one video.

        Args:
            images: [batch, height, width, channels], RGB; uint8, or floats in 0..1. They are
                resized to the network's size as Darknet does, keeping their proportions with
                `letter_box`; with `any_size` they are used unchanged.

        Returns:
            `Batch`; boxes [batch, max_boxes, 4] are left, top, right, bottom in pixels.

        Raises:
            OutOfMemoryError: the images need more memory than the process may use.
            TensorFlowError: TensorFlow fails to run the graph.
            TypeError: the images have another dtype.
            ValueError: the images have another shape, or values outside of 0..1; or XLA compiles
                the calling function (`jit_compile=True`).
            YolotfError: with `any_size`, a height or width is not a multiple of `stride`.
            ForkedProcessError: the process was forked after TensorFlow had run in its parent.
        """
        forked.check_process("build_function")
        images = image_batch(images, self.network)
        if images.shape[0] == 0:
            return self._empty_result()
        with native_work():
            return self.fitted(self._run_fit(images), _image_sizes(images))

    def fit(self, images: Tensor) -> Tensor:
        """Returns images resized for `fitted`; takes what `__call__` takes."""
        return self._run_fit(image_batch(images, self.network))

    def _run_fit(self, images: Tensor) -> Tensor:
        with tf_errors.translate_errors(self.network, images.shape[0]):
            return self._run_unoptimized(self._fit[images.dtype], images)

    def fitted(self, inputs: Tensor, image_sizes: Tensor) -> decode.Batch:
        """Detects objects in images that already have the network's size.

        Args:
            inputs: [batch, rows, columns, channels] float32, 0..1.
            image_sizes: [batch, 2] int32, (height, width) of the original images, in whose pixels
                the boxes are returned.
        """
        decode.refuse_xla()
        inputs = input_batch(inputs, self.network, any_size=self._any_size)
        if inputs.shape[0] == 0:
            return self._empty_result()
        raws = self.raw_heads(inputs)
        with tf_errors.translate_errors(self.network, inputs.shape[0]):
            return decode.Batch(
                *self._run_unoptimized(self._detections, raws, image_sizes, _image_size(inputs))
            )

    def _empty_result(self) -> decode.Batch:
        """Returns the result of an empty batch, for which oneDNN returns wrong shapes."""
        rows = [0, self.max_boxes]
        classes, counts = tf.zeros(rows, tf.int32), tf.zeros([0], tf.int32)
        return decode.Batch(tf.zeros([*rows, 4]), tf.zeros(rows), classes, counts)

    def raw_heads(self, inputs: Tensor) -> list[Tensor]:
        """Returns the inputs of the heads, for `inputs` as in `fitted`."""
        inputs = input_batch(inputs, self.network, any_size=self._any_size)
        with self.folded.running(inputs.shape[0], self._relative_area(inputs)):
            return list(self._heads(inputs))

    def _relative_area(self, inputs: Tensor) -> float:
        """Returns the pixels of an input image relative to those of the network's own size.

        Raises:
            YolotfError: the height or width is not a multiple of `stride`; sizes unknown at this
                point are asserted in the graph.
        """
        if not self._any_size or inputs.shape.rank != 4 or None in inputs.shape[1:3].as_list():
            return 1.0
        rows, columns = inputs.shape[1:3]
        stride = self.stride
        if rows % stride or columns % stride:
            raise YolotfError(
                f"{self.network.source}: the images have {columns}x{rows} pixels, but with "
                f"any_size height and width must be multiples of {stride}; resize the images, "
                "or leave any_size out",
                source=self.network.source,
                input_size=(rows, columns),
                stride=stride,
            )
        height, width, _ = self.network.input_shape
        area: float = rows * columns / (height * width)
        return area

    def detect(self, images: Tensor, variables: Mapping[str, Tensor]) -> decode.Batch:
        """`__call__` as one graph of standard operations, to be traced by a `tf.function`.

        Args:
            images: see `__call__`.
            variables: see `FoldedNetwork.__call__`.
        """
        return self.detect_fitted(self._fit_images(images), _image_sizes(images), variables)

    def detect_fitted(
        self, inputs: Tensor, image_sizes: Tensor, variables: Mapping[str, Tensor]
    ) -> decode.Batch:
        """`fitted` as one graph of standard operations, to be traced by a `tf.function`."""
        return self._find_detections(
            self._compute_heads(inputs, variables), image_sizes, _image_size(inputs)
        )

    def _head_shapes(self) -> list[cfg.Shape]:
        outputs = graph_checks.output_layers(self.network)
        return [graph_checks.shape_of(self.network, index) for index in outputs]

    def _head_specs(self) -> list[tf.TensorSpec]:
        return [
            tf.TensorSpec([None, None, None, shape.channels] if self._any_size else [None, *shape])
            for shape in self._head_shapes()
        ]

    def _fit_images(self, images: Tensor) -> Tensor:
        if self._any_size:
            return to_float(images)
        height, width, channels = self.network.input_shape
        letter_box = self.network.letter_box
        inputs = fit(images, (height, width), letter_box=letter_box, resize=self.resize)
        inputs.set_shape([None, height, width, channels])  # TensorFlow.js cannot run EnsureShape
        return inputs

    def _compute_heads(
        self, inputs: Tensor, variables: Mapping[str, Tensor] | None = None
    ) -> list[Tensor]:
        if self._any_size:
            text = f"height and width must be multiples of {self.stride}"
            indivisible = tf.reduce_any(tf.shape(inputs)[1:3] % self.stride != 0)
            with tf.control_dependencies([tf.debugging.Assert(~indivisible, [text])]):
                inputs = tf.identity(inputs)
        raws: list[Tensor] = self.folded(inputs, variables)
        return raws

    def _find_detections(
        self, raws: list[Tensor], image_sizes: Tensor, input_size: Tensor
    ) -> decode.Batch:
        size = self.network.input_shape[:2]
        batch = decode.find_detections(
            raws,
            self.network,
            tuple(tf.unstack(input_size)) if self._any_size else size,
            max_boxes=self.max_boxes,
            # With any_size nothing is resized, so there is no letter box to undo.
            image_sizes=None if self._any_size else image_sizes,
            suppression=self._suppression,
            **self._thresholds,
        )
        return batch._replace(boxes=decode.to_corners(batch.boxes, image_sizes[:, None]))


def _image_size(images: Tensor) -> Tensor:
    """Returns (height, width) of a batch of images, int32."""
    size = images.shape[1:3]
    return tf.constant(size.as_list()) if size.is_fully_defined() else tf.shape(images)[1:3]


def _image_sizes(images: Tensor) -> Tensor:
    """Returns the size of every image of a batch, [batch, 2] int32."""
    return tf.tile(_image_size(images)[None], [tf.shape(images)[0], 1])
