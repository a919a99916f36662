"""`.tflite`: TensorFlow Lite, in float32, float16 or int8."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolotf import errors
from yolotf.darknet import graph_checks
from yolotf.formats import calibration, lite_file, lite_process
from yolotf.formats.concrete_function import traced
from yolotf.formats.request import ConversionInput
from yolotf.models.keras_module import keras

MIN_CORRELATION = 0.9
"""Minimum correlation of each output of a quantized file with the float model's."""

_TRIAL_IMAGES = 16
"""Number of images to test a quantized file with."""


def write(conversion: ConversionInput, path: Path) -> None:
    """Writes one signature, `serving_default`, and attaches the cfg and class names to the model.

    `int8` quantizes weights and activations with ranges calibrated on the images; input and
    outputs stay float32, as do operations without an int8 version. `int8_only` leaves no floats.

    Raises:
        UnsupportedSectionError: TensorFlow Lite has no operation for a section.
        YolotfError: the converter failed, or the outputs of a quantized file are far from the
            float model's. Facts: `correlations`, by output.
    """
    import tensorflow as tf  # imported lazily: needed only while converting

    _check_sections(conversion)
    options = conversion.options
    _use_convertible_operations(conversion.model)
    # Microcontrollers do not resize tensors.
    needs_fixed_batch = options.int8_only or options.suppression is not None
    module, function = traced(
        conversion, batch_size=options.batch_size or (1 if needs_fixed_batch else None)
    )
    with tempfile.TemporaryDirectory(prefix="yolotf-") as name:
        folder = Path(name)
        tf.saved_model.save(
            module, os.fspath(folder / lite_process.SAVED_MODEL), signatures=function
        )
        expected: lite_process.Outputs = {}
        job = _job(conversion, folder, function, expected)
        try:
            outputs = lite_process.run(folder, job, _progress(conversion))
        except lite_process.ConverterError as error:
            raise _converter_error(conversion, str(error)) from None
        if job.trial:
            _check_outputs(conversion, outputs, expected)
        content = (folder / lite_process.MODEL).read_bytes()
    descriptions = {lite_file.CFG: "the network as a Darknet cfg"}
    files = {lite_file.CFG: conversion.network.to_cfg()}
    if options.class_names:
        descriptions[lite_file.CLASS_NAMES] = "names of the classes, one a line"
        files[lite_file.CLASS_NAMES] = "".join(f"{name}\n" for name in options.class_names)
    path.write_bytes(lite_file.with_metadata(content, conversion.model.name, descriptions))
    lite_file.add_files(path, files)


def _job(
    conversion: ConversionInput, folder: Path, function: Any, expected: lite_process.Outputs
) -> lite_process.Job:
    """Returns the converter's job, with its images written into `folder`.

    Args:
        conversion: the model and how to convert it.
        folder: the job's folder.
        function: the float model.
        expected: filled with the float model's outputs for the trial images.
    """
    import tensorflow as tf  # imported lazily: needed only while converting

    options = conversion.options
    batch_size = options.batch_size or 1
    calibration_batches = trial_batches = 0
    for images in calibration.batches(conversion, options.int8, batch_size):
        lite_process.put_images(folder, "calibration", calibration_batches, images)
        calibration_batches += 1
    if (options.float16 or options.int8) and not options.allow_inaccurate:
        for images in _trial_images(conversion):
            lite_process.put_images(folder, "trial", trial_batches, images)
            trial_batches += 1
            for name, values in function(tf.constant(images)).items():
                expected.setdefault(name, []).append(values.numpy())
    return lite_process.Job(
        float16=options.float16,
        int8=bool(options.int8),
        int8_only=options.int8_only,
        calibration=calibration_batches,
        trial=trial_batches,
        outputs=_outputs(conversion),
    )


def _outputs(conversion: ConversionInput) -> list[tuple[str, str]]:
    """Returns (output name, new name of its tensor) for every output."""
    if conversion.options.suppression is not None:
        return [(name, name) for name in ("locations", "classes", "scores", "count")]
    if conversion.options.decode:
        return [("boxes", "boxes"), ("scores", "scores")]
    names = graph_checks.output_names(conversion.network)
    if conversion.options.reverse_outputs:
        names.reverse()
    return [(f"output_{number}", name) for number, name in enumerate(names)]


def _progress(conversion: ConversionInput) -> Callable[[int], None]:
    """Returns a callback for the number of calibrated batches."""
    options = conversion.options
    batch_size = options.batch_size or 1
    count = -(-len(options.int8) // batch_size) * batch_size

    def calibrated(batches: int) -> None:
        conversion.progress("calibrating", batches * batch_size, count)
        if batches * batch_size == count:
            conversion.progress("writing", 0, 1)

    if count:
        conversion.progress("calibrating", 0, count)
    return calibrated


def _converter_error(conversion: ConversionInput, text: str) -> errors.YolotfError:
    """Returns the error for the converter's message or for how its process ended."""
    missing = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", text)))
    if missing:
        return errors.UnsupportedSectionError(
            f"{conversion.network.source}: TensorFlow Lite lacks {', '.join(missing)}, which the "
            "network needs; write a SavedModel or .keras",
            source=conversion.network.source,
            operations=missing,
        )
    first_line = text.strip().partition("\n")[0].rstrip(" .")
    return errors.TensorFlowError(
        f"{conversion.network.source}: TensorFlow Lite's converter failed: "
        f"{first_line}; write float32 or a SavedModel",
        source=conversion.network.source,
        said=text,
    )


def _use_convertible_operations(model: Any) -> None:
    """Makes layers use operations that TensorFlow Lite handles well; results are unchanged.

    TensorFlow Lite lowers mish's softplus to log(exp(x) + 1), where exp gets a single int8 scale
    for its whole range, and upsampling by repetition to a tile, which other runtimes lack.

    Args:
        model: its layers are modified.
    """
    from yolotf.models import keras_layers  # imported lazily, with Keras

    for layer in model.layers:
        if getattr(layer, "activation", None) is keras().activations.mish:
            layer.activation = keras_layers.mish_of_small_numbers
        if isinstance(layer, keras().layers.UpSampling2D):
            layer.call = keras_layers.repeated(*layer.size)


def _check_outputs(
    conversion: ConversionInput, outputs: lite_process.Outputs, expected: lite_process.Outputs
) -> None:
    """Raises YolotfError if the file's outputs differ too much from the float model's."""
    correlations = {name: _correlation(outputs[name], expected[name]) for name in sorted(expected)}
    if min(correlations.values()) < MIN_CORRELATION:
        listed = ", ".join(f"{name} {value:.3f}" for name, value in correlations.items())
        precision, change = "float16", "write float32"
        if conversion.options.int8:
            precision, change = "int8", "calibrate with other images, write float16 or float32"
        raise errors.YolotfError(
            f"{conversion.network.source}: the {precision} outputs differ too much from the float "
            f"model's: correlation {listed}, but at least {MIN_CORRELATION} is required; "
            f"{change}, or pass allow_inaccurate=True, or --allow-inaccurate",
            source=conversion.network.source,
            correlations=correlations,
        )


def _trial_images(conversion: ConversionInput) -> Iterator[Any]:
    """Yields batches to test a quantized file with: the `int8` images, or random ones."""
    options = conversion.options
    batch_size = options.batch_size or 1
    if options.int8:
        paths = list(options.int8)[: max(_TRIAL_IMAGES, batch_size)]
        yield from calibration.batches(conversion, paths, batch_size)
        return
    random = np.random.default_rng(1)
    for _ in range(2):
        yield random.random((batch_size, *conversion.network.input_shape), np.float32)


def _correlation(outputs: Sequence[Any], expected: Sequence[Any]) -> float:
    """Returns the correlation of all values; if undefined, 1 for equal values, else 0.

    It is undefined for values that are not finite, or all the same.
    """
    x, y = (
        np.concatenate([np.ravel(batch) for batch in batches]).astype(np.float64)
        for batches in (outputs, expected)
    )
    if not np.isfinite(x).all() or not np.isfinite(y).all():
        return 1.0 if np.array_equal(x, y, equal_nan=True) else 0.0
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    if not norm:
        return 1.0 if not y.any() else 0.0
    return float(x @ y) / norm


def _check_sections(conversion: ConversionInput) -> None:
    """Raises UnsupportedSectionError for sections without a TensorFlow Lite operation."""
    # imported lazily, with Keras
    from yolotf.models import keras_layers
    from yolotf.models.build import layer_name

    for layer in conversion.model.layers:
        if isinstance(layer, keras_layers.LocallyConnected2D):
            operation = "[local]"
        elif isinstance(layer, keras_layers.PaddedPooling2D) and layer.mode == "max":
            operation = f"[maxpool] with a padding of {layer.padding}"
        else:
            continue
        network = conversion.network
        section = next(section for section in network.layers if layer_name(section) == layer.name)
        raise graph_checks.refuse(
            network, section, f"TensorFlow Lite has no {operation}; write a SavedModel or .keras"
        )
