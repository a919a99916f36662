"""Diagnoses beyond the size: dead channels, networks of equal size, lines that skip floats."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_diagnosis import SMALL, kinds, trained

from support import weights_files
from support.cfgs import maxpool, net, normalized, section
from support.messages import said
from support.weights_files import write_zeros
from yolotf import diagnosis
from yolotf.darknet import cfg
from yolotf.darknet import stock as networks
from yolotf.diagnosis import render
from yolotf.errors import YolotfError
from yolotf.weights import layout, same_size

DEPTHWISE = SMALL.replace(
    "[maxpool]",
    f"{normalized(8, 3, groups=8)}\n[maxpool]",
)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pattern", [0x80000032, 0x80000001, 0x807FFFFF])
def test_dead_channels_with_negative_subnormal_variances_fit(pattern: int, tmp_path: Path) -> None:
    network = cfg.parse_text(DEPTHWISE, source="depthwise.cfg")
    floats = np.frombuffer(trained(network)[20:], "<u4").copy()
    for segment in layout.segments(network):
        start = segment.offset // 4
        if segment.role == "moving_variance":
            floats[start : start + 4] = pattern
        if segment.role == "gamma":
            floats[start : start + 4] = 0
    path = write(tmp_path / "dead.weights", trained(network)[:20] + floats.tobytes())
    result = diagnosis.diagnose(path, network)
    assert result.ok, result.causes
    assert result.warnings == ()


@pytest.mark.parametrize("rest", [1, 2, 3])
def test_inspect_reports_a_broken_float_as_damage(rest: int, tmp_path: Path) -> None:
    network = cfg.parse_text(SMALL, source="small.cfg")
    path = write(tmp_path / "cut.weights", trained(network)[: rest - 4])
    inspection = diagnosis.inspect(path)
    assert inspection.detected == "damaged"
    assert inspection.hint in str(inspection)
    said(inspection.hint)


def test_networks_that_decode_the_same_floats_differently_are_listed(tmp_path: Path) -> None:
    network = networks.network("yolov4-tiny", classes=1)
    path = write(tmp_path / "tiny.weights", trained(network))
    result = diagnosis.diagnose(path, network)
    assert result.ok
    (warning,) = result.warnings
    assert warning.kind == "same_size_networks"
    assert warning.networks == ("yolov4-tiny-custom",)
    assert warning["differing"] == ["mask", "anchors"]
    said(warning.message)


@pytest.mark.parametrize("classes", [1, 80])
def test_every_network_of_the_size_is_listed_with_what_differs(
    classes: int, tmp_path: Path
) -> None:
    network = networks.network("yolov4-tiny", classes=classes)
    path = write_zeros(tmp_path / "f.weights", layout.size_bytes(network))
    inspected = dict(diagnosis.inspect(path).document().facts)
    said(inspected["is"])
    said(inspected["or"])
    result = diagnosis.diagnose(path, network)
    said(dict(result.document().facts)["same size as"])
    mine, custom = result.to_dict()["matches"]
    assert "decodes_otherwise" not in mine
    assert [difference["key"] for difference in custom["decodes_otherwise"]] == ["mask", "anchors"]
    assert custom["decodes_otherwise"][0] == {
        "key": "mask",
        "here": "3,4,5 / 1,2,3",
        "there": "3,4,5 / 0,1,2",
    }


@pytest.mark.slow
def test_stock_network_is_likelier_than_one_with_other_classes(tmp_path: Path) -> None:
    size = layout.size_bytes(networks.network("yolov3", classes=14))
    path = write_zeros(tmp_path / "f.weights", size)
    first, second, *_ = diagnosis.inspect(path).to_dict()["matches"]
    assert (first["architecture"], first["classes"]) == ("Gaussian_yolov3_BDD", 10)
    assert (second["architecture"], second["classes"]) == ("yolov3", 14)
    said(dict(diagnosis.inspect(path).document().facts)["or"])


@pytest.mark.slow
@pytest.mark.parametrize("classes", [80, 7])
def test_heads_unlike_the_stock_networks_are_warned_of(classes: int, tmp_path: Path) -> None:
    """Cfgs of yolov4-csp without new_coords are in use; with them its files give other boxes."""
    text = networks.network("yolov4-csp", classes=classes, size=64).to_cfg()
    text = text.replace("new_coords=1\n", "").replace("activation=logistic", "activation=linear")
    network = cfg.parse_text(text, source="csp.cfg")
    (warning,) = same_size.stock_warnings(network)
    assert f"csp.cfg:{network.heads[0].line}, " in warning
    said(warning)
    path = write_zeros(tmp_path / "f.weights", layout.size_bytes(network))
    (size_warning, *_) = [
        candidate
        for candidate in diagnosis.diagnose(path, network).warnings
        if candidate.kind != "unverified"
    ]
    assert size_warning.kind == "same_size_networks"
    assert "new_coords" in size_warning["differing"]


def test_heads_like_the_stock_networks_are_not_warned_of() -> None:
    for name in ("yolov4-csp", "yolov4", "yolov3", "yolov7-tiny"):
        network = cfg.parse_text(networks.network(name, classes=3).to_cfg(), source="own.cfg")
        assert same_size.stock_warnings(network) == ()


@pytest.mark.parametrize("name", ["yolov4-tiny", "yolov4", "yolov3", "yolov3-tiny"])
def test_published_files_are_not_doubted(name: str) -> None:
    assert same_size.same_size_networks(networks.network(name)) == []


def test_gaussian_heads_of_ten_classes_are_as_large_as_fourteen(tmp_path: Path) -> None:
    """Three anchors of 8 + 1 + 10 numbers are as many as three of 4 + 1 + 14."""
    size = layout.size_bytes(networks.network("yolov3", classes=14))
    result = diagnosis.diagnose(write_zeros(tmp_path / "f.weights", size), "yolov3")
    assert kinds(result) == ["class_count"]
    said(result.causes[0].message)


def test_missing_size_is_likelier_than_27_channels(tmp_path: Path) -> None:
    network = cfg.parse_text(SMALL, source="small.cfg")
    path = write(tmp_path / "f.weights", trained(network))
    without = cfg.parse_text(SMALL.replace("size=3\n", "", 1), source="without.cfg")
    result = diagnosis.diagnose(path, without)
    (cause,) = result.causes
    assert (cause.kind, cause.layer) == ("layer_shape", 0)
    assert cause.text in str(result)
    said(cause.text)


@pytest.mark.parametrize(
    ("section", "line", "key"),
    [
        (0, "filters=8", "dontload"),
        (2, "filters=16", "dontload"),
        (3, "filters=12", "dontload"),
        (0, "filters=8", "dontloadscales"),
        (4, "filters=21", "dontload"),
    ],
)
def test_a_line_that_skips_floats_is_the_cause(
    section: int, line: str, key: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "f.weights", trained(cfg.parse_text(SMALL, source="small.cfg")))
    skipping = cfg.parse_text(SMALL.replace(line, f"{line}\n{key}=1"), source="skips.cfg")
    result = diagnosis.diagnose(path, skipping)
    assert kinds(result) == ["layer_shape"]
    where = skipping.layers[section].line_of(key)
    fix = result.causes[0].fix
    assert f"skips.cfg:{where}" in fix
    said(fix)


def test_heads_that_load_nothing_are_diagnosed(tmp_path: Path) -> None:
    network = cfg.parse_text(SMALL.replace("filters=21", "filters=21\ndontload=1"), source="d.cfg")
    for size in (20, 1000, 9000, 20000):
        path = write_zeros(tmp_path / "f.weights", size)
        assert diagnosis.diagnose(path, network).causes


def lenet(**options: int) -> cfg.Network:
    """LeNet, its convolution with `options`."""
    text = (
        net(28, channels=1)
        + section("convolutional", filters=6, size=5, activation="relu", **options)
        + maxpool(2)
        + section("connected", output=84, activation="relu")
        + section("connected", output=10, activation="linear")
    )
    return cfg.parse_text(text, source="lenet.cfg")


def test_other_cfg_version_is_likelier_than_a_broken_download(tmp_path: Path) -> None:
    padded = lenet(pad=1)
    bare = lenet(pad=0)
    path = write(tmp_path / "lenet.weights", trained(bare))
    result = diagnosis.diagnose(path, padded)
    (cause,) = result.causes
    assert cause.kind == "layer_shape"
    said(cause.message)
    assert "download" not in (cause.fix or "")


def test_diagnosis_of_a_stock_network_cites_no_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "f.weights", trained(networks.network("yolov4-tiny", classes=3)))
    result = diagnosis.diagnose(path, "yolov4-tiny")
    assert not re.search(r"yolov4-tiny:\d", str(result))
    assert result.first_divergence is not None
    assert result.first_divergence.cfg_line is None


def test_control_characters_are_escaped(tmp_path: Path) -> None:
    network = cfg.parse_text(SMALL, source="a\x1b[31mb.cfg")
    path = write(tmp_path / "c\x1b]0;d\x07.weights", trained(network)[:500])
    result = diagnosis.diagnose(path, network)
    for text in (str(result), str(diagnosis.inspect(path)), result.to_html()):
        assert "\x1b" not in text
        assert "\x07" not in text
    assert r"a\x1b[31mb.cfg" in str(result)


class Terminal(io.StringIO):
    """A stream that says it is one."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_tables_fit_a_terminal_of_any_width(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    network = networks.network("yolov4-tiny", classes=3)
    path = write(tmp_path / "f.weights", trained(network))
    inspection = diagnosis.inspect(path, network)
    misfit = diagnosis.diagnose(path, "yolov4-tiny")
    for subject, rows in ((inspection, len(layout.segments(network))), (misfit, None)):
        out = Terminal()
        render.show(subject, out)
        lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).split("\n")
        assert max(map(len, lines)) <= columns
        assert not any("\u2026" in line for line in lines)
        table = [line for line in lines[lines.index("", 1) + 1 :] if line.strip()]
        if rows is not None:
            assert len(table) == rows + 1
            assert {"layer", "array", "shape", "minimum"} <= set(table[0].split())
        else:
            assert "diverges here" in table[3]


def test_mutated_lines_of_a_cfg_give_a_diagnosis(shared: Path, tmp_path: Path) -> None:
    """Any line deleted, doubled or changed: an answer, or an error that says why not."""
    rng = np.random.default_rng(5)
    path = write_zeros(tmp_path / "f.weights", 24_251_276)
    for name in ("yolov4-tiny.cfg", "yolov3-tiny.cfg", "tiny.cfg", "yolov2-tiny-voc.cfg"):
        lines = (shared / "cfg" / name).read_text("utf-8").splitlines()
        for number in rng.choice(len(lines), 12, replace=False):
            for changed in (
                [],
                [lines[number]] * 2,
                [lines[number] + "0"],
                [lines[number].replace("=", "=-")],
                [lines[number], "dontload=1"],
            ):
                text = "\n".join([*lines[:number], *changed, *lines[number + 1 :]])
                try:
                    str(diagnosis.diagnose(path, cfg.parse_text(text, source=name)))
                except YolotfError:
                    continue


def test_header_alone_matches_a_network_without_weights(tmp_path: Path) -> None:
    network: Any = cfg.parse_cfg("[net]\nheight=8\nwidth=8\nchannels=3\n[maxpool]\nsize=2\n")
    path = write(tmp_path / "f.weights", weights_files.HEADER)
    assert diagnosis.diagnose(path, network).ok
