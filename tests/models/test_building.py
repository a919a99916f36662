"""Builders of Keras layers, one for each section class."""

import importlib
import typing

import pytest

from support.messages import refused
from yolotf.darknet import cfg
from yolotf.darknet.layer import SECTIONS, names_that_store
from yolotf.errors import UnsupportedSectionError
from yolotf.models import build, building, keras_layers
from yolotf.models.keras_module import keras


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_is_built_or_ends_a_model(name):
    assert (SECTIONS[name] in building.BUILDERS) != issubclass(SECTIONS[name], cfg.Head)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_builder_is_in_the_file_of_its_section(name):
    if not issubclass(SECTIONS[name], cfg.Head):
        family = SECTIONS[name].__module__.rpartition(".")[2]
        module = building.BUILDERS[SECTIONS[name]].__module__
        assert module == f"yolotf.models.sections.{family}"


def test_a_section_without_a_builder_is_refused_by_name_and_line(monkeypatch):
    monkeypatch.delitem(building.BUILDERS, cfg.Avgpool)
    network = cfg.parse_cfg("[net]\nwidth=8\nheight=8\nchannels=3\n[avgpool]\n[softmax]\n")
    with refused(UnsupportedSectionError) as caught:
        build.build_model(network)
    assert (caught.value.section, caught.value.line, caught.value.layer) == ("avgpool", 5, 0)


def test_layers_have_the_module_that_programs_import():
    layers = [
        value
        for name in keras_layers.__all__
        if isinstance(value := getattr(keras_layers, name), type)
        and not typing.get_origin(value)  # type aliases, which Python 3.10 calls types
    ]
    assert len(layers) >= 15
    for layer in layers:
        assert layer.__module__ == "yolotf.models.keras_layers"
        assert getattr(importlib.import_module(layer.__module__), layer.__name__) is layer
        assert keras().saving.get_registered_name(layer) == f"yolotf>{layer.__name__}"


def test_sections_that_store_floats_are_recognised_by_their_numbers():
    names = names_that_store()
    assert {"convolutional", "connected", "batchnorm", "local", "implicit", "shortcut"} <= {*names}
    assert not {"maxpool", "route", "yolo", "softmax"} & {*names}
