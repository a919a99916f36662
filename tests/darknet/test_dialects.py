"""What AlexeyAB's and hank-ai's Darknet read differently in one cfg.

The facts are what the two programs themselves read and printed for these texts: hank-ai's of June
2026 (f684e1d7) and AlexeyAB's (59596d78), both built for CPUs. Their sources are
src-lib/darknet_cfg.cpp (the expression for a line, find_float_array, find_unused_lines) and
darknet_enums.cpp (its sections and words), and src/parser.c.
"""

import itertools

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


SIX = (10, 14, 23, 27, 37, 58)
# Of a list of anchors: the numbers that AlexeyAB's and hank-ai's Darknet read (0.5 if there is
# none), and the fork that is followed without a dialect.
ANCHORS = {
    "10x14, 23x27, 37x58": ((10, 23, 37, 0.5, 0.5, 0.5), SIX, "hank-ai"),
    "10:14,23:27,37:58": ((10, 23, 37, 0.5, 0.5, 0.5), SIX, "hank-ai"),
    "10;14;23;27;37;58": ((10, 0.5, 0.5, 0.5, 0.5, 0.5), SIX, "hank-ai"),
    "10,14 ; 23,27 ; 37,58": ((10, 14, 27, 58, 0.5, 0.5), SIX, "hank-ai"),
    "10/14/23/27/37/58": ((10, 0.5, 0.5, 0.5, 0.5, 0.5), SIX, "hank-ai"),
    "10|14|23|27|37|58 # x": ((10, 0.5, 0.5, 0.5, 0.5, 0.5), SIX, "hank-ai"),
    "10,14,23,27,37,5 8": (SIX, (10, 14, 23, 27, 37, 5), "hank-ai"),
    "10 - 14,23,27,37,58": ((10, 23, 27, 37, 58, 0.5), (10, 0.5, 0.5, 0.5, 0.5, 0.5), "hank-ai"),
    "1e1,14,23,27,37,58": (SIX, (1, 1, 14, 23, 27, 37), "alexeyab"),
}
AS_ONE = [
    "10,14,23,27,37,58,",
    "+10,14, 23 ,27\t,37,58",
    "10,14,23,27,37,58 # a, b",
    "10,14,23,27,37,58;",
]
# Lists that are too short and end in commas, and what both read.
SHORT = {
    "10,14,23,27,": ((10, 14, 23, 27, 0, 0.5), (10, 14, 23, 27, 0.5, 0.5)),
    "10,14,23,27, # a, b,": ((10, 14, 23, 27, 0, 0.5), (10, 14, 23, 27, 0.5, 0.5)),
    "10,14,23,27,,,,": ((10, 14, 23, 27, 0, 0), (10, 14, 23, 27, 0.5, 0.5)),
}
# A list that AlexeyAB's Darknet reads with zeros in it is refused in its dialect.
WITH_ZEROS = [
    "(10,14),(23,27),(37,58)",
    "[10,14],[23,27],[37,58]",
    "10,,14,23,27,37,58",
    "a10,14,23,27,37,58",
]


def anchors_of(written, dialect=None):
    text = f"{NET}{CONVOLUTION}{HEAD.replace('10,14, 23,27, 37,58', written)}"
    network = yolotf.parse_cfg(text, dialect=dialect)
    warnings = [warning for warning in network.warnings if "is read as" in warning]
    return tuple(itertools.chain(*network.heads[0].anchors)), warnings


@pytest.mark.parametrize("written", ANCHORS)
def test_numbers_of_a_list_in_both_darknets(written):
    alexeyab, hank_ai, followed = ANCHORS[written]
    assert anchors_of(written, "alexeyab") == (alexeyab, [])
    assert anchors_of(written, "hank-ai") == (hank_ai, [])
    read, (warning,) = anchors_of(written)
    assert read == (hank_ai if followed == "hank-ai" else alexeyab)
    messages.said(warning)


@pytest.mark.parametrize("written", AS_ONE)
def test_lists_that_both_read_alike_are_no_difference(written):
    for dialect in (None, "alexeyab", "hank-ai"):
        assert anchors_of(written, dialect) == (SIX, [])


@pytest.mark.parametrize("written", SHORT)
def test_commas_after_too_few_numbers(written):
    alexeyab, hank_ai = SHORT[written]
    assert anchors_of(written, "alexeyab") == (alexeyab, [])
    assert anchors_of(written, "hank-ai") == (hank_ai, [])
    read, (warning,) = anchors_of(written)
    assert read == hank_ai
    messages.said(warning)
    text = f"{NET}{CONVOLUTION}{HEAD.replace('10,14, 23,27, 37,58', written)}"
    for dialect, expected in ((None, hank_ai), ("alexeyab", alexeyab), ("hank-ai", hank_ai)):
        saved = yolotf.parse_cfg(text, dialect=dialect).to_cfg()
        for network in in_both_dialects(saved):
            assert tuple(itertools.chain(*network.heads[0].anchors)) == expected


@pytest.mark.parametrize("dialect", [None, "alexeyab", "hank-ai"])
def test_commas_after_all_numbers_are_no_difference(dialect):
    """The numbers beyond the second of one anchor count for nothing."""
    text = f"{NET}{CONVOLUTION}[region]\nanchors=1,2,\nnum=1\nclasses=13\n"
    network = yolotf.parse_cfg(text, dialect=dialect)
    assert network.heads[0].anchors == ((1, 2),)
    assert not any("is read as" in warning for warning in network.warnings)


@pytest.mark.parametrize("written", WITH_ZEROS)
def test_lists_with_something_else_between_commas(written):
    assert anchors_of(written, "hank-ai") == (SIX, [])
    read, (warning,) = anchors_of(written)
    assert read == SIX
    messages.said(warning)
    with messages.refused(yolotf.CfgError):
        anchors_of(written, "alexeyab")


@pytest.mark.parametrize("written", ["- 1", "\N{EM DASH}1", "x"])
def test_lists_without_a_number_are_refused(written):
    text = f"{NET}{CONVOLUTION}{HEAD.replace('mask=0,1,2', f'mask={written}')}"
    for dialect in (None, "alexeyab"):
        with pytest.raises(yolotf.CfgError):
            yolotf.parse_cfg(text, dialect=dialect)


@pytest.mark.parametrize(
    ("layers", "alexeyab", "hank_ai"),
    [
        ("-1;-2", (1,), (1, 0)),
        ("-1/-2", (1,), (1, 0)),
        ("-1 - 2", (1,), (1,)),
        ("-1-2", (1,), (1,)),
        ("0 1", (1,), (0, 1)),
        ("-1,-2,", None, (1, 0)),
        ("-1,-2 # x, y", None, (1, 0)),
    ],
)
def test_references_in_both_darknets(layers, alexeyab, hank_ai):
    """In AlexeyAB's Darknet a comma at the end or in a comment adds layer 0, which is refused."""
    text = f"{NET}{CONVOLUTION}{CONVOLUTION}[route]\nlayers={layers}\n"
    network = yolotf.parse_cfg(text)
    assert network.layers[2].inputs == hank_ai
    assert len(network.warnings) == (alexeyab != hank_ai)
    assert yolotf.parse_cfg(text, dialect="hank-ai").layers[2].inputs == hank_ai
    if alexeyab is None:
        with pytest.raises(yolotf.CfgError):
            yolotf.parse_cfg(text, dialect="alexeyab")
    else:
        assert yolotf.parse_cfg(text, dialect="alexeyab").layers[2].inputs == alexeyab


def test_points_in_a_list_of_integers_as_alexeyab():
    """A real cfg has this; hank-ai's Darknet then has four steps with two scales."""
    text = f"{NET}policy=steps\nsteps=12800.0,14400.0\nscales=.1,.1\n"
    network = yolotf.parse_cfg(text)
    (warning,) = network.warnings
    messages.said(warning)
    assert "steps=12800,14400\n" in network.to_cfg()
    hank_ai = yolotf.parse_cfg(text, dialect="hank-ai")
    assert "steps=12800,0,14400,0\n" in hank_ai.to_cfg()


def test_error_names_both_readings_of_its_section():
    text = f"{NET}{CONVOLUTION}{HEAD.replace('0,1,2', '0,1,2 ; 9')}"
    with messages.refused(yolotf.CfgError, line=12, section="yolo"):
        yolotf.parse_cfg(text)
    assert yolotf.parse_cfg(text, dialect="alexeyab").heads[0].mask == (0, 1, 2)


def test_error_in_hank_ais_dialect_names_the_line_at_which_it_stops():
    text = f"{NET}{CONVOLUTION}[route]\nlayers=- 9\n"
    with messages.refused(yolotf.CfgError, line=10, section="route"):
        yolotf.parse_cfg(text, dialect="hank-ai")


@pytest.mark.parametrize("line", ["fil ters=4", "filter s = 4 # x"])
def test_key_with_blanks(line):
    text = f"{NET}[convolutional]\n{line}\n"
    network = yolotf.parse_cfg(text)
    assert network.layers[0].filters == 4
    (warning,) = network.warnings
    messages.said(warning)
    alexeyab, hank_ai = in_both_dialects(text)
    assert (alexeyab.layers[0].filters, hank_ai.layers[0].filters) == (4, 1)
    assert alexeyab.warnings == ()
    (warning,) = hank_ai.warnings
    messages.said(warning)


@pytest.mark.parametrize(
    ("line", "attribute", "value"),
    [("activation=#leaky", "activation", "logistic"), ("filters=#8", "filters", 1)],
)
def test_value_that_is_a_comment_counts_as_not_written(line, attribute, value):
    text = f"{NET}[convolutional]\n{line}\n"
    network = yolotf.parse_cfg(text)
    assert getattr(network.layers[0], attribute) == value
    (warning,) = network.warnings
    messages.said(warning)
    assert yolotf.parse_cfg(text, dialect="hank-ai").warnings == ()
    with pytest.raises(yolotf.CfgError):  # relu and 0 in AlexeyAB's
        yolotf.parse_cfg(text, dialect="alexeyab")


def test_comments_in_latin_1_and_windows_line_ends(tmp_path):
    text = f"{NET}[convolutional] # größer\nfilters=8 # größe\nactivation=leaky # für v3\n"
    file = tmp_path / "a.cfg"
    file.write_bytes(text.replace("\n", "\r\n").encode("latin-1"))
    layer = yolotf.parse_cfg(file, dialect="hank-ai").layers[0]
    assert (layer.filters, layer.activation) == (8, "leaky")
    assert len(yolotf.parse_cfg(file).warnings) == 2


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


def test_to_cfg_writes_numbers_and_words_that_both_read():
    """hank-ai's Darknet stops at each of these lines."""
    text = (
        f"{NET}learning_rate=1e-3,0.0005\nbatch=+8 ; x\nhue=.1x\nB1=0.9\nsteps=1\npolicy=foo\n"
        f"max_crop=448\n{CONVOLUTION}{HEAD}nms_kind=foo\niou_loss=foo\nshow_details=1\n"
        "[shortcut]\nfrom=-2\nweights_type=per_layer\nweights_normalization=relu\n"
    )
    network = yolotf.parse_cfg(text)
    written = network.to_cfg()
    for line in (
        *("learning_rate=0.001", "batch=8", "hue=.1", "policy=constant", "nms_kind=default"),
        *("iou_loss=iou", "weights_type=per_feature"),
    ):
        assert f"{line}\n" in written
    for key in ("B1", "steps", "max_crop", "show_details"):
        assert f"\n{key}=" not in written
    assert yolotf.parse_cfg(written, dialect="hank-ai").warnings == ()
    reread = yolotf.parse_cfg(written)
    assert reread.warnings == ()
    assert reread.segments == network.segments
    with messages.refused(ValueError):
        network.to_cfg(dialect="darknet")


def test_to_cfg_of_integers_with_an_exponent():
    """AlexeyAB's Darknet reads 1e1 as 1 filter."""
    network = yolotf.parse_cfg(f"{NET}[convolutional]\nfilters=1e1\n")
    assert network.layers[0].filters == 1
    assert "filters=1\n" in network.to_cfg()


def test_to_cfg_for_alexeyabs_darknet_keeps_what_only_it_reads():
    options = "max_crop=448\nmin_crop=224\nunsupervised=1\nfoo=1\n"
    text = f"{NET}{options}{CONVOLUTION}{HEAD}show_details=1\n"
    written = yolotf.parse_cfg(text).to_cfg(dialect="alexeyab")
    for line in ("max_crop=448", "min_crop=224", "unsupervised=1", "show_details=1"):
        assert f"{line}\n" in written
    assert "foo" not in written


def test_cornersnms_is_plain_suppression_in_both():
    network = yolotf.parse_cfg(f"{NET}{CONVOLUTION}{HEAD}nms_kind=cornersnms\n")
    assert network.heads[0].nms_kind == "default"
    assert network.warnings == ()


NOT_THERE = {"yolov2": "reorg", "yolov2-voc": "reorg", "vgg-16": "crop"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, *CLASSIFIERS])
def test_stock_networks_load_in_hank_ais_darknet(name):
    """Holds for the networks whose sections hank-ai's Darknet has."""
    network = yolotf.network(name)
    refused = [why for _, why, _ in hank_ai.refused_lines(network.sections)]
    if name in NOT_THERE:
        assert refused == [f"it has no section [{NOT_THERE[name]}]"]
    else:
        assert refused == []


WITH_HEAD = f"{NET}{CONVOLUTION}{HEAD}"
SHORTCUT = f"{NET}{CONVOLUTION}[shortcut]\nfrom=-1\n"
# Lines, the one at which hank-ai's Darknet stops, and part of what it prints.
STOPS = [
    (f"{NET};batch=1\n", 5, "config line #5 from section [net] is unused or invalid"),
    (f"{NET}batch=8 ; x\n", 5, 'key "batch" on line #5 should be numeric, but found "8 ; x"'),
    (f"{NET}batch=1 6\n", 5, 'key "batch" on line #5 should be numeric, but found "1 6"'),
    (f"{NET}batch=+8\n", 5, 'key "batch" on line #5 should be numeric, but found "+8"'),
    (f"{NET}batch=8,9\n", 5, 'key "batch" on line #5 should be numeric, but found "8,9"'),
    (f"{NET}batch=-\n", 5, "line #5: failed to parse numeric value"),
    (f"{NET}batch= # x\n", 5, 'key "batch" on line #5 should be numeric, but found ""'),
    (f"{NET}width=96\n", 5, 'duplicate key "width" in [net] at lines #2 and #5'),
    (f"{NET}max_crop=3\n", 5, "config line #5 from section [net] is unused or invalid"),
    (f"{NET}B1=0.9\n", 5, "config line #5 from section [net] is unused or invalid"),
    (f"{NET}step=3\n", 5, "config line #5 from section [net] is unused or invalid"),
    (f"{NET}policy=exp\nsteps=3\n", 6, "config line #6 from section [net] is unused or invalid"),
    (f"{NET}policy=foo\n", 5, 'learning rate policy "foo" is not supported'),
    (f"{NET}policy=steps\n", 5, "STEPS policy must have steps and scales in cfg file"),
    (f"{NET}learning_rate=1e-3\n", 5, 'key "learning_rate" on line #5 should be numeric'),
    (f"{NET}[reorg]\nstride=2\n", 5, 'layer name "reorg" is not supported'),
    (f"{NET}[ maxpool ]\n", 5, 'layer name " maxpool " is not supported'),
    (f"{NET}[empty]\n", 5, 'layer type "empty" not recognized on line #5'),
    (f"{NET}[maxpool]\npad=1\n", 6, "config line #6 from section [maxpool] is unused or invalid"),
    (f"{NET}[cost]\ntype=l1\n", 6, 'cost type "l1" is not supported'),
    (f"{SHORTCUT}weights_type=per_layer\n", 11, 'weights type "per_layer" is not supported'),
    (f"{SHORTCUT}activation=le aky\n", 11, 'activation name "le aky" is not supported'),
    (
        f"{NET}{CONVOLUTION}[route]\nlayers=- 1\n",
        10,
        "route layer at line #9 must specify input layers",
    ),
    (f"{NET}{CONVOLUTION}[sam]\nfrom=-1,-1\n", 10, 'key "from" on line #10 should be numeric'),
    (
        f"{NET}{CONVOLUTION}[sam]\nfrom=-1\nactivation=mish\n",
        11,
        "does not support SWISH or MISH activation",
    ),
    (f"{WITH_HEAD}nms_kind=greedy nms\n", 14, 'NMS kind "greedy nms" is not supported'),
    (f"{WITH_HEAD}iou_loss=foo\n", 14, 'IoU loss "foo" is not supported'),
    (
        f"{WITH_HEAD}show_details=1\n",
        14,
        "config line #14 from section [yolo] is unused or invalid",
    ),
    (
        f"{WITH_HEAD}counters_per_class=1 2\n",
        14,
        "number of values in counters_per_class=2 doesn't match classes=1",
    ),
    (WITH_HEAD.replace("64", "65", 1), 2, "must be divisible by 32 for YOLO networks"),
    (f"\ufeff{NET}", 1, "cannot add a configuration line without a section at line #2"),
]


@pytest.mark.parametrize(("text", "line", "printed"), STOPS)
def test_lines_that_hank_ais_darknet_refuses(text, line, printed):
    sections = cfg.read_sections(text, source="a.cfg", dialect="hank-ai")
    (refused_line,) = hank_ai.refused_lines(sections, text)
    assert refused_line.line == line
    assert refused_line.says in printed
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
