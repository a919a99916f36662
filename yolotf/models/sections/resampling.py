"""Sections that change rows and columns: pooling, `[upsample]`, `[reorg]`, `[crop]`."""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from yolotf.darknet import cfg
from yolotf.graphs.sections import resampling
from yolotf.models.builder import Builder, builds
from yolotf.models.registration import Layer, layers, register
from yolotf.models.sections.antialiased import blurred
from yolotf.models.windows import Window


@builds(cfg.Pool)
@blurred
def _pool(builder: Builder, layer: cfg.Pool, inputs: Sequence[Any]) -> Any:
    if layer.maxpool_depth:
        return ChannelMaxPooling(layer.out_channels, **builder.named(layer))(*inputs)
    strides = (layer.stride_y, layer.stride_x)
    padding = Window.of(layer, layer.size, strides, layer.padding // 2).padding
    maximum = layer.type == "maxpool"
    if not isinstance(padding, str):
        return PaddedPooling2D(
            "max" if maximum else "mean", layer.size, strides, padding, **builder.named(layer)
        )(*inputs)
    pooling = layers.MaxPooling2D if maximum else layers.AveragePooling2D
    options = builder.spatial(layer)
    return pooling(layer.size, strides=strides, padding=padding, **options)(*inputs)


@builds(cfg.Avgpool)
def _average(builder: Builder, layer: cfg.Avgpool, inputs: Sequence[Any]) -> Any:
    return layers.GlobalAveragePooling2D(keepdims=True, **builder.spatial(layer))(*inputs)


@builds(cfg.Upsample)
def _upsample(builder: Builder, layer: cfg.Upsample, inputs: Sequence[Any]) -> Any:
    stride, scale = layer.stride, layer.scale
    options = builder.spatial(layer)
    if layer.reverse:
        # Darknet sums over the window (blas.c:483-498).
        scale *= stride**2
        x = layers.AveragePooling2D(stride, **options)(*inputs)
    else:
        x = layers.UpSampling2D(stride, interpolation="nearest", **options)(*inputs)
    return x if scale == 1 else builder.rescaled(layer, x, scale)


@builds(cfg.Reorg)
def _reorg(builder: Builder, layer: cfg.Reorg, inputs: Sequence[Any]) -> Any:
    stride = layer.stride
    if stride == 1:
        return inputs[0]
    if layer.type == "reorg3d":
        if not layer.reverse:
            return SpaceToDepth(stride, **builder.named(layer))(*inputs)
        # reorg_layer.c:82 passes the output's shape, reorg_old_layer.c:82 the input's.
        view = layer.output_shape
    else:
        view = layer.input_shape
    return Reorg(stride, layer.reverse, view, layer.output_shape, **builder.named(layer))(*inputs)


@builds(cfg.Crop)
def _crop(builder: Builder, layer: cfg.Crop, inputs: Sequence[Any]) -> Any:
    (x,) = inputs
    sides = []
    for extent, kept in zip(layer.input_shape[:2], layer.output_shape[:2], strict=True):
        before = (extent - kept) // 2
        sides.append((before, extent - kept - before))
    if sides != [(0, 0), (0, 0)]:
        x = layers.Cropping2D(tuple(sides), **builder.spatial(layer))(x)
    # crop_layer.c:76: 0..1 becomes -1..1.
    return x if layer.noadjust else builder.rescaled(layer, x, 2.0, -1.0)


@register
class PaddedPooling2D(Layer):
    """`[maxpool]` and `[local_avgpool]` with a padding that is neither `valid` nor `same`.

    Positions outside of the image are ignored in both the maximum and the mean
    (maxpool_layer.c:283-311, 346-374).
    """

    def __init__(
        self,
        mode: str,
        pool_size: int,
        strides: Sequence[int],
        padding: Sequence[Sequence[int]],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mode = mode
        self.pool_size = pool_size
        self.strides = tuple(strides)
        self.padding = tuple(tuple(side) for side in padding)

    def call(self, inputs: Any) -> Any:
        """Pools NHWC `inputs`."""
        return resampling.pool_window(
            tf.raw_ops, inputs, self.mode == "max", self.pool_size, self.strides, self.padding
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "mode": self.mode,
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
        }


@register
class ChannelMaxPooling(Layer):
    """`[maxpool]` with `maxpool_depth`: the maximum over every `filters`-th channel.

    Output channel `i` is the maximum of the input channels `i`, `i + filters`, ...
    (maxpool_layer.c:245-270).
    """

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters

    def call(self, inputs: Any) -> Any:
        """Pools (batch, rows, columns, channels) to (batch, rows, columns, filters)."""
        return resampling.pool_channels(tf.raw_ops, inputs, inputs.shape[-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "filters": self.filters}


@register
class Reorg(Layer):
    """`[reorg]`: Darknet's rearrangement of rows, columns and channels (blas.c:10-37).

    It is not space-to-depth, because Darknet passes the input's shape to a function that expects
    the output's (reorg_old_layer.c:81-86). `target_shape` is the (rows, columns, channels) of the
    output, and `view` the shape that is passed to the function.
    """

    def __init__(
        self,
        stride: int,
        reverse: bool,
        view: Sequence[int],
        target_shape: Sequence[int],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.stride = stride
        self.reverse = reverse
        self.view = tuple(view)
        self.target_shape = tuple(target_shape)

    def call(self, inputs: Any) -> Any:
        """Rearranges NHWC `inputs`."""
        return resampling.shuffle(
            tf.raw_ops, inputs, self.stride, self.reverse, self.view, self.target_shape
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "stride": self.stride,
            "reverse": self.reverse,
            "view": self.view,
            "target_shape": self.target_shape,
        }


@register
class SpaceToDepth(Layer):
    """`[reorg3d]`: moves blocks of rows and columns into channels (reorg_layer.c:79-87)."""

    def __init__(self, block_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.block_size = block_size

    def call(self, inputs: Any) -> Any:
        """Rearranges NHWC `inputs`."""
        return tf.nn.space_to_depth(inputs, self.block_size)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "block_size": self.block_size}


def repeated(rows: int, columns: int) -> Callable[[Any], Any]:
    """Returns a function that computes nearest `UpSampling2D` as a single resize operation."""

    def resize(inputs: Any) -> Any:
        height, width = inputs.shape[1:3]
        return tf.raw_ops.ResizeNearestNeighbor(
            images=inputs, size=[height * rows, width * columns], half_pixel_centers=True
        )

    return resize
