"""A bias before a batch normalization, which Darknet does not have: loaded as 0, saved in the mean.

What is compared with is the network of `build_model` with the same file, by its answers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import yolotf
from support import by_hand, cfgs, foreign_models, helpers, load_helpers
from support.cfgs import conv, net, normalized, section, shortcut, yolo
from support.messages import said
from yolotf.models.keras_module import keras

L: Any = keras().layers

TEXT = (
    net(32)
    + normalized(8, 3)
    + normalized(16, 3, stride=2)
    + normalized(8)
    + normalized(16, 3)
    + shortcut(-3)
    + conv(18)
    + yolo()
)
NETWORK = yolotf.parse_cfg(TEXT)
BIASED = 4
NORMALIZED_ALONE = (
    net(32) + conv(8, 3) + "[batchnorm]\n" + normalized(8, activation="linear") + conv(18) + yolo()
)

WAYS = {
    "alone": {},
    "cfg": {"cfg": TEXT},
    "skip_mismatch": {"cfg": TEXT, "skip_mismatch": True},
}


def written(path: Any, network: Any) -> Any:
    """A file of the network."""
    helpers.write_weights(path, network)
    return path


@pytest.fixture
def weights(tmp_path):
    return written(tmp_path / "a.weights", NETWORK)


def biased(**options: Any) -> Any:
    """The network by hand, with random numbers in every bias."""
    model = by_hand.model_of(NETWORK, use_bias=True, **options)
    load_helpers.scramble(model)
    return model


def answers(model: Any) -> Any:
    image = np.random.default_rng(1).random((1, 32, 32, 3)).astype(np.float32)
    return np.asarray(model(image, training=False))


def assert_same_answers(model: Any, network: Any, weights: Any) -> None:
    reference = yolotf.build_model(network)
    yolotf.load_darknet_weights(reference, weights)
    expected = answers(reference)
    difference = np.abs(answers(model).reshape(expected.shape) - expected).max()
    assert difference < 1e-4 * np.abs(expected).max()


def assert_zeroed(report: Any, count: int = BIASED) -> None:
    assert len(report.zeroed) == count
    (line,) = (line for line in str(report).splitlines() if "bias" in line)
    assert str(count) in line
    said(line)
    assert report.warnings == ()
    assert report.untouched == report.unused == report.skipped == ()


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS.keys())
def test_whole_files_are_loaded_and_biases_reported(options, weights):
    model = biased()
    report = yolotf.load_darknet_weights(model, weights, **options)
    assert_zeroed(report)
    assert report.layers == 5
    assert_same_answers(model, NETWORK, weights)
    assert yolotf.diagnose(weights, model).causes == ()


class Block(L.Layer):
    """A convolution, and a batch normalization that no graph connects with it."""

    def __init__(self, filters: int, size: int, stride: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.pad = L.ZeroPadding2D(size // 2)
        self.conv = L.Conv2D(filters, size, stride)
        self.bn = L.BatchNormalization(epsilon=1e-5)
        self.leaky = L.LeakyReLU(by_hand.SLOPE)

    def call(self, x: Any, training: Any = None) -> Any:
        return self.leaky(self.bn(self.conv(self.pad(x)), training=training))


class Detector(keras().Model):
    """The network, subclassed."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [Block(8, 3), Block(16, 3, 2), Block(8, 1), Block(16, 3)]
        self.head = L.Conv2D(18, 1)

    def call(self, x: Any, training: Any = None) -> Any:
        first, second, third, fourth = self.blocks
        middle = second(first(x, training=training), training=training)
        return self.head(middle + fourth(third(middle, training=training), training=training))


@pytest.mark.slow
@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS.keys())
def test_subclassed_models_are_loaded_alike(options, weights):
    model = Detector()
    answers(model)
    load_helpers.scramble(model)
    report = yolotf.load_darknet_weights(model, weights, **options)
    assert_zeroed(report)
    assert_same_answers(model, NETWORK, weights)


def named() -> Any:
    """Called as `build_model` calls its layers."""
    x = inputs = by_hand.picture(32)
    for index, (filters, size) in enumerate([(8, 3), (16, 1)]):
        x = L.Conv2D(filters, size, padding="same", name=f"conv_{index}")(x)
        x = L.BatchNormalization(epsilon=1e-5, name=f"conv_{index}_bn")(x)
        x = L.LeakyReLU(by_hand.SLOPE)(x)
    model = keras().Model(inputs, L.Conv2D(18, 1, name="conv_2")(x))
    load_helpers.scramble(model)
    return model


@pytest.mark.parametrize(
    "options", [{}, {"by_name": True}, {"skip_mismatch": True}], ids=["cfg", "by name", "skip"]
)
def test_layers_called_after_sections_are_loaded_alike(options, tmp_path):
    text = net(32) + normalized(8, 3) + normalized(16) + conv(18) + yolo()
    network = yolotf.parse_cfg(text)
    path = written(tmp_path / "b.weights", network)
    model = named()
    report = yolotf.load_darknet_weights(model, path, cfg=text, **options)
    assert report.zeroed == ("conv_0", "conv_1")
    assert_same_answers(model, network, path)


def test_dense_and_depthwise_layers_are_loaded_alike(tmp_path):
    text = (
        net(16)
        + normalized(6, 3)
        + normalized(6, 3, groups=6)
        + section("connected", output=5, batch_normalize=1, activation="linear")
    )
    network = yolotf.parse_cfg(text)
    path = written(tmp_path / "c.weights", network)
    x = inputs = by_hand.picture(16)
    for layer in (L.Conv2D(6, 3, padding="same"), L.DepthwiseConv2D(3, padding="same")):
        x = L.LeakyReLU(by_hand.SLOPE)(L.BatchNormalization(epsilon=1e-5)(layer(x)))
    x = L.BatchNormalization(epsilon=1e-5)(L.Dense(5)(L.Flatten()(L.Permute((3, 1, 2))(x))))
    model = keras().Model(inputs, x)
    load_helpers.scramble(model)
    report = yolotf.load_darknet_weights(model, path)
    assert len(report.zeroed) == 3
    reference = yolotf.build_model(network)
    yolotf.load_darknet_weights(reference, path)
    image = np.random.default_rng(1).random((1, 16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(np.ravel(model(image)), np.ravel(reference(image)), rtol=1e-3)


def test_backbones_are_loaded_alike(weights, tmp_path):
    part = tmp_path / "a.conv.3"
    floats = 8 * (4 + 27) + 16 * (4 + 72) + 8 * (4 + 16)
    part.write_bytes(weights.read_bytes()[: 20 + 4 * floats])
    model = biased()
    before = model.layers[-1].get_weights()
    report = yolotf.load_darknet_weights(model, part)
    assert len(report.loaded) == len(report.zeroed) == 3
    for values, other in zip(model.layers[-1].get_weights(), before, strict=True):
        np.testing.assert_array_equal(values, other)
    # The fourth convolution was not loaded, so its bias is the model's.
    biases = [layer.bias.numpy() for layer in model.layers if hasattr(layer, "bias")]
    assert [bool(np.any(bias)) for bias in biases] == [False, False, False, True, True]


@pytest.mark.parametrize("options", [{}, {"cfg": NORMALIZED_ALONE}], ids=["alone", "cfg"])
def test_batch_normalization_of_its_own_keeps_the_bias_before_it(options, tmp_path):
    network = yolotf.parse_cfg(NORMALIZED_ALONE)
    path = written(tmp_path / "d.weights", network)
    inputs = by_hand.picture(32)
    x = L.BatchNormalization(epsilon=1e-5)(L.Conv2D(8, 3, padding="same")(inputs))
    x = L.BatchNormalization(epsilon=1e-5)(L.Conv2D(8, 1, use_bias=False)(x))
    model = keras().Model(inputs, L.Conv2D(18, 1)(x))
    report = yolotf.load_darknet_weights(model, path, **options)
    assert report.zeroed == ()
    assert report.layers == 4
    assert_same_answers(model, network, path)
    assert yolotf.diagnose(path, model).causes == ()
    yolotf.save_darknet_weights(model, tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()


def test_a_refused_load_leaves_the_biases(weights):
    model = biased()
    before = load_helpers.snapshot(model)
    damaged = bytearray(weights.read_bytes())
    damaged[20 + 4 * 24 : 20 + 4 * 25] = np.float32(-3).tobytes()
    with pytest.raises(yolotf.WeightsMismatch):
        yolotf.load_darknet_weights(model, bytes(damaged))
    assert load_helpers.same(load_helpers.snapshot(model), before)


@pytest.mark.parametrize("with_cfg", [False, True])
def test_a_trained_bias_is_saved_in_the_mean(with_cfg, weights, tmp_path):
    model = biased()
    yolotf.load_darknet_weights(model, weights)
    saved = tmp_path / "saved.weights"
    yolotf.save_darknet_weights(model, saved)
    assert saved.read_bytes() == weights.read_bytes()
    for layer in model.layers:
        if hasattr(layer, "bias"):
            layer.bias.assign(np.linspace(-1, 1, layer.filters).astype(np.float32))
    other = by_hand.model_of(NETWORK, use_bias=True)  # not known to have been loaded
    other.set_weights(model.get_weights())
    expected = answers(model)
    for number, trained in enumerate((model, other)):
        saved = tmp_path / f"trained{number}.weights"
        yolotf.save_darknet_weights(trained, saved, network=TEXT if with_cfg else None)
        reference = yolotf.build_model(NETWORK)
        yolotf.load_darknet_weights(reference, saved)
        output = answers(reference).reshape(expected.shape)
        assert np.abs(output - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_bias_in_front_of_two_batch_normalizations_is_not_one_of_theirs():
    text = net(16) + conv(4) + "[batchnorm]\n" + cfgs.route(-2) + "[batchnorm]\n"
    inputs = by_hand.picture(16)
    x = L.Conv2D(4, 1, name="both")(inputs)
    ends = [L.BatchNormalization(epsilon=1e-5)(x) for _ in range(2)]
    model = keras().Model(inputs, ends)
    load_helpers.scramble(model)
    report = yolotf.load_darknet_weights(model, load_helpers.content(text))
    assert (report.layers, report.zeroed) == (3, ())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov3-tiny", "yolov4-tiny"])
@pytest.mark.parametrize("with_cfg", [False, True])
def test_stock_networks_with_biases_are_loaded(name, with_cfg, tmp_path):
    network = yolotf.network(name, classes=2, size=96)
    path = written(tmp_path / "stock.weights", network)
    model = by_hand.model_of(network, use_bias=True)
    report = yolotf.load_darknet_weights(model, path, cfg=network if with_cfg else None)
    norms = sum(getattr(layer, "batch_normalize", False) for layer in network.layers)
    assert len(report.zeroed) == norms
    assert not any("bias" in warning or "activation" in warning for warning in report.warnings)


def test_foreign_styles_with_biases_are_loaded(tmp_path):
    """Sub-models, and layers that no graph connects."""
    weights = tmp_path / "small.weights"
    weights.write_bytes(load_helpers.content(foreign_models.CFG))
    record = Biased()
    model = foreign_models.submodels(record)
    report = yolotf.load_darknet_weights(model, weights, cfg=foreign_models.CFG)
    assert set(report.zeroed) == {
        pair.kernel.name for pair in record.pairs if pair.norm is not None
    }


class Biased(foreign_models.Recorder):
    """Makes biases everywhere."""

    def make(self, filters: int, size: int, stride: int = 1, norm: bool = True) -> Any:
        pair = super().make(filters, size, stride, norm)
        pair.kernel.use_bias = True
        return pair


def test_network_of_a_single_layer():
    text = cfgs.net(16) + normalized(8, 3, "linear")
    inputs = by_hand.picture(16)
    model = keras().Model(inputs, L.BatchNormalization()(L.Conv2D(8, 3, padding="same")(inputs)))
    report = yolotf.load_darknet_weights(model, load_helpers.content(text))
    assert len(report.zeroed) == 1
