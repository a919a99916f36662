"""Windows that reach over the image's edge or lie outside it: Darknet's shapes and numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support.cfgs import conv, net
from support.cfgs import section as section_of
from support.messages import refused
from yolotf import inference
from yolotf.darknet import cfg
from yolotf.formats.convert import check_any_size
from yolotf.graphs import convolution
from yolotf.graphs.sections import convolutional, resampling

FLT_MAX = np.finfo(np.float32).max


def c_positions(extent: int, size: int, stride: int) -> int:
    """(extent - size) / stride + 1 in C: the division truncates toward zero."""
    return int((extent - size) / stride) + 1


def pooled(x: np.ndarray, kind: str, size: int, stride: int, padding: int) -> np.ndarray:
    """maxpool_layer.c:283-311 and 346-374, loop for loop."""
    height, width, channels = x.shape
    rows, columns = (c_positions(extent + padding, size, stride) for extent in (height, width))
    out = np.empty((rows, columns, channels), np.float32)
    for i, j, k in itertools.product(range(rows), range(columns), range(channels)):
        inside = [
            x[row, column, k]
            for row in range(i * stride - padding // 2, i * stride - padding // 2 + size)
            for column in range(j * stride - padding // 2, j * stride - padding // 2 + size)
            if 0 <= row < height and 0 <= column < width
        ]
        if kind == "maxpool":
            out[i, j, k] = max(inside, default=-FLT_MAX)
        else:
            out[i, j, k] = np.mean(inside) if inside else np.nan
    return out


CASES = [
    # extent, size, stride, padding
    (8, 2, 2, 3),
    (8, 2, 2, 7),
    (5, 3, 1, 3),
    (5, 3, 2, 9),
    (4, 1, 1, 2),
    (2, 3, 2, 0),
    (3, 5, 3, 1),
]


@pytest.mark.parametrize("kind", ["maxpool", "local_avgpool"])
@pytest.mark.parametrize(("extent", "size", "stride", "padding"), CASES)
def test_a_pool_computes_what_darknet_does(kind, extent, size, stride, padding):
    network = cfg.parse_cfg(
        net(extent, channels=2) + section_of(kind, size=size, stride=stride, padding=padding)
    )
    (layer,) = network.layers
    assert isinstance(layer, cfg.Pool)
    x = np.random.default_rng(7).normal(size=(extent, extent, 2)).astype(np.float32)
    expected = pooled(x, kind, size, stride, padding)
    assert layer.output_shape == expected.shape
    for output in (
        resampling.pool(tf.raw_ops, tf.constant(x[None]), layer).numpy()[0],
        np.asarray(yolotf.build_model(network)(x[None]))[0],
    ):
        np.testing.assert_allclose(output, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("extent", "size", "stride"), [(2, 3, 2), (3, 5, 3), (1, 2, 2)])
def test_a_convolution_whose_window_hangs_over_reads_zeros(extent, size, stride):
    network = cfg.parse_cfg(net(extent, channels=2) + conv(3, size, stride=stride, pad=0))
    (layer,) = network.layers
    assert isinstance(layer, cfg.Convolutional)
    assert layer.output_shape == (1, 1, 3)
    random = np.random.default_rng(7)
    x = random.normal(size=(1, extent, extent, 2)).astype(np.float32)
    kernel = random.normal(size=(size, size, 2, 3)).astype(np.float32)
    expected = np.einsum("rci,rcif->f", x[0], kernel[:extent, :extent])
    output = convolution.convolve(tf.raw_ops, tf.constant(x), tf.constant(kernel), layer)
    np.testing.assert_allclose(output[0, 0, 0], expected, rtol=1e-5)
    model = yolotf.build_model(network)
    model.layers[-1].set_weights([kernel, np.zeros(3, np.float32)])
    np.testing.assert_allclose(np.asarray(model(x))[0, 0, 0], expected, rtol=1e-5)


def test_a_local_layer_whose_window_hangs_over_reads_zeros():
    network = cfg.parse_cfg(
        net(2, channels=2) + section_of("local", filters=3, size=3, stride=2, activation="linear")
    )
    (layer,) = network.layers
    assert isinstance(layer, cfg.Local)
    assert layer.output_shape == (1, 1, 3)
    random = np.random.default_rng(7)
    x = random.normal(size=(1, 2, 2, 2)).astype(np.float32)
    kernel = random.normal(size=(1, 3, 3, 2, 3)).astype(np.float32)
    output = convolutional.convolve_locally(
        tf.raw_ops,
        tf.constant(x),
        tf.constant(kernel),
        layer.output_shape,
        channels=2,
        size=3,
        stride=2,
        padding=[[0, 1], [0, 1]],
    )
    expected = np.einsum("rci,rcif->f", x[0], kernel[0, :2, :2])
    np.testing.assert_allclose(output[0, 0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("section", ["conv", "maxpool", "local_avgpool", "local"])
def test_a_window_that_misses_by_a_stride_is_refused(section):
    with refused(yolotf.CfgError):
        cfg.parse_cfg(net(3, channels=2) + section_of(section, size=5, stride=2, padding=0))


def any_size(body: str) -> cfg.Network:
    return cfg.parse_cfg(net(32, channels=16) + body)


HEAD = "[conv]\nfilters=6\n[yolo]\nclasses=1\n"


@pytest.mark.parametrize(
    "body",
    [
        "[reorg3d]\nstride=2\nreverse=1\n" + HEAD,
        "[reorg]\nstride=2\n" + HEAD,
        "[reorg]\nstride=2\nreverse=1\n" + HEAD,
        "[crop]\ncrop_width=16\ncrop_height=16\n" + HEAD,
        "[softmax]\n" + HEAD,
        "[local]\nfilters=4\nsize=1\n" + HEAD,
        "[connected]\noutput=6\n[yolo]\nclasses=1\n",
        "[connected]\noutput=6\n[detection]\nside=1\ncoords=4\nclasses=1\n",
        "[avgpool]\n[maxpool]\nsize=2\nstride=2\npadding=0\n" + HEAD,
    ],
)
def test_any_size_is_refused_alike_wherever_the_size_is_fixed(body):
    network = any_size(body)
    with refused(yolotf.UnsupportedSectionError):
        inference.InferenceFunction(network, any_size=True)
    with refused(yolotf.UnsupportedSectionError):
        check_any_size(network, ".keras")


def test_any_size_takes_what_does_not_fix_it():
    inference.InferenceFunction(any_size("[reorg3d]\nstride=2\n" + HEAD), any_size=True)
