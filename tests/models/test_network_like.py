"""`network_like`: the network that stands for a model of unknown origin in a diagnosis."""

import numpy as np
import pytest

import yolotf
from support import foreign_models, load_helpers, weights_files
from support.cfgs import conv
from support.foreign_models import L, Recorder
from support.load_helpers import HEAD, NET
from support.messages import refused
from yolotf.models.keras_module import keras
from yolotf.models.network_like import network_like
from yolotf.weights import layout

pytestmark = pytest.mark.slow

SECTIONS = {
    "local": "[local]\nfilters=5\nsize=3\nstride=2\npad=1\nactivation=leaky\n",
    "implicit": "[implicit]\nfilters=8\natoms=1\n[scale_channels]\nfrom=-2\nactivation=linear\n",
    "per_channel": "[shortcut]\nfrom=-2,-3\nweights_type=per_channel\nactivation=linear\n",
    "per_feature": "[shortcut]\nfrom=-2\nweights_type=per_feature\nactivation=linear\n",
    "batchnorm": "[batchnorm]\n",
    "connected": "[connected]\noutput=7\nbatch_normalize=1\nactivation=linear\n",
    "grouped": conv(16, 3, batch_normalize=1, groups=4),
    "depthwise": conv(16, 3, batch_normalize=1, groups=8),
}


def text_with(section):
    body = conv(8, 3, batch_normalize=1) + conv(8, 1) + conv(8, 1)
    return NET + body + SECTIONS[section] + conv(4, 1)


def reloaded(text, folder):
    model = yolotf.build_model(yolotf.parse_cfg(text))
    model.save(folder / "model.keras")
    return keras().models.load_model(folder / "model.keras", compile=False)


def stored(network):
    return [(segment.role, segment.shape) for segment in layout.segments(network)]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_stores_as_much_as_in_its_cfg(section, tmp_path):
    text = text_with(section)
    network = yolotf.parse_cfg(text)
    reconstructed = network_like(reloaded(text, tmp_path))
    assert stored(reconstructed) == stored(network)


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("change", [b"\0" * 8, None, b"\0" * 4000])
def test_wrong_file_for_a_reloaded_model_is_a_mismatch(section, change, tmp_path):
    text = text_with(section)
    model = reloaded(text, tmp_path)
    before = load_helpers.snapshot(model)
    path = tmp_path / "wrong.weights"
    content = load_helpers.content(text)
    path.write_bytes(content[:-80] if change is None else content + change)
    with pytest.raises(yolotf.WeightsMismatch) as caught:
        yolotf.load_darknet_weights(model, path)
    assert caught.value.diagnosis.causes
    assert load_helpers.same(load_helpers.snapshot(model), before)
    assert not yolotf.diagnose(path, model).ok


@pytest.mark.parametrize("section", SECTIONS)
def test_right_file_of_a_reloaded_model_matches(section, tmp_path):
    text = text_with(section)
    path = tmp_path / "right.weights"
    path.write_bytes(load_helpers.content(text))
    model = reloaded(text, tmp_path)
    assert yolotf.diagnose(path, model).ok
    yolotf.load_darknet_weights(model, path)


def test_weights_of_an_unknown_shape_count_as_they_are(tmp_path):
    class Scaled(L.Layer):
        def build(self, shape):
            self.shortcut = self.add_weight(name="shortcut", shape=shape[-1:], initializer="ones")

        def call(self, x):
            return x * self.shortcut

    picture = L.Input((8, 8, 3))
    model = keras().Model(picture, L.Conv2D(5, 1)(Scaled()(L.Conv2D(4, 3)(picture))))
    assert stored(network_like(model)) == [
        ("bias", (4,)),
        ("kernel", (4, 3, 3, 3)),
        ("weights", (4,)),
        ("bias", (5,)),
        ("kernel", (5, 4, 1, 1)),
    ]
    for left_out in (10, -3):
        path = tmp_path / "wrong.weights"
        weights_files.write(path, np.ones(141 - left_out))
        with pytest.raises(yolotf.WeightsMismatch) as caught:
            yolotf.load_darknet_weights(model, path)
        assert caught.value.diagnosis.causes


def test_every_kind_of_array_at_once(tmp_path):
    network = yolotf.parse_cfg(load_helpers.EVERYTHING)
    assert stored(network_like(reloaded(load_helpers.EVERYTHING, tmp_path))) == stored(network)


@pytest.mark.parametrize("size", [(1, 3), (3, 1), (5, 3), (1, 7)])
@pytest.mark.parametrize("norm", [False, True])
def test_kernels_that_are_not_square_count_as_they_are(size, norm, tmp_path):
    inputs = L.Input((16, 16, 3))
    x = L.Conv2D(4, size, use_bias=not norm, name="flat")(inputs)
    x = L.BatchNormalization(name="flat_norm")(x) if norm else x
    model = keras().Model(inputs, L.Conv2D(5, 1, name="last")(x))
    network = network_like(model)
    floats = sum(int(np.prod(weight.shape)) for weight in model.weights)
    assert layout.floats(network) == floats
    path = tmp_path / "some.weights"
    path.write_bytes(bytes(20 + 4 * (floats + 64)))
    diagnosis = yolotf.diagnose(path, model)
    assert diagnosis.to_dict()["network"]["floats"] == floats
    assert not diagnosis.ok


@pytest.mark.parametrize("style", foreign_models.STYLES)
def test_joined_layers_have_the_channels_of_their_kernels(style, tmp_path):
    record = Recorder()
    model = foreign_models.STYLES[style](record)
    network = network_like(model)
    for layer in network.layers:
        reads = [
            network.input_shape if index < 0 else network.layers[index].output_shape
            for index in layer.inputs
        ]
        if reads:
            total = sum(shape.channels for shape in reads)
            assert total == layer.input_shape.channels, layer.section.name


@pytest.mark.parametrize("style", foreign_models.STYLES)
def test_another_class_count_is_a_change_of_one_layer(style, tmp_path):
    """In a file of five classes, both heads differ from the model's by equally many filters."""
    model = foreign_models.STYLES[style](Recorder())
    text = foreign_models.CFG.replace("filters=18", "filters=30").replace("classes=1", "classes=5")
    path = tmp_path / "five.weights"
    path.write_bytes(load_helpers.content(text))
    with pytest.raises(yolotf.WeightsMismatch) as caught:
        yolotf.load_darknet_weights(model, path)
    assert caught.value.diagnosis.to_dict()["causes"]


def test_head_with_other_filters_is_the_cause(tmp_path):
    text = NET + conv(16, 3, batch_normalize=1, activation="leaky") + conv(18) + HEAD
    path = tmp_path / "file.weights"
    path.write_bytes(load_helpers.content(text.replace("filters=18", "filters=24")))
    inputs = L.Input((16, 16, 3))
    x = L.Conv2D(16, 3, padding="same", use_bias=False, name="first")(inputs)
    x = L.LeakyReLU(0.1)(L.BatchNormalization(name="norm")(x))
    model = keras().Model(inputs, L.Conv2D(18, 1, name="second")(x))
    with refused(yolotf.WeightsMismatch):
        yolotf.load_darknet_weights(model, path)
