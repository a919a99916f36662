"""Refused loads have a diagnosis; wrong arguments get an error that shows the right call."""

import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support import load_helpers, messages
from support.cfgs import conv
from support.load_helpers import HEAD, NET, build
from yolotf.models.keras_module import keras

pytestmark = pytest.mark.slow

L = keras().layers
TEXT = NET + conv(16, 3, batch_normalize=1, activation="leaky") + conv(16) + conv(18) + HEAD
NAMES = ["conv_0", "conv_1", "conv_2"]


def by_hand(names=NAMES, filters=(16, 16, 18)):
    inputs = L.Input((16, 16, 3))
    x = L.Conv2D(filters[0], 3, padding="same", use_bias=False, name=names[0])(inputs)
    x = L.LeakyReLU(0.1)(L.BatchNormalization(epsilon=1e-5, name=f"{names[0]}_bn")(x))
    x = L.Conv2D(filters[1], 1, name=names[1])(x)
    return keras().Model(inputs, L.Conv2D(filters[2], 1, name=names[2])(x), name="by_hand")


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "some.weights"
    path.write_bytes(load_helpers.content(TEXT))
    return path


def refused(model, path, **options):
    before = load_helpers.snapshot(model)
    with messages.refused(yolotf.WeightsMismatch) as caught:
        yolotf.load_darknet_weights(model, path, **options)
    assert load_helpers.same(load_helpers.snapshot(model), before)
    causes = caught.value.diagnosis.to_dict()["causes"]
    assert causes
    for cause in causes:
        assert {"kind", "message", "fix"} <= cause.keys()
    return caught.value


WAYS = {
    "alone": {},
    "cfg": {"cfg": TEXT},
    "by name": {"cfg": TEXT, "by_name": True},
    "what fits": {"cfg": TEXT, "skip_mismatch": True},
    "not strict": {"cfg": TEXT, "strict": False},
}
FILES = {
    "longer": lambda raw: raw + bytes(400),
    "cut": lambda raw: raw[:-100],
    "a page": lambda raw: b"<!DOCTYPE html><html>Not found</html>" * 40,
    "empty": lambda raw: b"",
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [by_hand, lambda: build(TEXT)], ids=["by hand", "built"])
def test_wrong_file_is_diagnosed_by_every_way_to_load(make, way, file, weights):
    weights.write_bytes(FILES[file](weights.read_bytes()))
    error = refused(make(), weights, **WAYS[way])
    assert str(error) == error.diagnosis.summary()


@pytest.mark.parametrize("way", ["cfg", "by name"])
def test_a_model_of_other_shapes_is_diagnosed(way, weights):
    error = refused(by_hand(filters=(16, 12, 18)), weights, **WAYS[way])
    kinds = [cause["kind"] for cause in error.diagnosis.to_dict()["causes"]]
    assert kinds == [{"cfg": "unknown", "by name": "layer_shape"}[way]]


def test_matching_name_with_another_shape_is_refused(weights):
    model = by_hand(["conv_0", "conv_1", "conv_two"], (16, 12, 18))
    error = refused(model, weights, cfg=TEXT, by_name=True)

    (cause,) = error.diagnosis.causes
    assert (cause["kind"], cause["layer"]) == ("layer_shape", 1)
    assert cause["file_floats_minus_model"] == 16 * 4


def test_suggested_names_are_unique_and_unmatched(weights):
    text = NET + conv(8) + conv(8) + conv(8) + conv(8)
    weights.write_bytes(load_helpers.content(text))
    inputs = x = L.Input((16, 16, 3))
    for name in ("conv_0", "conv_1x", "conv_1y", "conv_1z"):
        x = L.Conv2D(8, 1, name=name)(x)
    message = str(refused(keras().Model(inputs, x), weights, cfg=text, by_name=True))
    meant = [part.split("?")[0].split(";")[0] for part in message.split("did you mean ")[1:]]
    assert len(set(meant)) == len(meant) > 0
    assert "conv_0" not in meant


def test_model_without_darknet_layers_is_refused(weights):
    inputs = L.Input((16, 16, 3))
    model = keras().Model(inputs, L.Conv2D(8, 3, use_bias=False, name="naked")(inputs))
    refused(model, weights)


LAYERS_ALONE = {
    "the kernel": lambda: [L.Conv2D(1024, 3, padding="same", use_bias=False)],
    "the kernel and the head": lambda: [
        L.Conv2D(1024, 3, padding="same", use_bias=False),
        L.BatchNormalization(),
        L.LeakyReLU(0.1),
        L.Conv2D(255, 1),
    ],
    "one layer": lambda: [L.Conv2D(1024, 3, padding="same"), L.LeakyReLU(0.1)],
}


@pytest.mark.parametrize("part", LAYERS_ALONE)
def test_a_whole_file_into_a_few_layers_names_the_network(part, tmp_path):
    network = yolotf.network("yolov4-tiny", classes=3, size=64)
    path = tmp_path / "whole.weights"
    path.write_bytes(load_helpers.content(network.to_cfg()))
    layers = LAYERS_ALONE[part]()
    model = keras().Sequential([L.Input((13, 13, 512)), *layers], name="alone")
    error = refused(model, path)
    if part == "the kernel":
        return
    (cause,) = error.diagnosis.to_dict()["causes"]
    assert (cause["kind"], cause["file"], cause["file_classes"]) == (
        "architecture",
        "yolov4-tiny",
        3,
    )


@pytest.mark.parametrize("part", sorted(set(LAYERS_ALONE) - {"the kernel"}))
@pytest.mark.parametrize("end", [-1000, 1_234_568])
def test_a_file_of_no_stock_network_into_a_few_layers_asks_for_its_cfg(part, end, tmp_path):
    network = yolotf.network("yolov4-tiny", classes=3, size=64)
    path = tmp_path / "some.weights"
    path.write_bytes(load_helpers.content(network.to_cfg())[:end])
    model = keras().Sequential([L.Input((13, 13, 512)), *LAYERS_ALONE[part]()], name="alone")
    error = refused(model, path)

    (cause,) = error.diagnosis.to_dict()["causes"]
    assert cause["kind"] == "unknown"
    assert error.diagnosis.first_divergence is None


def test_arguments_of_another_type_are_refused(weights):
    model, network = by_hand(), yolotf.parse_cfg(TEXT)
    load = yolotf.load_darknet_weights
    for arguments, options in (
        ((network, weights), {}),
        ((weights, model), {}),
        ((str(weights), model), {}),
        ((weights, weights), {}),
        ((None, weights), {}),
        ((tf.keras.Model, weights), {}),
        ((tf.function(model), weights), {}),
        ((model, network), {}),
        ((model, model), {}),
        ((model, weights), {"cfg": model}),
        ((model, weights), {"cfg": 80}),
    ):
        with messages.refused(TypeError):
            load(*arguments, **options)
    with messages.refused(TypeError):
        yolotf.build_model(80)


def test_build_model_takes_a_name_or_a_cfg(tmp_path, weights):
    path = tmp_path / "a.cfg"
    path.write_text(TEXT)
    expected = yolotf.build_model(yolotf.parse_cfg(TEXT), weights=weights).get_weights()
    for source in (path, str(path), TEXT):
        loaded = yolotf.build_model(source, weights=weights).get_weights()
        assert len(loaded) == len(expected) > 0
        for values, others in zip(loaded, expected, strict=True):
            np.testing.assert_array_equal(values, others)
    assert yolotf.build_model("yolov4-tiny").count_params() == 6_062_814
    with messages.refused(yolotf.errors.CfgError):
        yolotf.build_model("yolov4-tinny")


def test_dontload_layers_keep_their_numbers(tmp_path):
    head = conv(18).replace("filters", "dontload=1\nfilters")
    text = NET + conv(16, 3, batch_normalize=1) + head + HEAD
    model = build(text)
    load_helpers.scramble(model)
    before = model.get_layer("conv_1").kernel.numpy()
    path = tmp_path / "first.weights"
    path.write_bytes(load_helpers.content(NET + conv(16, 3, batch_normalize=1)))
    report = yolotf.load_darknet_weights(model, path)
    assert report.loaded == ("conv_0",)
    np.testing.assert_array_equal(model.get_layer("conv_1").kernel.numpy(), before)
