"""What the graphs know of sections, by class."""

import importlib

import pytest

from support.messages import refused
from yolotf.darknet import cfg
from yolotf.darknet.layer import SECTIONS
from yolotf.errors import UnsupportedSectionError
from yolotf.graphs import head_decoders, lowering, operations
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
def test_functions_are_still_found_where_all_of_them_were(name):
    assert callable(getattr(operations, name))
    assert getattr(importlib.import_module("yolotf.tf_layers"), name) is getattr(operations, name)
