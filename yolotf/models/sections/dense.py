"""`[connected]` and `[batchnorm]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yolotf.darknet import cfg
from yolotf.models import initial
from yolotf.models.builder import Builder, builds
from yolotf.models.registration import layers


@builds(cfg.Connected)
def _connected(builder: Builder, layer: cfg.Connected, inputs: Sequence[Any]) -> Any:
    (x,) = inputs
    height, width, _ = layer.input_shape
    if height * width > 1:
        # Darknet flattens channels, rows, columns, in this order.
        x = layers.Permute((3, 1, 2), **builder.named(layer, "_permute"))(x)
        flat = (1, 1, layer.input_shape.floats)
        x = layers.Reshape(flat, **builder.named(layer, "_flatten"))(x)
    dense = layers.Dense(
        layer.output,
        use_bias=not layer.batch_normalize,
        kernel_initializer=initial.kernel(layer.input_shape.floats),
        **builder.named(layer),
    )
    x = builder.undrawn.hold(dense)(x)
    if layer.batch_normalize:
        x = builder.batch_normalization(layer)(x)
    return builder.activated(layer, x)


@builds(cfg.Batchnorm)
def _batchnorm(builder: Builder, layer: cfg.Batchnorm, inputs: Sequence[Any]) -> Any:
    return builder.batch_normalization(layer, "")(*inputs)
