"""Initial weights of a model: drawn from Darknet's distributions, seeded by Keras."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import yolotf
from support import networks_of_sections as sections
from support import numpy_loader, recurrent_by_hand
from support.cfgs import conv, net, normalized, yolo
from yolotf.models.keras_module import keras
from yolotf.weights import layout

LEGACY = os.environ.get("TF_USE_LEGACY_KERAS") == "1"
SMALL = net(32) + normalized(16, 3, stride=2) + normalized(32, 3, groups=4) + conv(18) + yolo()
RECURRENT = {
    "rnn": "[rnn]\nhidden=40\noutput=30\nbatch_normalize=1",
    "gru": "[gru]\noutput=30",
    "lstm": "[lstm]\noutput=30\nbatch_normalize=1",
    "crnn": "[crnn]\nhidden_filters=24\noutput_filters=16\nsize=3\npad=1\nbatch_normalize=1",
    "conv_lstm": "[conv_lstm]\noutput=16\nsize=3\npad=1\nbatch_normalize=1\npeephole=1",
}


def saved(model, path):
    """The floats of a model in the order of its file."""
    yolotf.save_darknet_weights(model, path)
    return path.read_bytes()


def check_drawn(values, fan_in):
    """Evenly distributed between -sqrt(2 / fan_in) and its opposite."""
    limit = np.sqrt(2 / fan_in)
    values = np.sort(values.ravel()) / limit
    assert abs(values[0]) <= 1 + 1e-6 >= abs(values[-1])
    # Kolmogorov and Smirnov's distance from an even distribution: less than this but once in 10^7.
    expected = np.arange(values.size) / values.size
    distance = np.abs((values + 1) / 2 - expected).max()
    assert distance < 2.9 / np.sqrt(values.size) + 1 / values.size, distance


def check_array(role, values):
    if role in ("beta", "bias", "moving_mean"):
        assert not values.any()
    elif role in ("gamma", "moving_variance", "shortcut"):
        assert (values == 1).all()
    else:
        assert role == "kernel"
        # (filters, channels of a group, size, size), (outputs, inputs), or as many positions.
        check_drawn(values, np.prod(values.shape[2 if values.ndim == 5 else 1 :]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    # [implicit] reads from nothing, so that the sections before it are no part of the model.
    [
        name
        for name, text in sections.SECTIONS.items()
        if name != "implicit" and ("filters" in text or "connected" in text or "_per_" in text)
    ],
)
def test_every_array_of_a_section_is_initialized_as_darknets(name, tmp_path):
    keras().utils.set_random_seed(1)
    network = yolotf.parse_cfg(sections.around(sections.SECTIONS[name]))
    content = saved(yolotf.build_model(network), tmp_path / "some.weights")
    full = network.to_cfg()
    for array, values in numpy_loader.arrays(full, content).items():
        if "flipped" in name and array.role == "kernel":
            values = values.reshape(array.shape)  # as many numbers, in whatever order
        check_array(array.role, values)


@pytest.mark.parametrize("name", RECURRENT)
def test_every_part_of_a_recurrent_section_is_initialized_as_darknets(name, tmp_path):
    keras().utils.set_random_seed(1)
    network = yolotf.parse_cfg(recurrent_by_hand.NET + RECURRENT[name] + "\n")
    content = saved(yolotf.build_model(network), tmp_path / "some.weights")[20:]
    floats = np.frombuffer(content, "<f4")
    kernels = 0
    for segment in layout.segments(network):
        start = segment.offset // 4
        values = floats[start : start + segment.count].reshape(segment.shape)
        check_array(segment.role, values)
        kernels += segment.role == "kernel"
    assert kernels >= 3


def test_the_constant_of_implicit_has_the_mean_and_the_spread_of_its_cfg():
    keras().utils.set_random_seed(1)
    text = net(8) + conv(8) + "[implicit]\nfilters=500\nmean=1\nstd=.02\n"
    (values,) = yolotf.build_model(yolotf.parse_cfg(text)).get_layer("implicit_1").get_weights()
    assert 0.98 <= values.min() < 0.981
    assert 1.019 < values.max() <= 1.02


def kernels(model):
    return [values for values in model.get_weights() if values.ndim == 4]


def test_keras_seed_determines_the_kernels():
    network = yolotf.parse_cfg(SMALL)

    def built(seed):
        keras().utils.set_random_seed(seed)
        return kernels(yolotf.build_model(network))

    first, again, other = built(3), built(3), built(4)
    assert len(first) == 3
    for kernel, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(kernel, same)
        assert (kernel != different).mean() > 0.99


def test_kernels_of_equal_shape_are_drawn_independently():
    text = net(16) + 3 * normalized(3, 3)
    first, second, third = kernels(yolotf.build_model(yolotf.parse_cfg(text)))
    assert (first != second).all()
    assert (second != third).all()


def test_model_built_from_its_configuration_is_drawn_anew():
    keras().utils.set_random_seed(1)
    kinds = ("shared_kernel", "depthwise_multiplier", "local", "connected")
    text = sections.around("\n".join(sections.SECTIONS[kind] for kind in kinds))
    model = yolotf.build_model(yolotf.parse_cfg(text))
    copy = type(model).from_config(model.get_config())
    for values, other in zip(model.get_weights(), copy.get_weights(), strict=True):
        assert values.shape == other.shape
        if values.ndim > 1 and values.any():
            assert (values != other).mean() > 0.99
            assert 0.7 < values.std() / other.std() < 1.4


@pytest.mark.slow
@pytest.mark.skipif(LEGACY, reason="of Keras 3")
def test_plain_keras_reads_a_drawn_model(tmp_path):
    model = yolotf.build_model(yolotf.parse_cfg(net(16) + normalized(8, 3) + conv(18) + yolo()))
    model.save(tmp_path / "some.keras")
    script = (
        "import json, keras, sys\n"
        "model = keras.models.load_model(sys.argv[1], compile=False)\n"
        "config = model.get_layer('conv_0').kernel_initializer.get_config()\n"
        "print(json.dumps([config['maxval'], 'yolotf' in sys.modules]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "some.keras")],
        check=True,
        capture_output=True,
        text=True,
    )
    maximum, imported = json.loads(done.stdout)
    assert maximum == pytest.approx(np.sqrt(2 / 27))
    assert not imported
