"""`.tflite`: TensorFlow Lite, in float32, float16 or int8."""

from __future__ import annotations

import re
from pathlib import Path

from yolotf import errors
from yolotf.darknet import graph_checks as graph_rules
from yolotf.formats import calibration
from yolotf.formats.concrete_function import traced
from yolotf.formats.request import Source


def write(source: Source, path: Path) -> None:
    """Writes one signature, `serving_default`.

    `int8` quantizes weights and activations by what a run over the pictures shows; input and
    outputs stay float32, and what has no int8 operation stays float.

    Raises:
        UnsupportedSectionError: TensorFlow Lite has no operation for a section.
    """
    import tensorflow as tf  # not before a format is asked for

    _check(source)
    options = source.options
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
    path.write_bytes(content)


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
