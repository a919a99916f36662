"""Convolutions written as oneDNN's operation, against standard operations."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support import numpy_loader
from support.cfgs import net
from yolotf.darknet import stock as networks
from yolotf.darknet.cfg import ACTIVATIONS, parse_cfg
from yolotf.graphs import onednn, tf_operations
from yolotf.graphs.folded_network import FoldedNetwork
from yolotf.inference import InferenceFunction

pytestmark = pytest.mark.skipif(
    not tf_operations.kernels().fused, reason=f"convolutions run on: {tf_operations.kernels().name}"
)


def test_fused_operation_matches_the_reference():
    assert tf_operations.matches_reference()


def test_a_wrong_fused_operation_fails_the_reference_check(monkeypatch):
    monkeypatch.setitem(onednn._FUSED, "leaky", "Relu")
    assert not tf_operations.matches_reference()


@pytest.mark.parametrize("outcome", ["it passes", "it fails", "no such op"])
def test_fused_operation_of_an_unknown_tensorflow_is_tried_first(outcome, monkeypatch):
    monkeypatch.setattr(tf, "__version__", "2.99.0")
    if outcome == "it fails":
        monkeypatch.setattr(tf_operations, "matches_reference", lambda: False)
    if outcome == "no such op":
        monkeypatch.setattr(onednn, "OPERATION", "_MklNativeFusedConv9D")
    assert tf_operations.kernels.__wrapped__().fused == (outcome == "it passes")


def layers(filters=512, size=3, extra=""):
    return f"[convolutional]\nbatch_normalize=1\nfilters={filters}\nsize={size}\npad=1\n{extra}\n"


# Whether the kernel of the last layer is cut, and into what.
BLOCKS = {
    "3x3": (layers(), 8),
    "bias": ("[convolutional]\nfilters=320\nsize=3\npad=1\nactivation=leaky\n", 5),
    "strides": (layers(256, extra="stride=2\nactivation=swish"), 4),
    "even kernel": (layers(256, 4, "stride_x=1\nstride_y=2\npadding=2\nactivation=mish"), 4),
    "dilation": (layers(256, extra="dilation=2\nactivation=relu"), 4),
    "activation behind it": (layers(256, extra="activation=logistic"), 4),
    "1x1": (layers(size=1), 1),
    "groups": (layers(extra="groups=2\nactivation=relu6"), 1),
    "other filters": (layers(510), 1),
    "few filters": (layers(128), 1),
    "more than anyone has": (layers(2112), 1),
    "depthwise": (layers(8, extra="groups=8\nactivation=relu"), 1),
    "shared kernel": (
        layers(256, extra="activation=leaky")
        + "[route]\nlayers=0\n"
        + layers(256, extra="share_index=1\nstride=2\nactivation=mish"),
        4,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKS)
def test_split_kernels_compute_what_the_whole_kernel_does(name, tmp_path):
    sections, blocks = BLOCKS[name]
    text = f"{net(5, 6)}{layers(8)}{sections}"
    network = parse_cfg(text)
    path = tmp_path / "random.weights"
    path.write_bytes(numpy_loader.random_file(text, seed=3))
    ours, plain = FoldedNetwork(network), FoldedNetwork(network, use_onednn=False)
    for folded in (ours, plain):
        folded.load(path)
    kernel = ours.stored["1/kernel"]
    if onednn.has_avx512() and blocks > 1:
        size, channels = network.layers[1].size, network.layers[1].input_shape.channels
        filters = network.layers[1].filters // blocks
        assert kernel.shape == (blocks, size, size, channels, filters)
        assert ours.stored["1/bias"].shape == (blocks, filters)
    else:
        assert kernel.shape == plain.stored["1/kernel"].shape
    for key, value in ours.hwio_weights().items():
        np.testing.assert_array_equal(value, plain.stored[key].numpy())
    pictures = np.random.default_rng(1).random((2, 5, 6, 3), np.float32)
    actual = tf.function(ours, autograph=False)(pictures)[0].numpy()
    assert np.ptp(actual) > 0
    for expected in (tf.function(plain, autograph=False)(pictures)[0], ours(pictures)[0]):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(actual).max())


def test_fused_activations_match_the_standard_operations(tmp_path):
    sections = "".join(
        f"[route]\nlayers=0\n[convolutional]\nfilters=5\nactivation={name}\n"
        for name in sorted(ACTIVATIONS)
    )
    ends = ",".join(str(index) for index in range(2, 2 + 2 * len(ACTIVATIONS), 2))
    text = f"{net(5, 6)}{layers(8)}{sections}[route]\nlayers={ends}\n"
    path = tmp_path / "random.weights"
    path.write_bytes(numpy_loader.random_file(text, seed=3))
    answers = []
    for use_onednn in (True, False):
        folded = FoldedNetwork(parse_cfg(text), use_onednn=use_onednn)
        folded.load(path)
        pictures = np.random.default_rng(1).random((2, 5, 6, 3), np.float32)
        answers.append(tf.function(folded, autograph=False)(pictures)[0].numpy())
    np.testing.assert_allclose(*answers, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_traced_graphs_use_newly_loaded_weights(tmp_path):
    """oneDNN's operation may cache a reordered kernel; here it must not."""
    network = networks.network("yolov4-tiny", classes=2, size=64)
    function = InferenceFunction(network)
    pictures = np.random.default_rng(1).random((1, 64, 64, 3), np.float32)
    for seed in (1, 2, 1):
        path = tmp_path / f"{seed}.weights"
        path.write_bytes(numpy_loader.random_file(network.to_cfg(), seed=seed))
        function.folded.load(path)
        plain = FoldedNetwork(network, use_onednn=False)
        plain.load(path)
        for ours, theirs in zip(function.raw_heads(pictures), plain(pictures), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_optimizer_is_off_only_in_the_thread_and_block_that_ask():
    from tensorflow.python.eager import context

    def is_off():
        options = context.context().function_call_options
        config = tf.compat.v1.ConfigProto.FromString(options.config_proto_serialized)
        return config.graph_options.rewrite_options.disable_meta_optimizer

    assert not is_off()
    with tf_operations.unoptimized():
        assert is_off()
        with tf_operations.unoptimized():
            assert is_off()
        assert is_off()
    assert not is_off()
    with pytest.raises(KeyError), tf_operations.unoptimized():
        raise KeyError
    assert not is_off()


def test_graphs_are_ready_unless_something_is_left_to_fuse():
    assert FoldedNetwork(networks.network("yolov4-tiny", size=64)).skip_grappler
    text = f"{net(5, 6)}{layers(8)}{BLOCKS['depthwise'][0]}"
    assert not FoldedNetwork(parse_cfg(text)).skip_grappler
    assert not FoldedNetwork(parse_cfg(text), use_onednn=False).skip_grappler


@pytest.mark.slow
def test_fused_operation_is_not_used_with_onednn_off(tmp_path):
    head = "[region]\nanchors=1,1\nnum=1\nclasses=507\n"
    (tmp_path / "a.cfg").write_text(f"{net(5, 6)}{layers()}{head}")
    code = """
        import sys
        import numpy as np
        import tensorflow as tf
        from yolotf.graphs import tf_operations
        from yolotf.darknet.cfg import parse_cfg
        from yolotf.inference import InferenceFunction

        network = parse_cfg(sys.argv[1])
        assert not tf_operations.kernels().fused
        function = InferenceFunction(network)
        assert function.folded.stored["0/kernel"].shape == (3, 3, 3, 512)
        function.load(sys.argv[2])
        print(float(function.raw_heads(np.ones((1, 5, 6, 3), np.float32))[0].numpy().sum()))
    """
    network = parse_cfg(tmp_path / "a.cfg")
    (tmp_path / "a.weights").write_bytes(numpy_loader.random_file(network.to_cfg(), seed=3))
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(code),
            str(tmp_path / "a.cfg"),
            str(tmp_path / "a.weights"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(yolotf.__file__).parents[1],
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"},
    )
    assert run.returncode == 0, run.stderr
    function = InferenceFunction(network)
    function.load(tmp_path / "a.weights")
    here = function.raw_heads(np.ones((1, 5, 6, 3), np.float32))[0].numpy()
    assert float(run.stdout) == pytest.approx(float(here.sum()), rel=1e-3)
