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
"""What each output of a quantized file has to have with that of the float model."""

_COMPARED = 16
"""Images that a quantized file is tried with."""


def write(source: Source, path: Path) -> None:
    """Writes one signature, `serving_default`, with the cfg and class names beside the model.

    `int8` quantizes weights and activations by what a run over the pictures shows; input and
    outputs stay float32, and what has no int8 operation stays float. With `int8_only` neither do.

    Raises:
        UnsupportedSectionError: TensorFlow Lite has no operation for a section.
        YolotfError: the converter failed, or the answers of a quantized file are far from those
            of the float model. Facts: `correlations`, by output.
    """
    import tensorflow as tf  # not before a format is asked for

    _check(source)
    options = source.options
    _make_convertible(source.model)
    # What a microcontroller runs does not change its shapes.
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
    """What the converter is to do, with the images for it in `folder`.

    Args:
        source: the model.
        folder: of the job.
        function: the float model.
        expected: gets its answers to the images that a quantized file is tried with.
    """
    import tensorflow as tf  # not before a format is asked for

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
    """The names of the outputs, and what to call their tensors."""
    if source.options.suppression is not None:
        return [(name, name) for name in ("locations", "classes", "scores", "count")]
    if source.options.decode:
        return [("boxes", "boxes"), ("scores", "scores")]
    names = graph_rules.output_names(source.network)
    if source.options.reverse_outputs:
        names.reverse()
    return [(f"output_{number}", name) for number, name in enumerate(names)]


def _progress(source: Source) -> Callable[[int], None]:
    options = source.options
    batch = options.batch or 1
    count = -(-len(options.int8) // batch) * batch
    return lambda done: source.tell(f"calibrating with {done * batch} of {count} pictures")


def _refusal(source: Source, said: str) -> errors.YolotfError:
    """The error for what the converter says, or what ended it."""
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
    """Makes layers compute by operations that TensorFlow Lite is good at; they stay what they are.

    It lowers softplus, of mish, to log(exp(x) + 1), where exp has one scale of int8 for all its
    range; and upsampling by repetition to a tile, which other readers than its own lack.

    Args:
        model: whose layers.
    """
    from yolotf.models import keras_layers  # Keras: not before a format is asked for

    for layer in model.layers:
        if getattr(layer, "activation", None) is keras().activations.mish:
            layer.activation = keras_layers.mish_of_small_numbers
        if isinstance(layer, keras().layers.UpSampling2D):
            layer.call = keras_layers.repeated(*layer.size)


def _check_answers(
    source: Source, ours: lite_process.Answers, theirs: lite_process.Answers
) -> None:
    """Raises where the file's answers do not go with those of the float model."""
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
    """Batches that a quantized file is tried with: of `int8`, else random ones."""
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
    """Of all numbers; 1 where both are the same constant, 0 where it is no number."""
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
    """Names the sections that TensorFlow Lite has no operations for."""
    # Keras: not before a format is asked for.
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
