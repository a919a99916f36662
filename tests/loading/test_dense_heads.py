"""Dense layers where the cfg has a 1x1 convolution before or after global pooling."""

from typing import Any

import numpy as np
import pytest

import yolotf
from support import by_hand, helpers
from support.cfgs import net, normalized
from support.messages import said
from yolotf.models.keras_module import keras

L: Any = keras().layers

TAIL = "[avgpool]\n\n[softmax]\ngroups=1\n"
CONV = "[convolutional]\nfilters={}\nsize=1\nstride=1\npad=1\nactivation=linear\n\n"


@pytest.mark.parametrize("with_cfg", [True, False])
@pytest.mark.parametrize("classes", [3, 10])
def test_dense_head_is_loaded_as_the_convolution_it_is(classes, with_cfg, tmp_path):
    network = yolotf.parse_cfg(
        net(32) + normalized(8, 3) + normalized(16, 3, stride=2) + CONV.format(classes) + TAIL
    )
    path = tmp_path / "a.weights"
    helpers.write_weights(path, network)
    layers = keras().layers
    x = by_hand.picture(32)
    (deep,) = by_hand.heads_of(network, {-1: x}, stop=2)
    pooled = layers.GlobalAveragePooling2D()(deep)
    model = keras().Model(x, layers.Dense(classes, activation="softmax")(pooled))
    report = yolotf.load_darknet_weights(model, path, cfg=network if with_cfg else None)
    assert report.layers == 3
    reference = yolotf.build_model(network)
    yolotf.load_darknet_weights(reference, path)
    image = np.random.default_rng(0).random((1, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(
        np.ravel(model(image)), np.ravel(reference(image)), rtol=1e-3, atol=1e-5
    )


HEADS = {
    "dense": lambda x, classes: L.Dense(classes, activation="softmax")(
        L.GlobalAveragePooling2D()(x)
    ),
    "dense and softmax": lambda x, classes: L.Softmax()(
        L.Dense(classes)(L.GlobalAveragePooling2D()(x))
    ),
    "convolution": lambda x, classes: L.Conv2D(classes, 1, activation="softmax")(
        L.GlobalAveragePooling2D(keepdims=True)(x)
    ),
    "dropout": lambda x, classes: L.Dense(classes, activation="softmax")(
        L.Dropout(0.5)(L.Flatten()(L.GlobalAveragePooling2D()(x)))
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
@pytest.mark.parametrize("with_cfg", [True, False])
def test_softmax_behind_the_pooling_is_no_other_activation(head, with_cfg, tmp_path):
    network = yolotf.parse_cfg(net(32) + normalized(8, 3) + CONV.format(4) + TAIL)
    path = tmp_path / "a.weights"
    helpers.write_weights(path, network)
    x = by_hand.picture(32)
    (deep,) = by_hand.heads_of(network, {-1: x}, stop=1)
    model = keras().Model(x, head(deep, 4))
    report = yolotf.load_darknet_weights(model, path, cfg=network if with_cfg else None)
    assert (report.layers, report.warnings) == (2, ())


def test_softmax_before_the_pooling_is_another_activation(tmp_path):
    network = yolotf.parse_cfg(net(32) + normalized(8, 3) + CONV.format(4) + TAIL)
    path = tmp_path / "a.weights"
    helpers.write_weights(path, network)
    x = by_hand.picture(32)
    (deep,) = by_hand.heads_of(network, {-1: x}, stop=1)
    scores = L.Conv2D(4, 1, activation="softmax")(deep)
    model = keras().Model(x, L.GlobalAveragePooling2D()(scores))
    (warning,) = yolotf.load_darknet_weights(model, path, cfg=network).warnings
    said(warning)
