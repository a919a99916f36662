"""How recurrent sections of a cfg are read."""

import pytest

from yolotf.darknet import cfg


def layer_of(body, net="width=4\nheight=3\nchannels=2\n"):
    (layer,) = cfg.parse_text(f"[net]\n{net}{body}", source="some.cfg").layers
    return layer


def activations(layer):
    return [part.layer.activation for part in layer.sublayers]


@pytest.mark.parametrize(
    ("option", "kept"), [("", "leaky"), ("logistic=1\n", "logistic"), ("logistic=2\n", "loggy")]
)
def test_recurrent_part_of_rnn_has_its_own_activation(option, kept):
    layer = layer_of(f"[rnn]\nhidden=3\noutput=5\nactivation=leaky\n{option}")
    assert activations(layer) == ["leaky", kept, "leaky"]
    assert layer.states == {"state": (1, 1, 3)}
    assert layer.output_shape == (1, 1, 5)
    assert [part.layer.input_shape.floats for part in layer.sublayers] == [24, 3, 3]


def test_crnn_keeps_rows_and_columns():
    layer = layer_of("[crnn]\nhidden=6\noutput=5\npad=1\nactivation=mish\nshortcut=1\n")
    assert layer.states == {"state": (3, 4, 6)}
    assert layer.output_shape == (3, 4, 5)
    assert layer.shortcut
    assert layer.window == "3 x 3 / 1"
    assert layer.operations == 2 * 9 * 12 * (2 * 6 + 6 * 6 + 6 * 5)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_gates_are_linear_before_they_are_summed(kind):
    layer = layer_of(f"[{kind}]\noutput=5\n")
    assert set(activations(layer)) == {"linear"}
    assert set(layer.states.values()) == {(1, 1, 5)}


@pytest.mark.parametrize("net", ["", "time_steps=20\n"])
def test_conv_lstm_has_darknets_defaults_of_one_time_step(net):
    layer = layer_of("[conv_lstm]\npad=1\n", f"width=4\nheight=3\nchannels=2\n{net}")
    assert (layer.output, layer.activation, layer.lstm_activation) == (1, "linear", "tanh")
    assert (layer.peephole, layer.bottleneck, layer.shortcut) == (False, False, False)
    assert layer.state_constrain == 32
    assert layer.states == {"state": (3, 4, 1), "cell": (3, 4, 1)}


def test_history_has_room_for_frames_and_stores_no_floats():
    layer = layer_of("[history]\n")
    assert layer.output_shape == (3, 4, 8)
    assert layer.states == {}


def test_other_sections_keep_no_state():
    assert layer_of("[convolutional]\nactivation=leaky\n").states == {}
