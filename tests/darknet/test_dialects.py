"""What AlexeyAB's and hank-ai's Darknet read differently in one cfg.

The facts are the fork's own source, version of June 2026: src-lib/darknet_cfg.cpp (the expression
for a line, find_float_array, find_unused_lines) and darknet_enums.cpp (its sections and words).
"""

import pytest

import yolotf
from support import messages
from yolotf.darknet import cfg, dialects, hank_ai
from yolotf.darknet.layer import SECTION_ALIASES
from yolotf.darknet.stock import CLASSIFIERS, NAMES

NET = "[net]\nwidth=64\nheight=64\nchannels=3\n"
CONVOLUTION = "[convolutional]\nfilters=18\nsize=1\nactivation=linear\n"
HEAD = "[yolo]\nmask=0,1,2\nanchors=10,14, 23,27, 37,58\nclasses=1\nnum=3\n"


def in_both_dialects(text):
    """The text read as AlexeyAB's and as hank-ai's Darknet reads it."""
    return (yolotf.parse_cfg(text, dialect=dialect) for dialect in ("alexeyab", "hank-ai"))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (f"{NET}[convolutional]\nactivation=leaky # as in v3\n", "leaky"),
        (f"{NET}[convolutional]\nactivation = leaky# x\n", "leaky"),
        (f"{NET}[convolutional]\nactivation=mish\t#x = 3\n", "mish"),
    ],
)
def test_comment_after_a_word_ends_it(text, read):
    network = yolotf.parse_cfg(text)
    assert network.layers[0].activation == read
    (warning,) = network.warnings
    assert "AlexeyAB" in warning
    assert "hank-ai" in warning
    assert "<cfg>:6" in warning
    assert yolotf.parse_cfg(text, dialect="hank-ai").warnings == ()
    with messages.refused(yolotf.CfgError):
        yolotf.parse_cfg(text, dialect="alexeyab")


@pytest.mark.parametrize("line", ["filters=8 # x", "filters=8#x", "filters = 8 # 9", "filters=8"])
def test_comment_after_a_number_is_no_difference(line):
    text = f"{NET}[convolutional]\n{line}\n"
    for dialect in (None, "alexeyab", "hank-ai"):
        network = yolotf.parse_cfg(text, dialect=dialect)
        assert network.layers[0].filters == 8
        assert network.warnings == ()


@pytest.mark.parametrize("line", ["[yolo] # head", "[yolo]#head", " [yolo]\t# x=3", "[yolo] head"])
def test_comment_after_a_section_ends_its_name(line):
    text = f"{NET}{CONVOLUTION}{HEAD.replace('[yolo]', line)}"
    network = yolotf.parse_cfg(text)
    assert len(network.heads) == 1
    (warning,) = network.warnings
    assert "[yolo]" in warning
    assert "AlexeyAB" in warning
    assert "hank-ai" in warning
    assert yolotf.parse_cfg(text, dialect="hank-ai").warnings == ()
    with messages.refused(yolotf.CfgError):
        yolotf.parse_cfg(text, dialect="alexeyab")


def test_bracket_in_a_comment_is_part_of_the_name_in_both():
    for dialect in (None, "alexeyab", "hank-ai"):
        with messages.refused(yolotf.CfgError):
            yolotf.parse_cfg(f"{NET}[maxpool] # see [1]\n", dialect=dialect)


@pytest.mark.parametrize(
    "written", ["10,14  23,27  37,58", "10,14 23,27 37 58", "10 14 23 27 37 58"]
)
def test_blanks_separate_the_numbers_of_a_list(written):
    text = f"{NET}{CONVOLUTION}{HEAD.replace('10,14, 23,27, 37,58', written)}"
    network = yolotf.parse_cfg(text)
    assert network.heads[0].anchors == ((10, 14), (23, 27), (37, 58))
    (warning,) = network.warnings
    assert "10,14,23,27,37,58" in warning
    assert "AlexeyAB" in warning
    alexeyab, hank_ai = in_both_dialects(text)
    assert hank_ai.heads[0].anchors == network.heads[0].anchors
    assert hank_ai.warnings == ()
    assert alexeyab.heads[0].anchors != network.heads[0].anchors


def test_mask_of_blanks():
    text = f"{NET}{CONVOLUTION}{HEAD.replace('mask=0,1,2', 'mask=0 1 2 # all')}"
    assert yolotf.parse_cfg(text).heads[0].mask == (0, 1, 2)
    with pytest.raises(yolotf.CfgError):
        yolotf.parse_cfg(text, dialect="alexeyab")


@pytest.mark.parametrize(
    ("key", "value", "attribute"),
    [("nms_kind", "greedynms", "nms_kind"), ("new_coords", "1", "new_coords")],
)
def test_comment_in_a_head(key, value, attribute):
    text = f"{NET}{CONVOLUTION}{HEAD}{key}={value} # n\n"
    assert str(getattr(yolotf.parse_cfg(text).heads[0], attribute)) in (value, "True")


def test_comment_after_the_weights_of_a_shortcut():
    text = (
        f"{NET}{CONVOLUTION}{CONVOLUTION}[shortcut]\nfrom=-2 # -9\n"
        "weights_type=per_feature # x\nactivation=linear\n"
    )
    assert yolotf.parse_cfg(text).layers[2].nweights == 2


def test_to_cfg_is_read_alike_by_both():
    text = (
        f"{NET}max_epochs=300\n[convolutional]\nfilters=18 # x\nfilters=3\nfoo=1\n"
        f"activation=linear # y\n{HEAD.replace(', ', '  ')}"
    )
    network = yolotf.parse_cfg(text)
    written = network.to_cfg()
    assert "max_epochs" not in written
    assert "foo" not in written
    assert written.count("filters=") == 1
    reread = [
        yolotf.parse_cfg(written, dialect=dialect) for dialect in (None, "alexeyab", "hank-ai")
    ]
    assert all(reread_network.warnings == () for reread_network in reread)
    assert all(
        reread_network.heads[0].anchors == network.heads[0].anchors for reread_network in reread
    )
    assert all(reread_network.layers[0].filters == 18 for reread_network in reread)


NOT_THERE = {"yolov2": "reorg", "yolov2-voc": "reorg", "vgg-16": "crop"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, *CLASSIFIERS])
def test_stock_networks_load_in_hank_ais_darknet(name):
    """Holds for the networks whose sections hank-ai's Darknet has."""
    network = yolotf.network(name)
    refused = [why for _, why in hank_ai.refused_lines(network.sections)]
    if name in NOT_THERE:
        assert refused == [f"it has no section [{NOT_THERE[name]}]"]
    else:
        assert refused == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{NET};batch=1\n", 5),
        (f"{NET}batch=8 ; x\n", 5),
        (f"{NET}width=96\n", 5),
        (f"{NET}max_crop=3\n", 5),
        (f"{NET}learning_rate=1e-3\n", 5),
        (f"{NET}[reorg]\nstride=2\n", 5),
        (f"{NET}[maxpool]\npad=1\n", 6),
        (f"{NET}{CONVOLUTION}[shortcut]\nfrom=-2\nweights_type=per_layer\n", 11),
        (f"{NET.replace('64', '65', 1)}{CONVOLUTION}{HEAD}", 2),
    ],
)
def test_lines_that_hank_ais_darknet_refuses(text, line):
    sections = cfg.read_sections(text, source="a.cfg", dialect="hank-ai")
    (refused_line,) = hank_ai.refused_lines(sections, text)
    assert refused_line.line == line
    messages.said(refused_line.why)


def test_plain_comments_are_accepted_by_both():
    text = f"# a\n; b\n{NET}# c = 3\n; d = 4\n"
    sections = cfg.read_sections(text, source="a.cfg", dialect="hank-ai")
    assert list(hank_ai.refused_lines(sections, text)) == []


def test_refused_lines_are_warnings_of_hank_ais_dialect_only():
    text = f"{NET}batch=1\nbatch=2\n"
    (plain,) = yolotf.parse_cfg(text).warnings
    assert "hank-ai" not in plain
    for warning in yolotf.parse_cfg(text, dialect="hank-ai").warnings:
        messages.said(warning)


def test_heads_that_detect_nothing_in_hank_ais_darknet_are_warned_of():
    text = f"{NET}{CONVOLUTION}[region]\nanchors=1,1,2,2,3,3\nnum=3\nclasses=1\n"
    for warning in yolotf.parse_cfg(text, dialect="hank-ai").warnings:
        messages.said(warning)


def test_every_section_has_its_keys():
    assert {name for name in SECTION_ALIASES if dialects.known_keys(name) is None} == set()


@pytest.mark.parametrize("dialect", ["AlexeyAB", "", "pjreddie"])
def test_unknown_dialect_is_refused(dialect):
    with messages.refused(ValueError):
        yolotf.parse_cfg(NET, dialect=dialect)
