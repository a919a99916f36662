"""`antialiasing=`: a section with stride 1, followed by a blur with the stride."""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from yolotf.darknet.sections import antialiased
from yolotf.graphs.sections.antialiased import blur
from yolotf.models.builder import Build, Builder
from yolotf.models.registration import Layer, register


def blurred(build: Build) -> Build:
    """Decorates a build function to add the blur of a section with `antialiasing=`."""

    @functools.wraps(build)
    def build_and_blur(builder: Builder, layer: Any, inputs: Sequence[Any]) -> Any:
        x = build(builder, antialiased.sharp(layer), inputs)
        return Blur(*layer.blur, **builder.named(layer, "_blur"))(x) if layer.antialiasing else x

    return build_and_blur


@register
class Blur(Layer):
    """The blur that `antialiasing` adds after a section: a fixed kernel over each channel."""

    def __init__(
        self,
        kernel: Sequence[Sequence[float]],
        padding: Sequence[Sequence[int]],
        stride_y: int,
        stride_x: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        rows, columns = ((int(before), int(after)) for before, after in padding)
        self.blur = antialiased.Blur(tuple(map(tuple, kernel)), (rows, columns), stride_y, stride_x)

    def call(self, inputs: Any) -> Any:
        """Blurs NHWC `inputs`."""
        return blur(tf.raw_ops, inputs, self.blur, inputs.shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), **self.blur._asdict()}
