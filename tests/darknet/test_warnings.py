"""Warnings of what Darknet reads without complaint and computes differently than was meant."""

from __future__ import annotations

import pytest

import yolotf
from support import helpers
from support.messages import refused, said
from yolotf.darknet import cfg, stock
from yolotf.weights import layout

NET = "[net]\nwidth=416\nheight=416\nchannels=3\n"


def warnings(body: str, net: str = NET) -> tuple[str, ...]:
    return cfg.parse_text(net + body, source="some.cfg").warnings


def head(options: str, activation: str = "linear", filters: int = 6) -> str:
    before = f"[conv]\nfilters={filters}\nsize=1\nactivation={activation}\n"
    return f"{before}[yolo]\nclasses=1\n{options}\n"


@pytest.mark.parametrize(
    "body",
    [
        "[conv]\nfilters 24\nsize=1\n",
        "[conv]\nsize : 3\nsize=1\n",
        "[conv]\nfilters=24\npad=1\n",
        head("anchors=1.3,1.7", filters=6),
        head("num=5\nmask=4\nanchors=1.08,1.19,3.42,4.41,6.63,11.38,9.42,5.11,16.62,10.52"),
        head("num=2\nmask=1\nanchors=100,120,0,0"),
        head("anchors=100,100\nnew_coords=1"),
        head("anchors=100,100", "logistic"),
        "[conv]\nsize=3\npad=1\nstride=2\nactivation=linear\n"
        + head("num=2\nmask=0\nanchors=20,20,200,200")
        + "[route]\nlayers=0\n[maxpool]\nstride=2\n"
        + head("num=2\nmask=1\nanchors=20,20,10,10"),
    ],
)
def test_cfg_has_one_warning(body):
    (warning,) = warnings(body)
    said(warning)


@pytest.mark.parametrize("name", stock.NAMES)
def test_stock_networks_have_no_warnings(name):
    assert stock.network(name).warnings == ()


@pytest.mark.parametrize("path", helpers.cfg_params(lambda: sorted(helpers.SHARED.glob("cfg/*"))))
def test_darknets_own_cfgs_have_only_true_warnings(path):
    if path.suffix != ".cfg":
        pytest.skip("no cfg")
    # The anchors of cspx-p7-mish_hp.cfg really are unsorted; two lack a comma between them.
    for warning in cfg.parse_cfg(path).warnings:
        said(warning)


@pytest.mark.parametrize(
    "body",
    [
        "[conv]\nactivation=silu\n",
        "[conv]\nactivation=Leaky\n",
        "[conv]\nactivation=relu10\n",
        "[prelu]\n",
        "[yolo4]\n",
        "[zzzz]\n",
    ],
)
def test_an_error_says_what_darknet_would_do(body):
    with refused(yolotf.CfgError, code="cfg"):
        warnings(body)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("yolov4", (720, 1280)),
        ("yolov3", (416, 400)),
        ("yolov4-tiny", 400),
        ("yolov2", (400, 416)),
    ],
)
def test_size_that_the_stride_does_not_divide_is_refused_with_the_nearest(name, size):
    text = stock.network(name).to_cfg()
    with refused(yolotf.CfgError, code="cfg"):
        cfg.parse_cfg(text, size=size)


def test_size_in_the_text_is_refused_with_its_line():
    text = stock.network("yolov4").to_cfg()
    line = text[: text.index("height=")].count("\n") + 1
    text = text.replace("height=608", "height=720")
    with refused(yolotf.CfgError, code="cfg") as caught:
        cfg.parse_text(text, source="a.cfg")
    assert f"line {line} " in str(caught.value)


@pytest.mark.parametrize("size", [400, 40])
def test_size_that_darknet_accepts_is_warned_of(size):
    """Where no layers of different strides are joined, the last cells reach over the edge."""
    text = stock.network("yolov2-tiny").to_cfg()
    line = text[: text.index("width=")].count("\n") + 1
    network = cfg.parse_text(text.replace("width=416", f"width={size}"), source="a.cfg")
    (warning,) = network.warnings
    assert warning.startswith(f"a.cfg:{line}: ")
    said(warning)
    assert cfg.parse_text(text, source="a.cfg").warnings == ()


# print(network).


def test_a_network_prints_as_darknets_table():
    network = cfg.parse_text(
        "[net]\nwidth=16\nheight=8\nchannels=3\n"
        "[conv]\nfilters=32\nsize=3\nstride=2\npad=1\n"
        "[maxpool]\nsize=2\nstride=2\n[upsample]\n[route]\nlayers=-1,0\n[connected]\noutput=7\n",
        source="some.cfg",
    )
    assert str(network) == (
        "layer  type           filters  size / stride              input               output  "
        "BFLOPs\n"
        "    0  convolutional       32  3 x 3 / 2        16 x   8 x    3 ->    8 x   4 x   32   "
        "0.000\n"
        "    1  maxpool                 2 x 2 / 2         8 x   4 x   32 ->    4 x   2 x   32\n"
        "    2  upsample                2x                4 x   2 x   32 ->    8 x   4 x   32\n"
        "    3  route                   2, 0              8 x   4 x   32 ->    8 x   4 x   64\n"
        "    4  connected            7                    8 x   4 x   64 ->    1 x   1 x    7   "
        "0.000\n"
        "0.000 BFLOPs"
    )
    assert repr(network) == "<Network some.cfg: 5 layers, 16x8x3>"


def test_operations_are_two_a_kernel_value_and_position():
    network = stock.network("yolov4", size=416)
    expected = 0
    for segment in layout.segments(network):
        if segment.role == "kernel":
            rows, columns, _ = network.layers[segment.layer].output_shape
            expected += 2 * segment.count * rows * columns
    assert str(network).split()[-2:] == [f"{expected / 1e9:.3f}", "BFLOPs"]
    assert repr(stock.network("yolov4", classes=1)).endswith(", 1 class>")


REORG = "[conv]\nfilters=16\nsize=3\npad=1\n[{}]\nstride=2\n"


def test_reorg_old_is_todays_reorg_and_is_warned_of():
    old = cfg.parse_text(NET + REORG.format("reorg_old"), source="some.cfg")
    new = cfg.parse_text(NET + REORG.format("reorg"), source="some.cfg")
    assert [layer.type for layer in old.layers] == ["convolutional", "reorg"]
    assert old.layers[1].output_shape == new.layers[1].output_shape
    assert old.to_cfg() == new.to_cfg()
    (warning,) = old.warnings
    said(warning)
    assert not new.warnings


def test_reorg_beside_reorg_old_is_todays_reorg3d():
    body = REORG.format("reorg") + REORG.format("reorg_old")
    network = cfg.parse_text(NET + body, source="some.cfg")
    assert [layer.type for layer in network.layers][1::2] == ["reorg3d", "reorg"]
    assert len(network.warnings) == 2
    for warning in network.warnings:
        said(warning)
    again = cfg.parse_text(network.to_cfg(), source="some.cfg")
    assert [layer.type for layer in again.layers] == [layer.type for layer in network.layers]
    assert not again.warnings


def test_reorg_old_of_a_changed_network_stays_reorg():
    network = cfg.parse_text(NET + REORG.format("reorg_old"), source="some.cfg")
    assert network.resized(208).layers[1].type == "reorg"
    assert len(network.resized(208).warnings) == 1
