"""The cfg parser: Darknet's rules on small cfgs, every error, and all stock cfgs."""

from __future__ import annotations

import contextlib
import itertools
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import helpers
from support.messages import refused, said
from support.random_networks import Drawn, drawn_networks, scribbled
from yolotf.darknet import cfg
from yolotf.errors import CfgError, YolotfError

NET = "[net]\nwidth=16\nheight=12\nchannels=4\n"


def parse(body: str, net: str = NET) -> cfg.Network:
    """`body` after a `[net]` of four lines, so its first line is line 5."""
    return cfg.parse_text(net + body, source="some.cfg")


def only(body: str, net: str = NET) -> cfg.Layer:
    (layer,) = parse(body, net).layers
    return layer


# Lines, keys and values.


def test_blanks_and_tabs_are_dropped_everywhere():
    plain = parse("[convolutional]\nfilters=8\nsize=3\nactivation=leaky\n")
    spaced = parse(" [ convo lutional ]\t\r\n\tfil ters\t= \t8 \n s i z e=3\r\nactivation = lea ky")
    assert helpers.network_facts(spaced) == helpers.network_facts(plain)


def test_comment_and_empty_lines_are_skipped_and_counted():
    layer = only("# one\n  ; two\n\n\t# filters=9\n[convolutional]\n;filters=9\nfilters=8\n")
    assert isinstance(layer, cfg.Convolutional)
    assert layer.filters == 8
    assert layer.line == 9
    assert layer.line_of("filters") == 11
    assert layer.line_of("size") == 9


def test_only_a_line_feed_ends_a_line():
    # str.splitlines would also cut at a form feed or at U+2028 and read on inside the comment.
    body = "# a\x0cfilters=7\x0b\x85\u2028filters=7\r\n[convolutional]\nfilters=8\n"
    layer = only(body)
    assert isinstance(layer, cfg.Convolutional)
    assert layer.filters == 8
    assert layer.line == 6


@pytest.mark.parametrize("alias", sorted(cfg.SECTION_ALIASES))
def test_every_section_name_reads_as_its_full_name(alias):
    needs = {
        "route": "layers=-1",
        "shortcut": "from=-1",
        "sam": "from=-1",
        "scale_channels": "from=-2",
        "crnn": "size=1",
        "conv_lstm": "size=1",
        "yolo": "classes=1",
        "Gaussian_yolo": "classes=1",
        "region": "classes=1",
        "detection": "side=1\nclasses=1\ncoords=4",
    }
    kind = cfg.SECTION_ALIASES[alias]
    filters = {"Gaussian_yolo": 10}.get(kind, 6)
    before = f"[convolutional]\nfilters={filters}\n[avgpool]\n"
    layer = parse(f"{before}[{alias}]\n{needs.get(kind, '')}\n").layers[-1]
    assert layer.type == kind
    assert layer.section.name == alias


def test_network_is_another_name_of_net():
    assert parse("", "[network]\nwidth=2\nheight=3\nchannels=4\n").input_shape == (3, 2, 4)


def test_first_of_two_equal_keys_wins_with_a_warning():
    network = parse("[convolutional]\nfilters=8\nfilters=9\n")
    (layer,) = network.layers
    assert isinstance(layer, cfg.Convolutional)
    assert layer.filters == 8
    (warning,) = network.warnings
    said(warning)


@pytest.mark.parametrize("line", ["filters", "filters=", "=9"])
def test_line_that_is_no_option_is_warned_of(line):
    network = parse(f"[convolutional]\n{line}\nfilters=8\n")
    (layer,) = network.layers
    assert isinstance(layer, cfg.Convolutional)
    assert layer.filters == 8
    (warning,) = network.warnings
    said(warning)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("8", 8),
        ("+8", 8),
        ("008", 8),
        ("8.9", 8),
        ("8e3", 8),
        ("8px", 8),
        ("8,9", 8),
        ("8 # 9", 8),
        ("8 ; 9", 8),
        ("8#9", 8),
        ("2147483647", 2147483647),
    ],
)
def test_integers_are_read_as_atoi_reads_them(written, read):
    layer = only(f"[convolutional]\nfilters={written}\n")
    assert isinstance(layer, cfg.Convolutional)
    assert layer.filters == read


@pytest.mark.parametrize(
    ("written", "read"),
    [("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("-2", -2.0), ("15e-1", 1.5), ("1.5x", 1.5)],
)
def test_floats_are_read_as_atof_reads_them(written, read):
    layer = only(f"[dropout]\nprobability={written} # comment, more\n")
    assert isinstance(layer, cfg.Dropout)
    assert layer.probability == read


def test_a_comment_inside_a_value_ends_it():
    network = parse("[conv]\nfilters=2\n[conv]\nfilters=3\n[route]\nlayers = -1,0 ###P6\n")
    assert network.layers[2].inputs == (1, 0)


# What is read of [net].


def test_input_shape_is_rows_columns_channels():
    network = parse("[convolutional]\nfilters=2\n")
    assert network.input_shape == cfg.Shape(height=12, width=16, channels=4)
    assert network.input_shape.floats == 12 * 16 * 4
    assert network.layers[0].inputs == (cfg.NETWORK_INPUT,)


def test_inputs_replace_a_missing_image_size():
    network = parse("[connected]\noutput=3\n", "[net]\ninputs=256\n")
    assert network.input_shape == (1, 1, 256)
    assert network.layers[0].output_shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("written", "letter_box"), [("letter_box=1", True), ("letter_box=0", False), ("", False)]
)
def test_letter_box_is_read_from_net(written, letter_box):
    assert parse("", f"{NET}{written}\n").letter_box is letter_box


@pytest.mark.parametrize(
    ("overrides", "shape"),
    [
        ({"size": 32}, (32, 32, 4)),
        ({"size": (8, 24)}, (8, 24, 4)),
        ({"channels": 1}, (12, 16, 1)),
        ({"size": (8, 24), "channels": 2}, (8, 24, 2)),
    ],
)
def test_size_and_channels_override_the_cfg(overrides, shape):
    text = NET + "[convolutional]\nfilters=5\nsize=3\npad=1\nstride=2\n"
    network = cfg.parse_cfg(text, **overrides)
    assert network.input_shape == shape
    assert network.layers[0].input_shape == shape
    assert network.layers[0].output_shape == ((shape[0] + 1) // 2, (shape[1] + 1) // 2, 5)
    assert cfg.parse_cfg(text).resized(**overrides) == network
    # The override is part of the network: its cfg says so too.
    assert cfg.parse_cfg(network.to_cfg()).input_shape == shape


def test_an_override_changes_the_option_in_its_place():
    network = cfg.parse_cfg(NET, size=(20, 24))
    assert network.to_cfg() == "[net]\nwidth=24\nheight=20\nchannels=4\n"
    assert cfg.parse_cfg("[net]\ninputs=5\n", size=2, channels=3).to_cfg() == (
        "[net]\ninputs=5\nheight=2\nwidth=2\nchannels=3\n"
    )


# Layers.


def test_a_bare_convolution_has_darknets_defaults():
    layer = only("[convolutional]\n")
    assert helpers.layer_facts(layer) == {
        "index": 0,
        "type": "convolutional",
        "inputs": (-1,),
        "input_shape": (12, 16, 4),
        "output_shape": (12, 16, 1),
        "filters": 1,
        "size": 1,
        "stride_y": 1,
        "stride_x": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
        "batch_normalize": False,
        "activation": "logistic",
        "share_index": None,
        "flipped": False,
        "antialiasing": 0,
        "xnor": False,
    }


@pytest.mark.parametrize(
    ("section", "activation"),
    [
        ("[convolutional]", "logistic"),
        ("[connected]", "logistic"),
        ("[local]", "logistic"),
        ("[activation]", "linear"),
        ("[shortcut]\nfrom=0", "linear"),
        ("[sam]\nfrom=0", "linear"),
        ("[scale_channels]\nscale_wh=1\nfrom=0", "linear"),
    ],
)
def test_a_missing_activation_is_darknets_default(section, activation):
    layer = parse(f"[convolutional]\n{section}\n").layers[1]
    assert layer.activation == activation


@pytest.mark.parametrize("activation", sorted(cfg.ACTIVATIONS))
def test_every_activation_of_darknet_is_read(activation):
    layer = only(f"[convolutional]\nactivation={activation}\n")
    assert isinstance(layer, cfg.Convolutional)
    assert layer.activation == activation


@pytest.mark.parametrize(
    ("options", "padding"),
    [
        ("size=3", 0),
        ("size=3\npad=1", 1),
        ("size=5\npad=1", 2),
        ("size=1\npad=1", 0),
        ("size=3\npadding=2", 2),
        ("size=3\npadding=2\npad=1", 1),
        ("size=3\npadding=2\npad=0", 2),
    ],
)
def test_pad_is_half_the_size_and_wins_over_padding(options, padding):
    layer = only(f"[convolutional]\n{options}\n")
    assert isinstance(layer, cfg.Convolutional)
    assert layer.padding == padding


def windows(extent: int, size: int, stride: int) -> int:
    """Positions of a window, counted step by step."""
    return len(range(0, extent - size + 1, stride))


@pytest.mark.parametrize(
    ("size", "stride", "pad"), list(itertools.product([1, 2, 3, 5, 7], [1, 2, 3], [0, 1]))
)
def test_convolution_outputs_one_value_a_window(size, stride, pad):
    layer = only(f"[convolutional]\nfilters=6\nsize={size}\nstride={stride}\npad={pad}\n")
    padding = 2 * (size // 2) * pad
    assert layer.output_shape == (
        windows(12 + padding, size, stride),
        windows(16 + padding, size, stride),
        6,
    )


@pytest.mark.parametrize(
    ("options", "strides"),
    [
        ("stride=2", (2, 2)),
        ("stride=2\nstride_x=1", (2, 1)),
        ("stride=2\nstride_y=3", (3, 2)),
        ("stride_x=3\nstride_y=1", (1, 3)),
    ],
)
@pytest.mark.parametrize("section", ["convolutional", "maxpool"])
def test_stride_x_and_stride_y_win_over_stride(section, options, strides):
    layer = only(f"[{section}]\nsize=3\n{options}\n")
    assert isinstance(layer, cfg.Convolutional | cfg.Pool)
    assert (layer.stride_y, layer.stride_x) == strides
    margin = 0 if section == "convolutional" else 2
    assert layer.output_shape[:2] == (
        windows(12 + margin, 3, strides[0]),
        windows(16 + margin, 3, strides[1]),
    )


def test_batch_normalization_across_iterations_is_batch_normalization():
    layer = only("[convolutional]\ncbn=1\n")
    assert isinstance(layer, cfg.Convolutional)
    assert layer.batch_normalize


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # size, stride, padding, rows, columns
        ("", (1, 1, 0, 12, 16)),
        ("stride=2", (2, 2, 1, 6, 8)),
        ("size=2\nstride=2", (2, 2, 1, 6, 8)),
        ("size=2\nstride=1", (2, 1, 1, 12, 16)),
        ("size=3\nstride=2", (3, 2, 2, 6, 8)),
        ("size=13\nstride=1", (13, 1, 12, 12, 16)),
        ("size=3\nstride=2\npadding=0", (3, 2, 0, 5, 7)),
        ("size=2\nstride=2\npadding=0", (2, 2, 0, 6, 8)),
    ],
)
@pytest.mark.parametrize("section", ["maxpool", "local_avgpool"])
def test_pool_padding_defaults_to_size_minus_one(section, options, expected):
    layer = only(f"[{section}]\n{options}\n")
    assert isinstance(layer, cfg.Pool)
    window = (layer.size, layer.stride_x, layer.padding, *layer.output_shape[:2])
    assert window == expected
    assert layer.output_shape.channels == 4


def test_maxpool_over_channels_keeps_rows_and_columns():
    layer = only("[maxpool]\nmaxpool_depth=1\nout_channels=2\nsize=2\nstride=2\n")
    assert layer.output_shape == (12, 16, 2)


def test_opencv_computes_the_same_shapes_of_convolutions_and_pools():
    windowed = [
        f"[{kind}]\nsize={size}\nstride={stride}\n{extra}\n"
        for kind, extras in (
            ("convolutional", ["filters=3", "filters=3\npad=1", "filters=3\npadding=1"]),
            ("maxpool", ["", "padding=0"]),
        )
        for size, stride, extra in itertools.product([1, 2, 3, 5], [1, 2, 3], extras)
    ]
    # Each from the same 13 x 18 map of layer 0.
    body = "[convolutional]\nfilters=2\nsize=1\n" + "".join(
        f"{part}[route]\nlayers=0\n" for part in windowed
    )
    network = parse(body, "[net]\nwidth=18\nheight=13\nchannels=1\n")
    shapes = helpers.opencv_shapes(network.to_cfg(), 1 << 20, network.input_shape)
    assert shapes == {layer.index: layer.output_shape for layer in network.layers}


THREE = "[conv]\nfilters=8\n[conv]\nfilters=4\n[conv]\nfilters=2\n"


@pytest.mark.parametrize(
    ("layers", "inputs"),
    [("-1", (2,)), ("0", (0,)), ("1,-1", (1, 2)), ("-1,-2, -3", (2, 1, 0)), ("+1", (1,))],
)
def test_route_references_are_absolute_or_relative(layers, inputs):
    layer = parse(f"{THREE}[route]\nlayers={layers}\n").layers[3]
    assert layer.inputs == inputs
    assert layer.output_shape == (12, 16, sum((8, 4, 2)[index] for index in inputs))
    assert layer.input_shape.channels == (8, 4, 2)[inputs[0]]


def test_grouped_route_takes_its_part_of_every_input():
    layer = parse(f"{THREE}[route]\nlayers=-1,-2,-3\ngroups=2\ngroup_id=1\n").layers[3]
    assert isinstance(layer, cfg.Route)
    assert (layer.groups, layer.group_id) == (2, 1)
    assert layer.output_shape.channels == (2 + 4 + 8) // 2


@pytest.mark.parametrize(
    ("origin", "inputs"), [("-2", (2, 1)), ("0", (2, 0)), ("-3,1", (2, 0, 1)), ("-1", (2, 2))]
)
def test_a_shortcut_keeps_the_shape_of_the_layer_before(origin, inputs):
    layer = parse(f"{THREE}[shortcut]\nfrom={origin}\n").layers[3]
    assert layer.inputs == inputs
    assert layer.output_shape == (12, 16, 2)


def test_shortcut_between_sizes_is_warned_of():
    network = parse("[conv]\n[maxpool]\nstride=2\n[shortcut]\nfrom=0\n")
    (warning,) = network.warnings
    said(warning)


@pytest.mark.parametrize(
    ("written", "read", "floats"),
    [
        ("none", "none", 0),
        ("per_feature", "per_feature", 3),
        ("per_layer", "per_feature", 3),
        ("per_channel", "per_channel", 3 * 2),
    ],
)
def test_shortcut_weights_are_counted_by_input_or_channel(written, read, floats):
    body = f"{THREE}[shortcut]\nfrom=0,1\nweights_type={written}\nweights_normalization=avg_relu\n"
    layer = parse(body).layers[3]
    assert isinstance(layer, cfg.Shortcut)
    assert layer.weights_type == read
    assert layer.weights_normalization == "relu"
    assert layer.nweights == floats


@pytest.mark.parametrize(
    ("options", "shape"),
    [("", (24, 32, 4)), ("stride=3", (36, 48, 4)), ("stride=-2", (6, 8, 4))],
)
def test_upsample_multiplies_or_sums_down(options, shape):
    layer = only(f"[upsample]\n{options}\n")
    assert isinstance(layer, cfg.Upsample)
    assert layer.output_shape == shape
    assert layer.reverse == ("-" in options)


@pytest.mark.parametrize(
    ("section", "shape"),
    [
        ("[reorg]\nstride=2", (6, 8, 16)),
        ("[reorg3d]\nstride=2", (6, 8, 16)),
        ("[reorg]\nstride=2\nreverse=1", (24, 32, 1)),
        ("[reorg]", (12, 16, 4)),
    ],
)
def test_reorg_moves_rows_and_columns_to_channels(section, shape):
    assert only(f"{section}\n").output_shape == shape


def test_scale_channels_takes_the_shape_of_its_from_layer():
    layer = parse("[conv]\nfilters=6\n[avgpool]\n[scale_channels]\nfrom=-2\n").layers[2]
    assert layer.inputs == (1, 0)
    assert layer.input_shape == (1, 1, 6)
    assert layer.output_shape == (12, 16, 6)


def test_sections_without_their_own_shape_pass_it_on():
    body = "[dropout]\n[batchnorm]\n[activation]\nactivation=relu\n[cost]\n[softmax]\n[lrn]\n"
    shapes = {layer.output_shape for layer in parse(body).layers}
    assert shapes == {(12, 16, 4)}


@pytest.mark.parametrize(
    ("options", "rows", "columns"),
    [("size=3", 10, 14), ("size=3\nstride=2", 5, 7), ("size=3\npad=1", 12, 16)],
)
def test_local_loses_its_margin_unless_padded(options, rows, columns):
    assert only(f"[local]\nfilters=2\n{options}\n").output_shape == (rows, columns, 2)


def test_crop_avgpool_and_connected_have_the_shape_of_their_options():
    body = "[crop]\ncrop_height=5\ncrop_width=7\n[avgpool]\n[connected]\noutput=9\n"
    shapes = [layer.output_shape for layer in parse(body).layers]
    assert shapes == [(5, 7, 4), (1, 1, 4), (1, 1, 9)]


def test_a_shared_convolution_names_the_layer_it_shares():
    layer = parse("[conv]\n[conv]\nshare_index=-1\n").layers[1]
    assert isinstance(layer, cfg.Convolutional)
    assert layer.share_index == 0


# Heads.


def head(options: str, filters: int, section: str = "yolo") -> cfg.Head:
    network = parse(f"[convolutional]\nfilters={filters}\n[{section}]\n{options}\n")
    (parsed,) = network.heads
    return parsed


def test_a_yolo_head_reads_what_decoding_needs():
    yolo = head(
        "mask = 2,0\nanchors = 1,2, 3.5,4,  5,6\nclasses=3\nnum=3\nscale_x_y = 1.05\n"
        "new_coords=1\nnms_kind=diounms\nbeta_nms=0.7",
        filters=2 * (3 + 5),
    )
    assert isinstance(yolo, cfg.Yolo)
    assert yolo.mask == (2, 0)
    assert yolo.anchors == ((5.0, 6.0), (1.0, 2.0))
    assert (yolo.classes, yolo.coords) == (3, 4)
    assert (yolo.scale_x_y, yolo.new_coords) == (1.05, True)
    assert (yolo.nms_kind, yolo.beta_nms) == ("diounms", 0.7)
    assert yolo.input_shape == yolo.output_shape == (12, 16, 16)


def test_a_bare_yolo_head_has_darknets_defaults():
    yolo = head("", filters=25)
    assert isinstance(yolo, cfg.Yolo)
    assert (yolo.classes, yolo.mask, yolo.anchors) == (20, (0,), ((0.5, 0.5),))
    assert (yolo.scale_x_y, yolo.new_coords) == (1.0, False)
    assert (yolo.nms_kind, yolo.beta_nms) == ("default", 0.6)


def test_without_a_mask_all_anchors_are_used():
    yolo = head("anchors=1,2,3,4\nnum=2\nclasses=1", filters=12)
    assert isinstance(yolo, cfg.Yolo)
    assert yolo.mask == (0, 1)
    assert yolo.anchors == ((1.0, 2.0), (3.0, 4.0))


def test_a_gaussian_head_has_eight_coordinates():
    assert head("classes=1", filters=10, section="Gaussian_yolo").coords == 8


def test_a_region_head_uses_all_its_anchors():
    region = head(
        "anchors=1.5,2,3,4,\nnum=2\nclasses=3\nsoftmax=1\ntree=9k.tree\nmap=9k.map",
        filters=16,
        section="region",
    )
    assert isinstance(region, cfg.Region)
    assert region.anchors == ((1.5, 2.0), (3.0, 4.0))
    assert (region.softmax, region.tree, region.map) == (True, "9k.tree", "9k.map")


def test_a_detection_head_counts_cells_and_boxes():
    body = "[connected]\noutput=24\n[detection]\nside=2\nnum=1\ncoords=4\nclasses=1\nsqrt=1\n"
    (detection,) = parse(body).heads
    assert isinstance(detection, cfg.Detection)
    assert (detection.side, detection.num, detection.sqrt, detection.anchors) == (2, 1, True, ())


@pytest.mark.parametrize(
    "options",
    [
        "anchors=1,2,3\nnum=2\nclasses=1",
        "num=1\nmask=0,1\nanchors=1,2,3,4\nclasses=1",
        "anchors=1,2,3,4\nnum=2\nclasses=1\nnms_kind=greedy",
    ],
)
def test_values_that_darknet_makes_up_in_a_head_are_warned_of(options):
    network = parse(f"[convolutional]\nfilters=12\n[yolo]\n{options}\n")
    (warning,) = network.warnings
    said(warning)
    (yolo,) = network.heads
    assert isinstance(yolo, cfg.Yolo)
    assert yolo.nms_kind == "default"
    assert yolo.anchors[1] == ((3.0, 0.5) if "anchors=1,2,3\n" in options else (3.0, 4.0))


# The network as a whole.

TWO_HEADS = (
    "[conv]\nfilters=14\n[yolo]\nmask=0,1\nnum=3\nclasses=2\nanchors=1,2,3,4,5,6\n"
    "[conv]\nsize=1\nfilters=7\n[yolo]\nmask=2\nnum=3\nclasses=2\nanchors=1,2,3,4,5,6\n"
)


def test_classes_are_those_of_all_heads():
    assert parse(TWO_HEADS).classes == 2
    assert parse("[conv]\n").classes is None
    uneven = TWO_HEADS.replace("filters=7", "filters=6")[::-1].replace("2=sessalc", "1=sessalc", 1)
    assert parse(uneven[::-1]).classes is None


def test_with_classes_edits_classes_and_filters():
    changed = parse(TWO_HEADS).with_classes(10)
    expected = (
        TWO_HEADS.replace("classes=2", "classes=10")
        .replace("filters=14", "filters=30")
        .replace("filters=7", "filters=15")
    )
    assert changed == parse(expected)
    assert changed.classes == 10


def test_with_classes_adds_the_options_that_are_missing():
    changed = parse("[conv]\nfilters=25\n[yolo]\n").with_classes(1)
    assert [layer.output_shape.channels for layer in changed.layers] == [6, 6]
    assert changed.to_cfg().endswith("[conv]\nfilters=6\n\n[yolo]\nclasses=1\n")


def test_layer_knows_its_line():
    network = parse("# comment\n[conv]\n")
    assert network.where(network.layers[0]) == "section 0 [convolutional] (some.cfg:6)"


def test_a_network_survives_pickling():
    network = parse(TWO_HEADS)
    assert pickle.loads(pickle.dumps(network)) == network


# Where a cfg may come from.


def test_text_and_path_are_distinguished(tmp_path):
    text = NET + "[conv]\n"
    path = tmp_path / "some.cfg"
    path.write_text(text)
    parsed = cfg.parse_cfg(path)
    assert parsed.source == "some.cfg"
    assert cfg.parse_cfg(str(path)) == parsed
    assert cfg.parse_cfg(text).source == "<cfg>"
    assert helpers.network_facts(cfg.parse_cfg(text)) == helpers.network_facts(parsed)


def test_a_missing_file_is_the_systems_own_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        cfg.parse_cfg(tmp_path / "absent.cfg")


def test_bytes_that_are_no_utf8_do_no_harm_in_comments(tmp_path):
    path = tmp_path / "latin.cfg"
    path.write_bytes(NET.encode() + b"# d\xe9j\xe0 vu\x85filters=7\n[conv]\nfilters=2 # \xe9\n")
    network = cfg.parse_cfg(path)
    assert network.layers[0].output_shape.channels == 2
    # What it prints can be written again.
    path.write_text(network.to_cfg(), encoding="utf-8")
    assert helpers.network_facts(cfg.parse_cfg(path)) == helpers.network_facts(network)


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "windows.cfg"
    path.write_bytes(b"\xef\xbb\xbf" + NET.replace("\n", "\r\n").encode())
    assert cfg.parse_cfg(path).input_shape == (12, 16, 4)
    assert cfg.parse_cfg("\ufeff" + NET).input_shape == (12, 16, 4)


# Errors: a case for each place that raises.

CASES = [
    pytest.param(
        "",
        "",
        {"line": 1},
        id="empty",
    ),
    pytest.param(
        "# nothing\n\n",
        "",
        {"line": 1},
        id="only-comments",
    ),
    pytest.param(
        "\nwidth=416\n[net]\n",
        "",
        {"line": 2},
        id="text-first",
    ),
    pytest.param(
        "[conv]\n",
        "",
        {"line": 1},
        id="net-missing",
    ),
    pytest.param(
        NET,
        "[net]\n",
        {"line": 5, "section": "net"},
        id="net-twice",
    ),
    pytest.param(
        NET,
        "[conv]\n\xa0filters=3\n",
        {"line": 6, "found": "\xa0"},
        id="odd-blank",
    ),
    pytest.param(
        NET,
        "[covolutional]\n",
        {"line": 5, "section": "[covolutional]", "nearest": "convolutional"},
        id="section-unknown",
    ),
    pytest.param(
        NET,
        "[Convolutional]\n",
        {"line": 5, "section": "[Convolutional]", "nearest": "convolutional"},
        id="section-case",
    ),
    pytest.param(
        NET,
        "[conv # 5\n",
        {"line": 5, "section": "[conv#5"},
        id="section-open",
    ),
    pytest.param(
        NET,
        "[conv]\n\nfilters=many\n",
        {"line": 7, "section": "conv", "found": "many"},
        id="word-for-number",
    ),
    pytest.param(
        NET,
        "[conv]\nfilters=٣\n",
        {"line": 6, "section": "conv", "found": "٣"},
        id="digit-of-another-script",
    ),
    pytest.param(
        NET,
        "[conv]\n[route]\nlayers=,\n",
        {"line": 7, "section": "route", "found": ""},
        id="comma-alone",
    ),
    pytest.param(
        NET,
        "[dropout]\nprobability=half\n",
        {"line": 6, "section": "dropout", "found": "half"},
        id="word-for-float",
    ),
    pytest.param(
        NET,
        "[conv]\ndontload=yes\n",
        {"line": 6, "section": "conv", "found": "yes"},
        id="word-for-flag",
    ),
    pytest.param(
        f"{NET}letter_box=yes\n",
        "",
        {"line": 5, "section": "net", "found": "yes"},
        id="word-for-net-flag",
    ),
    pytest.param(
        NET,
        f"[conv]\nfilters={'9' * 5000}\n",
        {"line": 6, "section": "conv"},
        id="long-number",
    ),
    pytest.param(
        NET,
        "[conv]\nfilters=2147483648\n",
        {"line": 6, "section": "conv"},
        id="33-bits",
    ),
    pytest.param(
        NET,
        "[conv]\nfilters=0\n",
        {"line": 6, "section": "conv", "found": 0},
        id="too-small",
    ),
    pytest.param(
        NET,
        "[conv]\n[shortcut]\nfrom=-1\nweights_type=per_pixel\n",
        {"line": 8, "section": "shortcut", "found": "per_pixel"},
        id="choice-unknown",
    ),
    pytest.param(
        NET,
        "[conv]\nactivation=lekay\n",
        {"line": 6, "section": "conv", "found": "lekay"},
        id="activation-unknown",
    ),
    pytest.param(
        "[net]\nwidth=3\nheight=4\n",
        "",
        {"line": 1, "section": "net"},
        id="no-channels",
    ),
    pytest.param(
        NET,
        "[route]\n",
        {"line": 5, "section": "route"},
        id="reference-missing",
    ),
    pytest.param(
        NET,
        "[conv]\n[shortcut]\nfrom=-3\n",
        {"line": 7, "section": "shortcut", "found": -2},
        id="reference-before-first",
    ),
    pytest.param(
        NET,
        "[conv]\n[route]\nlayers=0,1\n",
        {"line": 7, "section": "route", "found": 1},
        id="reference-to-itself",
    ),
    pytest.param(
        NET,
        "[conv]\nsize=13\n",
        {"line": 6, "section": "conv"},
        id="window-too-big",
    ),
    pytest.param(
        NET,
        "[conv]\nfilters=6\ngroups=4\n",
        {"line": 7, "section": "conv"},
        id="groups",
    ),
    pytest.param(
        NET,
        "[local]\nsize=13\n",
        {"line": 6, "section": "local"},
        id="local-too-big",
    ),
    pytest.param(
        NET,
        "[conv]\n[maxpool]\nstride=2\n[route]\nlayers=0,1\n",
        {"line": 9, "section": "route"},
        id="route-sizes",
    ),
    pytest.param(
        NET,
        "[conv]\nfilters=6\n[route]\nlayers=0\ngroups=4\n",
        {"line": 9, "section": "route"},
        id="route-groups",
    ),
    pytest.param(
        NET,
        "[conv]\nfilters=6\n[route]\nlayers=0\ngroups=2\ngroup_id=2\n",
        {"line": 9, "section": "route"},
        id="route-group-id",
    ),
    pytest.param(
        NET,
        "[conv]\nfilters=6\n[avgpool]\n[conv]\nfilters=5\n[scale_channels]\nfrom=0\n",
        {"line": 11, "section": "scale_channels"},
        id="scale-channels",
    ),
    pytest.param(
        NET,
        "[conv]\nfilters=6\n[conv]\nfilters=5\n[sam]\nfrom=0\n",
        {"line": 10, "section": "sam"},
        id="sam",
    ),
    pytest.param(
        NET,
        "[upsample]\nstride=0\n",
        {"line": 6, "section": "upsample"},
        id="upsample",
    ),
    pytest.param(
        NET,
        "[reorg3d]\nstride=5\n",
        {"line": 6, "section": "reorg3d"},
        id="reorg-rows",
    ),
    pytest.param(
        NET,
        "[conv]\nfilters=6\n[reorg]\nstride=2\n",
        {"line": 8, "section": "reorg"},
        id="reorg-channels",
    ),
    pytest.param(
        NET,
        "[crop]\ncrop_height=12\ncrop_width=17\n",
        {"line": 7, "section": "crop"},
        id="crop",
    ),
    pytest.param(
        NET,
        "[crnn]\nhidden=6\noutput=8\ngroups=4\n",
        {"line": 8, "section": "crnn"},
        id="crnn-groups",
    ),
    pytest.param(
        NET,
        "[conv]\nfilters=255\n[yolo]\nmask=0,1,2\nnum=9\nclasses=3\n",
        {"line": 10, "section": "yolo", "expected": 24, "found": 255},
        id="yolo-filters",
    ),
    pytest.param(
        NET,
        "[conv]\nfilters=255\n[region]\nclasses=3\nnum=2\n",
        {"line": 8, "section": "region", "expected": 16, "found": 255},
        id="region-filters",
    ),
    pytest.param(
        NET,
        "[conv]\nfilters=12\n[yolo]\nclasses=1\nmask=0,-1\nnum=2\n",
        {"line": 9, "section": "yolo"},
        id="mask",
    ),
    pytest.param(
        NET,
        "[connected]\noutput=24\n[detection]\nclasses=2\ncoords=4\nside=2\n",
        {"line": 10, "section": "detection", "expected": 28, "found": 24},
        id="detection",
    ),
]


@pytest.mark.parametrize(("net", "body", "facts"), CASES)
def test_error_has_a_sentence_and_facts(net, body, facts):
    with refused(CfgError, code="cfg", source="some.cfg", **facts) as caught:
        parse(body, net)
    assert caught.value.facts == {"source": "some.cfg", **facts}


@pytest.mark.parametrize(
    ("body", "classes", "facts"),
    [
        (TWO_HEADS, 0, {"found": 0}),
        (
            "[conv]\nfilters=25\n[dropout]\n[yolo]\n",
            3,
            {"line": 8},
        ),
        (
            "[conv]\nfilters=7\n[detection]\nside=1\nclasses=1\ncoords=5\n",
            3,
            {"line": 7},
        ),
    ],
)
def test_classes_that_cannot_be_set_are_refused(body, classes, facts):
    net = "[net]\nwidth=1\nheight=1\nchannels=4\n" if "detection" in body else NET
    network = parse(body, net)
    with refused(CfgError, code="cfg", source="some.cfg", **facts) as caught:
        network.with_classes(classes)
    assert caught.value.facts == {"source": "some.cfg", **facts}


def test_an_error_is_a_value_error_and_survives_pickling():
    with pytest.raises(YolotfError) as caught:
        parse("[conv]\nfilters=0\n")
    assert isinstance(caught.value, ValueError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is CfgError
    assert str(again) == str(caught.value)
    assert (again.line, again.found) == (6, 0)
    with refused(AttributeError):
        _ = again.offset


def test_an_override_that_leaves_no_picture_is_refused():
    with refused(CfgError):
        cfg.parse_cfg(NET, size=0)
    with refused(CfgError):
        cfg.parse_cfg(NET, size=(-1, 4))


# Random networks and random text.


@given(drawn_networks())
@settings(max_examples=150, deadline=None)
def test_a_random_network_is_read_as_it_was_drawn(drawn: Drawn):
    network = cfg.parse_text(cfg.sections_to_cfg(drawn.sections), source="drawn")
    assert [layer.output_shape for layer in network.layers] == drawn.shapes
    assert [layer.inputs for layer in network.layers] == drawn.inputs


@given(drawn_networks())
@settings(max_examples=150, deadline=None)
def test_a_random_network_survives_its_own_cfg(drawn: Drawn):
    network = cfg.resolve(drawn.sections, source="drawn")
    once = cfg.parse_text(network.to_cfg(), source="drawn")
    assert helpers.network_facts(once) == helpers.network_facts(network)
    assert once.input_shape == network.input_shape
    # With the lines of the printed text, printing and reading changes nothing at all.
    assert cfg.parse_text(once.to_cfg(), source="drawn") == once


@given(drawn_networks(), st.data())
@settings(max_examples=100, deadline=None)
def test_blanks_comments_and_line_ends_change_nothing(drawn: Drawn, data):
    text = cfg.sections_to_cfg(drawn.sections)
    noisy = data.draw(scribbled(text))
    plain = cfg.parse_text(text, source="drawn")
    again = cfg.parse_text(noisy, source="drawn", dialect="alexeyab")
    assert helpers.network_facts(again) == helpers.network_facts(plain)


WORDS = st.sampled_from(
    [
        *(f"[{name}]" for name in (*cfg.SECTION_ALIASES, *cfg.NET_NAMES, "nonsense")),
        *("width", "height", "channels", "filters", "size", "stride", "pad", "groups", "layers"),
        *("from", "classes", "num", "mask", "anchors", "output", "side", "activation", "reverse"),
        *("=", ",", "-", "#", ";", "\n", " ", "0", "1", "2", "7", "-1", "9" * 40, "1e9", "leaky"),
    ]
)


@pytest.mark.slow
@given(st.one_of(st.text(), st.lists(WORDS, max_size=60).map("".join)))
@settings(max_examples=400, deadline=None)
def test_random_text_is_a_network_or_a_cfg_error(text):
    for whole in (text, NET + text):
        read = read_or_refused(whole)
        # A network can be written as a cfg, an error printed.
        (read.to_cfg() if isinstance(read, cfg.Network) else str(read)).encode()


def read_or_refused(text: str) -> cfg.Network | CfgError:
    try:
        return cfg.parse_text(text, source="random")
    except CfgError as error:
        return error


@pytest.mark.slow
@given(drawn_networks(), st.data())
@settings(max_examples=200, deadline=None)
def test_a_network_with_one_damaged_character_is_a_network_or_a_cfg_error(drawn: Drawn, data):
    text = cfg.sections_to_cfg(drawn.sections)
    place = data.draw(st.integers(0, len(text) - 1))
    text = text[:place] + data.draw(st.characters(exclude_categories=["Cs"])) + text[place + 1 :]
    assert read_or_refused(text).source == "random"


@given(content=st.binary(max_size=200))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_in_a_file_are_a_network_or_a_cfg_error(tmp_path, content):
    path = tmp_path / "random.cfg"
    for whole in (content, NET.encode() + content):
        path.write_bytes(whole)
        with contextlib.suppress(CfgError):
            assert cfg.parse_cfg(path).source == "random.cfg"


# Stock cfgs and those of real users.


def every_cfg() -> list[Path]:
    return sorted(helpers.SHARED.glob("cfg/*.cfg")) + sorted(
        path
        for folder in ("pairs", "lfs", "partial")
        for path in (helpers.SHARED / "corpus" / folder).glob("*.cfg")
    )


@pytest.mark.parametrize("path", helpers.cfg_params(every_cfg))
def test_a_real_cfg_is_read_and_survives_its_own_cfg(path):
    network = cfg.parse_cfg(path)
    assert [layer.index for layer in network.layers] == list(range(len(network.layers)))
    again = cfg.parse_text(network.to_cfg(), source=network.source)
    assert helpers.network_facts(again) == helpers.network_facts(network)
    assert (again.input_shape, again.letter_box) == (network.input_shape, network.letter_box)


@pytest.mark.parametrize("path", helpers.cfg_params(every_cfg))
def test_lines_are_those_of_the_real_file(path):
    lines = path.read_bytes().decode("utf-8", "replace").split("\n")
    for section in cfg.parse_cfg(path, dialect="alexeyab").sections:
        assert re.sub(r"\s", "", lines[section.line - 1]) == f"[{section.name}]"
        for option in section.options:
            written = re.sub(r"\s", "", lines[option.line - 1])
            assert written == f"{option.key}={option.value}"


@pytest.mark.parametrize("row", helpers.shared_params(helpers.inventory, lambda row: row["file"]))
def test_a_stock_cfg_has_the_sections_of_the_inventory(row):
    network = cfg.parse_cfg(helpers.SHARED / "cfg" / row["file"])
    expected = dict(part.rsplit(":", 1) for part in row["sections"].split())
    counts = {
        kind: len([layer for layer in network.layers if layer.type == kind])
        for kind in {layer.type for layer in network.layers}
    }
    assert counts == {kind: int(count) for kind, count in expected.items()}
    assert len(network.layers) == int(row["layers"])


def test_all_46_detectors_are_there(shared):
    assert len(helpers.must_cfgs()) == 46
    assert all(cfg.parse_cfg(path).heads for path in helpers.must_cfgs())


def detectors_below(size_bytes: int) -> list[Path]:
    small = {
        row["file"] for row in helpers.inventory() if int(row["expected_bytes_hdr20"]) < size_bytes
    }
    return [path for path in helpers.must_cfgs() if path.name in small]


# OpenCV takes a file of the right size; half a gigabyte and more only costs time.
@pytest.mark.parametrize("path", helpers.cfg_params(lambda: detectors_below(400_000_000)))
def test_opencv_computes_the_same_shapes_from_a_detectors_cfg(path):
    (row,) = [row for row in helpers.inventory() if row["file"] == path.name]
    network = cfg.parse_cfg(path, size=(64, 128))
    text = path.read_text(encoding="utf-8", errors="replace")
    shapes = helpers.opencv_shapes(text, int(row["expected_bytes_hdr20"]), network.input_shape)
    assert shapes == {layer.index: layer.output_shape for layer in network.layers}


def test_changing_classes_or_size_keeps_the_warnings():
    text = NET + "nonsense\n" + TWO_HEADS + "[conv]\n[maxpool]\nstride=2\n[shortcut]\nfrom=-2\n"
    network = cfg.parse_text(text, source="some.cfg")
    assert len(network.warnings) == 2
    assert network.with_classes(5).warnings == network.warnings
    assert network.resized((24, 32)).warnings[0] == network.warnings[0]
    said(network.resized((24, 32)).warnings[1])
    assert network.with_classes(5).resized(channels=1).warnings == network.warnings


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (b"[net]\n", TypeError),
        (None, TypeError),
        ("s3://bucket/a.cfg", CfgError),
        ("[net]\rwidth=32\r", CfgError),
    ],
)
def test_source_that_is_neither_path_nor_text_is_refused(source, error):
    with refused(error):
        cfg.parse_cfg(source)
