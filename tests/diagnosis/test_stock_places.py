"""Users do not have the text of a stock network, so no sentence about one cites its lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import yolotf
from support import edited_cfgs, messages
from yolotf.darknet import cfg, decoding, stock
from yolotf.diagnosis import diagnose

pytestmark = pytest.mark.slow

_LINE = re.compile(r"[A-Za-z][\w.\-]*:\d+|\blines? \d+")
ALL = (*stock.NAMES, *stock.CLASSIFIERS)


def assert_without_lines(text: str) -> None:
    assert not _LINE.search(text), text


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"classes": 2**31}, 50),
        ({"classes": 10**9}, 0),
        ({"size": 2**31}, 50),
        ({"size": 2**25}, 0),
        ({"size": 32}, 2),
        ({"channels": 2**31}, 50),
        ({"channels": 2**30, "size": 64}, 0),
    ],
    ids=str,
)
def test_refused_options_of_stock_networks_cite_no_lines(
    options: dict[str, Any], least: int
) -> None:
    refused = [name for name in ALL if is_refused(name, options)]
    assert len(refused) >= least


def is_refused(name: str, options: dict[str, Any]) -> bool:
    try:
        network = stock.network(name, **options)
    except yolotf.CfgError as caught:
        error = caught
    else:
        assert_without_lines("\n".join(network.warnings))
        return False
    assert_without_lines(str(error))
    assert error.facts.get("line") is None
    assert str(error).startswith(f"{name}: ")
    return True


@pytest.mark.parametrize("name", ALL)
def test_printed_networks_and_warnings_cite_no_lines(name: str) -> None:
    network = stock.network(name)
    assert_without_lines("\n".join(network.warnings))
    assert_without_lines(str(network))
    for layer in network.layers:
        assert_without_lines(network.where(layer))


def test_heads_of_several_class_counts_name_their_sections() -> None:
    network = stock.network("yolov4-tiny")
    sections = list(network.sections)
    sections[-1] = sections[-1].with_option("classes", 2)
    sections[-2] = sections[-2].with_option("filters", 21)
    edited = cfg.resolve(sections, source=network.source, name=network.name)
    (warning,) = edited.warnings
    messages.said(warning)
    assert_without_lines(warning)
    with messages.refused(yolotf.UnsupportedSectionError) as refused:
        decoding.check_heads(edited)
    assert_without_lines(str(refused.value))


@pytest.mark.parametrize("name", ["yolov3-tiny-prn", "yolov4-tiny", "darknet"])
def test_diagnoses_of_every_kind_of_edit_cite_no_lines(name: str, tmp_path: Path) -> None:
    network = stock.network(name)
    text = cfg.parse_text(network.to_cfg(), source=f"{name}.cfg")
    path = tmp_path / "a.weights"
    for case in edited_cfgs.cases(text, 1, seed=5):
        edited_cfgs.trained_file(case.network, path)
        diagnosed = diagnose(path, network)
        assert_without_lines(diagnosed.summary().removeprefix(f"{path}: "))
        assert_without_lines(str(diagnosed).replace(str(path), ""))
        assert all(cause.to_dict().get("cfg_line") is None for cause in diagnosed.causes)


@pytest.mark.parametrize(
    ("other", "options"),
    [("yolov3-tiny", {}), ("yolov4-tiny", {"classes": 3}), ("yolov4-tiny-3l", {})],
)
def test_refused_loads_cite_no_lines(other: str, options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    edited_cfgs.trained_file(stock.network(other, **options), path)
    model = yolotf.build_model(stock.network("yolov4-tiny", size=64))
    for more in ({}, {"cfg": "yolov3-tiny-prn"}, {"by_name": True}):
        with pytest.raises(yolotf.WeightsMismatch) as refused:
            yolotf.load_darknet_weights(model, path, **more)
        assert_without_lines(str(refused.value).replace(str(path), ""))
