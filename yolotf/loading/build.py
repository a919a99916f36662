"""`build_model`: builds a network's Keras model, with weights from a file or random ones."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from yolotf._public import public, warn_caller
from yolotf.darknet import stock
from yolotf.darknet.cfg import Network, Source
from yolotf.darknet.dialects import Dialect
from yolotf.files.fetching import TIMEOUT
from yolotf.loading.job import ENDS_AFTER
from yolotf.loading.load import load_darknet_weights
from yolotf.models import build, undrawn
from yolotf.weights.file import WeightsSource

if TYPE_CHECKING:
    import keras


@public
def build_model(
    network: Network | Source,
    *,
    classes: int | None = None,
    dialect: Dialect | None = None,
    weights: WeightsSource | None = None,
    dtype: str | keras.DTypePolicy | None = None,
    name: str | None = None,
    timeout: float | None = TIMEOUT,
) -> keras.Model:
    """Builds the Keras functional model of `network`.

    Args:
        network: a `Network`, a stock name, or a cfg's path or text.
        classes: for another number of classes than the network has.
        dialect: the fork of Darknet that reads the cfg, see `parse_cfg`.
        weights: a `.weights` file of the network, or of its first layers (`yolov4.conv.137`), in
            any form that `load_darknet_weights` accepts. Layers that the file does not cover, or
            all of them without a file, are initialized as in Darknet (`yolotf.models.initial`);
            `keras.utils.set_random_seed` sets the seed. To load a file of another network, or to
            get a report, call `load_darknet_weights` on the model; that takes no longer.
        dtype: Keras dtype policy of every layer, by name or as an object; by default the global
            policy. With `mixed_float16` the variables stay float32. The floats of `weights` are
            cast to the dtype of the variables.
        name: the model's name; by default that of the network or its cfg.
        timeout: see `load_darknet_weights`.

    Returns:
        A `keras.Model`. Its input is images `(batch, height, width, channels)`, RGB, 0..1. Its
        output is a list of raw head outputs `(batch, rows, columns, filters)` in cfg order, the
        inputs of each `[yolo]`, `[Gaussian_yolo]`, `[region]` or `[detection]`; without a head,
        the output of the last section. With a single head, Keras returns the tensor without the
        list. Sections that no output depends on are left out (`used_layers`). With recurrent
        sections (`[crnn]`, ...) a batch is consecutive frames of one video, see
        `keras_layers.Recurrent`. To load a `.keras` file of the model, import
        `yolotf.keras_layers` first.

    Raises:
        CfgError: the cfg is invalid, or there is no such file and no such network.
        UnsupportedSectionError: a section or one of its options has no counterpart in Keras.
        WeightsMismatch: the file does not match the network; its `diagnosis` lists all causes.
        OSError: the file cannot be read.
        ForkedProcessError: the process was forked after TensorFlow had run in its parent, so the
            model could never be called.
    """
    if isinstance(network, Network | str | os.PathLike):
        network = stock.as_network(network, classes=classes, dialect=dialect)
    if weights is None:
        return build.build_model(network, dtype=dtype, name=name)
    build.check_call(network)
    kernels = undrawn.Kernels(filled=True)
    model = build.build_undrawn(network, kernels, dtype=dtype, name=name)
    report = load_darknet_weights(model, weights, cast=True, timeout=timeout)
    kernels.draw_rest(report.loaded)
    for text in report.warnings:
        if not text.startswith(ENDS_AFTER):  # expected of a backbone file
            warn_caller(f"{report.path}: {text}")
    return model
