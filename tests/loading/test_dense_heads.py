"""A dense layer where the cfg has a 1x1 convolution around global pooling."""

import by_hand
import helpers
import numpy as np
import pytest
from cfgs import net, normalized

import yolotf
from yolotf.models.keras_module import keras

TAIL = "[avgpool]\n\n[softmax]\ngroups=1\n"
CONV = "[convolutional]\nfilters={}\nsize=1\nstride=1\npad=1\nactivation=linear\n\n"


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("classes", [3, 10])
def test_dense_head_is_loaded_as_the_convolution_it_is(classes, told, tmp_path):
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
    report = yolotf.load_darknet_weights(model, path, cfg=network if told else None)
    assert report.layers == 3
    reference = yolotf.build_model(network)
    yolotf.load_darknet_weights(reference, path)
    image = np.random.default_rng(0).random((1, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(
        np.ravel(model(image)), np.ravel(reference(image)), rtol=1e-3, atol=1e-5
    )
