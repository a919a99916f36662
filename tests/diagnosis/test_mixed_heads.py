"""A cfg whose heads have different class counts: said everywhere, also where its own file fits."""

import pytest

import yolotf
from support import weights_files
from support.messages import refused
from yolotf import errors
from yolotf.cli import commands as cli
from yolotf.darknet import cfg, stock
from yolotf.diagnosis import result
from yolotf.weights import layout


@pytest.fixture(
    params=[("yolov4-tiny", 2, (1,)), ("yolov3-tiny", 7, (0,)), ("yolov7-tiny", 1, (2,))]
)
def pair(request, tmp_path):
    """The cfg with some heads edited, and its own file."""
    name, classes, chosen = request.param
    network = stock.network(name)
    whole = network.with_classes(classes)
    sections = list(network.sections)
    for place in chosen:
        head = network.heads[place].index
        for index in (head, head - 1):
            sections[index + 1] = whole.sections[index + 1]
    path = tmp_path / "own.cfg"
    path.write_text(cfg.resolve(sections, source="own.cfg").to_cfg())
    edited = yolotf.parse_cfg(path)
    weights = weights_files.write_zeros(tmp_path / "a.weights", layout.size_bytes(edited))
    return path, edited, weights


def sentence(edited):
    counts = [head.classes for head in edited.heads]
    lines = ", ".join(str(head.line_of("classes")) for head in edited.heads)
    listed = f"{', '.join(map(str, counts[:-1]))} and {counts[-1]}"
    return f"the heads have {listed} classes (lines {lines})"


@pytest.mark.slow
def test_the_cfg_its_check_and_a_load_warn(pair):
    _, edited, weights = pair
    assert any(sentence(edited) in one for one in edited.warnings)
    found = result.diagnose(weights, edited)
    assert found.ok
    assert any(sentence(edited) in one.message for one in found.warnings)
    report = yolotf.load_darknet_weights(yolotf.build_model(edited), weights)
    assert any(sentence(edited) in one for one in report.warnings)


@pytest.mark.filterwarnings("ignore:own.cfg.*the heads have")
def test_what_decodes_refuses(pair, tmp_path, capsys):
    path, edited, weights = pair
    for make in (yolotf.Detector, yolotf.build_function):
        with refused(errors.UnsupportedSectionError):
            make(edited, weights)
    arguments = ["convert", weights, "--cfg", path, "-o", tmp_path / "x", "--decode"]
    assert cli.main([str(one) for one in arguments]) == 2
    assert "the heads have" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_equal_heads_are_not_warned_of():
    for name in ("yolov4-tiny", "yolov3", "yolov2"):
        assert not any("the heads have" in one for one in stock.network(name).warnings)
