"""The examples do what they say."""

import ast
import contextlib
import importlib.util
import re
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import yolotf
from support.messages import said

EXAMPLES = Path(__file__).parents[1] / "examples"
FINETUNE = EXAMPLES / "finetune.py"


@pytest.fixture
def finetune():
    spec = importlib.util.spec_from_file_location("finetune", FINETUNE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_finetune_learns_and_opencv_reads_what_it_wrote(
    finetune, official_tiny, tmp_path, monkeypatch, capsys
):
    arguments = ["--steps", "6", "--folder", tmp_path, "--demo", official_tiny.weights.parent]
    monkeypatch.setattr(sys, "argv", ["finetune.py", *map(str, arguments)])
    monkeypatch.setattr(finetune, "SIZE", 160)
    finetune.main()
    printed = capsys.readouterr().out
    losses = [float(value) for value in re.findall(r"loss +([\d.]+)", printed)]
    assert losses[-1] < losses[0] / 2
    assert "untouched: conv_29, conv_32, conv_35, conv_36" in printed
    assert re.search(r"of \d+ labelled objects, \d+ were detected before and \d+ after", printed)

    cfg, weights = tmp_path / "mine.cfg", tmp_path / "mine.weights"
    network = yolotf.parse_cfg(cfg)
    model = yolotf.build_model(network)
    assert yolotf.load_darknet_weights(model, weights).header.seen == 8 * 6
    picture = np.random.default_rng(0).random((160, 160, 3), dtype=np.float32)
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
    said(capsys.readouterr().err.splitlines()[-1])


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_take_public_names_only(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("yolotf."), f"line {node.lineno}"
        elif isinstance(node, ast.Import):
            assert not [alias for alias in node.names if alias.name.startswith("yolotf.")]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "yolotf":
            assert node.attr in yolotf.__all__, f"line {node.lineno}: {node.attr}"


def test_a_crop_moves_its_boxes_with_it(finetune):
    # A white square on black: where it is in the crop is where its box says.
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[80:120, 120:180] = 255
    boxes = np.array([[1, 0.5, 0.5, 0.2, 0.2]], np.float32)
    random = np.random.default_rng(0)
    for _ in range(20):
        image, rows = finetune.crop((pixels, boxes), random)
        ((label, x, y, width, height),) = rows
        inside = np.argwhere(image[..., 0] > 0.5) / finetune.SIZE
        assert label == 1
        expected = [y - height / 2, x - width / 2, y + height / 2, x + width / 2]
        np.testing.assert_allclose([*inside.min(0), *inside.max(0)], expected, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["load", "detect", "convert", "reload", "evaluate", "finetune"])
def test_examples_replace_no_file(name, official_tiny, tmp_path, monkeypatch, capsys):
    """The files that an example writes, if it chose no new folder, exist and hold other things."""
    names = ["bus.txt", "zidane.txt", "persons-bus.jpg", "yolov4-tiny.onnx", "broken.weights"]
    names += ["set/bus.jpg", "set/bus.txt", "set/valid.txt", "set/obj.data"]
    names += ["mine.cfg", "mine.weights", "yolov4-tiny.conv.29"]
    (tmp_path / "set").mkdir()
    for path in names:
        (tmp_path / path).write_text("years of work")
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    with contextlib.suppress(FileExistsError, SystemExit):
        run(name, official_tiny, tmp_path, monkeypatch)
    assert {path: (tmp_path / path).read_text() for path in names} == dict.fromkeys(
        names, "years of work"
    )
    for path in official_tiny:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def run(name, official_tiny, tmp_path, monkeypatch):
    """Runs an example in a folder of `yolotf demo`."""
    for path in official_tiny:
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "printed"),
    [
        (
            "load",
            r"loaded 21 layers, 6,062,814 floats(.|\n)*has 3(.|\n)*loaded 19 layers, skipped 2",
        ),
        ("detect", r"bus.jpg: 3 of 4 are persons\n  \(53, 389\)-\(220, 914\)"),
        ("convert", r"21 layers(.|\n)*class 0, score 0\.9"),
        (
            "reload",
            r"\{6\} detections an image(.|\n)*broken.weights: ends(.|\n)*6 detections, still",
        ),
        ("evaluate", r"person: AP 1.00, 4 of 4 found, 0 false"),
    ],
)
def test_examples_print_their_results(name, printed, official_tiny, tmp_path, monkeypatch, capsys):
    run(name, official_tiny, tmp_path, monkeypatch)
    assert re.search(printed, capsys.readouterr().out)


def test_labels_written_by_detect_are_read_back_as_the_same_boxes(
    official_tiny, tmp_path, monkeypatch
):
    run("detect", official_tiny, tmp_path, monkeypatch)
    (labels,) = tmp_path.glob("detected-*/bus.txt")
    _, x, y, width, height = map(float, labels.read_text().splitlines()[0].split())
    columns, rows = cv2.imread(str(official_tiny.bus)).shape[1::-1]
    left, top = (x - width / 2) * columns, (y - height / 2) * rows
    assert (round(left), round(top)) == (53, 389)


def test_serve_answers_images_and_refuses_others(official_tiny, tmp_path, monkeypatch):
    fastapi = pytest.importorskip("fastapi", reason="needs FastAPI, as make test-ray has it")
    for path in official_tiny:
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    module = runpy.run_path(str(EXAMPLES / "serve.py"))
    assert len(module["detect"](official_tiny.bus.read_bytes())["detections"]) == 6
    with pytest.raises(fastapi.HTTPException) as error:
        module["detect"](b"no image")
    assert error.value.status_code == 400
