"""Builds the `keras.Model` of a network, for training, with Keras layers for every section.

A layer is named after its section, counted from 0 after `[net]`: `conv_17`, its batch
normalization `conv_17_bn`, its activation `conv_17_mish`; in the same way `connected_25`,
`batchnorm_3`, `shortcut_4`, `local_27`. Sections that only pass on the output of another section
(a route to a single layer, `[cost]`, the heads) have no layer.

The model computes what Darknet (AlexeyAB/darknet) computes at inference. Features that Darknet
has in training only (`assisted_excitation`, drop block, deformed kernels, losses) are not part of
the graph; `[dropout]` is a Keras `Dropout`.
"""

from __future__ import annotations

import re
from typing import Any

from yolotf.darknet import cfg, graph_checks
from yolotf.darknet.graph_checks import used_layers
from yolotf.graphs import forked
from yolotf.models import undrawn
from yolotf.models.keras_module import check_backend, keras
from yolotf.models.layer_names import layer_name, network_of, remember_network
from yolotf.models.saved import read_model as read_model

# Check before the next imports: TensorFlow imports Keras.
check_backend()

from yolotf.models import sections as sections  # noqa: E402 (registers what builds them)
from yolotf.models.builder import BN_MOMENTUM, Builder  # noqa: E402

__all__ = [
    "BN_MOMENTUM",
    "build_model",
    "layer_name",
    "network_of",
    "used_layers",
]


def build_model(network: cfg.Network, *, dtype: Any = None, name: str | None = None) -> Any:
    """Builds the Keras functional model of `network`, with kernels initialized as in Darknet.

    See `yolotf.build_model`, which also loads weights.
    """
    check_call(network)
    return build_undrawn(network, undrawn.Kernels(filled=False), dtype=dtype, name=name)


def check_call(network: object) -> None:
    """Checks that `network` is a `Network`, and that the model could run in this process.

    Raises:
        TypeError: `network` is not a `Network`; the message shows the correct call.
        ForkedProcessError: the process was forked after TensorFlow had run.
    """
    if not isinstance(network, cfg.Network):
        raise TypeError(
            f"network must be a Network, a stock name or a cfg, not {type(network).__name__}: "
            "yolotf.build_model('yolov4') or yolotf.build_model('yolov4.cfg')"
        )
    forked.check_process("build_model")


def build_undrawn(
    network: cfg.Network, kernels: undrawn.Kernels, *, dtype: Any = None, name: str | None = None
) -> Any:
    """Builds the model as `build_model` does; `kernels` decides when kernels are initialized."""
    built = Builder(network, dtype, kernels)
    image = built.images
    outputs = [built.outputs[index] for index in graph_checks.output_layers(network)]
    # Keras 3.12, the last for Python 3.10, refuses a model whose output is its input.
    outputs = [keras().layers.Identity()(x) if x is image else x for x in outputs]
    model = keras().Model(image, outputs, name=_model_name(network, name))
    kernels.release()
    remember_network(model, network)
    return model


def _model_name(network: cfg.Network, name: str | None) -> str:
    if name is not None:
        return name
    base = network.name or network.source.removesuffix(".cfg")
    # TensorFlow opens a name scope of this name, which allows these characters only.
    return re.sub(r"[^A-Za-z0-9._-]+", "_", base).strip("_.-") or "darknet"
