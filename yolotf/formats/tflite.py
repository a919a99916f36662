"""`.tflite`: TensorFlow Lite, in float32, float16 or int8."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from yolotf import errors
from yolotf.darknet import graph_checks as graph_rules
from yolotf.formats import calibration
from yolotf.formats.concrete_function import traced
from yolotf.formats.request import Source
from yolotf.models.keras_module import keras

LEAST_CORRELATION = 0.9
"""What each output of a quantized file has to have with that of the float model."""

_COMPARED = 16
"""Images that a quantized file is tried with."""


def write(source: Source, path: Path) -> None:
    """Writes one signature, `serving_default`.

    `int8` quantizes weights and activations by what a run over the pictures shows; input and
    outputs stay float32, and what has no int8 operation stays float.

    Raises:
        UnsupportedSectionError: TensorFlow Lite has no operation for a section.
        YolotfError: the answers of a quantized file are far from those of the float model.
            Facts: `correlations`, by output.
    """
    import tensorflow as tf  # not before a format is asked for

    _check(source)
    options = source.options
    _make_convertible(source.model, any_batch=options.batch is None)
    module, function = traced(source, batch=options.batch or 1)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], module
    )
    if options.float16 or options.int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if options.float16:
        converter.target_spec.supported_types = [tf.float16]
    if options.int8:
        batch = options.batch or 1
        converter.representative_dataset = lambda: calibration.batches(source, options.int8, batch)
    try:
        content = converter.convert()
    except Exception as error:
        missing = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", str(error))))
        if not missing:
            raise
        raise errors.UnsupportedSectionError(
            f"{source.network.source}: TensorFlow Lite lacks {', '.join(missing)}, which the "
            "network needs; write a SavedModel or .keras",
            source=source.network.source,
            operations=missing,
        ) from error
    if (options.float16 or options.int8) and not options.allow_inaccurate:
        _check_answers(source, content, function)
    path.write_bytes(content)


def _make_convertible(model: Any, *, any_batch: bool) -> None:
    """Makes layers compute by operations that TensorFlow Lite is good at; they stay what they are.

    It lowers softplus, of mish, to log(exp(x) + 1), where exp has one scale of int8 for all its
    range.

    Args:
        model: whose layers.
        any_batch: whether an interpreter may be asked for another batch than the file's; what
            upsampling by repetition becomes has the batch in it.
    """
    from yolotf.models import keras_layers  # Keras: not before a format is asked for

    for layer in model.layers:
        if getattr(layer, "activation", None) is keras().activations.mish:
            layer.activation = keras_layers.mish_of_small_numbers
        if any_batch and isinstance(layer, keras().layers.UpSampling2D):
            layer.call = keras_layers.repeated(*layer.size)


def _check_answers(source: Source, content: bytes, function: Any) -> None:
    """Raises where the file's answers do not go with those of the float model."""
    import tensorflow as tf  # not before a format is asked for

    runner = tf.lite.Interpreter(model_content=content).get_signature_runner("serving_default")
    source.tell("comparing with float")
    ours: dict[str, list[Any]] = {}
    theirs: dict[str, list[Any]] = {}
    for images in _images(source):
        for name, values in runner(images=images).items():
            ours.setdefault(name, []).append(np.ravel(values))
        for name, values in function(tf.constant(images)).items():
            theirs.setdefault(name, []).append(np.ravel(values))
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
        silent = replace(source, tell=lambda stage: None)
        for (images,) in calibration.batches(silent, paths, batch):
            yield images
        return
    random = np.random.default_rng(1)
    for _ in range(2):
        yield random.random((batch, *source.network.input_shape), np.float32)


def _correlation(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    """Of all numbers; 1 where both are the same constant, 0 where it is no number."""
    one, other = (np.concatenate(list(each)).astype(np.float64) for each in (ours, theirs))
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
