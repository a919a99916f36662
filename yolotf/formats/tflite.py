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
from yolotf.darknet import graph_checks as graph_rules
from yolotf.formats import calibration, lite_file, lite_process
from yolotf.formats.concrete_function import traced
from yolotf.formats.request import Source
from yolotf.models.keras_module import keras

LEAST_CORRELATION = 0.9
"""Minimum correlation of each output of a quantized file with the float model's."""

_COMPARED = 16
"""Number of images to test a quantized file with."""


def write(source: Source, path: Path) -> None:
    """Writes one signature, `serving_default`, and attaches the cfg and class names to the model.

    `int8` quantizes weights and activations with ranges calibrated on the images; input and
    outputs stay float32, as do operations without an int8 version. `int8_only` leaves no floats.

    Raises:
        UnsupportedSectionError: TensorFlow Lite has no operation for a section.
        YolotfError: the converter failed, or the outputs of a quantized file are far from the
            float model's. Facts: `correlations`, by output.
    """
    import tensorflow as tf  # imported lazily: needed only while converting

    _check(source)
    options = source.options
    _make_convertible(source.model)
    # Microcontrollers do not resize tensors.
    fixed = options.int8_only or options.suppression is not None
    module, function = traced(source, batch=options.batch or (1 if fixed else None))
    with tempfile.TemporaryDirectory(prefix="yolotf-") as name:
        folder = Path(name)
        tf.saved_model.save(
            module, os.fspath(folder / lite_process.SAVED_MODEL), signatures=function
        )
        expected: lite_process.Answers = {}
        job = _job(source, folder, function, expected)
        try:
            answers = lite_process.run(folder, job, _progress(source))
        except lite_process.ConverterError as error:
            raise _refusal(source, str(error)) from None
        if job.trial:
            _check_answers(source, answers, expected)
        content = (folder / lite_process.MODEL).read_bytes()
    described = {lite_file.CFG: "the network as a Darknet cfg"}
    files = {lite_file.CFG: source.network.to_cfg()}
    if options.names:
        described[lite_file.CLASS_NAMES] = "names of the classes, one a line"
        files[lite_file.CLASS_NAMES] = "".join(f"{name}\n" for name in options.names)
    path.write_bytes(lite_file.with_metadata(content, source.model.name, described))
    lite_file.add_files(path, files)


def _job(
    source: Source, folder: Path, function: Any, expected: lite_process.Answers
) -> lite_process.Job:
    """Returns the converter's job, with its images written into `folder`.

    Args:
        source: the model.
        folder: the job's folder.
        function: the float model.
        expected: filled with the float model's outputs for the trial images.
    """
    import tensorflow as tf  # imported lazily: needed only while converting

    options = source.options
    batch = options.batch or 1
    quantizing = trial = 0
    for images in calibration.batches(source, options.int8, batch):
        lite_process.put_images(folder, "calibration", quantizing, images)
        quantizing += 1
    if (options.float16 or options.int8) and not options.allow_inaccurate:
        for images in _images(source):
            lite_process.put_images(folder, "trial", trial, images)
            trial += 1
            for name, values in function(tf.constant(images)).items():
                expected.setdefault(name, []).append(values.numpy())
    return lite_process.Job(
        float16=options.float16,
        int8=bool(options.int8),
        int8_only=options.int8_only,
        calibration=quantizing,
        trial=trial,
        outputs=_outputs(source),
    )


def _outputs(source: Source) -> list[tuple[str, str]]:
    """Returns (output name, new name of its tensor) for every output."""
    if source.options.suppression is not None:
        return [(name, name) for name in ("locations", "classes", "scores", "count")]
    if source.options.decode:
        return [("boxes", "boxes"), ("scores", "scores")]
    names = graph_rules.output_names(source.network)
    if source.options.reverse_outputs:
        names.reverse()
    return [(f"output_{number}", name) for number, name in enumerate(names)]


def _progress(source: Source) -> Callable[[int], None]:
    """Returns a callback for the number of calibrated batches."""
    options = source.options
    batch = options.batch or 1
    count = -(-len(options.int8) // batch) * batch

    def calibrated(batches: int) -> None:
        source.progress("calibrating", batches * batch, count)
        if batches * batch == count:
            source.progress("writing", 0, 1)

    if count:
        source.progress("calibrating", 0, count)
    return calibrated


def _refusal(source: Source, said: str) -> errors.YolotfError:
    """Returns the error for the converter's message or for how its process ended."""
    missing = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", said)))
    if missing:
        return errors.UnsupportedSectionError(
            f"{source.network.source}: TensorFlow Lite lacks {', '.join(missing)}, which the "
            "network needs; write a SavedModel or .keras",
            source=source.network.source,
            operations=missing,
        )
    first = said.strip().partition("\n")[0].rstrip(" .")
    return errors.TensorFlowError(
        f"{source.network.source}: TensorFlow Lite's converter failed: {first}; write float32 or "
        "a SavedModel",
        source=source.network.source,
        said=said,
    )


def _make_convertible(model: Any) -> None:
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


def _check_answers(
    source: Source, ours: lite_process.Answers, theirs: lite_process.Answers
) -> None:
    """Raises YolotfError if the file's outputs differ too much from the float model's."""
    correlations = {name: _correlation(ours[name], theirs[name]) for name in sorted(theirs)}
    if min(correlations.values()) < LEAST_CORRELATION:
        listed = ", ".join(f"{name} {value:.3f}" for name, value in correlations.items())
        how = "int8" if source.options.int8 else "float16"
        raise errors.YolotfError(
            f"{source.network.source}: in {how} the outputs are not those of the float model: "
            f"correlation {listed}, at least {LEAST_CORRELATION} is wanted; give other images, "
            "write float16 or float32, or allow_inaccurate (--allow-inaccurate)",
            source=source.network.source,
            correlations=correlations,
        )


def _images(source: Source) -> Iterator[Any]:
    """Yields batches to test a quantized file with: the `int8` images, or random ones."""
    options = source.options
    batch = options.batch or 1
    if options.int8:
        paths = list(options.int8)[: max(_COMPARED, batch)]
        yield from calibration.batches(source, paths, batch)
        return
    random = np.random.default_rng(1)
    for _ in range(2):
        yield random.random((batch, *source.network.input_shape), np.float32)


def _correlation(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    """Returns the correlation of all numbers: 1 if both are the same constant, 0 if undefined."""
    one, other = (
        np.concatenate([np.ravel(part) for part in each]).astype(np.float64)
        for each in (ours, theirs)
    )
    if not np.isfinite(one).all() or not np.isfinite(other).all():
        return 1.0 if np.array_equal(one, other, equal_nan=True) else 0.0
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one @ one) * (other @ other)))
    if not size:
        return 1.0 if not other.any() else 0.0
    return float(one @ other) / size


def _check(source: Source) -> None:
    """Raises UnsupportedSectionError for sections without a TensorFlow Lite operation."""
    # imported lazily, with Keras
    from yolotf.models import keras_layers
    from yolotf.models.build import layer_name

    for layer in source.model.layers:
        if isinstance(layer, keras_layers.LocallyConnected2D):
            what = "[local]"
        elif isinstance(layer, keras_layers.PaddedPooling2D) and layer.mode == "max":
            what = f"[maxpool] with a padding of {layer.padding}"
        else:
            continue
        network = source.network
        section = next(one for one in network.layers if layer_name(one) == layer.name)
        raise graph_rules.refuse(
            network, section, f"TensorFlow Lite has no {what}; write a SavedModel or .keras"
        )
