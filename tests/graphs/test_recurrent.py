"""Recurrent sections: NumPy by hand, Darknet's figures, and every graph that computes them."""

import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support import helpers
from support import recurrent_by_hand as hand
from support.messages import refused, said
from support.recurrent_by_hand import network_of
from yolotf.darknet import cfg
from yolotf.errors import UnsupportedSectionError
from yolotf.graphs.folded_network import FoldedNetwork
from yolotf.graphs.network import NetworkGraph
from yolotf.inference.recurrent_state import StatefulRunner
from yolotf.inference.tensorflow_engine import TracedNetwork
from yolotf.models.build import build_model
from yolotf.runtime.network import RuntimeNetwork
from yolotf.weights import layout

CLOSE = {"rtol": 2e-5, "atol": 2e-6}


@pytest.mark.parametrize("name", hand.CASES)
def test_plain_implementation_matches_darknet(name):
    body, make = hand.CASES[name]
    floats = hand.numbers(layout.segments(network_of(body)))
    last = hand.by_hand(make, floats)[-1].transpose(2, 0, 1).ravel()
    figures = hand.FIGURES[name]
    np.testing.assert_allclose(last[: len(figures)], figures, rtol=2e-6, atol=1e-5)


@pytest.fixture(params=hand.ALL)
def case(request, tmp_path):
    return hand.case(request.param, tmp_path / "some.weights")


def test_the_runtime_steps_frame_by_frame(case):
    network, path, expected = case
    engine, weights = RuntimeNetwork.opened(network, path)
    stream = StatefulRunner(engine)
    first = stream.raw_heads(hand.frames()[:1], weights)[0]
    others = stream.raw_heads(hand.frames()[1:], weights)[0]
    np.testing.assert_allclose(np.concatenate([first, others]), expected, **CLOSE)
    stream.reset()
    again = stream.raw_heads(hand.frames(), weights)[0]
    np.testing.assert_allclose(again, expected, **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("fused", [False, None])
def test_functions_step_frame_by_frame(case, fused):
    network, path, expected = case
    folded = FoldedNetwork(network, use_onednn=fused)
    folded.load(path)
    shape = [None, *network.input_shape]
    function = tf.function(folded, input_signature=[tf.TensorSpec(shape)], autograph=False)
    parts = [function(part)[0] for part in (hand.frames()[:1], hand.frames()[1:])]
    np.testing.assert_allclose(np.concatenate(parts), expected, **CLOSE)
    folded.reset()
    one_by_one = [folded(frame[None])[0] for frame in hand.frames()]
    np.testing.assert_allclose(np.concatenate(one_by_one), expected, **CLOSE)


def test_a_gpu_gets_the_same_steps(tmp_path):
    body, make = hand.CASES["crnn"]
    network = network_of(body)
    path = tmp_path / "some.weights"
    expected = hand.by_hand(make, hand.write(path, layout.segments(network)))
    traced = TracedNetwork(network)
    actual = StatefulRunner(traced).raw_heads(hand.frames(), traced.load(path))[0]
    np.testing.assert_allclose(actual, expected, **CLOSE)


def test_loading_weights_resets_the_state(tmp_path):
    body, make = hand.CASES["gru"]
    network = network_of(body)
    path = tmp_path / "some.weights"
    expected = hand.by_hand(make, hand.write(path, layout.segments(network)))
    engine, weights = RuntimeNetwork.opened(network, path)
    stream = StatefulRunner(engine)
    stream.raw_heads(hand.frames(), weights)
    again = stream.raw_heads(hand.frames()[:1], engine.load(path))[0]
    np.testing.assert_allclose(again, expected[:1], **CLOSE)


def test_states_are_named_after_their_sections():
    graph = NetworkGraph(network_of("[dropout]\n" + hand.CASES["conv_lstm"][0]), use_onednn=False)
    assert graph.states == {"1/state": (1, 2, 3, 2), "1/cell": (1, 2, 3, 2)}
    assert graph.shapes["1/ug/kernel"] == (3, 3, 2, 2)
    assert NetworkGraph(network_of("[history]\n"), use_onednn=False).states == {}


REFUSED = {
    "crnn": ("[crnn]\nsize=3\n", 6),
    "stride": ("[conv_lstm]\nsize=3\npad=1\nstride=2\n", 6),
    "xnor": ("[crnn]\nsize=1\npadding=0\nstride=1\nxnor=1\n", 9),
    "activation": ("[conv_lstm]\nsize=1\nlstm_activation=relu\n", 7),
    "bottleneck": ("[conv_lstm]\nsize=1\noutput=4\nbottleneck=1\n", 8),
    "half": ("[conv_lstm]\nsize=1\noutput=3\nbottleneck=1\nshortcut=1\n", 9),
    "mish": ("[rnn]\nactivation=mish\n", 6),
    "dontload": ("[lstm]\ndontload=1\n", 6),
}
"""Sections, and the line of the cfg that is at fault."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_darknet_cannot_compute_is_refused(name):
    body, line = REFUSED[name]
    text = "[net]\nwidth=3\nheight=3\nchannels=3\n" + body
    with refused(UnsupportedSectionError, code="unsupported-section", line=line):
        NetworkGraph(cfg.parse_text(text, source="some.cfg"), use_onednn=False)


def test_history_section_has_no_state():
    network = network_of("[history]\nhistory_size=3\n")
    (warning,) = network.warnings
    said(warning)
    assert network_of("[history]\nhistory_size=1\n").warnings == ()


def letters(floats, kind):
    """Darknet's networks of letters: three sections with a memory, and what is likely next."""

    def section(inputs):
        if kind == "rnn":
            return hand.rnn(floats, inputs, 1024, 1024, True, "leaky")
        if kind == "crnn":
            return hand.crnn(floats, (inputs, 1, 1), 1024, 1024, True, "leaky", size=1)
        return (hand.gru if kind == "gru" else hand.lstm)(floats, inputs, 1024, True)

    runs = [] if kind != "crnn" else [hand.dense(floats, 256, 256, False, "leaky")]
    runs.append(lambda x: x.reshape(-1, 1, 1) if kind == "crnn" else x)
    runs += [section(inputs) for inputs in (256, 1024, 1024)]
    last = "linear" if kind == "gru" else "leaky"
    runs.append(hand.dense(floats, 1024, 256, False, last))
    runs.append(lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum())
    return hand.in_sequence(*runs)


LETTERS = {
    "rnn": "rnn",
    "rnn.train": "rnn",
    "gru": "gru",
    "lstm.train": "lstm",
    "crnn.train": "crnn",
}


@pytest.mark.parametrize(
    "path",
    helpers.cfg_params(lambda: [path for path in helpers.stock_cfgs() if path.stem in LETTERS]),
)
def test_darknets_letter_networks_match_a_plain_implementation(path, tmp_path):
    network = cfg.parse_cfg(path)
    floats = helpers.write_weights(tmp_path / "some.weights", network, scale=0.05)
    run = letters(hand.Floats(floats), LETTERS[path.stem])
    text = np.eye(256, dtype=np.float32)[[104, 101, 108, 108, 111]]
    expected = np.stack([run(letter.astype(np.float64)) for letter in text])
    engine, weights = RuntimeNetwork.opened(network, tmp_path / "some.weights")
    probabilities = StatefulRunner(engine).raw_heads(text[:, None, None], weights)[0][:, 0, 0]
    assert np.abs(expected[2] - expected[3]).max() > 1e-4  # the same letter, later
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "path",
    helpers.cfg_params(lambda: [helpers.SHARED / "cfg/yolov3-tiny_occlusion_track.cfg"]),
)
def test_darknets_tracker_runs(path, tmp_path):
    network = cfg.parse_cfg(path, size=96)
    helpers.write_weights(tmp_path / "some.weights", network, scale=0.05)
    random = np.random.default_rng(3)
    frames = random.random((3, 96, 96, 3), np.float32)
    engine, weights = RuntimeNetwork.opened(network, tmp_path / "some.weights")
    assert engine.graph.states == {"13/state": (1, 3, 3, 256), "23/state": (1, 6, 6, 128)}
    stream = StatefulRunner(engine)
    outputs = stream.raw_heads(frames, weights)
    model = build_model(network)
    yolotf.load_darknet_weights(model, tmp_path / "some.weights")
    for output, other in zip(outputs, model.predict(frames, verbose=0), strict=True):
        np.testing.assert_allclose(output, other, atol=1e-4 * np.abs(other).max())
    stream.reset()
    alone = stream.raw_heads(frames[2:], weights)
    for output, other in zip(outputs, alone, strict=True):
        assert np.abs(output[2] - other[0]).max() > 1e-2 * np.abs(output).max()
