"""The words that many messages share."""

import pytest

from support.messages import refused
from yolotf.darknet.cfg import parse_cfg
from yolotf.darknet.class_names import names_for
from yolotf.errors import YolotfError
from yolotf.text import listed, plural


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("layer",), "0 layers"),
        (1, ("layer",), "1 layer"),
        (2, ("layer",), "2 layers"),
        (1, ("class", "classes"), "1 class"),
        (80, ("class", "classes"), "80 classes"),
    ],
)
def test_plural_follows_the_count(count, words, text):
    assert plural(count, *words) == text


@pytest.mark.parametrize(
    ("most", "between", "text"),
    [
        (3, ", ", "a, b, c"),
        (2, ", ", "a, b and 1 more"),
        (3, "; ", "a; b; c"),
        (1, "; ", "a; and 2 more"),
    ],
)
def test_long_lists_end_with_the_remaining_count(most, between, text):
    assert listed("abc", most, between) == text


def test_network_repr_uses_singular_for_counts_of_one():
    network = parse_cfg("[net]\nwidth=8\nheight=8\nchannels=6\n[region]\nclasses=1\nnum=1\n")
    assert repr(network).endswith(": 1 layer, 8x8x6, 1 class>")


def test_class_names_must_match_the_class_count():
    assert names_for(["cat"], 1, "a.cfg") == ("cat",)
    assert names_for(None, 1, "a.cfg") == ()
    assert names_for(["cat", "dog"], None, "a.cfg") == ("cat", "dog")
    with refused(YolotfError, expected=1, found=2):
        names_for(["cat", "dog"], 1, "a.cfg")
