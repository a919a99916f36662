"""Loads warn of a file that several networks could have written."""

from __future__ import annotations

import warnings

import pytest

import yolotf
from support import helpers
from support.messages import said, warned


@pytest.fixture
def loaded(tmp_path):
    def load(network):
        path = tmp_path / "f.weights"
        helpers.write_weights(path, network, scale=0.05)
        return yolotf.load_darknet_weights(yolotf.build_model(network), path), path

    return load


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "other"),
    [("yolov4-tiny", "yolov4-tiny-custom"), ("yolov4-tiny-custom", "yolov4-tiny")],
)
def test_name_with_other_classes_is_warned_of(name, other, loaded):
    network = yolotf.network(name, classes=1, size=64)
    report, path = loaded(network)
    for warning in report.warnings:
        said(warning)
    assert any(other in warning and "mask" in warning for warning in report.warnings)
    with warned(UserWarning):
        yolotf.Detector(network, path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov4-tiny", "yolov4-tiny-custom"])
def test_load_with_a_cfg_is_not_warned_of(name, loaded):
    network = yolotf.parse_cfg(yolotf.network(name, classes=1, size=64).to_cfg())
    report, path = loaded(network)
    assert report.warnings == ()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yolotf.Detector(network, path)


def test_published_class_count_is_not_warned_of(loaded):
    report, _ = loaded(yolotf.network("yolov4-tiny", size=64))
    assert report.warnings == ()
