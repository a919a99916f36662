"""Layers that Darknet has no weights for: skip_mismatch leaves them and loads the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support import by_hand, cfgs, helpers, load_helpers, messages
from yolotf.models.keras_module import keras

L: Any = keras().layers


def squeeze_excite(x: Any, name: str) -> Any:
    """Squeeze and excitation by dense layers without biases."""
    channels = x.shape[-1]
    scale = L.Reshape((1, 1, channels))(L.GlobalAveragePooling2D()(x))
    scale = L.Dense(channels // 4, activation="relu", use_bias=False, name=f"{name}_1")(scale)
    scale = L.Dense(channels, activation="sigmoid", use_bias=False, name=f"{name}_2")(scale)
    return L.Multiply()([x, scale])


def convolved_squeeze_excite(x: Any, name: str) -> Any:
    """Squeeze and excitation by 1x1 convolutions without biases."""
    channels = x.shape[-1]
    scale = L.GlobalAveragePooling2D(keepdims=True)(x)
    scale = L.Conv2D(channels // 4, 1, activation="relu", use_bias=False, name=f"{name}_1")(scale)
    scale = L.Conv2D(channels, 1, activation="sigmoid", use_bias=False, name=f"{name}_2")(scale)
    return L.Multiply()([x, scale])


def cbam(x: Any, name: str) -> Any:
    """CBAM: two dense layers used twice, then a 7x7 convolution of mean and maximum."""
    channels = x.shape[-1]
    first = L.Dense(channels // 8, activation="relu", use_bias=False, name=f"{name}_1")
    second = L.Dense(channels, use_bias=False, name=f"{name}_2")
    pooled = [L.GlobalAveragePooling2D()(x), L.GlobalMaxPooling2D()(x)]
    scales = [second(first(L.Reshape((1, 1, channels))(vector))) for vector in pooled]
    x = L.Multiply()([x, L.Activation("sigmoid")(L.Add()(scales))])
    maps = [
        L.Lambda(reduce, output_shape=(*x.shape[1:3], 1), arguments={"operation": operation})(x)
        for operation in ("mean", "max")
    ]
    where = L.Conv2D(1, 7, padding="same", use_bias=False, activation="sigmoid", name=f"{name}_3")
    return L.Multiply()([x, where(L.Concatenate()(maps))])


def reduce(x: Any, operation: str) -> Any:
    """Reduces the channels by an operation of TensorFlow's."""
    return getattr(tf, f"reduce_{operation}")(x, axis=-1, keepdims=True)


def coordinate(x: Any, name: str) -> Any:
    """Coordinate attention: a convolution with batch normalization and two without."""
    rows, columns, channels = x.shape[1:]
    along = L.AveragePooling2D((1, columns))(x)
    down = L.Permute((2, 1, 3))(L.AveragePooling2D((rows, 1))(x))
    y = L.Concatenate(axis=1)([along, down])
    y = L.Conv2D(channels // 4, 1, use_bias=False, name=f"{name}_1")(y)
    y = L.ReLU()(L.BatchNormalization(name=f"{name}_1_bn")(y))
    first = L.Cropping2D(((0, columns), (0, 0)))(y)
    second = L.Permute((2, 1, 3))(L.Cropping2D(((rows, 0), (0, 0)))(y))
    first = L.Conv2D(channels, 1, use_bias=False, activation="sigmoid", name=f"{name}_2")(first)
    second = L.Conv2D(channels, 1, use_bias=False, activation="sigmoid", name=f"{name}_3")(second)
    return L.Multiply()([L.Multiply()([x, first]), second])


def eca(x: Any, name: str) -> Any:
    """Efficient channel attention: a convolution along the channels."""
    channels = x.shape[-1]
    scale = L.Reshape((channels, 1))(L.GlobalAveragePooling2D()(x))
    scale = L.Conv1D(1, 3, padding="same", use_bias=False, name=f"{name}_1")(scale)
    return L.Multiply()([x, L.Reshape((1, 1, channels))(L.Activation("sigmoid")(scale))])


def bottleneck(x: Any, name: str) -> Any:
    """A residual branch of convolutions with neither biases nor batch normalization."""
    y = L.Conv2D(x.shape[-1] // 2, 1, use_bias=False, name=f"{name}_1")(x)
    return L.Add()(
        [x, L.Conv2D(x.shape[-1], 3, padding="same", use_bias=False, name=f"{name}_2")(y)]
    )


CASES = (
    ("yolov4-tiny", squeeze_excite, True),
    ("yolov4-tiny", convolved_squeeze_excite, True),
    ("yolov4-tiny", cbam, False),
    ("yolov4-tiny", coordinate, True),
    ("yolov4-tiny", eca, True),
    ("yolov3-tiny", coordinate, False),
    ("yolov3-tiny", bottleneck, True),
)
"""Network, block, and whether the network is given with cfg=."""


def attended(network: Any, block: Any, places: tuple[int, ...]) -> Any:
    """The network by hand, with a block behind some of its sections."""
    return by_hand.model_of(
        network,
        after=lambda layer, x: block(x, f"own_{layer.index}") if layer.index in places else x,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "block", "with_cfg"), CASES)
def test_attention_is_left_and_the_rest_loads(name, block, with_cfg, tmp_path):
    network = yolotf.network(name, classes=2, size=96)
    path = tmp_path / "a.weights"
    helpers.write_weights(path, network)
    places = {"yolov4-tiny": (18, 26, 27), "yolov3-tiny": (8, 13)}[name]
    model = attended(network, block, places)
    load_helpers.scramble(model)
    own = [layer for layer in model.layers if layer.name.startswith("own_")]
    before = [layer.get_weights() for layer in own]
    report = yolotf.load_darknet_weights(
        model, path, cfg=network if with_cfg else None, skip_mismatch=True
    )
    sections = sum(layer.type == "convolutional" for layer in network.layers)
    assert len(report.loaded) == report.layers == sections
    assert report.unused == report.skipped == ()
    assert set(report.untouched) == {
        layer.name for layer in own if layer.weights and not layer.name.endswith("_bn")
    }
    for layer, values in zip(own, before, strict=True):
        for value, other in zip(layer.get_weights(), values, strict=True):
            np.testing.assert_array_equal(value, other)
    plain = by_hand.model_of(network)
    yolotf.load_darknet_weights(plain, path)
    loaded = [layer.get_weights() for layer in model.layers if layer not in own and layer.weights]
    expected = [layer.get_weights() for layer in plain.layers if layer.weights]
    for values, others in zip(loaded, expected, strict=True):
        for value, other in zip(values, others, strict=True):
            np.testing.assert_array_equal(value, other)


@pytest.mark.slow
@pytest.mark.parametrize("with_cfg", [False, True])
def test_without_skip_mismatch_the_load_is_refused_with_it_as_the_fix(with_cfg, tmp_path):
    network = yolotf.network("yolov4-tiny", classes=2, size=96)
    path = tmp_path / "a.weights"
    helpers.write_weights(path, network)
    model = attended(network, squeeze_excite, (18,))
    with messages.refused(yolotf.WeightsMismatch):
        yolotf.load_darknet_weights(model, path, cfg=network if with_cfg else None)
    diagnosis = yolotf.diagnose(path, model)
    assert not diagnosis.ok
    (cause,) = diagnosis.causes
    messages.said(cause.message)
    messages.said(cause.fix)


def test_attention_is_left_by_name_too(tmp_path):
    network = yolotf.network("yolov4-tiny", classes=2, size=96)
    path = tmp_path / "a.weights"
    helpers.write_weights(path, network)
    built = yolotf.build_model(network)
    x = squeeze_excite(built.outputs[0], "own")
    model = keras().Model(built.input, [x, *built.outputs[1:]])
    for options in ({"by_name": True}, {"by_name": True, "skip_mismatch": True}):
        report = yolotf.load_darknet_weights(model, path, cfg=network, **options)
        assert report.layers == 21
        assert set(report.untouched) == {"own_1", "own_2"}


def test_model_without_darknet_layers_gets_no_advice_to_skip(tmp_path):
    path = tmp_path / "a.weights"
    helpers.write_weights(path, yolotf.network("yolov3-tiny"))
    inputs = by_hand.picture(32)
    model = keras().Model(inputs, L.Conv2D(8, 3, use_bias=False, name="naked")(inputs))
    for options in ({}, {"cfg": "yolov3-tiny"}, {"skip_mismatch": True}):
        with messages.refused(yolotf.WeightsMismatch) as refused:
            yolotf.load_darknet_weights(model, path, **options)
        assert "pass skip_mismatch=True" not in str(refused.value)


def separable_in_place_of_two(network: Any) -> Any:
    """The network by hand, in which one layer stands for a depthwise and a 1x1 convolution."""
    x = by_hand.picture(32)
    (y,) = by_hand.heads_of(network, {-1: x}, stop=3)
    y = L.SeparableConv2D(16, 3, padding="same", use_bias=False, name="apart")(y)
    y = L.LeakyReLU(by_hand.SLOPE)(L.BatchNormalization(epsilon=1e-5)(y))
    return keras().Model(x, L.Conv2D(18, 1)(y))


MOBILE = (
    cfgs.net(32)
    + cfgs.normalized(8, 3)
    + cfgs.normalized(12, 3)
    + cfgs.normalized(8)
    + cfgs.normalized(8, 3, groups=8)
    + cfgs.normalized(16)
    + cfgs.conv(18)
    + cfgs.yolo()
)


def test_separable_layers_are_warned_of(tmp_path):
    network = yolotf.parse_cfg(MOBILE)
    path = tmp_path / "a.weights"
    helpers.write_weights(path, network)
    model = separable_in_place_of_two(network)

    for source in (None, network):
        with messages.refused(yolotf.WeightsMismatch):
            yolotf.load_darknet_weights(model, path, cfg=source)
    report = yolotf.load_darknet_weights(model, path, cfg=network, skip_mismatch=True)
    assert "apart" in report.untouched
    for warning in report.warnings:
        messages.said(warning)
    kinds = [warning.kind for warning in yolotf.diagnose(path, model).warnings]
    assert "separable" in kinds
