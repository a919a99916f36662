"""The register of section types: adding one touches its class alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from yolotf.darknet import cfg, layer
from yolotf.darknet.options import Options
from yolotf.darknet.stored import Role, Stored
from yolotf.weights import layout


@pytest.fixture
def scale():
    """The section of docs/architecture.md."""
    before = dict(layer.SECTIONS), dict(layer.SECTION_ALIASES)

    @layer.section("scale")
    @dataclass(frozen=True, kw_only=True)
    class Scale(layer.Layer):
        activation: str

        @classmethod
        def parse(cls, place: layer.Place, options: Options, before: layer.Before) -> Scale:
            return cls(**place.fields(place.input_shape), activation=options.activation("linear"))

        def stored(self) -> Iterator[Stored]:
            yield Stored("", Role.WEIGHTS, (self.input_shape.channels,))

    yield Scale
    for register, kept in zip((layer.SECTIONS, layer.SECTION_ALIASES), before, strict=True):
        register.clear()
        register.update(kept)


def test_a_new_section_is_read_stored_and_printed(scale):
    network = cfg.parse_cfg(
        "[net]\nwidth=8\nheight=8\nchannels=3\n[conv]\nfilters=4\nsize=1\n[scale]\n"
    )
    assert isinstance(network.layers[1], scale)
    (segment,) = [one for one in layout.segments(network) if one.layer == 1]
    assert (segment.role, segment.shape, segment.offset) == ("weights", (4,), 4 * (4 + 3 * 4))
    assert layout.floats(network) == 4 + 3 * 4 + 4
    assert "    1  scale" in str(network)


def test_every_section_type_has_one_class():
    assert set(cfg.SECTION_ALIASES.values()) == set(layer.SECTIONS)
    assert cfg.SECTION_ALIASES["conv"] == "convolutional"
    assert cfg.SECTION_ALIASES["silence"] == "empty"


def test_a_role_is_its_word_everywhere():
    assert Role.KERNEL == "kernel"
    assert {"kernel": 1}[Role.KERNEL] == 1
    assert f"{Role.KERNEL} {Role.KERNEL!r} {Role.KERNEL:>8}" == "kernel 'kernel'   kernel"
    assert json.dumps([Role.MOVING_MEAN]) == '["moving_mean"]'
    assert [role.number for role in Role] == list(range(8))
