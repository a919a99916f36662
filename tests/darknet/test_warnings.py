"""What Darknet reads without a word and computes otherwise than was meant: said, with its line."""

from __future__ import annotations

import pytest

import yolotf
from support import helpers
from yolotf.darknet import cfg, stock
from yolotf.weights import layout

NET = "[net]\nwidth=416\nheight=416\nchannels=3\n"


EMPTY_LAYER = "AlexeyAB's Darknet would put an empty layer there, hank-ai's refuses it"
RELU = "AlexeyAB's Darknet would use relu in its place, hank-ai's refuses it"


def warnings(body: str, net: str = NET) -> tuple[str, ...]:
    return cfg.parse_text(net + body, source="some.cfg").warnings


def head(options: str, activation: str = "linear", filters: int = 6) -> str:
    before = f"[conv]\nfilters={filters}\nsize=1\nactivation={activation}\n"
    return f"{before}[yolo]\nclasses=1\n{options}\n"


@pytest.mark.parametrize(
    ("body", "warning"),
    [
        (
            "[conv]\nfilters 24\nsize=1\n",
            "some.cfg:6: ignored, not key=value: 'filters 24'; write filters=24",
        ),
        (
            "[conv]\nsize : 3\nsize=1\n",
            "some.cfg:6: ignored, not key=value: 'size : 3'; write size=3",
        ),
        ("[conv]\nfilters=24\npad=1\n", "some.cfg:5: size= is missing, so the kernel is 1x1"),
        (
            head("anchors=1.3,1.7", filters=6),
            "some.cfg:11: anchors= has nothing above 1.7 pixels; if they are in grid cells, as in "
            "[region], multiply them by the stride",
        ),
        (
            head("num=5\nmask=4\nanchors=1.08,1.19,3.42,4.41,6.63,11.38,9.42,5.11,16.62,10.52"),
            "some.cfg:13: anchors= has nothing above 16.62 pixels; if they are in grid cells, as "
            "in [region], multiply them by the stride",
        ),
        (
            head("num=2\nmask=1\nanchors=100,120,0,0"),
            "some.cfg:13: an anchor of 0x0 pixels; its boxes have no extent",
        ),
        (
            head("anchors=100,100\nnew_coords=1"),
            "some.cfg:12: new_coords=1 needs activation=logistic in the convolution before, line 8 "
            "has linear; both Darknets decode values that are not probabilities",
        ),
        (
            head("anchors=100,100", "logistic"),
            "some.cfg:8: activation=logistic before a head without new_coords=1, which takes the "
            "sigmoid itself; use linear",
        ),
        (
            "[conv]\nsize=3\npad=1\nstride=2\nactivation=linear\n"
            + head("num=2\nmask=0\nanchors=20,20,200,200")
            + "[route]\nlayers=0\n[maxpool]\nstride=2\n"
            + head("num=2\nmask=1\nanchors=20,20,10,10"),
            "some.cfg:17: mask= gives the head of stride 2 larger anchors than that of stride 4; "
            "sort anchors= or change mask=",
        ),
    ],
)
def test_one_warning_with_its_line(body, warning):
    assert warning in warnings(body)
    assert len(warnings(body)) == 1


@pytest.mark.parametrize("name", stock.NAMES)
def test_stock_networks_have_no_warnings(name):
    assert stock.network(name).warnings == ()


@pytest.mark.parametrize("path", helpers.cfg_params(lambda: sorted(helpers.SHARED.glob("cfg/*"))))
def test_darknets_own_cfgs_have_only_true_warnings(path):
    if path.suffix != ".cfg":
        pytest.skip("no cfg")
    found = cfg.parse_cfg(path).warnings
    kinds = ("ignored,", "differ in size", "mask=19 but num=16", "anchors= holds 31 numbers")
    # The one cfg whose anchors really are unsorted; two of them lack a comma between them.
    unsorted = ("stride 16 larger", "drops blanks") if path.name == "cspx-p7-mish_hp.cfg" else ()
    allowed = (*kinds, *unsorted)
    assert [text for text in found if not any(kind in text for kind in allowed)] == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "[conv]\nactivation=silu\n",
            f"some.cfg: unknown activation=silu; [conv] in line 6; {RELU}; Darknet calls it swish",
        ),
        (
            "[conv]\nactivation=Leaky\n",
            f"some.cfg: unknown activation=Leaky; [conv] in line 6; {RELU}; Darknet calls it leaky",
        ),
        (
            "[conv]\nactivation=relu10\n",
            f"some.cfg: unknown activation=relu10; [conv] in line 6; {RELU}",
        ),
        (
            "[prelu]\n",
            f"some.cfg: unknown section [prelu]; line 5; {EMPTY_LAYER}; only a fork of Darknet has "
            "it",
        ),
        (
            "[yolo4]\n",
            f"some.cfg: unknown section [yolo4]; line 5; {EMPTY_LAYER}; "
            "only a fork of Darknet has it, which also reads other options in [yolo]",
        ),
        (
            "[zzzz]\n",
            f"some.cfg: unknown section [zzzz]; line 5; {EMPTY_LAYER}",
        ),
    ],
)
def test_an_error_says_what_darknet_would_do(body, message):
    with pytest.raises(yolotf.CfgError) as caught:
        warnings(body)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "size", "hint"),
    [
        ("yolov4", (720, 1280), "height=720 is not a multiple of 32: set 704 or 736"),
        ("yolov3", (416, 400), "width=400 is not a multiple of 32: set 384 or 416"),
        ("yolov4-tiny", 400, "height=400 is not a multiple of 32: set 384 or 416"),
        ("yolov2", (400, 416), "height=400 is not a multiple of 32: set 384 or 416"),
    ],
)
def test_a_size_that_the_stride_does_not_divide_names_the_nearest(name, size, hint):
    text = stock.network(name).to_cfg()
    with pytest.raises(yolotf.CfgError) as caught:
        cfg.parse_cfg(text, size=size)
    assert hint in str(caught.value)


def test_a_size_in_the_text_is_named_with_its_line():
    text = stock.network("yolov4").to_cfg()
    line = text[: text.index("height=")].count("\n") + 1
    text = text.replace("height=608", "height=720")
    with pytest.raises(yolotf.CfgError) as caught:
        cfg.parse_text(text, source="a.cfg")
    assert f"; height=720 in line {line} is not a multiple of 32: set 704 or 736" in str(
        caught.value
    )


@pytest.mark.parametrize(("size", "nearest"), [(400, "384 or 416"), (40, "32 or 64")])
def test_a_size_that_darknet_computes_all_the_same_is_warned_of(size, nearest):
    """A network that joins no layers of different strides has a cell that hangs over."""
    text = stock.network("yolov2-tiny").to_cfg()
    line = text[: text.index("width=")].count("\n") + 1
    network = cfg.parse_text(text.replace("width=416", f"width={size}"), source="a.cfg")
    assert network.warnings == (
        f"a.cfg:{line}: width={size} is not a multiple of 32; AlexeyAB's Darknet accepts it, "
        "with cells that do not cover the image evenly, and trains with multiples; hank-ai's takes "
        f"multiples of 32 only; set {nearest}",
    )
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
    assert old.warnings == (
        "some.cfg:9: [reorg_old] is read as [reorg], as Darknet meant it from 2018-03-03 to "
        "2019-05-20, when it had [reorg_old]; write [reorg]",
    )
    assert not new.warnings


def test_reorg_beside_reorg_old_is_todays_reorg3d():
    body = REORG.format("reorg") + REORG.format("reorg_old")
    network = cfg.parse_text(NET + body, source="some.cfg")
    assert [layer.type for layer in network.layers][1::2] == ["reorg3d", "reorg"]
    assert len(network.warnings) == 2
    assert "[reorg] is read as [reorg3d]" in network.warnings[0]
    again = cfg.parse_text(network.to_cfg(), source="some.cfg")
    assert [layer.type for layer in again.layers] == [layer.type for layer in network.layers]
    assert not again.warnings


def test_reorg_old_of_a_changed_network_stays_reorg():
    network = cfg.parse_text(NET + REORG.format("reorg_old"), source="some.cfg")
    assert network.resized(208).layers[1].type == "reorg"
    assert len(network.resized(208).warnings) == 1
