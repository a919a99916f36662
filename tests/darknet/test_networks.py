"""The networks written in Python against the stock cfgs, OpenCV and the published file sizes."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from support import helpers
from support.messages import refused
from yolotf.darknet import cfg
from yolotf.darknet import stock as networks
from yolotf.errors import CfgError
from yolotf.weights import layout

# Byte sizes of the files published with the networks; yolov2.weights has the old 16-byte
# header, so one with today's is four bytes longer than the download.
PUBLISHED_BYTES = {
    "yolov2": 203_934_260 + 4,
    "yolov3": 248_007_048,
    "yolov3-spp": 252_209_544,
    "yolov3-tiny": 35_434_956,
    "yolov4": 257_717_640,
    "yolov4-tiny": 24_251_276,
}
# What the stock cfgs of the others come to.
OTHER_BYTES = {
    "yolov2-tiny": 44_948_600,
    "yolov4-csp": 211_944_840,
    "yolov4-custom": 257_717_640,
    "yolov4-tiny-custom": 24_251_276,
    "yolov4-csp-swish": 211_944_840,
    "yolov4-tiny-3l": 25_336_200,
    "yolov4x-mish": 399_388_168,
    "yolov7": 147_898_248,
    "yolov7-tiny": 24_967_560,
    "Gaussian_yolov3_BDD": 246_585_408,
    "cd53paspp-gamma": 257_717_640,
    "csresnext50-panet-spp": 228_123_400,
    "csresnext50-panet-spp-original-optimal": 228_123_400,
    "enet-coco": 19_233_100,
    "yolo9000": 195_230_024,
    "yolov2-tiny-voc": 63_471_560,
    "yolov2-voc": 202_704_264,
    "yolov3-openimages": 259_229_388,
    "yolov3-tiny-prn": 19_759_052,
    "yolov3-tiny_3l": 36_039_888,
    "yolov3-voc": 246_714_648,
    "yolov3_5l": 249_599_104,
    "yolov4-csp-s-mish": 33_164_680,
    "yolov4-csp-x-mish": 399_388_168,
    "yolov4-csp-x-swish": 399_388_168,
    "yolov4-p5": 283_669_892,
    "yolov4-p6": 510_868_180,
    "yolov7x": 285_638_760,
}
# Bytes that the first layers of a network take, as in the published backbone files.
PUBLISHED_BACKBONES = {
    ("yolov4", 137): 170_038_676,
    ("yolov4-tiny", 29): 19_789_716,
    ("yolov3", 74): 162_482_580,
}
STOCK_SIZES = {
    "yolov2": 416,
    "yolov2-tiny": 416,
    "yolov3": 416,
    "yolov3-spp": 608,
    "yolov3-tiny": 416,
    "yolov4": 608,
    "yolov4-csp": 512,
    "yolov4-custom": 608,
    "yolov4-tiny-custom": 416,
    "yolov4-csp-swish": 640,
    "yolov4-tiny": 416,
    "yolov4-tiny-3l": 608,
    "yolov4x-mish": 640,
    "yolov7": 640,
    "yolov7-tiny": 416,
    "Gaussian_yolov3_BDD": 512,
    "cd53paspp-gamma": 512,
    "csresnext50-panet-spp": 512,
    "csresnext50-panet-spp-original-optimal": 608,
    "enet-coco": 416,
    "yolo9000": 544,
    "yolov2-tiny-voc": 416,
    "yolov2-voc": 416,
    "yolov3-openimages": 608,
    "yolov3-tiny-prn": 416,
    "yolov3-tiny_3l": 608,
    "yolov3-voc": 416,
    "yolov3_5l": 416,
    "yolov4-csp-s-mish": 640,
    "yolov4-csp-x-mish": 640,
    "yolov4-csp-x-swish": 640,
    "yolov4-p5": 896,
    "yolov4-p6": 1280,
    "yolov7x": 640,
}
# Where the stock cfg has others than the 80 of COCO.
STOCK_CLASSES = {
    "Gaussian_yolov3_BDD": 10,
    "yolo9000": 9418,
    "yolov2-tiny-voc": 20,
    "yolov2-voc": 20,
    "yolov3-openimages": 601,
    "yolov3-tiny_3l": 2,
    "yolov3-voc": 20,
}

every_name = pytest.mark.parametrize("name", networks.NAMES)
# OpenCV reads neither class trees nor [Gaussian_yolo].
opencv_names = [name for name in networks.NAMES if name not in ("yolo9000", "Gaussian_yolov3_BDD")]


def multiple(name: str, cells: int) -> int:
    """Pixels along `cells` cells of the network's coarsest grid."""
    return cells * (64 if name == "yolov4-p6" else 32)


def number_or_word(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def options(section: cfg.Section, *left_out: str) -> dict[str, list[float | str]]:
    return {
        option.key: [number_or_word(part) for part in option.value.split(",")]
        for option in section.options
        if option.key not in left_out
    }


def test_the_networks_are_those_of_the_stock_sizes():
    assert set(networks.NAMES) == set(STOCK_SIZES)


@every_name
def test_a_network_is_its_stock_cfg_layer_for_layer(shared, name):
    written = networks.network(name)
    stock = cfg.parse_cfg(shared / "cfg" / f"{name}.cfg")
    assert written.input_shape == stock.input_shape
    assert written.letter_box == stock.letter_box
    assert len(written.layers) == len(stock.layers)
    for ours, theirs in zip(written.layers, stock.layers, strict=True):
        assert type(ours) is type(theirs)
        assert helpers.layer_facts(ours) == helpers.layer_facts(theirs)


@every_name
def test_a_network_trains_as_its_stock_cfg(shared, name):
    written = networks.network(name)
    stock = cfg.parse_cfg(shared / "cfg" / f"{name}.cfg")
    # Stock cfgs are committed now for training, now for a test run of one picture.
    # No Darknet reads max_epochs, which one of them has.
    batches = ("batch", "subdivisions", "max_epochs")
    assert options(written.net, *batches) == options(stock.net, *batches)
    for ours, theirs in zip(written.layers, stock.layers, strict=True):
        # References are compared resolved; stopbackward freezes layers for fine-tuning.
        left_out = ("layers", "from", "stopbackward")
        assert options(ours.section, *left_out) == options(theirs.section, *left_out)


@every_name
def test_batches_divide_into_subdivisions(name):
    net = networks.network(name).net
    batch, subdivisions = net.option("batch"), net.option("subdivisions")
    assert batch
    assert subdivisions
    assert int(batch.value) % int(subdivisions.value) == 0


@every_name
def test_the_default_size_is_the_stock_one(name):
    assert networks.network(name).input_shape == (STOCK_SIZES[name], STOCK_SIZES[name], 3)


@pytest.mark.parametrize(("name", "size_bytes"), (PUBLISHED_BYTES | OTHER_BYTES).items())
def test_the_file_of_a_network_has_the_known_size(name, size_bytes):
    assert layout.size_bytes(networks.network(name)) == size_bytes


def test_every_network_has_a_known_size():
    assert set(PUBLISHED_BYTES | OTHER_BYTES) == set(networks.NAMES)


@pytest.mark.parametrize(("cut", "size_bytes"), PUBLISHED_BACKBONES.items())
def test_the_first_layers_have_the_size_of_the_published_backbone(cut, size_bytes):
    name, layers = cut
    first = [part for part in layout.segments(networks.network(name)) if part.layer < layers]
    assert layout.HEADER_BYTES + first[-1].end == size_bytes


@every_name
def test_a_network_reads_its_own_cfg_as_itself(name):
    written = networks.network(name)
    assert cfg.parse_text(written.to_cfg(), source=name, name=name) == written
    assert written.name == written.source == name
    assert written.warnings == ()


@pytest.mark.slow
@every_name
def test_lines_are_those_of_the_printed_cfg(name):
    written = networks.network(name)
    lines = written.to_cfg().splitlines()
    for section in written.sections:
        assert lines[section.line - 1] == f"[{section.name}]"
        for option in section.options:
            assert lines[option.line - 1] == f"{option.key}={option.value}"


@pytest.mark.slow
@pytest.mark.parametrize("name", opencv_names)
def test_opencv_computes_the_same_shapes_from_the_printed_cfg(name):
    height, width, classes = multiple(name, 3), multiple(name, 5), 3
    written = networks.network(name, classes=classes, size=(height, width))
    shapes = helpers.opencv_shapes(
        written.to_cfg(), layout.size_bytes(written), written.input_shape
    )
    assert shapes == {layer.index: layer.output_shape for layer in written.layers}


def test_opencv_draws_the_same_graph_from_the_printed_and_the_stock_cfg(shared):
    for name in opencv_names:
        text = networks.network(name).to_cfg()
        written = cv2.dnn.readNetFromDarknet(np.frombuffer(text.encode(), np.uint8))
        stock = cv2.dnn.readNetFromDarknet(str(shared / "cfg" / f"{name}.cfg"))
        assert written.getLayerNames() == stock.getLayerNames()


@pytest.mark.slow
@every_name
@pytest.mark.parametrize("classes", [1, 3, 365])
def test_classes_change_the_heads_and_nothing_else(name, classes):
    for_coco, other = networks.network(name), networks.network(name, classes=classes)
    assert for_coco.classes == STOCK_CLASSES.get(name, 80)
    assert other.classes == classes
    heads = {head.index for head in for_coco.heads}
    touched = heads | {index - 1 for index in heads}
    for ours, theirs in zip(other.layers, for_coco.layers, strict=True):
        same = helpers.layer_facts(ours) == helpers.layer_facts(theirs)
        assert same != (ours.index in touched)
    for head in other.heads:
        assert head.input_shape.channels == len(head.anchors) * (1 + head.coords + classes)
    assert helpers.network_facts(other) == helpers.network_facts(for_coco.with_classes(classes))


@pytest.mark.slow
@every_name
def test_size_and_channels_are_those_asked_for(name):
    height, width = multiple(name, 2), multiple(name, 3)
    written = networks.network(name, size=(height, width), channels=1)
    assert written.input_shape == (height, width, 1)
    assert [head.output_shape[:2] for head in written.heads] == [
        (height * coarse.height // STOCK_SIZES[name], width * coarse.width // STOCK_SIZES[name])
        for coarse in (head.output_shape for head in networks.network(name).heads)
    ]
    difference = layout.floats(networks.network(name)) - layout.floats(written)
    first = written.layers[0]
    assert isinstance(first, cfg.Convolutional)
    assert difference == 2 * first.filters * first.size**2


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("YOLOv4", "yolov4"),
        ("yolov4_tiny", "yolov4-tiny"),
        ("YOLOV4-TINY_3L", "yolov4-tiny-3l"),
        ("yolo-v3-spp", "yolov3-spp"),
        ("YOLOv4 CSP", "yolov4-csp"),
    ],
)
def test_case_and_separators_make_no_difference(alias, name):
    assert networks.network(alias, size=32) == networks.network(name, size=32)


def test_unknown_name_is_refused_with_the_nearest_and_all_known_ones():
    facts = {"name": "yolov4-tinny", "known": networks.NAMES, "nearest": "yolov4-tiny"}
    with refused(CfgError, code="cfg", **facts) as caught:
        networks.network("yolov4-tinny")
    assert ", ".join(networks.NAMES) in str(caught.value)


def test_name_unlike_any_network_gets_no_suggestion():
    with refused(CfgError, code="cfg", nearest=None) as caught:
        networks.network("resnet")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        ({"classes": 0}, 0),
        ({"channels": -1}, -1),
        ({"size": 417}, 417),
        ({"size": (416, 10)}, 10),
        ({"size": 0}, 0),
    ],
)
def test_a_number_that_no_network_can_have_is_refused(arguments, number):
    with refused(CfgError, code="cfg", source="yolov4", found=number):
        networks.network("yolov4", **arguments)


def test_find_takes_a_network_a_name_a_path_and_a_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = networks.network("yolov4-tiny")
    path = tmp_path / "mine.cfg"
    path.write_text(tiny.to_cfg())
    assert networks.as_network(tiny) is tiny
    assert networks.as_network("yolov4_tiny") == tiny
    for source in (path, "mine.cfg", tiny.to_cfg()):
        network = networks.as_network(source)
        assert helpers.network_facts(network) == helpers.network_facts(tiny)
        assert network.name is None


def test_find_sets_the_classes(tmp_path):
    three = helpers.network_facts(networks.network("yolov4-tiny", classes=3))
    tiny = networks.network("yolov4-tiny")
    for source in (tiny, "yolov4-tiny", tiny.to_cfg()):
        assert helpers.network_facts(networks.as_network(source, classes=3)) == three


def test_find_prefers_a_file_to_a_stock_network_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yolov4").write_text("[net]\nwidth=4\nheight=4\nchannels=1\n")
    assert networks.as_network("yolov4").input_shape == (4, 4, 1)


def test_find_refuses_what_is_neither_a_file_nor_a_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused(CfgError):
        networks.as_network("yolov44")
    with pytest.raises(FileNotFoundError):
        networks.as_network("yolov44.cfg")


@pytest.mark.parametrize(
    "arguments",
    [
        {"classes": "coco.names"},
        {"classes": "80"},
        {"classes": ["cat", "dog"]},
        {"classes": 80.0},
        {"classes": True},
        {"channels": "3"},
        {"size": "608x352"},
        {"size": "608"},
        {"size": 416.0},
        {"size": 416.5},
        {"size": (416,)},
        {"size": (416, 416, 3)},
        {"size": ("416", "416")},
    ],
)
def test_argument_that_is_no_number_is_refused_with_the_right_call(arguments):
    with refused(TypeError):
        networks.network("yolov4", **arguments)


def test_numbers_of_numpy_are_numbers():
    network = networks.network("yolov4-tiny", classes=np.int64(3), size=np.int32(64))
    assert (network.classes, network.input_shape) == (3, (64, 64, 3))


def test_empty_name_is_refused():
    with refused(TypeError):
        networks.network(80)


def test_page_of_networks_names_every_network():
    text = (Path(__file__).parents[2] / "docs/networks.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|") and "yolov4-custom" in line]
    start = text.splitlines().index(rows[0])
    table = "\n".join(text.splitlines()[start : start + 6])
    listed = set(re.findall(r"[\w-]{4,}", table)) - {"version", "scaled", "classifiers"}
    # Two of the classifiers are another one's with another size.
    assert listed == {*networks.NAMES, *networks.CLASSIFIERS} - {"darknet19_448", "darknet53_448"}


def test_a_place_in_a_stock_network_cites_no_line():
    network = networks.network("yolov4-tiny")
    assert network.where(network.layers[29]) == "section 29 [convolutional] of yolov4-tiny"
    text = network.to_cfg()
    written = cfg.parse_cfg(text)
    line = text.split("\n").index("[yolo]") + 1
    assert written.where(written.layers[30]) == f"section 30 [yolo] (<cfg>:{line})"
