"""The examples do what they say."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import yolotf

EXAMPLES = Path(__file__).parents[1] / "examples"
FINETUNE = EXAMPLES / "finetune.py"


@pytest.fixture
def finetune():
    spec = importlib.util.spec_from_file_location("finetune", FINETUNE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_finetune_learns_and_opencv_reads_what_it_wrote(
    finetune, official_tiny, tmp_path, monkeypatch, capsys
):
    arguments = ["--steps", "21", "--folder", tmp_path, "--weights", official_tiny.weights]
    monkeypatch.setattr(sys, "argv", ["finetune.py", *map(str, arguments)])
    finetune.main()
    printed = capsys.readouterr().out
    losses = [float(value) for value in re.findall(r"loss +([\d.]+)", printed)]
    assert losses[-1] < losses[0] / 4
    assert "conv_29: the file has (1, 1, 512, 255), the model (1, 1, 512, 21)" in printed
    assert "loaded 19 layers" in printed

    cfg, weights = tmp_path / "shapes.cfg", tmp_path / "shapes.weights"
    network = yolotf.parse_cfg(cfg)
    model = yolotf.build_model(network)
    assert yolotf.load_darknet_weights(model, weights).header.seen == 8 * 21
    picture, _ = finetune.draw(np.random.default_rng(0))
    net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    net.setInput(picture.transpose(2, 0, 1)[None])
    theirs = net.forward(["conv_29", "conv_36"])
    for ours, other in zip(model(picture[None]), theirs, strict=True):
        other = other.transpose(0, 2, 3, 1)
        # OpenCV's epsilon is another one, see test_opencv_heads.
        np.testing.assert_allclose(ours, other, atol=1e-2 * np.abs(other).max())


def test_finetune_says_where_its_file_is_from(finetune, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["finetune.py"])
    with pytest.raises(SystemExit):
        finetune.main()
    assert "demo-output/yolov4-tiny.weights is not there; `yolotf demo`" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_take_public_names_only(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("yolotf."), f"line {node.lineno}"
        elif isinstance(node, ast.Import):
            assert not [one for one in node.names if one.name.startswith("yolotf.")]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "yolotf":
            assert node.attr in yolotf.__all__, f"line {node.lineno}: {node.attr}"


def test_targets_put_each_shape_into_its_cell(finetune):
    network = yolotf.network("yolov4-tiny", classes=2, size=finetune.SIZE)
    coarse, fine = finetune.targets([[1, 0.55, 0.25, 0.1, 0.1]], network)
    assert (coarse.shape, fine.shape) == ((5, 5, 3, 7), (10, 10, 3, 7))
    # 16 pixels: most like the anchor 23x27, the first of the finer head.
    assert np.flatnonzero(coarse).size == 0
    ((row, column, anchor),) = np.argwhere(fine[..., 4])
    assert (row, column, anchor) == (2, 5, 0)
    np.testing.assert_allclose(
        fine[2, 5, 0], [0.5, 0.5, np.log(16 / 23), np.log(16 / 27), 1, 0, 1], rtol=1e-5, atol=1e-6
    )
