"""The official yolov4-tiny.weights on a photograph, against what Darknet itself found in it."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import yolotf
from yolotf.graphs import decode
from yolotf.weights.header import Header

TOLERANCE = 1e-4

# AlexeyAB/darknet on bus.jpg, squeezed to 416x416 by Pillow's bilinear filter and given as
# uint8 / 255: class, score, centre x, y, width, height; every detection above 0.11 before
# suppression, and those above 0.25 after it at 0.45.
BEFORE = (
    (0, 0.990458, 0.16881, 0.602339, 0.208817, 0.477846),
    (0, 0.898502, 0.915179, 0.580797, 0.168225, 0.458565),
    (0, 0.889348, 0.348147, 0.581221, 0.167554, 0.405788),
    (0, 0.842328, 0.927232, 0.582308, 0.13972, 0.485238),
    (5, 0.742807, 0.435311, 0.43975, 0.874163, 0.564473),
    (5, 0.694005, 0.522107, 0.44228, 0.821757, 0.518991),
    (0, 0.630929, 0.350305, 0.586251, 0.150547, 0.370211),
    (5, 0.605023, 0.579602, 0.476438, 0.852121, 0.496094),
    (5, 0.555941, 0.577001, 0.443118, 1.009491, 0.562265),
    (0, 0.50167, 0.173453, 0.621822, 0.207441, 0.449202),
    (5, 0.490178, 0.510652, 0.479579, 0.79663, 0.55917),
    (0, 0.412327, 0.147196, 0.598715, 0.215883, 0.476997),
    (5, 0.362939, 0.428621, 0.485524, 0.861144, 0.558147),
    (7, 0.23167, 0.435311, 0.43975, 0.874163, 0.564473),
    (0, 0.213249, 0.337276, 0.597576, 0.134023, 0.382623),
    (0, 0.16077, 0.354463, 0.597819, 0.149792, 0.39156),
    (16, 0.155643, 0.025454, 0.670716, 0.04911, 0.315431),
    (16, 0.148321, 0.045349, 0.670375, 0.088838, 0.200343),
    (7, 0.129333, 0.428621, 0.485524, 0.861144, 0.558147),
    (0, 0.119367, 0.917163, 0.620578, 0.172913, 0.412767),
)
AFTER = (
    (0, 0.990458, 0.16881, 0.602339, 0.208817, 0.477846),
    (0, 0.898502, 0.915179, 0.580797, 0.168225, 0.458565),
    (0, 0.889348, 0.348147, 0.581221, 0.167554, 0.405788),
    (5, 0.742807, 0.435311, 0.43975, 0.874163, 0.564473),
)


@pytest.fixture(scope="module")
def loaded(official_tiny):
    network = yolotf.parse_cfg(official_tiny.cfg)
    model = yolotf.build_model(network)
    return network, model, yolotf.load_darknet_weights(model, official_tiny.weights)


@pytest.fixture(scope="module")
def raw_heads(loaded, official_tiny):
    _, model, _ = loaded
    with Image.open(official_tiny.bus) as picture:
        pixels = picture.convert("RGB").resize((416, 416), Image.Resampling.BILINEAR)
    return model(tf.constant(np.asarray(pixels, np.float32)[None] / 255), training=False)


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for expected in theirs:
        assert any(
            box[0] == expected[0] and np.allclose(box[1:], expected[1:], rtol=0, atol=TOLERANCE)
            for box in ours
        ), f"Darknet has {expected}, we have {ours}"


def test_the_file_is_loaded_by_the_op(loaded):
    _, _, report = loaded
    assert report.header == Header(0, 2, 5, 0, 20)
    assert report.path_taken == "op"
    assert (report.layers, report.floats, report.size_bytes) == (21, 6_062_814, 24_251_276)
    assert not report.warnings


def test_detections_before_suppression_are_darknets(loaded, raw_heads):
    candidates = decode.find_candidates(raw_heads, loaded[0], (416, 416), score_threshold=0.11)
    ours = [
        (int(number), float(score), *map(float, box))
        for number, score, box in zip(
            candidates.classes, candidates.scores, candidates.boxes.numpy(), strict=True
        )
    ]
    assert_same(ours, BEFORE)


def test_detections_after_suppression_are_darknets(loaded, raw_heads):
    kept = decode.find_detections(
        raw_heads,
        loaded[0],
        (416, 416),
        score_threshold=0.25,
        iou_threshold=0.45,
        max_boxes=100,
        suppression=decode.Suppression("default", 0.6),
    )
    ours = [
        (int(number), float(score), *map(float, box))
        for number, score, box in zip(
            kept.classes[0], kept.scores[0], kept.boxes[0].numpy(), strict=True
        )
    ][: int(kept.counts[0])]
    assert_same(ours, AFTER)
