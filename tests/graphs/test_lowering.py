"""What the graphs know of sections, by class."""

import importlib

import numpy as np
import pytest
import tensorflow as tf

from support.cfgs import net, normalized
from support.messages import refused
from yolotf.darknet import cfg
from yolotf.darknet.layer import SECTIONS
from yolotf.errors import UnsupportedSectionError
from yolotf.graphs import activations, head_decoders, lowering, operations
from yolotf.graphs.network import NetworkGraph


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_is_written_or_ends_a_graph(name):
    assert (SECTIONS[name] in lowering.LOWERINGS) != issubclass(SECTIONS[name], cfg.Head)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_lowering_is_in_the_file_of_its_section(name):
    if not issubclass(SECTIONS[name], cfg.Head):
        family = SECTIONS[name].__module__.rpartition(".")[2]
        module = lowering.LOWERINGS[SECTIONS[name]].__module__
        assert module == f"yolotf.graphs.sections.{family}"


@pytest.mark.parametrize("name", [name for name in SECTIONS if SECTIONS[name].ends_graph])
def test_every_head_is_decoded_by_one_function_of_its_file(name):
    cls = SECTIONS[name]
    registries = (head_decoders.ROW_DECODERS, head_decoders.IMAGE_DECODERS)
    (function,) = (registry[cls] for registry in registries if cls in registry)
    assert function.__module__ == "yolotf.graphs.sections.heads"
    assert cls.reads_channels == (cls in head_decoders.ROW_DECODERS)


def test_a_section_without_a_lowering_is_refused_by_name_and_line(monkeypatch):
    monkeypatch.delitem(lowering.LOWERINGS, cfg.Avgpool)
    network = cfg.parse_cfg("[net]\nwidth=8\nheight=8\nchannels=3\n[avgpool]\n[softmax]\n")
    graph = NetworkGraph(network, use_onednn=False)
    with refused(UnsupportedSectionError) as caught:
        graph.heads(None, None, {}.get, fused=False)
    assert (caught.value.section, caught.value.line, caught.value.layer) == ("avgpool", 5, 0)


@pytest.mark.parametrize(
    "name", ["activate", "convolve", "is_depthwise", "blur", "convolve_locally", "shortcut"]
)
def test_old_import_path_of_the_lowerings_still_works(name):
    assert callable(getattr(operations, name))
    assert getattr(importlib.import_module("yolotf.tf_layers"), name) is getattr(operations, name)


def test_mish_by_exp_is_mish_for_any_number():
    x = np.concatenate(
        [
            np.linspace(-110, 110, 2001),
            np.random.default_rng(1).normal(0, 3, 2000),
            [-1e30, 1e30, 0],
        ]
    ).astype(np.float32)
    actual = activations.mish_by_exp(tf.raw_ops, tf.constant(x)).numpy()
    exact = x.astype(np.float64)
    exact = exact * np.tanh(np.logaddexp(0, exact))
    np.testing.assert_allclose(actual, exact, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("fuses_mish", "expected", "other"), [(True, "Softplus", "Exp"), (False, "Exp", "Softplus")]
)
def test_mish_uses_the_operation_that_tensorflow_fuses(fuses_mish, expected, other):
    network = cfg.parse_cfg(net(32) + normalized(4, activation="mish"))
    graph = NetworkGraph(network, use_onednn=False)

    def run(images):
        zeros = {key: tf.zeros(shape) for key, shape in graph.shapes.items()}
        return graph.heads(
            tf.raw_ops, images, zeros.__getitem__, fused=False, fuses_mish=fuses_mish
        )[0]

    traced = tf.function(run, autograph=False)
    written = traced.get_concrete_function(tf.TensorSpec((1, 32, 32, 3))).graph.get_operations()
    kinds = {operation.type for operation in written}
    assert expected in kinds
    assert other not in kinds
