"""How a `[connected]` may differ between a cfg and a file."""

from __future__ import annotations

from yolotf.darknet import cfg
from yolotf.diagnosis.edit import Option
from yolotf.diagnosis.edit_registry import OptionValues, spatial_options


@spatial_options(cfg.Connected)
def _spatial(layer: cfg.Connected) -> OptionValues:
    near = {2**power for power in range(3, 13)} | {10, 20, 84, 100, 120, 496, 1000, 1470}
    yield Option.OUTPUT, layer.output, sorted(near - {layer.output})
