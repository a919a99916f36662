"""Native decoding against the graph's operations and against a loop over boxes in Python floats."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from support.messages import refused
from support.slow_decoding import (
    HEADS,
    network_of,
    pairs_of,
    raw_for,
    region,
    slow_overlap,
    slow_suppress,
    yolo,
)
from yolotf import _core
from yolotf.darknet.cfg import parse_cfg
from yolotf.darknet.decoding import Suppression
from yolotf.errors import UnsupportedSectionError
from yolotf.graphs import decode
from yolotf.runtime.decoding import Decoder

SIZE = (64, 96)
KINDS = ("default", "greedynms", "diounms")


def corners_of(box, height, width):
    x, y, w, h = box
    return (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height


def version_1(classes=3, side=3, num=2, extra=""):
    outputs = side * side * (classes + num * 5)
    return parse_cfg(
        f"[net]\nwidth=8\nheight=8\nchannels=3\n[connected]\noutput={outputs}\nactivation=linear\n"
        f"[detection]\nclasses={classes}\ncoords=4\nside={side}\nnum={num}\n{extra}\n"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", HEADS)
def test_detections_are_those_of_a_loop_over_boxes(name, kind):
    network = network_of(HEADS[name], yolo("nms_kind=greedynms"))
    raws = raw_for(network, batch=3, seed=3)
    sizes = [(64, 96), (480, 640), (7, 5)]
    decoder = Decoder(network, Suppression(kind, 0.4))
    detections = decoder(raws, SIZE, sizes, score_threshold=0.2, iou_threshold=0.3, max_boxes=500)
    seen = 0
    for picture, pairs, (height, width) in zip(
        detections, pairs_of(network, raws, SIZE, 0.2), sizes, strict=True
    ):
        expected = slow_suppress(pairs, 0.3, kind, 0.4)
        seen += len(expected)
        assert picture.classes.tolist() == [pair[1] for pair in expected]
        np.testing.assert_allclose(picture.scores, [pair[0] for pair in expected], rtol=1e-5)
        corners = [corners_of(pair[2], height, width) for pair in expected]
        np.testing.assert_allclose(picture.boxes, corners, rtol=1e-4, atol=1e-4 * width)
    assert seen > 10


@pytest.mark.parametrize("kind", KINDS)
def test_suppression_across_and_within_wanted_classes_matches_a_loop(kind):
    network = network_of(HEADS["yolo"], yolo("nms_kind=greedynms"))
    raws = raw_for(network, batch=2, seed=5)
    decoder = Decoder(network, Suppression(kind, 0.4))
    options = {
        "score_threshold": 0.2,
        "iou_threshold": 0.3,
        "max_boxes": 500,
        "agnostic": True,
        "unwanted": [0, 2],
    }
    detections = decoder(raws, SIZE, [(480, 640)] * 2, **options)
    for picture, pairs in zip(detections, pairs_of(network, raws, SIZE, 0.2), strict=True):
        of_one = [(score, 0, (*box, number)) for score, number, box in pairs if number in (1, 3)]
        expected = slow_suppress(of_one, 0.3, kind, 0.4)
        assert 1 < len(expected) < len(of_one) < len(pairs)
        assert picture.classes.tolist() == [box[4] for _, _, box in expected]
        np.testing.assert_allclose(picture.scores, [pair[0] for pair in expected], rtol=1e-5)


@st.composite
def problems(draw):
    """A network, its raw heads, pictures and thresholds."""
    words = draw(st.lists(st.sampled_from(sorted(HEADS)), min_size=1, max_size=3))
    kind = draw(st.sampled_from(KINDS))
    letter_box = draw(st.booleans())
    heads = [HEADS[word] for word in words]
    if draw(st.booleans()):
        heads.append(region("softmax=1\nclassfix=-1"))
    heads.append(yolo(f"nms_kind={kind}\nbeta_nms={draw(st.sampled_from([0.3, 0.6, 1.0]))}"))
    network = network_of(*heads, net=f"letter_box={int(letter_box)}")
    batch = draw(st.integers(1, 3))
    scale = draw(st.sampled_from([0.5, 1.5, 3.0]))
    raws = raw_for(network, batch=batch, seed=draw(st.integers(0, 10**6)), scale=scale)
    pictures = st.tuples(st.integers(2, 900), st.integers(2, 900))
    sizes = draw(st.lists(pictures, min_size=batch, max_size=batch))
    count = max(head.classes for head in network.heads)
    thresholds = {
        "agnostic": draw(st.booleans()),
        "unwanted": draw(st.lists(st.integers(0, count - 1), max_size=2)),
        "score_threshold": draw(st.sampled_from([0.0, 0.005, 0.1, 0.25, 0.6, 0.97])),
        "iou_threshold": draw(st.sampled_from([0.0, 0.2, 0.45, 0.7])),
        "max_boxes": draw(st.sampled_from([1, 7, 500])),
    }
    return network, raws, sizes, thresholds


def is_decided(network, raws, sizes, thresholds):
    """Whether no comparison hangs on a last bit, in which two implementations may differ."""
    low = decode.find_candidates(
        raws, network, SIZE, score_threshold=0.0, image_sizes=np.array(sizes)
    )
    scores = np.sort(low.scores)
    if np.any(
        np.abs(scores - thresholds["score_threshold"])
        < 1e-6 * (scores + thresholds["score_threshold"])
    ):
        return False
    if np.any(np.diff(scores) < 1e-6 * scores[1:]):
        return False
    if not np.all(np.isfinite(low.boxes)):
        return False
    kind, beta = decode.suppression_of(network)
    together = 0 if thresholds["agnostic"] else 1
    keys = np.stack([low.pictures.numpy(), together * low.classes.numpy()], 1)
    boxes = low.boxes.numpy().astype(float)
    for key in np.unique(keys, axis=0):
        mine = boxes[np.all(keys == key, 1) & (low.scores.numpy() > thresholds["score_threshold"])]
        for i, a in enumerate(mine):
            for b in mine[:i]:
                if abs(slow_overlap(a, b, kind, beta) - thresholds["iou_threshold"]) < 1e-5:
                    return thresholds["iou_threshold"] == 0.0 and kind == "default"
    return True


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(problems())
def test_detections_are_those_of_the_graph(problem):
    network, raws, sizes, thresholds = problem
    assume(is_decided(*problem))
    kept = decode.find_detections(
        raws,
        network,
        SIZE,
        score_threshold=thresholds["score_threshold"],
        iou_threshold=thresholds["iou_threshold"],
        max_boxes=thresholds["max_boxes"],
        image_sizes=np.array(sizes),
        agnostic=thresholds["agnostic"],
        unwanted=thresholds["unwanted"],
    )
    corners = decode.to_corners(kept.boxes, np.array(sizes)[:, None]).numpy()
    detections = Decoder(network)(raws, SIZE, sizes, **thresholds, threads=2)
    for number, picture in enumerate(detections):
        count = int(kept.counts[number])
        assert picture.classes.tolist() == kept.classes[number, :count].numpy().tolist()
        np.testing.assert_allclose(picture.scores, kept.scores[number, :count], rtol=1e-5)
        wanted = corners[number, :count]
        reach = 1e-5 * np.abs(wanted).max(initial=max(sizes[number]))
        np.testing.assert_allclose(picture.boxes, wanted, rtol=1e-5, atol=reach)


@pytest.mark.parametrize("softmax", [0, 1])
@pytest.mark.parametrize("sqrt", [0, 1])
def test_version_1_detections_are_those_of_the_graph(softmax, sqrt):
    network = version_1(extra=f"softmax={softmax}\nsqrt={sqrt}")
    random = np.random.default_rng(4)
    raw = random.normal(0.3, 0.5, (2, 117)).astype(np.float32)
    grid = np.ascontiguousarray(raw.reshape(2, 13, 3, 3).transpose(0, 2, 3, 1))
    kept = decode.find_detections(
        [raw], network, (8, 8), score_threshold=0.1, iou_threshold=0.45, max_boxes=50
    )
    wanted = decode.to_corners(kept.boxes, [[8, 8]]).numpy()
    assert kept.counts[0] > 5
    for shaped in (raw, grid):
        for number, detections in enumerate(
            Decoder(network)([shaped], (8, 8), [(8, 8)] * 2, score_threshold=0.1)
        ):
            count = int(kept.counts[number])
            assert detections.classes.tolist() == kept.classes[number, :count].numpy().tolist()
            np.testing.assert_allclose(detections.scores, kept.scores[number, :count], rtol=1e-5)
            np.testing.assert_allclose(
                detections.boxes, wanted[number, :count], rtol=1e-4, atol=1e-4
            )


def test_version_1_without_classes_finds_nothing():
    raw, sizes = np.ones([1, 90], np.float32), np.ones((1, 2), np.int64)
    heads, numbers = np.array([[3, 0, 2, 0, 0, 0, 0, 3]]), np.array([[1.0, 0.0]])
    options = {"score": 0.25, "iou": 0.45, "max_boxes": 3}
    *_, counts = _core.detections([raw], heads, numbers, (8, 8), sizes, **options)
    assert counts.tolist() == [0]


def test_equal_scores_keep_darknets_order():
    network = network_of(yolo(anchors="3,3, 3,3, 3,3"))
    raws = [np.zeros((1, 2, 3, 18), np.float32)]
    (detections,) = Decoder(network)(
        raws, SIZE, [SIZE], score_threshold=0.1, iou_threshold=0.99, max_boxes=100
    )
    graph = decode.find_detections(
        raws, network, SIZE, score_threshold=0.1, iou_threshold=0.99, max_boxes=100
    )
    assert len(detections.scores) == int(graph.counts[0]) == 2 * 3 * 4
    assert detections.classes.tolist() == graph.classes[0, :24].numpy().tolist()
    corners = decode.to_corners(graph.boxes, [[SIZE]])[0, :24]
    np.testing.assert_allclose(detections.boxes, corners, rtol=1e-6)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 3e38, -3e38])
@pytest.mark.parametrize("kind", KINDS)
def test_nan_outputs_are_decoded_without_failing(odd, kind):
    network = network_of(*HEADS.values())
    raws = raw_for(network, batch=2, seed=6)
    random = np.random.default_rng(7)
    for raw in raws:
        raw[random.random(raw.shape) < 0.3] = odd
    decoder = Decoder(network, Suppression(kind, 0.6))
    for picture in decoder(raws, SIZE, [(100, 3), (1, 1)], score_threshold=0.0, max_boxes=10**6):
        assert np.isfinite(picture.boxes).all()
        assert not np.isnan(picture.scores).any()
        assert (np.diff(picture.scores[np.isfinite(picture.scores)]) <= 0).all()


@pytest.mark.parametrize("extent", [89.0, 1000.0, math.inf])
def test_an_infinite_side_is_the_whole_row_or_column(extent):
    network = network_of(yolo(anchors="9,9", mask="0"), height=32, width=32)
    for side in (2, 3):
        raw = np.full((1, 1, 1, 9), -20, np.float32)
        raw[..., :4], raw[..., 4:6] = 0, 9
        raw[..., side] = extent
        (detections,) = Decoder(network)([raw], (32, 32), [(320, 640)])
        wanted = [0, 115, 640, 205] if side == 2 else [230, 0, 410, 320]
        np.testing.assert_allclose(detections.boxes, [wanted], rtol=1e-5)


def test_agnostic_suppression_and_unwanted_classes():
    network = network_of(yolo(anchors="9,9", mask="0"), height=32, width=32)
    raw = np.zeros((1, 1, 1, 9), np.float32)
    raw[..., 4:9] = 9, 1, 4, 2, -20
    decoder = Decoder(network)
    (every,) = decoder([raw], (32, 32), [(32, 32)])
    assert every.classes.tolist() == [1, 2, 0]
    (best,) = decoder([raw], (32, 32), [(32, 32)], agnostic=True)
    assert best.classes.tolist() == [1]
    (some,) = decoder([raw], (32, 32), [(32, 32)], agnostic=True, unwanted=[1, 99, -1])
    assert some.classes.tolist() == [2]


def test_raw_heads_are_read_in_place_or_refused():
    network = network_of(yolo(), yolo())
    raws = raw_for(network)
    decoder = Decoder(network)
    sizes = [SIZE, SIZE]
    for wrong in (
        raws[:1],
        [raws[0].astype(np.float64), raws[1]],
        [raws[0], raws[1][:, ::-1]],
        [raws[0], raws[1][0]],
        [raws[0], raws[1][:1].copy()],
        [raws[0], raws[1][..., :17].copy()],
    ):
        with refused(ValueError):
            decoder(wrong, SIZE, sizes)
    for options in (
        {"score_threshold": 1.0},
        {"score_threshold": math.nan},
        {"iou_threshold": -0.1},
        {"max_boxes": 0},
    ):
        with refused(ValueError):
            decoder(raws, SIZE, sizes, **options)
    with refused(ValueError):
        decoder(raws, SIZE, [(0, 5), SIZE])
    with refused(ValueError):
        decoder(raws, (64, 0), sizes)


def test_an_empty_batch_has_no_detections():
    network = network_of(yolo())
    assert Decoder(network)([np.zeros((0, 2, 3, 18), np.float32)], SIZE, np.zeros((0, 2))) == []


def test_invalid_head_descriptions_are_refused():
    raw, sizes = np.zeros((1, 1, 1, 9), np.float32), np.ones((1, 2), np.int64)
    options = {"score": 0.25, "iou": 0.45, "max_boxes": 3}
    good = [0, 4, 1, 0, 0, 0, 0, 0]
    numbers = np.array([[1.0, 0.0, 5.0, 5.0]])
    boxes, *_ = _core.detections([raw], np.array([good]), numbers, (1, 1), sizes, **options)
    assert boxes.shape == (0, 4)
    for column, value in ((0, 4), (0, -1), (1, -1), (1, 2**62), (2, 0), (2, 2), (2, 2**62)):
        row = list(good)
        row[column] = value
        with refused(ValueError):
            _core.detections([raw], np.array([row]), numbers, (1, 1), sizes, **options)
    with refused(ValueError):
        _core.detections([raw], np.array([good[:7]]), numbers, (1, 1), sizes, **options)


def test_heads_that_cannot_be_decoded_are_refused_by_name():
    with refused(UnsupportedSectionError):
        Decoder(network_of(region("tree=data/9k.tree"), region()))


@pytest.mark.parametrize("softmax", [0, 1])
def test_heads_without_classes_give_no_detections(softmax):
    """get_detection_detections lists classes in a loop, detection_layer.c:305; here over none."""
    network = version_1(classes=0, extra=f"softmax={softmax}")
    (raw,) = raw_for(network, batch=2, seed=1)
    assert network.classes == 0
    for detections_of_graph in Decoder(network)([raw], (8, 8), [(8, 8)] * 2, score_threshold=0.0):
        assert len(detections_of_graph.scores) == 0
    for batch in (raw, raw[:0]):
        detections_of_graph = decode.find_detections(
            batch, network, (8, 8), score_threshold=0.0, iou_threshold=0.4, max_boxes=5
        )
        assert detections_of_graph.counts.numpy().tolist() == [0] * len(batch)
    decoded = decode.decode_head(raw, network.heads[0], (8, 8))
    assert decoded.boxes.shape == (2, 18, 4)
    assert decoded.probabilities.shape == (2, 18, 0)


def test_decoding_imports_no_tensorflow():
    code = "import sys, yolotf.runtime.decoding; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
