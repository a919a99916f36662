"""The register of section types: adding one touches its class alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import yolotf
from support import helpers, networks_of_sections, pages
from support.cfgs import conv, net, normalized, yolo
from support.messages import refused
from yolotf.darknet import cfg, layer
from yolotf.darknet.roles import Role
from yolotf.darknet.sections import pointwise
from yolotf.diagnosis import diagnose
from yolotf.errors import UnsupportedSectionError
from yolotf.weights import layout

PAGE = Path(__file__).parents[2] / "docs/architecture.md"


@pytest.fixture
def scale():
    """The section of docs/architecture.md, as the page has it."""
    registers = (layer.SECTIONS, layer.SECTION_ALIASES)
    before = [dict(register) for register in registers]
    (code,) = (
        block.content
        for block in pages.blocks(PAGE.read_text(encoding="utf-8"))
        if "@section(" in block.content
    )
    names = {**vars(pointwise), "__name__": __name__}
    exec(compile(code, PAGE, "exec"), names)
    yield names["Scale"]
    for register, kept in zip(registers, before, strict=True):
        register.clear()
        register.update(kept)


def test_a_new_section_is_read_stored_and_printed(scale):
    network = cfg.parse_cfg(
        "[net]\nwidth=8\nheight=8\nchannels=3\n[conv]\nfilters=4\nsize=1\n[scale]\n"
    )
    assert isinstance(network.layers[1], scale)
    (segment,) = [segment for segment in layout.segments(network) if segment.layer == 1]
    assert (segment.role, segment.shape, segment.offset) == ("weights", (4,), 4 * (4 + 3 * 4))
    assert layout.floats(network) == 4 + 3 * 4 + 4
    assert "    1  scale" in str(network)


def test_a_new_section_is_diagnosed_and_refused_by_graphs(scale, tmp_path):
    text = net(8) + normalized(4, 3) + "[scale]\n" + conv(18) + yolo()
    network = cfg.parse_cfg(text)
    path = tmp_path / "a.weights"
    helpers.write_weights(path, network, scale=0.1)
    assert diagnose(path, network).ok
    assert not diagnose(path, cfg.parse_cfg(text.replace("[scale]\n", ""))).ok
    with refused(UnsupportedSectionError):
        yolotf.Detector(network, path)


def test_every_section_type_has_one_class():
    assert set(cfg.SECTION_ALIASES.values()) == set(layer.SECTIONS)
    assert cfg.SECTION_ALIASES["conv"] == "convolutional"
    assert cfg.SECTION_ALIASES["silence"] == "empty"


def test_every_role_is_spelled_alike_everywhere():
    assert Role.KERNEL == "kernel"
    assert {"kernel": 1}[Role.KERNEL] == 1
    assert f"{Role.KERNEL} {Role.KERNEL!r} {Role.KERNEL:>8}" == "kernel 'kernel'   kernel"
    assert json.dumps([Role.MOVING_MEAN]) == '["moving_mean"]'
    assert [role.number for role in Role] == list(range(8))


@pytest.mark.parametrize("name", networks_of_sections.SECTIONS)
def test_sections_are_compared_hashed_and_printed_as_dataclasses_are(name):
    text = networks_of_sections.around(networks_of_sections.SECTIONS[name])
    section, same = (yolotf.parse_cfg(text).layers[-1] for _ in range(2))
    values = {field.name: getattr(section, field.name) for field in dataclasses.fields(section)}
    plain = dataclasses.make_dataclass(type(section).__name__, values, frozen=True)(**values)
    assert repr(section) == repr(plain)
    assert section == same
    assert hash(section) == hash(same) == hash(plain)
    assert section != plain
    assert section != dataclasses.replace(section, line=section.line + 1)
