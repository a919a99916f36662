"""`resize="opencv"` at every entry point, against cv2.resize and the entry points without it."""

import json

import numpy as np
import pytest
from PIL import Image

import yolotf
from support.messages import refused
from yolotf.cli.commands import main
from yolotf.darknet.cfg import Shape
from yolotf.inference.classifier_images import prepare_all

cv2 = pytest.importorskip("cv2")


IN_FLOATS = 0.02
"""TensorFlow interpolates in floats, OpenCV in fixed point: many bytes differ by one."""


@pytest.fixture(scope="module")
def photograph(official_tiny):
    with Image.open(official_tiny.bus) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def expected(official_tiny, photograph):
    """What is found in a photograph that OpenCV has resized."""
    detector = yolotf.Detector(official_tiny.cfg, official_tiny.weights)
    detections = detector(cv2.resize(photograph, (416, 416)))
    height, width = photograph.shape[:2]
    return (
        detections.xyxy * np.array([width / 416, height / 416] * 2),
        detections.scores,
        detections.classes.tolist(),
    )


def assert_found(boxes, scores, classes, expected, atol=2e-3):
    assert list(classes) == expected[2]
    # One level of 255 in one number of 556: OpenCV's own processors differ by that.
    np.testing.assert_allclose(scores, expected[1], atol=atol)
    np.testing.assert_allclose(boxes, expected[0], atol=2)


def test_resize_opencv_detects_as_on_opencvs_pixels(official_tiny, photograph, expected):
    detector = yolotf.Detector(official_tiny.cfg, official_tiny.weights, resize="opencv")
    detections = detector(photograph)
    assert_found(detections.xyxy, detections.scores, detections.classes, expected)
    plain = yolotf.Detector(official_tiny.cfg, official_tiny.weights)(photograph)
    length = min(len(plain), len(detections))
    assert np.abs(plain.scores[:length] - detections.scores[:length]).max() > 0.01


@pytest.mark.slow
def test_functions_and_exports_resize_as_the_detector(
    official_tiny, photograph, expected, tmp_path
):
    tf = pytest.importorskip("tensorflow")
    function = yolotf.build_function(official_tiny.cfg, official_tiny.weights, resize="opencv")
    detections = function(photograph[None])
    count = int(detections.counts[0])
    assert_found(
        detections.boxes[0, :count].numpy(),
        detections.scores[0, :count].numpy(),
        detections.classes[0, :count].numpy().tolist(),
        expected,
        IN_FLOATS,
    )
    detector = yolotf.Detector(official_tiny.cfg, official_tiny.weights, resize="opencv")
    detector.export(tmp_path / "1")
    loaded = tf.saved_model.load(str(tmp_path / "1")).signatures
    answer = loaded["serving_default"](images=tf.constant(photograph[None]))
    assert_found(
        answer["boxes"][0, :count].numpy(),
        answer["scores"][0, :count].numpy(),
        answer["classes"][0, :count].numpy().tolist(),
        expected,
        IN_FLOATS,
    )


@pytest.mark.slow
def test_detect_and_eval_commands_take_resize(
    official_tiny, photograph, expected, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photograph).save("bus.png")
    network = ["--cfg", str(official_tiny.cfg), "--weights", str(official_tiny.weights)]
    assert main(["detect", "bus.png", *network, "--json", "--resize", "opencv"]) == 0
    detections = json.loads(capsys.readouterr().out)["detections"]
    columns = ([detection[key] for detection in detections] for key in ("xyxy", "score", "class"))
    assert_found(*columns, expected)
    text = official_tiny.cfg.read_text().replace("[net]", "[net]\nletter_box=1")
    (tmp_path / "boxed.cfg").write_text(text)
    boxed = ["--cfg", "boxed.cfg", "--weights", str(official_tiny.weights)]
    answers = []
    for more in ([*network], [*boxed], [*boxed, "--no-letter-box"], [*network, "--letter-box"]):
        assert main(["detect", "bus.png", *more, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out)["detections"])
    assert answers[0] == answers[2] != answers[1] == answers[3]
    (tmp_path / "bus.txt").write_text("5 .5 .5 .9 .5\n")
    (tmp_path / "list.txt").write_text("bus.png\n")
    (tmp_path / "obj.data").write_text("classes=80\nvalid=list.txt\n")
    scores = []
    for more in ([], ["--resize", "opencv"], ["--letter-box", "--resize", "opencv"]):
        assert main(["eval", "--data", "obj.data", *network, "--json", *more]) == 0
        result = json.loads(capsys.readouterr().out)
        scores.append((result["resize"], result["letter_box"], result["detections"]))
    assert [row[:2] for row in scores] == [("darknet", False), ("opencv", False), ("opencv", True)]
    assert len({row[2] for row in scores}) > 1


def test_classifier_gets_opencvs_pixels():
    random = np.random.default_rng(0)
    for size in ((90, 61), (40, 200), (32, 32)):
        pixels = random.integers(0, 256, (*size, 3)).astype(np.uint8)
        (prepared,) = prepare_all([pixels], Shape(32, 32, 3), "opencv")
        rows, columns = size
        short = (rows * 32 // columns, 32) if columns < rows else (32, columns * 32 // rows)
        whole = cv2.resize(pixels, short[::-1])
        top, left = ((side - 32) // 2 for side in short)
        assert np.abs(prepared * 255 - whole[top : top + 32, left : left + 32]).max() < 1.01
        from yolotf.inference import classifier_function

        traced = classifier_function.prepare(pixels[None], 32, 32, "opencv").numpy()[0]
        np.testing.assert_allclose(prepared, traced, atol=1.01 / 255)


def test_unknown_resize_options_are_refused(official_tiny):
    for make in (yolotf.Detector, yolotf.build_function):
        with refused(ValueError):
            make(official_tiny.cfg, official_tiny.weights, resize="pillow")
    with refused(ValueError):
        yolotf.Classifier("darknet19", "none", resize="pillow")


def test_copies_keep_the_resize_option(official_tiny, photograph):
    import pickle

    detector = yolotf.Detector(official_tiny.cfg, official_tiny.weights, resize="opencv")
    other = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(detector(photograph).scores, other(photograph).scores)
