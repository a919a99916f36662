"""How a `[maxpool]` or `[local_avgpool]` may differ between a cfg and a file."""

from __future__ import annotations

from yolotf.darknet import cfg
from yolotf.diagnosis.edit import Option
from yolotf.diagnosis.edit_registry import OptionValues, spatial_options


@spatial_options(cfg.Pool)
def _spatial(layer: cfg.Pool) -> OptionValues:
    yield Option.STRIDE, layer.stride_x, sorted({1, 2, 3} - {layer.stride_x})
    yield Option.SIZE, layer.size, sorted({2, 3} - {layer.size})
    yield Option.PADDING, layer.padding, sorted({0, 1} - {layer.padding})
