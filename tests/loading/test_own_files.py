"""Files of a size that several networks share: a warning only where their network is unknown."""

import os
import shutil

import pytest

import yolotf
from support.messages import said, warned


@pytest.fixture(scope="module")
def three():
    """yolov4-tiny with 3 classes: its files have the size of yolov4-tiny-custom's."""
    network = yolotf.network("yolov4-tiny", classes=3)
    return network, yolotf.build_model(network)


def test_file_saved_here_is_not_warned_of_until_it_is_changed(three, tmp_path):
    network, model = three
    path = tmp_path / "three.weights"
    yolotf.save_darknet_weights(model, path)
    assert yolotf.load_darknet_weights(model, path).warnings == ()
    assert yolotf.diagnose(path, network).warnings == ()
    assert yolotf.Detector(network, path).class_names == ()  # warnings are errors here
    custom = yolotf.network("yolov4-tiny-custom", classes=3)
    assert "yolov4-tiny" in yolotf.diagnose(path, custom).warnings[0].networks

    shutil.copyfile(path, tmp_path / "copy.weights")
    (doubt,) = yolotf.load_darknet_weights(model, tmp_path / "copy.weights").warnings
    assert "yolov4-tiny-custom" in doubt
    with warned(UserWarning):
        yolotf.Detector(network, tmp_path / "copy.weights")
    os.utime(path, ns=(0, 0))
    assert yolotf.load_darknet_weights(model, path).warnings
    assert yolotf.diagnose(path, network).warnings


def test_backbone_is_not_warned_of(three, tmp_path):
    _, model = three
    path = tmp_path / "yolov4-tiny.conv.29"
    yolotf.save_darknet_weights(model, path, upto=29)
    (ends,) = yolotf.load_darknet_weights(model, path).warnings
    said(ends)


def test_official_file_is_not_warned_of(official_tiny):
    network = yolotf.network("yolov4-tiny")
    model = yolotf.build_model(network)
    assert yolotf.load_darknet_weights(model, official_tiny.weights).warnings == ()
    assert yolotf.diagnose(official_tiny.weights, network).warnings == ()
