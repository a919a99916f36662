"""`.tflite` with `suppress`: the four outputs that TensorFlow Lite's samples read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support.cfgs import conv, net, normalized, section, yolo
from support.helpers import write_weights
from support.messages import said
from yolotf.cli.commands import main
from yolotf.formats import lite_process

pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")

TEXT = (
    net(32)
    + normalized(8, 3, stride=2)
    + conv(24)
    + yolo(3)
    + section("route", layers=-3)
    + conv(24, 1, stride=2)
    + yolo(3, mask="0,1,2")
)
MOST, IOU, SCORE = 20, 0.4, 0.6


def run(path: Path, images: Any) -> list[Any]:
    """The outputs in their order."""
    interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
    interpreter.invoke()
    return [interpreter.get_tensor(tensor["index"]) for tensor in interpreter.get_output_details()]


def overlap(box: Any, other: Any) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    inside = float(np.prod(np.maximum(sides, 0)))
    return inside / (np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - inside)


def by_hand(boxes: Any, scores: Any) -> list[tuple[Any, int, float]]:
    """Greedy suppression of the likeliest class of each box, in loops."""
    best, classes = scores.max(axis=1), scores.argmax(axis=1)
    kept: list[int] = []
    for place in np.argsort(-best, kind="stable"):
        if best[place] <= SCORE or len(kept) == MOST:
            break
        if all(
            classes[other] != classes[place] or overlap(boxes[place], boxes[other]) <= IOU
            for other in kept
        ):
            kept.append(int(place))
    return [(boxes[place], int(classes[place]), float(best[place])) for place in kept]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lite")
    (folder / "a.cfg").write_text(TEXT)
    write_weights(folder / "a.weights", yolotf.parse_cfg(TEXT))
    return folder


@pytest.fixture(scope="module")
def converted(files):
    """The folder with `found.tflite`, which suppresses, and `all.tflite`, which decodes only."""
    options = {"suppress": True, "iou_threshold": IOU, "score_threshold": SCORE, "max_boxes": MOST}
    with pytest.MonkeyPatch.context() as patch:  # in this process, as `converter_here`
        patch.setattr(lite_process, "run", lite_process.convert)
        yolotf.convert(files / "a.weights", files / "a.cfg", files / "found.tflite", **options)
        yolotf.convert(files / "a.weights", files / "a.cfg", files / "all.tflite", decode=True)
    return files


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_detections_are_those_suppressed_by_hand(seed, converted):
    images = np.random.default_rng(seed).random((1, 32, 32, 3)).astype(np.float32)
    boxes, scores = run(converted / "all.tflite", images)
    locations, classes, best, count = run(converted / "found.tflite", images)
    assert (locations.shape, classes.shape, best.shape) == ((1, MOST, 4), (1, MOST), (1, MOST))
    assert (count.shape, count.dtype) == ((1,), np.float32)
    expected = by_hand(boxes[0], scores[0])
    assert int(count[0]) == len(expected) > 1
    for place, (box, number, score) in enumerate(expected):
        left, top, right, bottom = box
        np.testing.assert_allclose(locations[0, place], [top, left, bottom, right], atol=1e-5)
        assert int(classes[0, place]) == number
        assert best[0, place] == pytest.approx(score, abs=1e-5)
    assert not locations[0, len(expected) :].any()
    assert not best[0, len(expected) :].any()


@pytest.mark.slow
def test_outputs_are_in_the_order_of_the_sample(converted):
    interpreter = tf.lite.Interpreter(str(converted / "found.tflite"))
    names = [tensor["name"] for tensor in interpreter.get_output_details()]
    assert names == ["locations", "classes", "scores", "count"]


@pytest.mark.parametrize("options", [["--batch", "2"], ["--fp16"]], ids=" ".join)
def test_options_that_suppress_excludes_are_refused(options, files, capsys):
    given = [str(files / "a.weights"), "--cfg", str(files / "a.cfg")]
    output = ["-o", str(files / "other.tflite")]
    assert main(["convert", *given, *output, "--suppress", *options]) == 2
    said(capsys.readouterr().err)
    assert not (files / "other.tflite").exists()
