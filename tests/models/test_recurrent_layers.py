"""Recurrent Keras models: Darknet's arithmetic, files in and out, every kind of load."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support import helpers
from support import recurrent_by_hand as hand
from support.messages import refused
from support.recurrent_by_hand import network_of
from yolotf import _core
from yolotf.darknet import cfg
from yolotf.errors import ModelMismatchError, UnsupportedSectionError
from yolotf.formats.convert import convert
from yolotf.graphs import onednn
from yolotf.models.build import build_model
from yolotf.models.keras_layers import Recurrent, reset_states
from yolotf.models.keras_module import keras
from yolotf.models.units import Structure
from yolotf.weights import layout

CLOSE = {"rtol": 2e-5, "atol": 2e-6}
MIXED = (
    "[convolutional]\nbatch_normalize=1\nfilters=3\nsize=3\npad=1\nactivation=leaky\n"
    "[crnn]\nbatch_normalize=1\nsize=3\npad=1\nhidden=3\noutput=4\nactivation=leaky\n"
    "[conv_lstm]\nsize=3\npad=1\noutput=4\npeephole=1\n"
    "[convolutional]\nfilters=5\nsize=1\nactivation=linear\n"
)


@pytest.fixture(params=hand.ALL)
def case(request, tmp_path):
    return hand.case(request.param, tmp_path / "some.weights")


def loaded(network, path):
    model = build_model(network)
    if layout.floats(network):
        yolotf.load_darknet_weights(model, path)
    return model


@pytest.mark.slow
def test_a_model_computes_what_darknet_does(case):
    network, path, expected = case
    model = loaded(network, path)
    assert model.input_shape == (None, *network.input_shape)
    frames = hand.frames()
    one_by_one = [model(frame[None]).numpy() for frame in frames]
    np.testing.assert_allclose(np.concatenate(one_by_one), expected, **CLOSE)
    reset_states(model)
    np.testing.assert_allclose(model(frames).numpy(), expected, **CLOSE)
    reset_states(model)
    predicted = model.predict(frames, batch_size=3, verbose=0)
    np.testing.assert_allclose(predicted, expected, **CLOSE)


@pytest.mark.slow
def test_functions_of_any_batch_keep_their_state(case):
    network, path, expected = case
    model = loaded(network, path)
    shape = tf.TensorSpec([None, *network.input_shape])
    function = tf.function(lambda x: model(x, training=False), input_signature=[shape])
    parts = [function(part).numpy() for part in (hand.frames()[:1], hand.frames()[1:])]
    np.testing.assert_allclose(np.concatenate(parts), expected, **CLOSE)


def mixed(tmp_path):
    network = network_of(MIXED)
    path = tmp_path / "some.weights"
    helpers.write_weights(path, network, scale=0.3)
    return network, path


def test_saved_again_the_file_has_the_same_bytes(tmp_path):
    network, path = mixed(tmp_path)
    model = loaded(network, path)
    model(hand.frames())
    yolotf.save_darknet_weights(model, tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()


def test_saved_model_keeps_its_state_and_loads_files(tmp_path):
    network, path = mixed(tmp_path)
    model = loaded(network, path)
    model.save(tmp_path / "model.keras")
    before = model(hand.frames()).numpy()
    again = keras().models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(again(hand.frames()).numpy(), before, **CLOSE)
    for variable in again.variables:
        variable.assign(tf.zeros(variable.shape))
    report = yolotf.load_darknet_weights(again, path)
    assert report.warnings == ()
    np.testing.assert_allclose(again(hand.frames()).numpy(), before, **CLOSE)
    yolotf.save_darknet_weights(again, tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()


def test_state_is_no_weight_of_a_file(tmp_path):
    model = build_model(network_of(MIXED))
    structure = Structure(model)
    assert structure.unsupported == []
    assert structure.floats == layout.floats(network_of(MIXED))
    names = [unit.name for unit in structure.units]
    assert names == [
        "conv_0",
        *(f"crnn_1_{part}" for part in ("input", "self", "output")),
        *(f"conv_lstm_2_{part}" for part in ("vf", "vi", "vo", "wf", "wi", "wg", "wo")),
        *(f"conv_lstm_2_u{gate}" for gate in "figo"),
        "conv_3",
    ]
    kept = [layer.states for layer in model.layers if isinstance(layer, Recurrent)]
    assert [len(states) for states in kept] == [1, 2]
    assert not any(state.trainable for states in kept for state in states)


def numbered(model):
    return {
        f"{layer.name}/{index}": value
        for layer in model.layers
        if not isinstance(layer, Recurrent)
        for index, value in enumerate(layer.get_weights())
    } | {
        f"{layer.name}/{name}/{index}": value
        for layer in model.layers
        if isinstance(layer, Recurrent)
        for name, part in layer.parts.items()
        for index, value in enumerate(part.get_weights())
    }


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"by_name": True}, {"skip_mismatch": True}])
@pytest.mark.parametrize("foreign", [False, True])
def test_by_name_and_skip_mismatch_load_the_parts(tmp_path, options, foreign):
    network, path = mixed(tmp_path)
    expected = numbered(loaded(network, path))
    model = build_model(network)
    if foreign:
        model.save(tmp_path / "model.keras")
        model = keras().models.load_model(tmp_path / "model.keras", compile=False)
    report = yolotf.load_darknet_weights(model, path, cfg=network, **options)
    assert report.skipped == report.untouched == report.unused == ()
    assert "crnn_1_self" in report.loaded
    parts = numbered(model)
    assert parts.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(parts[name], value, err_msg=name)


def test_parts_of_another_shape_are_refused(tmp_path):
    network, path = mixed(tmp_path)
    model = build_model(network_of(MIXED.replace("hidden=3", "hidden=2")))
    with refused(ModelMismatchError, code="model-mismatch"):
        yolotf.load_darknet_weights(model, path, cfg=network, by_name=True)
    report = yolotf.load_darknet_weights(model, path, cfg=network, skip_mismatch=True)
    assert [skipped.name for skipped in report.skipped] == [
        "crnn_1_input",
        "crnn_1_self",
        "crnn_1_output",
    ]
    assert "conv_lstm_2_vo" in report.loaded


def test_a_file_of_another_size_is_diagnosed(tmp_path):
    network, path = mixed(tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(yolotf.errors.WeightsMismatch) as caught:
        yolotf.load_darknet_weights(build_model(network), path)
    assert caught.value.diagnosis.causes


def test_training_begins_every_batch_anew_and_learns_through_time():
    model = build_model(network_of(MIXED))
    for variable in model.trainable_variables:
        variable.assign(tf.random.stateless_uniform(variable.shape, [1, 2], -0.5, 0.5))
    model(hand.frames())
    (crnn, lstm) = [layer for layer in model.layers if isinstance(layer, Recurrent)]
    kept = [state.numpy() for layer in (crnn, lstm) for state in layer.states]
    assert all(np.abs(state).max() > 0 for state in kept)
    with tf.GradientTape() as tape:
        outputs = model(hand.frames(), training=True)
        loss = tf.reduce_sum(outputs[-1] ** 2)  # of the last frame alone
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(gradient is not None for gradient in gradients)
    kernel = [
        variable is crnn.parts["self"].kernel for variable in model.trainable_variables
    ].index(True)
    assert np.abs(gradients[kernel].numpy()).max() > 0
    after = [state.numpy() for layer in (crnn, lstm) for state in layer.states]
    np.testing.assert_array_equal(np.concatenate(after, None), np.concatenate(kept, None))
    np.testing.assert_allclose(model(hand.frames(), training=True).numpy(), outputs, rtol=1e-4)


@pytest.mark.skipif(
    _core.has_avx512() and not onednn.has_avx512(),
    reason="TensorFlow asks the processor, not oneDNN's limit, whether oneDNN has bfloat16",
)
def test_mixed_precision_keeps_floats(tmp_path):
    network, path = mixed(tmp_path)
    expected = loaded(network, path)(hand.frames()).numpy()
    model = build_model(network, dtype="mixed_bfloat16")
    yolotf.load_darknet_weights(model, path)
    output = np.asarray(tf.cast(model(hand.frames()), tf.float32))
    np.testing.assert_allclose(output, expected, atol=0.05 * np.abs(expected).max())
    layer = model.get_layer("crnn_1")
    assert {str(state.dtype) for state in layer.states} <= {"float32", "<dtype: 'float32'>"}


def test_vectors_go_in_as_one_position(tmp_path):
    text = "[net]\ninputs=7\n[gru]\noutput=5\n[connected]\noutput=3\nactivation=linear\n"
    network = cfg.parse_text(text, source="some.cfg")
    helpers.write_weights(tmp_path / "some.weights", network)
    model = loaded(network, tmp_path / "some.weights")
    assert model.input_shape == (None, 1, 1, 7)
    vector = np.linspace(0, 1, 7, dtype=np.float32)[None, None, None]
    first, second = model(vector).numpy(), model(vector).numpy()
    assert np.abs(first - second).max() > 1e-3
    reset_states(model)
    np.testing.assert_array_equal(model(vector), first)


def test_format_without_state_is_refused(tmp_path):
    network, path = mixed(tmp_path)
    (tmp_path / "some.cfg").write_text(network.to_cfg())
    with refused(UnsupportedSectionError, code="unsupported-section", line=13):
        convert(path, tmp_path / "some.cfg", tmp_path / "model.tflite")


def test_safetensors_have_parts_and_no_state(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    network, path = mixed(tmp_path)
    (tmp_path / "some.cfg").write_text(network.to_cfg())
    convert(path, tmp_path / "some.cfg", tmp_path / "model.safetensors")
    arrays = safetensors.load_file(tmp_path / "model.safetensors")
    assert "crnn_1_self/kernel" in arrays
    assert "crnn_1_self_bn/moving_variance" in arrays
    assert not any(name.startswith(("crnn_1/", "conv_lstm_2/")) for name in arrays)
    assert sum(value.size for value in arrays.values()) == layout.floats(network)


@pytest.mark.slow
@pytest.mark.skipif(keras().__name__ == "tf_keras", reason="is tf_keras")
def test_tf_keras_computes_the_same(tmp_path):
    pytest.importorskip("tf_keras")
    network, path = mixed(tmp_path)
    expected = loaded(network, path)(hand.frames()).numpy()
    np.save(tmp_path / "expected.npy", expected)
    script = f"""
import numpy as np, yolotf
from support import recurrent_by_hand as hand
from yolotf.models.keras_layers import reset_states
from test_recurrent_layers import MIXED, network_of
model = yolotf.build_model(network_of(MIXED))
yolotf.load_darknet_weights(model, {str(path)!r})
expected = np.load({str(tmp_path / "expected.npy")!r})
np.testing.assert_allclose(model(hand.frames()).numpy(), expected, rtol=1e-4, atol=1e-4)
reset_states(model)
predicted = model.predict(hand.frames(), batch_size=2, verbose=0)
np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=1e-4)
yolotf.save_darknet_weights(model, {str(tmp_path / "again.weights")!r})
"""
    here = os.path.dirname(__file__)  # noqa: PTH120
    environment = {
        **os.environ,
        "TF_USE_LEGACY_KERAS": "1",
        "PYTHONPATH": os.pathsep.join([*helpers.PYTHONPATH, here]),
    }
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()
