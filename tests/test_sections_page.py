"""docs/sections.md is what the classes of the sections say."""

import sys
from pathlib import Path

import pytest

from yolotf.darknet.layer import SECTIONS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import sections_page
    finally:
        sys.path.pop(0)
    return sections_page


@pytest.mark.slow
def test_the_page_is_up_to_date(tool):
    written = tool.PAGE.read_text(encoding="utf-8")
    assert written == tool.page(), "run python tools/sections_page.py"


def test_options_are_where_darknets_source_has_them(tool):
    """parser.c:169-246 for [convolutional]; :251-273 for the parts of [crnn]."""
    used, kept, refused = tool.facts_of(SECTIONS["convolutional"], "convolutional")
    assert {"filters", "size", "stride", "groups", "dilation", "dontload"} <= set(used)
    assert {"angle", "assisted_excitation", "sway"} <= set(kept)
    assert any("coordconv=" in text for text in refused)
    used, kept, _ = tool.facts_of(SECTIONS["crnn"], "crnn")
    assert {"pad", "stride", "hidden", "groups"} <= set(used)
    used, kept, refused = tool.facts_of(SECTIONS["yolo"], "yolo")
    assert "ignore_thresh" in kept
    assert not refused
