"""Reports name a convolution by the layer that has its kernel, whatever its name."""

import pytest

import yolotf
from support import foreign_models, load_helpers
from support.cfgs import conv
from support.foreign_models import CFG, L, Recorder
from support.load_helpers import HEAD, NET
from yolotf.models.keras_module import keras


@pytest.fixture
def weights(tmp_path):
    return foreign_models.weights_file(tmp_path / "small.weights")


WAYS = {
    "alone": {},
    "cfg": {"cfg": CFG},
    "what fits": {"cfg": CFG, "skip_mismatch": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("style", foreign_models.STYLES)
def test_one_name_a_kernel_in_the_order_of_the_file(style, way, weights):
    record = Recorder()
    model = foreign_models.STYLES[style](record)
    report = yolotf.load_darknet_weights(model, weights, **WAYS[way])
    assert report.loaded == tuple(pair.kernel.name for pair in record.pairs)
    assert report.layers == len(report.loaded)


@pytest.mark.parametrize("way", WAYS)
def test_layer_named_bn_that_is_none_is_reported(way, weights):
    names = [f"block{number}_bn" for number in range(14)]
    record = Recorder(names=lambda place: names[place])
    model = foreign_models.flat(record)
    report = yolotf.load_darknet_weights(model, weights, **WAYS[way])
    assert report.loaded == tuple(names)


def test_a_batch_normalization_of_its_own_has_its_own_name(tmp_path):
    text = NET + conv(16, 3) + "[batchnorm]\n" + conv(18) + HEAD
    path = tmp_path / "own.weights"
    path.write_bytes(load_helpers.content(text))
    inputs = L.Input((16, 16, 3))
    x = L.Conv2D(16, 3, padding="same", name="first")(inputs)
    x = L.BatchNormalization(name="second_bn")(x)
    model = keras().Model(inputs, L.Conv2D(18, 1, name="third")(x))
    for options in ({}, {"cfg": text}, {"cfg": text, "skip_mismatch": True}):
        report = yolotf.load_darknet_weights(model, path, **options)
        assert report.loaded == ("first", "second_bn", "third")


@pytest.mark.slow
def test_a_reloaded_model_names_what_the_built_one_names(tmp_path):
    path = tmp_path / "any.weights"
    path.write_bytes(load_helpers.content(load_helpers.EVERYTHING))
    model = load_helpers.build(load_helpers.EVERYTHING)
    expected = yolotf.load_darknet_weights(model, path).loaded
    model.save(tmp_path / "model.keras")
    again = keras().models.load_model(tmp_path / "model.keras", compile=False)
    assert yolotf.load_darknet_weights(again, path).loaded == expected
    report = yolotf.load_darknet_weights(again, path, cfg=load_helpers.EVERYTHING)
    assert report.loaded == expected


def test_layers_of_one_name_in_several_sub_models_are_all_listed(tmp_path):
    def part(x, filters):
        inputs = L.Input(x.shape[1:])
        return keras().Model(inputs, L.Conv2D(filters, 1, name="conv")(inputs))(x)

    inputs = L.Input((16, 16, 3))
    model = keras().Model(inputs, part(part(inputs, 8), 18))
    text = NET + conv(8) + conv(18) + HEAD
    path = tmp_path / "parts.weights"
    path.write_bytes(load_helpers.content(text))
    assert yolotf.load_darknet_weights(model, path).loaded == ("conv", "conv")


def test_layers_that_a_backbone_leaves_are_named_alike(tmp_path):
    text = NET + conv(16, 3, batch_normalize=1) + conv(18, batch_normalize=1) + HEAD
    path = tmp_path / "net.conv.1"
    first = 16 * 4 + 16 * 27
    path.write_bytes(load_helpers.content(text)[: 20 + 4 * first])
    inputs = L.Input((16, 16, 3))
    x = L.Conv2D(16, 3, padding="same", use_bias=False, name="a_bn")(inputs)
    x = L.BatchNormalization(name="b")(x)
    x = L.Conv2D(18, 1, use_bias=False, name="c_bn")(x)
    model = keras().Model(inputs, L.BatchNormalization(name="d")(x))
    for options in ({}, {"cfg": text}):
        report = yolotf.load_darknet_weights(model, path, **options)
        assert (report.loaded, report.untouched) == (("a_bn",), ("c_bn",))
