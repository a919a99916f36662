"""A cfg whose heads have different class counts is warned of, also where its own file matches."""

import pytest

import yolotf
from support import edited_cfgs, weights_files
from support.messages import refused, reported, said
from yolotf import errors
from yolotf.cli import commands as cli
from yolotf.darknet import cfg, stock
from yolotf.diagnosis import diagnose
from yolotf.weights import layout


@pytest.fixture(
    params=[("yolov4-tiny", 2, (1,)), ("yolov3-tiny", 7, (0,)), ("yolov7-tiny", 1, (2,))]
)
def pair(request, tmp_path):
    """The cfg with some heads edited, and its own file."""
    name, classes, chosen = request.param
    network = stock.network(name)
    sections = edited_cfgs.with_heads_of(network.with_classes(classes), network, chosen)
    path = tmp_path / "own.cfg"
    path.write_text(cfg.resolve(sections, source="own.cfg").to_cfg())
    edited = yolotf.parse_cfg(path)
    weights = weights_files.write_zeros(tmp_path / "a.weights", layout.size_bytes(edited))
    return path, edited, weights


@pytest.mark.slow
def test_cfg_diagnosis_and_load_warn(pair):
    _, edited, weights = pair
    (warning,) = edited.warnings
    for head in edited.heads:
        assert str(head.line_of("classes")) in warning
    said(warning)
    diagnosed = diagnose(weights, edited)
    assert diagnosed.ok
    assert warning in [listed.message for listed in diagnosed.warnings]
    report = yolotf.load_darknet_weights(yolotf.build_model(edited), weights)
    assert warning in report.warnings


@pytest.mark.filterwarnings("ignore:own.cfg")
def test_decoding_is_refused(pair, tmp_path, capsys):
    path, edited, weights = pair
    for make in (yolotf.Detector, yolotf.build_function):
        with refused(errors.UnsupportedSectionError, code="unsupported-section"):
            make(edited, weights)
    arguments = ["convert", weights, "--cfg", path, "-o", tmp_path / "x", "--decode"]
    assert cli.main([str(argument) for argument in arguments]) == 2
    said(reported(capsys.readouterr().err))
    assert not (tmp_path / "x").exists()


def test_equal_heads_are_not_warned_of():
    for name in ("yolov4-tiny", "yolov3", "yolov2"):
        assert not stock.network(name).warnings
