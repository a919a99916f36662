"""Recurrent detectors: one video per detector, frames in order."""

import copy
import gc
import json
import pickle
import threading
import time
import weakref

import cv2
import numpy as np
import pytest

import yolotf
from support import helpers
from support.messages import refused
from yolotf.cli.commands import main
from yolotf.darknet.cfg import parse_cfg
from yolotf.errors import UnsupportedSectionError
from yolotf.inference import build_function
from yolotf.inference.recurrent_state import StatefulRunner

TRACKER = """[net]
width=32
height=32
channels=3
[convolutional]
batch_normalize=1
filters=4
size=3
stride=2
pad=1
activation=leaky
[crnn]
batch_normalize=1
size=3
pad=1
hidden=6
output=8
activation=leaky
[convolutional]
filters=18
size=1
activation=linear
[yolo]
mask=0,1,2
anchors=4,4, 8,8, 16,16
classes=1
num=3
"""


@pytest.fixture
def file(tmp_path):
    """Weights of the tracker."""
    path = tmp_path / "some.weights"
    helpers.write_weights(path, parse_cfg(TRACKER), scale=0.2)
    return path


@pytest.fixture
def detector(file):
    return yolotf.Detector(parse_cfg(TRACKER), file, score_threshold=0.3)


def frames(count=5, seed=1):
    random = np.random.default_rng(seed)
    return list(random.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8))


def boxes(answers):
    return [detections.to_dict() for detections in answers]


@pytest.mark.slow
def test_state_is_kept_from_call_to_call(detector):
    assert detector.stateful
    video = frames()
    alone = []
    for frame in video:
        detector.reset()
        alone.append(detector(frame))
    detector.reset()
    in_order = [detector(frame) for frame in video]
    assert boxes(in_order[:1]) == boxes(alone[:1])
    assert all(
        boxes([remembered]) != boxes([other])
        for remembered, other in zip(in_order[1:], alone[1:], strict=True)
    )
    detector.reset()
    assert boxes(detector(video)) == boxes(in_order)
    detector.reset()
    assert boxes([*detector(video[:2]), *detector(video[2:])]) == boxes(in_order)


def test_a_list_longer_than_a_batch_is_one_video(file, detector):
    small = yolotf.Detector(parse_cfg(TRACKER), file, score_threshold=0.3, batch_size=2)
    assert boxes(small(frames())) == boxes(detector(frames()))


def test_frames_may_be_bgr(file, detector):
    bgr = yolotf.Detector(parse_cfg(TRACKER), file, score_threshold=0.3, bgr=True)
    expected = boxes(detector(frames()))
    assert boxes(bgr([frame[..., ::-1] for frame in frames()])) == expected
    assert (
        boxes(yolotf.Detector(parse_cfg(TRACKER), file, score_threshold=0.3)(frames())) == expected
    )


def test_each_detector_has_its_own_state(file, detector):
    other = yolotf.Detector(parse_cfg(TRACKER), file, score_threshold=0.3)
    first_video, second_video = frames(seed=1), frames(seed=2)
    mixed = [(detector(a), other(b)) for a, b in zip(first_video, second_video, strict=True)]
    detector.reset()
    other.reset()
    assert boxes(a for a, _ in mixed) == boxes(detector(first_video))
    assert boxes(b for _, b in mixed) == boxes(other(second_video))


def test_reload_resets_the_state(file, detector):
    first = detector(frames())
    detector.reload(file)
    assert boxes(detector(frames())) == boxes(first)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda original: pickle.loads(pickle.dumps(original))]
)
def test_copies_start_with_a_new_state(detector, copied):
    first = detector(frames())
    assert boxes(copied(detector)(frames())) == boxes(first)


def test_reset_does_nothing_for_stateless_networks(tmp_path):
    text = TRACKER.replace("[crnn]", "[convolutional]").replace("hidden=6\noutput=8", "filters=8")
    helpers.write_weights(tmp_path / "plain.weights", parse_cfg(text), scale=0.2)
    detector = yolotf.Detector(parse_cfg(text), tmp_path / "plain.weights", score_threshold=0.3)
    assert not detector.stateful
    first = detector(frames())
    detector.reset()
    assert boxes(detector(frames())) == boxes(first)


def test_replaced_weights_are_freed_with_their_state(file, detector):
    detector(frames())
    old = weakref.ref(detector._served.active.loaded)
    detector.reload(file)
    gc.collect()
    assert old() is None


class Engine:
    """Notes who steps when."""

    def __init__(self):
        self.states = {"0/state": (1, 1, 1, 1)}
        self.seen = []

    def step(self, frame, weights, states):
        self.seen.append(int(frame.item()))
        time.sleep(0.001)  # for the others to come in between
        return [frame], {key: value + 1 for key, value in states.items()}


def test_frames_of_one_call_stay_together():
    engine, weights = Engine(), Engine()
    stream = StatefulRunner(engine)

    def call(number):
        with stream:
            for _ in range(2):
                stream.raw_heads(np.full((3, 1, 1, 1), number, np.float32), weights)

    threads = [threading.Thread(target=call, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    calls = [set(engine.seen[start : start + 6]) for start in range(0, 48, 6)]
    assert sorted(map(tuple, calls)) == [(number,) for number in range(8)]


def test_functions_find_what_the_detector_finds(file, detector):
    function = build_function(parse_cfg(TRACKER), file, score_threshold=0.3)
    expected = detector(frames())
    for start in (0, 5):  # in one batch, then one by one
        video = np.stack(frames())
        answers = [function(video)] if not start else [function(frame[None]) for frame in video]
        counts = np.concatenate([answer.counts for answer in answers])
        boxes_of_frames = np.concatenate([answer.boxes for answer in answers])
        assert counts.tolist() == [len(detections) for detections in expected]
        for rows, count, detections in zip(boxes_of_frames, counts, expected, strict=True):
            np.testing.assert_allclose(rows[:count], detections.xyxy, rtol=1e-5, atol=1e-2)
        function.reset()


def test_export_refuses_recurrent_networks(detector, tmp_path):
    with refused(UnsupportedSectionError, code="unsupported-section", section="crnn", line=12):
        detector.export(tmp_path / "model")
    assert not (tmp_path / "model").exists()


CLASSIFIER = TRACKER[: TRACKER.index("[convolutional]\nfilters=18")] + "[avgpool]\n[softmax]\n"


def test_recurrent_classifiers_keep_their_state(tmp_path):
    network = parse_cfg(CLASSIFIER)
    helpers.write_weights(tmp_path / "some.weights", network, scale=0.2)
    classifier = yolotf.Classifier(network, tmp_path / "some.weights")
    video = frames()
    probabilities = classifier.probabilities(video)
    again = classifier.probabilities(video)
    assert classifier.stateful
    assert np.abs(probabilities - again).max() > 1e-3
    classifier.reset()
    one_by_one = np.concatenate([classifier.probabilities([frame]) for frame in video])
    np.testing.assert_array_equal(one_by_one, probabilities)
    function = build_function(network, tmp_path / "some.weights")
    np.testing.assert_allclose(function(np.stack(video)), probabilities, atol=1e-5)
    function.reset()
    np.testing.assert_allclose(function(video[0][None]), probabilities[:1], atol=1e-5)
    with refused(UnsupportedSectionError, code="unsupported-section", section="crnn", line=12):
        classifier.export(tmp_path / "model")


def test_detect_command_keeps_state_within_a_video_only(
    file, detector, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tracker.cfg").write_text(TRACKER)
    for number, frame in enumerate(frames()):
        cv2.imwrite(f"{number}.png", frame[..., ::-1])
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter.fourcc(*"FFV1"), 5.0, (32, 32))
    for frame in frames():
        writer.write(frame[..., ::-1])
    writer.release()
    names = ["0.png", "1.png", "2.png", "3.png", "4.png"]
    options = ["--cfg", "tracker.cfg", "--weights", str(file), "--score", "0.3", "--json"]
    for batch in ("1", "3"):
        assert main(["detect", *names, "clip.avi", *names[:1], *options, "--batch", batch]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        counts = [len(line["detections"]) for line in lines]
        apart = []
        for frame in frames():
            detector.reset()
            apart.append(len(detector(frame)))
        detector.reset()
        together = [len(detections) for detections in detector(frames())]
        assert together != apart
        assert counts == [*apart, *together, apart[0]]
