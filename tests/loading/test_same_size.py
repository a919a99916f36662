"""A file that several networks could have written is warned of where it is loaded."""

from __future__ import annotations

import warnings

import pytest

import yolotf
from support import helpers
from support.messages import warned


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
def test_a_name_with_own_classes_names_the_other_and_what_differs(name, other, loaded):
    network = yolotf.network(name, classes=1, size=64)
    report, path = loaded(network)
    (warning,) = [text for text in report.warnings if "the same size as" in text]
    assert f"a file of {name}, 1 class, has the same size as one of {other} (" in warning
    assert ", which decodes to different boxes" in warning
    assert "mask" in warning
    assert "use the cfg file it was trained with" in warning
    with warned(UserWarning):
        yolotf.Detector(network, path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov4-tiny", "yolov4-tiny-custom"])
def test_who_passes_the_cfg_is_not_asked_for_it(name, loaded):
    network = yolotf.parse_cfg(yolotf.network(name, classes=1, size=64).to_cfg())
    report, path = loaded(network)
    assert report.warnings == ()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yolotf.Detector(network, path)


def test_the_published_class_count_is_not_doubted(loaded):
    report, _ = loaded(yolotf.network("yolov4-tiny", size=64))
    assert report.warnings == ()
