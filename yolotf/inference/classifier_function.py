"""`ClassifierFunction`: images to probabilities in a TensorFlow function, without Keras.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from yolotf._public import warn_caller
from yolotf.darknet import cfg, detection_options
from yolotf.graphs import forked, operations
from yolotf.graphs.folded_network import FoldedNetwork
from yolotf.inference import saving
from yolotf.inference.classifier_head import head_of
from yolotf.inference.classifier_images import Resize, check_resize
from yolotf.inference.diagnosed_errors import FUNCTION_ADVICE, diagnosed
from yolotf.inference.image_operations import fit, image_batch
from yolotf.interfaces import Tensor
from yolotf.runtime.native_work import native_work
from yolotf.runtime.options import ServingOptions
from yolotf.weights.file import WeightsFile, WeightsSource


class ClassifierFunction:
    """Returns class probabilities of images; made by `build_function`.

    Attributes:
        network: the network.
        folded: the network's variables and graph.
        classes: number of classes.
    """

    def __init__(
        self,
        network: cfg.Network,
        *,
        resize: Resize = "crop",
        use_onednn: bool | None = None,
    ) -> None:
        """Creates the function and allocates the variables; `load` fills them.

        Raises:
            ValueError: `resize` is not a `Resize`.
            UnsupportedSectionError: the network is a detector, or has sections that are not
                supported.
        """
        check_resize(resize)
        self.network = network
        self._resize: Resize = resize
        computed, self._tree, self.classes = head_of(network)
        self.folded = FoldedNetwork(computed, use_onednn=use_onednn)
        self._functions = {
            dtype: tf.function(
                self.probabilities,
                input_signature=[self.image_spec(dtype)],
                autograph=False,
            )
            for dtype in (tf.uint8, tf.float32)
        }

    def image_spec(self, dtype: tf.DType = tf.uint8) -> tf.TensorSpec:
        """Returns the input signature: [batch, height, width, channels]."""
        channels = self.network.input_shape.channels
        return tf.TensorSpec([None, None, None, channels], dtype, "images")

    def images(self, dtype: tf.DType = tf.uint8) -> tf.TensorSpec:
        """Deprecated name of `image_spec`."""
        warn_caller("ClassifierFunction.images is called image_spec now", DeprecationWarning)
        return self.image_spec(dtype)

    def load(
        self,
        weights: WeightsSource,
        *,
        verify: bool = True,
        contents_disposable: bool = False,
        timeout: float | None = ServingOptions.timeout,
    ) -> None:
        """Loads a file into the variables; see `FoldedNetwork.load`.

        Raises:
            WeightsMismatch: the file does not match the network; has a `diagnosis`.
        """
        opened = WeightsFile.open(weights, network=self.network, timeout=timeout)
        with opened as file, diagnosed(file, self.network, FUNCTION_ADVICE):
            self.folded.load(file, verify=verify, contents_disposable=contents_disposable)

    def reset(self) -> None:
        """Resets the recurrent state: the next image starts a new video."""
        self.folded.reset()

    def __call__(self, images: Tensor) -> Tensor:
        """Returns the probability of every class, [batch, classes] float32.

        A recurrent network treats the images of all calls as consecutive frames of one video.

        Args:
            images: [batch, height, width, channels], RGB; uint8, or floats in 0..1. They are
                prepared according to `resize` of `build_function`, by default as Darknet does, see
                `yolotf.inference.classifier.prepare`.

        Raises:
            OutOfMemoryError: the images need more memory than the process may use.
            TensorFlowError: TensorFlow fails to run the graph.
            TypeError: the images have another dtype.
            ValueError: the images have another shape, or values outside of 0..1.
            ForkedProcessError: the process was forked after TensorFlow had run in its parent.
        """
        forked.check_process("build_function")
        images = image_batch(images, self.network)
        if images.shape[0] == 0:
            return tf.zeros([0, self.classes])
        with self.folded.running(images.shape[0]), native_work():
            return self._functions[images.dtype](images)

    def probabilities(
        self, images: Tensor, variables: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """`__call__` as one graph, to be traced by a `tf.function`.

        Args:
            images: see `__call__`.
            variables: see `FoldedNetwork.__call__`.
        """
        height, width = self.network.input_shape[:2]
        if self._resize in ("crop", "darknet", "opencv"):
            interpolation: detection_options.Resize = (
                "opencv" if self._resize == "opencv" else "darknet"
            )
            inputs = prepare(images, height, width, interpolation)
        else:
            inputs = fit(images, (height, width), letter_box=self._resize == "letter_box")
        values = self.folded(inputs, variables)[0]
        if values.shape.rank == 4:  # channels first, as in Darknet
            values = tf.transpose(values, [0, 3, 1, 2])
        values = tf.reshape(values, [-1, self.classes])
        for ancestors in self._tree.branches() if self._tree else ():
            # The root has no probability: it refers to the padding, which is 1.
            padded = tf.pad(values, [[0, 0], [0, 1]], constant_values=1)
            values *= tf.gather(padded, ancestors[:-1], axis=1)
        return values


def prepare(
    images: Tensor, height: int, width: int, resize: detection_options.Resize = "darknet"
) -> Tensor:
    """`yolotf.inference.classifier.prepare` of a batch, in TensorFlow operations."""
    rows, columns = tf.unstack(tf.shape(images)[1:3])
    is_portrait = columns < rows
    new_rows = tf.where(is_portrait, rows * width // columns, width)
    new_columns = tf.where(is_portrait, width, columns * width // rows)
    size = tf.stack([new_rows, new_columns])
    integers = images.dtype == tf.uint8
    values = operations.resized(tf.raw_ops, images, size, integers=integers, resize=resize)
    for axis, resized, wanted in ((1, new_rows, height), (2, new_columns, width)):
        # Halved towards zero as in C; TensorFlow.js lacks TruncateDiv.
        excess = resized - wanted
        start = (excess + tf.cast(excess < 0, excess.dtype)) // 2
        pixels = tf.clip_by_value(start + tf.range(wanted), 0, resized - 1)
        values = tf.gather(values, pixels, axis=axis)
    if integers:
        values = values / 255.0
    values.set_shape([None, height, width, images.shape[-1]])
    return values


def write(
    network: cfg.Network,
    weights: Mapping[str, Any],
    folder: Path,
    *,
    names: Sequence[str] = (),
    resize: Resize = "crop",
) -> None:
    """Writes a SavedModel; see `Classifier.export`.

    Args:
        network: the classifier.
        weights: see `FoldedNetwork.hwio_weights`.
        folder: where to write it.
        names: the class names.
        resize: see `Classifier`.

    Raises:
        OSError: the folder cannot be written.
    """
    module = tf.Module(name="classifier")
    variables = {
        key: tf.Variable(value, trainable=False, name=key.replace("/", "_"))
        for key, value in weights.items()
    }
    module.stored = list(variables.values())
    function = ClassifierFunction(network, resize=resize, use_onednn=False)

    def probabilities(images: Tensor) -> dict[str, Tensor]:
        return {"probabilities": function.probabilities(images, variables)}

    module.probabilities = tf.function(
        probabilities, input_signature=[function.image_spec()], autograph=False
    )
    concrete = module.probabilities.get_concrete_function()
    signatures = {"serving_default": concrete, "probabilities": concrete}
    warmup = dict.fromkeys(signatures, saving.gray_image(network.input_shape))
    saving.save(module, signatures, folder, names=names, warmup=warmup)
