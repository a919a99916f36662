"""`build_model`: a network's Keras model, with a file's weights in it or with drawn ones."""

from __future__ import annotations

import os
from typing import Any

from yolotf._public import public, warn_caller
from yolotf.darknet import stock
from yolotf.darknet.cfg import Network, Source
from yolotf.files.fetching import TIMEOUT
from yolotf.loading.load import load_darknet_weights
from yolotf.loading.planning import ENDS_AFTER
from yolotf.models import build, undrawn
from yolotf.weights.file import WeightsSource


@public
def build_model(
    network: Network | Source,
    *,
    weights: WeightsSource | None = None,
    dtype: Any = None,
    name: str | None = None,
    timeout: float | None = TIMEOUT,
) -> Any:
    """Builds the Keras functional model of `network`.

    Args:
        network: a `Network`, a stock name, or a cfg's path or text.
        weights: a `.weights` file of the network, or of its first layers (`yolov4.conv.137`), as
            `load_darknet_weights` takes it. Everything that it does not fill, without a file all,
            begins as Darknet draws it (`yolotf.models.initial`); `keras.utils.set_random_seed`
            seeds it. For a file of another network, and for a report, load it into the model
            with `load_darknet_weights`; that takes no longer.
        dtype: Keras dtype policy of every layer, by name or object; the global policy if not
            given. Under `mixed_float16` the variables stay float32. Into variables of another
            type the floats of `weights` are cast.
        name: the model's name; the network's, or its cfg's, if not given.
        timeout: see `load_darknet_weights`.

    Returns:
        A `keras.Model` from images `(batch, height, width, channels)`, RGB, 0..1, to a list of
        raw head outputs `(batch, rows, columns, filters)` in cfg order: what enters each
        `[yolo]`, `[Gaussian_yolo]`, `[region]` or `[detection]`. Without a head, the output of
        the last section. Sections that nothing of this depends on are left out
        (`used_layers`). With sections that remember (`[crnn]`, ...) a batch is frames of one
        video in their order, see `keras_layers.Recurrent`. Called with one head, Keras returns it
        without the list. A `.keras` file of the model can be loaded once `yolotf.keras_layers` is
        imported.

    Raises:
        CfgError: the cfg is broken, or there is neither such a file nor such a network.
        UnsupportedSectionError: a section or one of its options has no counterpart in Keras.
        WeightsMismatch: the file does not belong to the network; its `diagnosis` holds all causes.
        OSError: the file cannot be read.
        ForkedProcessError: the process was forked after TensorFlow had run in its parent: the
            model could never be called.
    """
    if isinstance(network, str | os.PathLike):
        network = stock.as_network(network)
    if weights is None:
        return build.build_model(network, dtype=dtype, name=name)
    build.check_call(network)
    kernels = undrawn.Kernels(filled=True)
    model = build.build_undrawn(network, kernels, dtype=dtype, name=name)
    report = load_darknet_weights(model, weights, cast=True, timeout=timeout)
    kernels.draw_rest(report.loaded)
    for text in report.warnings:
        if not text.startswith(ENDS_AFTER):  # which whoever passes `yolov4.conv.137` knows
            warn_caller(f"{report.path}: {text}")
    return model
