"""Export of detectors as SavedModels of standard operations; imports TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from yolotf.graphs import decode
from yolotf.inference import saving
from yolotf.inference.detector_function import InferenceFunction
from yolotf.inference.image_operations import fit
from yolotf.interfaces import Tensor


def write(
    function: InferenceFunction,
    weights: Mapping[str, Any],
    folder: Path,
    *,
    names: Sequence[str] = (),
    max_pixels: int | None = None,
) -> None:
    """Writes a SavedModel; see `Detector.export`.

    Args:
        function: the detector; its own variables are not used.
        weights: see `FoldedNetwork.hwio_weights`.
        folder: where to write it.
        names: the class names.
        max_pixels: larger encoded images are not decoded; None: no limit.

    Raises:
        OSError: the folder cannot be written.
    """
    module = _Exported(function, weights, max_pixels)
    shape = function.network.input_shape
    signatures = {"serving_default": module.images.get_concrete_function()}
    warmup = {"serving_default": saving.gray_image(shape)}
    if module.decodable:
        signatures["encoded"] = module.encoded.get_concrete_function()
        warmup["encoded"] = saving.gray_jpeg(shape)
    saving.save(module, signatures, folder, names=names, warmup=warmup)


class _Exported(tf.Module):  # type: ignore[misc]
    """The module saved as a detector's SavedModel."""

    def __init__(
        self, function: InferenceFunction, weights: Mapping[str, Any], max_pixels: int | None
    ) -> None:
        super().__init__(name="detector")
        variables = {
            key: tf.Variable(value, trainable=False, name=key.replace("/", "_"))
            for key, value in weights.items()
        }
        self.stored = list(variables.values())
        self.decodable = function.network.input_shape.channels in (1, 3)
        channels = function.network.input_shape.channels
        height, width = function.network.input_shape[:2]

        def images(images: Tensor) -> dict[str, Tensor]:
            padded = _padded_if_empty(images)
            return _first_rows(tf.shape(images)[0], function.detect(padded, variables))

        def decoded(encoded: Tensor) -> tuple[Tensor, Tensor]:
            # decode_jpeg also decodes PNG. INTEGER_ACCURATE is the DCT that Pillow uses.
            image = tf.io.decode_jpeg(encoded, channels, dct_method="INTEGER_ACCURATE")
            inputs = fit(
                image[None],
                (height, width),
                letter_box=function.network.letter_box,
                resize=function.resize,
            )
            return inputs[0], tf.shape(image)[:2]

        def decoded_or_empty(encoded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            # Only data sets can catch the error of another operation.
            files = tf.data.Dataset.from_tensors(encoded)
            if max_pixels is not None:
                files = files.filter(lambda file: _pixels(file) <= max_pixels)
            readable = files.map(decoded).ignore_errors()
            empty = tf.zeros([height, width, channels]), tf.ones([2], tf.int32), False
            return readable.reduce(empty, lambda _, image: (*image, True))  # type: ignore[no-any-return]

        def encoded(images: Tensor) -> dict[str, Tensor]:
            inputs, sizes, readable = tf.map_fn(
                decoded_or_empty,
                images,
                fn_output_signature=(
                    tf.TensorSpec([height, width, channels], tf.float32),
                    tf.TensorSpec([2], tf.int32),
                    tf.TensorSpec([], tf.bool),
                ),
            )
            batch = function.detect_fitted(
                _padded_if_empty(inputs), _padded_if_empty(sizes, 1), variables
            )
            outputs = _first_rows(tf.shape(images)[0], batch)
            return {**_zeroed_unless(readable, outputs), "readable": readable}

        image_spec = tf.TensorSpec([None, None, None, channels], tf.uint8, "images")
        self.images = tf.function(images, input_signature=[image_spec], autograph=False)
        file_spec = tf.TensorSpec([None], tf.string, "images")
        self.encoded = tf.function(encoded, input_signature=[file_spec], autograph=False)


def _pixels(encoded: Tensor) -> Tensor:
    """Returns the number of pixels in the header of a JPEG or PNG, int64; fails for other files.

    The decoder also accepts GIF, in which each frame has its own size.
    """
    sizes = tf.cond(
        tf.equal(tf.strings.substr(encoded, 0, 8), b"\x89PNG\r\n\x1a\n"),
        # In IHDR, the first chunk; big-endian (PNG specification, 11.2.1).
        lambda: tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False),
        lambda: tf.io.extract_jpeg_shape(encoded)[:2],
    )
    return tf.reduce_prod(tf.cast(sizes, tf.int64))


def _padded_if_empty(values: Tensor, filled_with: int = 0) -> Tensor:
    """Pads an empty batch to one constant row (see `InferenceFunction._empty_result`)."""
    missing = tf.cast(tf.equal(tf.shape(values)[0], 0), tf.int32)
    # Not by concatenation: OpenVINO cannot tell that the number of missing rows is never negative.
    # Zeros by default: TensorFlow.js has no uint8 constants.
    sides = [[0, missing]] + [[0, 0]] * (values.shape.rank - 1)
    return tf.pad(values, sides, constant_values=filled_with)


def _zeroed_unless(valid: Tensor, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the outputs with zeros in the rows that are not valid."""
    return {
        name: tf.where(tf.reshape(valid, [-1] + [1] * (column.shape.rank - 1)), column, 0)
        for name, column in outputs.items()
    }


def _first_rows(count: Tensor, batch: decode.Batch) -> dict[str, Tensor]:
    return {name: column[:count] for name, column in batch._asdict().items()}
