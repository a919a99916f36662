"""Segments of a file, against Darknet's order, real files, known sizes and a second count."""

from __future__ import annotations

import pickle
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from support import helpers
from support.random_networks import Drawn, drawn_networks
from yolotf.darknet import cfg
from yolotf.weights import layout

NET = "[net]\nwidth=16\nheight=12\nchannels=4\n"


def parse(body: str, net: str = NET) -> cfg.Network:
    return cfg.parse_text(net + body, source="some.cfg")


def stored(body: str, net: str = NET, *, transposed: bool = False) -> list[tuple[Any, ...]]:
    """The (layer, part, role, shape) of every segment."""
    segments = layout.segments(parse(body, net), transposed=transposed)
    return [(part.layer, part.part, part.role, part.shape) for part in segments]


def normalized(layer: int, channels: int, part: str = "") -> list[tuple[Any, ...]]:
    return [
        (layer, part, role, (channels,)) for role in ("gamma", "moving_mean", "moving_variance")
    ]


# One section at a time, in the order in which parser.c:2093-2350 reads.


def test_a_convolution_stores_its_bias_and_its_kernel():
    assert stored("[conv]\nfilters=6\nsize=3\n") == [
        (0, "", "bias", (6,)),
        (0, "", "kernel", (6, 4, 3, 3)),
    ]


def test_segments_are_computed_once_and_not_pickled():
    network = parse("[convolutional]\nfilters=2\n")
    before = pickle.dumps(network)
    assert network.segments is network.segments
    assert layout.segments(network, transposed=True) == list(network.transposed_segments)
    assert pickle.dumps(network) == before
    assert pickle.loads(before).segments == network.segments


def test_batch_normalization_stands_between_beta_and_kernel():
    assert stored("[conv]\nfilters=6\nsize=3\nbatch_normalize=1\n") == [
        (0, "", "beta", (6,)),
        *normalized(0, 6),
        (0, "", "kernel", (6, 4, 3, 3)),
    ]


def test_a_grouped_kernel_reads_its_share_of_the_channels():
    assert stored("[conv]\nfilters=6\nsize=3\ngroups=2\n")[1] == (0, "", "kernel", (6, 2, 3, 3))
    assert stored("[conv]\nfilters=4\nsize=5\ngroups=4\n")[1] == (0, "", "kernel", (4, 1, 5, 5))


def test_the_channels_of_a_kernel_are_those_of_its_input():
    body = "[conv]\nfilters=8\n[conv]\nfilters=2\n[route]\nlayers=0,1\n[conv]\nfilters=3\n"
    assert stored(body)[-1] == (3, "", "kernel", (3, 10, 1, 1))


def test_a_dense_layer_stores_its_kernel_before_the_normalization():
    body = "[connected]\noutput=5\nbatch_normalize=1\n"
    assert stored(body) == [
        (0, "", "beta", (5,)),
        (0, "", "kernel", (5, 12 * 16 * 4)),
        *normalized(0, 5),
    ]
    assert stored("[connected]\noutput=5\n") == [
        (0, "", "bias", (5,)),
        (0, "", "kernel", (5, 12 * 16 * 4)),
    ]


def test_the_transpose_flag_turns_dense_kernels_only():
    body = "[conv]\nfilters=2\n[connected]\noutput=5\n"
    plain, turned = stored(body), stored(body, transposed=True)
    assert turned[:3] == plain[:3]
    assert turned[3] == (1, "", "kernel", (12 * 16 * 2, 5))


def test_dontload_stores_nothing_and_dontloadscales_no_normalization():
    assert stored("[conv]\nfilters=2\ndontload=1\n[conv]\nfilters=3\n") == [
        (1, "", "bias", (3,)),
        (1, "", "kernel", (3, 2, 1, 1)),
    ]
    assert stored("[conv]\nfilters=2\nbatch_normalize=1\ndontloadscales=1\n") == [
        (0, "", "beta", (2,)),
        (0, "", "kernel", (2, 4, 1, 1)),
    ]


def test_dontloadscales_does_not_reach_the_parts_of_a_recurrent_section():
    # The flag is set on the section (parser.c:1649), its parts are read by their own.
    plain = "[crnn]\nhidden=2\noutput=3\nbatch_normalize=1\npad=1\n"
    assert stored(f"{plain}dontloadscales=1\n") == stored(plain)


def test_a_shared_convolution_stores_nothing():
    body = "[conv]\nfilters=4\n[conv]\nfilters=4\nshare_index=0\n"
    assert {part[0] for part in stored(body)} == {0}


def test_batchnorm_alone_stores_four_numbers_a_channel():
    assert stored("[batchnorm]\n") == [(0, "", "beta", (4,)), *normalized(0, 4)]


def test_local_stores_a_kernel_for_every_position():
    assert stored("[local]\nfilters=2\nsize=3\nstride=2\n") == [
        (0, "", "bias", (2, 5, 7)),
        (0, "", "kernel", (5 * 7, 2, 4, 3, 3)),
    ]


@pytest.mark.parametrize(
    ("kind", "shape"), [("per_feature", (3, 1)), ("per_channel", (3, 5)), ("none", None)]
)
def test_a_shortcut_stores_its_weights(kind, shape):
    body = (
        "[conv]\nfilters=7\n[conv]\nfilters=5\n"
        f"[shortcut]\nfrom=0,1\nweights_type={kind}\nweights_normalization=softmax\n"
    )
    expected = [(2, "", "weights", shape)] if shape else []
    assert [part for part in stored(body) if part[0] == 2] == expected


def test_implicit_stores_its_constant():
    assert stored("[implicit]\nfilters=6\natoms=2\n") == [(0, "", "weights", (6, 2))]


def dense(parts: list[tuple[str, int, int]]) -> list[tuple[Any, ...]]:
    segments: list[tuple[Any, ...]] = []
    for name, inputs, outputs in parts:
        segments += [(0, name, "bias", (outputs,)), (0, name, "kernel", (outputs, inputs))]
    return segments


def test_recurrent_dense_sections_store_their_parts_in_order():
    net = "[net]\ninputs=7\n"
    assert stored("[rnn]\nhidden=3\noutput=5\n", net) == dense(
        [("input", 7, 3), ("self", 3, 3), ("output", 3, 5)]
    )
    assert stored("[gru]\noutput=5\n", net) == dense(
        [(f"input_{gate}", 7, 5) for gate in "zrh"] + [(f"state_{gate}", 5, 5) for gate in "zrh"]
    )
    assert stored("[lstm]\noutput=5\n", net) == dense(
        [(f"w{gate}", 5, 5) for gate in "figo"] + [(f"u{gate}", 7, 5) for gate in "figo"]
    )
    assert stored("[rnn]\nhidden=3\noutput=5\nbatch_normalize=1\n", net)[:5] == [
        (0, "input", "beta", (3,)),
        (0, "input", "kernel", (3, 7)),
        *normalized(0, 3, "input"),
    ]


def kernels(body: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(part, shape) for _, part, role, shape in stored(body) if role == "kernel"]


def test_recurrent_convolutions_store_their_parts_in_order():
    assert kernels("[crnn]\nhidden=2\noutput=3\npad=1\n") == [
        ("input", (2, 4, 3, 3)),
        ("self", (2, 2, 3, 3)),
        ("output", (3, 2, 3, 3)),
    ]
    gates = [(f"w{gate}", (6, 6, 3, 3)) for gate in "figo"]
    inputs = [(f"u{gate}", (6, 4, 3, 3)) for gate in "figo"]
    peepholes = [(f"v{gate}", (6, 6, 3, 3)) for gate in "fio"]
    assert kernels("[conv_lstm]\noutput=6\npad=1\n") == gates + inputs
    assert kernels("[conv_lstm]\noutput=6\npad=1\npeephole=1\n") == peepholes + gates + inputs
    assert kernels("[conv_lstm]\noutput=6\npad=1\nbottleneck=1\n") == [
        ("wf", (6, 12, 3, 3)),
        *inputs,
    ]
    grouped = kernels("[conv_lstm]\noutput=6\npad=1\ngroups=2\n")
    assert [shape for _, shape in grouped] == 4 * [(6, 3, 3, 3)] + 4 * [(6, 2, 3, 3)]


@pytest.mark.parametrize(
    "section",
    [
        "maxpool",
        "local_avgpool",
        "avgpool",
        "upsample",
        "reorg",
        "reorg3d",
        "dropout",
        "softmax",
        "activation",
        "crop",
        "normalization",
        "cost",
        "empty",
        "contrastive",
        "history",
    ],
)
def test_sections_without_weights_store_nothing(section):
    network = parse(f"[{section}]\n")
    assert layout.segments(network) == []
    assert layout.floats(network) == 0
    assert layout.size_bytes(network) == 20
    assert layout.size_bytes(network, header_bytes=16) == 16


def test_a_flipped_convolution_has_its_filters_last():
    """transpose_matrix(l.weights, (l.c/l.groups)*l.size*l.size, l.n) after it is read, parser.c."""
    network = parse("[conv]\nfilters=6\nsize=3\nflipped=1\nbatch_normalize=1\n")
    *_, kernel = layout.segments(network)
    channels = network.input_shape.channels
    assert (kernel.role, kernel.shape, kernel.transposed) == (
        "kernel",
        (channels, 3, 3, 6),
        True,
    )
    plain = parse("[conv]\nfilters=6\nsize=3\nbatch_normalize=1\n")
    assert layout.floats(network) == layout.floats(plain)


# Offsets.


def test_offsets_count_bytes_from_the_end_of_the_header():
    segments = layout.segments(parse("[conv]\nfilters=6\nsize=3\n[maxpool]\n[conv]\nfilters=2\n"))
    assert [(part.offset, part.count, part.size_bytes, part.end) for part in segments] == [
        (0, 6, 24, 24),
        (24, 216, 864, 888),
        (888, 2, 8, 896),
        (896, 12, 48, 944),
    ]
    assert layout.size_bytes(parse("[conv]\nfilters=6\nsize=3\n")) == 20 + 888


def assert_touching(network: cfg.Network) -> None:
    segments = layout.segments(network)
    assert [part.offset for part in segments] == [0, *(part.end for part in segments)][
        : len(segments)
    ]
    assert all(part.count > 0 for part in segments)
    assert sum(part.count for part in segments) == layout.floats(network)
    assert layout.size_bytes(network) == 20 + 4 * layout.floats(network)
    assert [part.layer for part in segments] == sorted(part.layer for part in segments)
    names = [(part.layer, part.part, part.role) for part in segments]
    assert len(set(names)) == len(names)


@given(drawn_networks())
@settings(max_examples=100, deadline=None)
def test_segments_touch_and_cover_in_random_networks(drawn: Drawn):
    assert_touching(cfg.resolve(drawn.sections, source="drawn"))


@pytest.mark.parametrize("path", helpers.cfg_params(helpers.stock_cfgs))
def test_segments_touch_and_cover_in_stock_networks(path):
    assert_touching(cfg.parse_cfg(path))


# A second count, made from the text alone.

CONVOLUTIONAL = {
    "convolutional",
    "maxpool",
    "route",
    "shortcut",
    "upsample",
    "yolo",
    "region",
    "dropout",
    "avgpool",
    "softmax",
    "cost",
}


def counted_floats(text: str) -> int | None:
    """Floats of a network of convolutions, counted with channels only; None for others."""
    blocks = re.split(r"^[ \t]*\[", text, flags=re.MULTILINE)[1:]
    channels: list[int] = []
    total = 0
    for number, block in enumerate(blocks):
        kind = block.split("]")[0]
        options: dict[str, str] = {}
        for key, value in re.findall(r"^\s*(\w+)\s*=\s*([^#;\n]*)", block, flags=re.MULTILINE):
            options.setdefault(key, value.strip())
        if number == 0:
            picture = int(options.get("channels", 0))
            continue
        if kind not in CONVOLUTIONAL or "share_index" in options:
            return None
        before = channels[-1] if channels else picture
        if kind == "convolutional":
            filters, size = int(options.get("filters", 1)), int(options.get("size", 1))
            groups = int(options.get("groups", 1))
            total += filters * (4 if int(options.get("batch_normalize", 0)) else 1)
            total += filters * (before // groups) * size * size
            channels.append(filters)
        elif kind == "route":
            layers = [int(layer) for layer in options["layers"].split(",")]
            joined = sum(channels[layer] for layer in layers)
            channels.append(joined // int(options.get("groups", 1)))
        else:
            channels.append(before)
    return total


def convolutional_cfgs() -> list[Path]:
    return [
        path
        for path in (
            *helpers.stock_cfgs(),
            *(helpers.SHARED / "corpus/lfs").glob("*.cfg"),
            *(helpers.SHARED / "corpus/pairs").glob("*.cfg"),
        )
        if counted_floats(path.read_text(encoding="utf-8", errors="replace")) is not None
    ]


def test_most_stock_networks_can_be_counted_a_second_time(shared):
    assert len(convolutional_cfgs()) > 60


@pytest.mark.parametrize("path", helpers.cfg_params(convolutional_cfgs))
def test_a_second_count_finds_as_many_floats(path):
    counted = counted_floats(path.read_text(encoding="utf-8", errors="replace"))
    assert layout.floats(cfg.parse_cfg(path)) == counted


def test_the_second_count_agrees_on_a_network_without_shared():
    text = (
        f"{NET}[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\npad=1\n[maxpool]\nstride=2\n"
        "[convolutional]\nfilters=6\ngroups=2\nsize=3\npad=1\n[route]\nlayers=-1,-2\n"
        "[convolutional]\nfilters=7\n[yolo]\nclasses=2\n"
    )
    expected = 4 * 8 + 8 * 4 * 9 + 6 + 6 * 4 * 9 + 7 + 7 * (6 + 8)
    assert counted_floats(text) == expected
    assert layout.floats(cfg.parse_cfg(text)) == expected


# Sizes known from elsewhere.


@pytest.mark.parametrize("row", helpers.shared_params(helpers.inventory, lambda row: row["file"]))
def test_a_stock_network_has_the_size_of_the_inventory(row):
    network = cfg.parse_cfg(helpers.SHARED / "cfg" / row["file"])
    assert layout.floats(network) == int(row["floats"])
    assert layout.size_bytes(network) == int(row["expected_bytes_hdr20"])


@pytest.mark.parametrize("path", helpers.cfg_params(helpers.must_cfgs))
def test_a_detectors_size_follows_its_classes(path):
    network = cfg.parse_cfg(path)
    difference = sum(
        len(head.anchors) * (network.layers[head.index - 1].input_shape.channels + 1)
        for head in network.heads
    )
    assert network.classes is not None
    more = network.with_classes(network.classes + 1)
    assert layout.floats(more) - layout.floats(network) == difference


@pytest.mark.parametrize(
    "pair",
    helpers.shared_params(
        lambda: helpers.shared_json("corpus/pairs/pairs.json"), lambda pair: pair["name"]
    ),
)
def test_a_real_file_is_as_long_as_its_cfg_says(pair):
    network = cfg.parse_cfg(helpers.SHARED / "corpus/pairs" / f"{pair['name']}.cfg")
    file = helpers.SHARED / "corpus/pairs" / f"{pair['name']}.weights"
    major, minor = struct.unpack("<ii", file.read_bytes()[:8])
    header_bytes = 20 if 10 * major + minor >= 2 else 16
    assert layout.size_bytes(network, header_bytes) == pair["size"] == file.stat().st_size


def users_files(*, with_cfg: bool) -> list[dict[str, Any]]:
    entries = helpers.shared_json("corpus/lfs/lfs.json")
    return [entry for entry in entries if entry["cfg_file"] or not with_cfg]


def user_and_path(entry: dict[str, Any]) -> str:
    return f"{entry['repo']}/{entry['path']}"


@pytest.mark.parametrize(
    "entry", helpers.shared_params(lambda: users_files(with_cfg=True), user_and_path)
)
def test_a_users_file_is_as_long_as_its_cfg_says(entry):
    network = cfg.parse_cfg(helpers.SHARED / "corpus/lfs" / entry["cfg_file"])
    assert layout.size_bytes(network, entry["header_bytes"]) == entry["lfs_size"]


def as_long_as(path: str, change: str, header: str) -> int:
    """The size of a stock network's file after a change such as `classes=2`."""
    network = cfg.parse_cfg(helpers.SHARED / path)
    header_bytes = int(header.removeprefix("header="))
    if change.startswith("classes="):
        network = network.with_classes(int(change.removeprefix("classes=")))
        return layout.size_bytes(network, header_bytes)
    layers = int(change.removeprefix("prefix of ").removesuffix(" layers"))
    first = [part for part in layout.segments(network) if part.layer < layers]
    return header_bytes + first[-1].end


@pytest.mark.parametrize(
    "entry", helpers.shared_params(lambda: users_files(with_cfg=False), user_and_path)
)
def test_a_users_file_is_as_long_as_the_stock_network_it_was_made_from(entry):
    stock = [variant for variant in entry["stock"] if (helpers.SHARED / variant[0]).is_file()]
    assert {as_long_as(*variant) for variant in stock} <= {entry["lfs_size"]}
    # Two files were trained with networks that no stock cfg describes.
    assert bool(stock) == (entry["lfs_size"] not in (17_547_476, 483_890_244))


def test_a_real_backbone_file_ends_after_its_layers(shared):
    file = shared / "corpus/partial/Lebhoryi__yolo-fastest.conv.109"
    network = cfg.parse_cfg(shared / "corpus/partial/Lebhoryi__yolo-fastest.conv.109.cfg")
    first = [part for part in layout.segments(network) if part.layer < 109]
    assert layout.HEADER_BYTES + first[-1].end == file.stat().st_size


# From Darknet's order of axes to Keras'.


def moved(segment: layout.Segment, slot: layout.Slot) -> np.ndarray:
    """What plan.h does with the floats 0, 1, 2, ... of a segment."""
    assignment = layout.assignment(segment, slot)
    file = np.arange(segment.count).reshape(
        assignment.blocks, assignment.filters, assignment.channels, assignment.spatial
    )
    return file.transpose(0, 3, 2, 1).reshape(assignment.shape)


def slot(shape: tuple[int, ...], role: str, *, depthwise: bool = False) -> layout.Slot:
    return layout.Slot("conv_0/variable", role, None, shape, "float32", depthwise=depthwise)


def of_the_only_layer(body: str, role: str, *, transposed: bool = False) -> layout.Segment:
    segments = layout.segments(parse(body), transposed=transposed)
    (segment,) = [part for part in segments if part.role == role]
    return segment


@pytest.mark.parametrize("groups", [1, 2])
def test_a_kernel_moves_from_oihw_to_hwio(groups):
    segment = of_the_only_layer(f"[conv]\nfilters=6\nsize=3\ngroups={groups}\n", "kernel")
    kernel = moved(segment, slot((3, 3, 4 // groups, 6), "kernel"))
    assert kernel.shape == (3, 3, 4 // groups, 6)
    file = np.arange(segment.count).reshape(segment.shape)
    for output, channel, row, column in np.ndindex(segment.shape):
        assert kernel[row, column, channel, output] == file[output, channel, row, column]


@pytest.mark.parametrize("multiplier", [1, 3])
def test_a_depthwise_kernel_moves_to_its_channels_and_multiplier(multiplier):
    filters = 4 * multiplier
    segment = of_the_only_layer(f"[conv]\nfilters={filters}\nsize=3\ngroups=4\n", "kernel")
    kernel = moved(segment, slot((3, 3, 4, multiplier), "kernel", depthwise=True))
    assert kernel.shape == (3, 3, 4, multiplier)
    file = np.arange(segment.count).reshape(segment.shape)
    # Filter number `channel * multiplier + copy` reads that channel.
    for channel, copy, row, column in np.ndindex(4, multiplier, 3, 3):
        output = channel * multiplier + copy
        assert kernel[row, column, channel, copy] == file[output, 0, row, column]


def test_a_dense_kernel_moves_from_out_in_to_in_out_unless_it_is_stored_so():
    size = 12 * 16 * 4
    wanted = slot((size, 5), "kernel")
    plain = moved(of_the_only_layer("[connected]\noutput=5\n", "kernel"), wanted)
    np.testing.assert_array_equal(plain, np.arange(5 * size).reshape(5, size).T)
    turned = of_the_only_layer("[connected]\noutput=5\n", "kernel", transposed=True)
    np.testing.assert_array_equal(moved(turned, wanted), np.arange(5 * size).reshape(size, 5))


def test_a_local_kernel_moves_position_by_position():
    body = "[local]\nfilters=2\nsize=3\nstride=2\n"
    kernel = moved(of_the_only_layer(body, "kernel"), slot((35, 3, 3, 4, 2), "kernel"))
    file = np.arange(kernel.size).reshape(35, 2, 4, 3, 3)
    np.testing.assert_array_equal(kernel, np.moveaxis(file, (1, 2), (4, 3)))
    bias = moved(of_the_only_layer(body, "bias"), slot((5, 7, 2), "bias"))
    np.testing.assert_array_equal(bias, np.moveaxis(np.arange(70).reshape(2, 5, 7), 0, 2))


@pytest.mark.parametrize("role", ["beta", "gamma", "moving_mean", "moving_variance"])
def test_vectors_move_as_they_are(role):
    segment = of_the_only_layer("[conv]\nfilters=6\nbatch_normalize=1\n", role)
    np.testing.assert_array_equal(moved(segment, slot((6,), role)), np.arange(6))


def test_the_rows_of_a_plan_say_where_in_the_file_and_of_which_shape():
    network = parse("[conv]\nfilters=6\nsize=3\n")
    bias, kernel = layout.segments(network)
    assignments = (
        layout.assignment(bias, slot((6,), "bias")),
        layout.assignment(kernel, slot((3, 3, 4, 6), "kernel")),
    )
    plan = layout.Plan(assignments, layout.floats(network), network)
    # Offset, norm offset, blocks, filters, channels, spatial, role, rank, extents; plan.h counts
    # roles
    # bias, beta, gamma, moving_mean, moving_variance, kernel.
    assert plan.rows(20).tolist() == [
        [20, 0, 1, 1, 6, 1, 0, 1, 6, 1, 1, 1, 1],
        [44, 0, 1, 6, 4, 9, 5, 4, 3, 3, 4, 6, 1],
    ]
    assert plan.rows(16, assignments[1:])[:, 0].tolist() == [40]
    assert plan.expected_bytes(20) == 20 + 4 * (6 + 216)
    assert layout.Plan(assignments, None, None).expected_bytes(20) == -1
