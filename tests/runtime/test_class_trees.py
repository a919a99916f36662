"""Heads with a class tree, against the loops of get_region_boxes (region_layer.c:379-420)."""

import math

import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support import numpy_loader, weights_files
from support.messages import refused
from support.slow_decoding import slow_suppress
from yolotf.darknet import stock
from yolotf.darknet.cfg import parse_cfg
from yolotf.errors import UnsupportedSectionError, YolotfError
from yolotf.formats.convert import convert
from yolotf.graphs import decode
from yolotf.runtime.decoding import Decoder

# Roots in two runs; below one class, runs that are apart, one of a class alone.
TREE = "animal -1\nplant -1\ncat 0\ndog 0\noak 1\nelm 1\nrock -1\nsand -1\nfox 0\nlion 2\nlynx 2\n"
NAMES = tuple(line.split()[0] for line in TREE.splitlines())
PARENTS = [int(line.split()[1]) for line in TREE.splitlines()]
RUNS = [(0, 2), (2, 4), (4, 6), (6, 8), (8, 9), (9, 11)]
CFG = """[net]
width=64
height=96
channels=3
[convolutional]
filters=32
size=3
stride=32
activation=linear
[region]
anchors=1,1.5,3,2
classes=11
coords=4
num=2
softmax=1
tree=data/a.tree
"""


@pytest.fixture
def network(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.tree").write_text(TREE)
    (tmp_path / "a.cfg").write_text(CFG)
    return parse_cfg(tmp_path / "a.cfg")


def raws(batch=2, scale=3):
    numbers = np.random.default_rng(4).normal(0, scale, (batch, 3, 2, 32)).astype(np.float32)
    numbers[..., 2:4] /= 4 * scale
    numbers[..., 18:20] /= 4 * scale
    return numbers


def pairs(raw, threshold):
    """Per picture (score, class, box), the box relative to the picture."""
    rows_of_pictures = []
    for picture in raw:
        rows, columns, _ = picture.shape
        these = []
        for place in range(rows * columns * 2):
            row, column, anchor = place // 2 // columns, place // 2 % columns, place % 2
            numbers = [float(x) for x in picture[row, column, 16 * anchor : 16 * anchor + 16]]
            logistic = [1 / (1 + math.exp(-x)) for x in numbers[:2] + numbers[4:5]]
            predictions = []
            for start, end in RUNS:
                powers = [math.exp(x) for x in numbers[5 + start : 5 + end]]
                predictions += [power / sum(powers) for power in powers]
            for class_id, parent in enumerate(PARENTS):
                if parent >= 0:
                    predictions[class_id] *= predictions[parent]
            width, height = ((1, 1.5), (3, 2))[anchor]
            box = (
                (column + logistic[0]) / columns,
                (row + logistic[1]) / rows,
                math.exp(numbers[2]) * width / columns,
                math.exp(numbers[3]) * height / rows,
            )
            for class_id in reversed(range(11)):
                if predictions[class_id] > 0.5:
                    if logistic[2] > threshold and predictions[class_id] > threshold:
                        these.append((predictions[class_id], class_id, box))
                    break
        rows_of_pictures.append(these)
    return rows_of_pictures


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.7])
def test_a_box_is_of_the_last_class_above_a_half(network, threshold):
    raw, size, pictures = raws(), (96, 64), [(96, 64), (100, 300)]
    detections = Decoder(network)(
        [raw], size, pictures, score_threshold=threshold, iou_threshold=0.4
    )
    graph = decode.find_detections(
        raw, network, size, score_threshold=threshold, iou_threshold=0.4, max_boxes=50
    )
    seen = set()
    for number, expected in enumerate(pairs(raw, threshold)):
        kept = slow_suppress(expected, 0.4, "default", 0.6)
        seen |= {class_id for _, class_id, _ in kept}
        assert kept
        actual, (height, width) = detections[number], pictures[number]
        assert actual.classes.tolist() == [class_id for _, class_id, _ in kept]
        np.testing.assert_allclose(actual.scores, [score for score, _, _ in kept], rtol=1e-5)
        boxes = np.array([box for _, _, box in kept])
        centre = (actual.boxes[:, :2] + actual.boxes[:, 2:]) / 2 / (width, height)
        np.testing.assert_allclose(centre, boxes[:, :2], rtol=1e-4, atol=1e-5)
        assert int(graph.counts[number]) == len(kept)
        assert graph.classes[number, : len(kept)].numpy().tolist() == actual.classes.tolist()
        np.testing.assert_allclose(graph.scores[number, : len(kept)], actual.scores, rtol=1e-5)
        np.testing.assert_allclose(graph.boxes[number, : len(kept)], boxes, rtol=1e-4)
    assert len(seen) > 2 or threshold > 0.5


def test_unwanted_classes_and_other_classes_are_as_without_a_tree(network):
    raw, size = raws(1), (96, 64)
    options = {"score_threshold": 0.05, "iou_threshold": 0.2}
    everything = Decoder(network)([raw], size, [size], **options)[0]
    best = int(everything.classes[0])
    some = Decoder(network)([raw], size, [size], unwanted=[best], **options)[0]
    assert some.classes.tolist() == [
        class_id for class_id in everything.classes.tolist() if class_id != best
    ]
    across = Decoder(network)([raw], size, [size], agnostic=True, **options)[0]
    assert 0 < len(across.scores) < len(everything.scores)


def test_nan_and_infinite_outputs_give_no_detections(network):
    raw = raws(1)
    raw[..., 5:16] = np.nan
    raw[..., 21:] = np.inf
    detections = Decoder(network)([raw], (96, 64), [(96, 64)], score_threshold=0.05)[0]
    assert len(detections.scores) == 0


def test_where_nothing_is_likely_there_are_no_detections(network):
    raw = raws(2)
    raw[..., [4, 20]] = -50
    for detections in Decoder(network)([raw], (96, 64), [(96, 64)] * 2):
        assert len(detections.scores) == 0


@pytest.mark.slow
def test_detectors_and_functions_agree_and_take_their_names_from_the_tree(network, tmp_path):
    weights = tmp_path / "a.weights"
    floats = weights_files.floats(numpy_loader.random_file(network.to_cfg()))
    weights_files.write(weights, 9 * floats)
    picture = np.random.default_rng(2).integers(0, 256, (96, 64, 3), dtype=np.uint8)
    detector = yolotf.Detector(network, weights, score_threshold=0.1)
    assert detector.class_names == NAMES
    detections = detector(picture)
    assert len(detections) > 0
    assert {detections.labels[place] for place in range(len(detections))} <= set(NAMES)
    batch = yolotf.build_function(network, weights, score_threshold=0.1)(tf.constant(picture[None]))
    count = int(batch.counts[0])
    assert batch.classes[0, :count].numpy().tolist() == detections.classes.tolist()
    np.testing.assert_allclose(batch.scores[0, :count], detections.scores, rtol=1e-4)
    detector.export(tmp_path / "saved")
    served = tf.saved_model.load(tmp_path / "saved").signatures["serving_default"]
    answer = served(images=tf.constant(picture[None]))
    assert answer["classes"][0, :count].numpy().tolist() == detections.classes.tolist()


def test_with_tree_replaces_the_class_tree(tmp_path):
    (tmp_path / "other.tree").write_text(TREE)
    network = parse_cfg(CFG)
    with refused(FileNotFoundError, filename="data/a.tree"):
        Decoder(network)
    other_tree = network.with_tree(tmp_path / "other.tree")
    assert other_tree.heads[0].tree == str(tmp_path / "other.tree")
    assert Decoder(other_tree)([raws()], (96, 64), [(96, 64)] * 2)


def test_a_tree_of_other_classes_is_refused(network, tmp_path):
    (tmp_path / "data/a.tree").write_text(TREE + "ant 0\n")
    with refused(YolotfError):
        Decoder(network)


@pytest.mark.slow
@pytest.mark.filterwarnings(r"ignore:\s*Warning. tf.lite.Interpreter:UserWarning")
@pytest.mark.parametrize("kind", ["saved", "a.tflite"])
def test_decoded_formats_have_a_score_for_the_class_of_each_box(network, kind, tmp_path):
    weights, output = tmp_path / "a.weights", tmp_path / kind
    floats = weights_files.floats(numpy_loader.random_file(network.to_cfg()))
    weights_files.write(weights, 9 * floats)
    pictures = np.random.default_rng(2).random((1, 96, 64, 3), dtype=np.float32)
    model = yolotf.build_model(network)
    yolotf.load_darknet_weights(model, weights)
    expected = pairs(np.asarray(model(pictures)), 0)[0]
    convert(weights, network, output, decode=True)
    if kind == "saved":
        run = tf.saved_model.load(output).signatures["serving_default"]
    else:
        run = tf.lite.Interpreter(str(output)).get_signature_runner("serving_default")
    answer = run(images=tf.constant(pictures) if kind == "saved" else pictures)
    boxes, scores = np.asarray(answer["boxes"])[0], np.asarray(answer["scores"])[0]
    assert 0 < len(expected) <= len(boxes) == 3 * 2 * 2
    assert scores.shape == (12, 11)
    places, classes = np.nonzero(scores)
    assert classes.tolist() == [class_id for _, class_id, _ in expected]
    np.testing.assert_allclose(
        scores[places, classes], [score for score, _, _ in expected], rtol=1e-4
    )
    centre, extent = np.split(np.array([box for _, _, box in expected]), 2, -1)
    corners = np.concatenate([centre - extent / 2, centre + extent / 2], -1)
    np.testing.assert_allclose(boxes[places], corners, rtol=1e-4, atol=1e-4)


def test_decoded_formats_refuse_a_head_without_the_tree_of_the_others(tmp_path):
    network = parse_cfg(CFG + CFG[CFG.index("[convolutional]") :].replace("tree=data/a.tree", ""))
    weights = tmp_path / "a.weights"
    weights.write_bytes(numpy_loader.random_file(network.to_cfg()))
    with refused(UnsupportedSectionError) as caught:
        convert(weights, network, tmp_path / "saved", decode=True)
    assert caught.value.layer == network.heads[1].index
    assert not (tmp_path / "saved").exists()


def test_yolo9000_names_its_tree():
    network = stock.network("yolo9000", size=64)
    assert (network.classes, network.heads[0].tree) == (9418, "data/9k.tree")
