"""A detector as a SavedModel of standard operations. Importing this module imports TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from yolotf.graphs import decode
from yolotf.inference import saving
from yolotf.inference.detector_function import InferenceFunction
from yolotf.inference.image_operations import fit

Tensor = Any


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
        function: what it computes; its variables are not looked at.
        weights: see `FoldedNetwork.unblocked_weights`.
        folder: where to.
        names: of the classes.
        max_pixels: an encoded image of more is not decoded; None: no limit.

    Raises:
        OSError: the folder cannot be written.
    """
    module = _Exported(function, weights, max_pixels)
    shape = function.network.input_shape
    signatures = {"serving_default": module.images.get_concrete_function()}
    warmup = {"serving_default": saving.grey(shape)}
    if module.decodable:
        signatures["encoded"] = module.encoded.get_concrete_function()
        warmup["encoded"] = saving.grey_file(shape)
    saving.save(module, signatures, folder, names=names, warmup=warmup)


class _Exported(tf.Module):  # type: ignore[misc]
    """What a SavedModel of a detector holds."""

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
            padded = _not_empty(images)
            return _first(tf.shape(images)[0], function.detect(padded, variables))

        def fitted(encoded: Tensor) -> tuple[Tensor, Tensor]:
            # This operation decodes PNG too. The transform is the one Pillow uses.
            image = tf.io.decode_jpeg(encoded, channels, dct_method="INTEGER_ACCURATE")
            inputs = fit(
                image[None],
                (height, width),
                letter_box=function.network.letter_box,
                resize=function.resize,
            )
            return inputs[0], tf.shape(image)[:2]

        def fitted_or_empty(encoded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            # No operation catches the error of another but those of data sets.
            files = tf.data.Dataset.from_tensors(encoded)
            if max_pixels is not None:
                files = files.filter(lambda file: _pixels(file) <= max_pixels)
            pictures = files.map(fitted).ignore_errors()
            empty = tf.zeros([height, width, channels]), tf.ones([2], tf.int32), False
            return pictures.reduce(empty, lambda _, picture: (*picture, True))  # type: ignore[no-any-return]

        def encoded(images: Tensor) -> dict[str, Tensor]:
            inputs, sizes, readable = tf.map_fn(
                fitted_or_empty,
                images,
                fn_output_signature=(
                    tf.TensorSpec([height, width, channels], tf.float32),
                    tf.TensorSpec([2], tf.int32),
                    tf.TensorSpec([], tf.bool),
                ),
            )
            found = function.detect_fitted(_not_empty(inputs), _not_empty(sizes, 1), variables)
            answer = _first(tf.shape(images)[0], found)
            return {**_only(readable, answer), "readable": readable}

        pictures = tf.TensorSpec([None, None, None, channels], tf.uint8, "images")
        self.images = tf.function(images, input_signature=[pictures], autograph=False)
        files = tf.TensorSpec([None], tf.string, "images")
        self.encoded = tf.function(encoded, input_signature=[files], autograph=False)


def _pixels(encoded: Tensor) -> Tensor:
    """int64: how many pixels a JPEG or PNG says it has; an error for all else.

    GIF, which the decoder takes as well, has a size for each of its frames.
    """
    sizes = tf.cond(
        tf.equal(tf.strings.substr(encoded, 0, 8), b"\x89PNG\r\n\x1a\n"),
        # Of IHDR, the first chunk; big-endian (PNG specification, 11.2.1).
        lambda: tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False),
        lambda: tf.io.extract_jpeg_shape(encoded)[:2],
    )
    return tf.reduce_prod(tf.cast(sizes, tf.int64))


def _not_empty(values: Tensor, filled_with: int = 0) -> Tensor:
    """An empty batch gets one row of a number (see `InferenceFunction._nothing`)."""
    missing = tf.cast(tf.equal(tf.shape(values)[0], 0), tf.int32)
    # Not joined to rows of that many: OpenVINO does not see that their shape is never below zero.
    # Not ones where zeros will do: TensorFlow.js has no constants of uint8.
    sides = [[0, missing]] + [[0, 0]] * (values.shape.rank - 1)
    return tf.pad(values, sides, constant_values=filled_with)


def _only(rows: Tensor, answer: dict[str, Tensor]) -> dict[str, Tensor]:
    """Zeros in all rows but these."""
    return {
        name: tf.where(tf.reshape(rows, [-1] + [1] * (column.shape.rank - 1)), column, 0)
        for name, column in answer.items()
    }


def _first(count: Tensor, found: decode.Batch) -> dict[str, Tensor]:
    return {name: column[:count] for name, column in found._asdict().items()}
