"""Detections against Darknet's own, for the same networks, files and images."""

import math
from functools import cache, partial

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from support import helpers
from yolotf.cli.demo_data import demo_data
from yolotf.darknet import stock as networks
from yolotf.darknet.cfg import parse_cfg
from yolotf.graphs import decode
from yolotf.inference import build_function
from yolotf.inference.engines import open_engine
from yolotf.loading.load import load_darknet_weights
from yolotf.models.build import build_model
from yolotf.runtime.decoding import Decoder
from yolotf.runtime.options import ENGINES, ServingOptions
from yolotf.weights.file import WeightsFile

TOLERANCE = 1e-4
# Darknet's lists were made through its library's do_nms_sort, whatever nms_kind the cfg asks for.
PLAIN = decode.Suppression("default", 0.6)


def oracles():
    return sorted((helpers.SHARED / "oracle").glob("*.json"))


@cache
def files_of(model):
    """cfg and weights of an oracle's model."""
    if model == "yolov4-tiny":
        official = demo_data()
        return official.cfg, official.weights
    pairs = helpers.SHARED / "corpus/pairs"
    return pairs / f"{model}.cfg", pairs / f"{model}.weights"


@cache
def keras_raws(model):
    """The network of an oracle, and what gives its raw heads: the Keras model, loaded natively."""
    cfg, weights = files_of(model)
    network = parse_cfg(cfg)
    built = build_model(network)
    load_darknet_weights(built, weights)

    def run(pixels):
        raws = built(pixels)
        return raws if isinstance(raws, list) else [raws]

    return network, run


@cache
def folded_function(model):
    """The inference function of an oracle, suppressing as the oracle was made."""
    return build_function(*files_of(model), nms_kind="default")


def folded_raws(model):
    function = folded_function(model)
    return function.network, tf.function(function.raw_heads, autograph=False)


def picture_of(oracle, network):
    """[1, height, width, channels] float32, what Darknet saw."""
    with Image.open(helpers.SHARED / "oracle" / oracle["image"]) as image:
        pixels = np.asarray(image.convert("RGB"), np.float32) / 255
    assert pixels.shape[:2] == (oracle["height"], oracle["width"]) == network.input_shape[:2]
    return pixels[None, ..., : network.input_shape.channels]


class Comparison:
    """Whether a list of ours is Darknet's.

    One of the networks answers pictures of another kind than it was trained on with raw
    numbers in the thousands. Two things follow for its boxes:

    * a side is the exponential of such a number, so that the last bits of a float32 change
      it by more than 1e-4. Sides longer than the picture are compared as logarithms, to one
      millionth of the largest raw number;
    * Darknet's logistic, compiled with -Ofast, overflows to NaN where it should be 0. There
      ours must be on a cell's edge.
    """

    def __init__(self, raws):
        self.magnitude = max(float(np.abs(raw).max()) for raw in raws)
        self.cells = max(raw.shape[1] for raw in raws)

    def same_side(self, ours, theirs):
        if min(ours, theirs) > 1 and math.isfinite(ours) and math.isfinite(theirs):
            return abs(math.log(ours / theirs)) <= max(TOLERANCE / theirs, 1e-6 * self.magnitude)
        return ours == theirs or abs(ours - theirs) <= TOLERANCE

    def same_centre(self, ours, theirs):
        if math.isnan(theirs):
            edge = ours * self.cells
            return self.magnitude > 88 and abs(edge - round(edge)) < 1e-5
        return abs(ours - theirs) <= TOLERANCE

    def same(self, ours, theirs):
        return (
            ours[0] == theirs[0]
            and abs(ours[1] - theirs[1]) <= TOLERANCE
            and all(map(self.same_centre, ours[2:4], theirs[2:4]))
            and all(map(self.same_side, ours[4:], theirs[4:]))
        )

    def assert_same(self, ours, theirs, above):
        """One of ours for each of theirs above the score, and none more."""
        left = list(ours)
        for detection in (row for row in theirs if row[1] > above):
            match = next((row for row in left if self.same(row, detection)), None)
            assert match is not None, f"Darknet has {detection}, we have {left}"
            left.remove(match)
        more = [row for row in left if row[1] > above + TOLERANCE]
        assert not more, f"Darknet lacks {more}"


def rows(classes, scores, boxes):
    """Lists as the oracle has them: class, score, centre x, y, width, height."""
    return [
        [int(class_id), float(score), *map(float, box)]
        for class_id, score, box in zip(classes, scores, np.asarray(boxes), strict=True)
    ]


@cache
def engine_raws(engine, model):
    cfg, weights = files_of(model)
    network = parse_cfg(cfg)
    with WeightsFile.open(weights) as file:
        opened, loaded = open_engine(network, file, ServingOptions(engine=engine), threads=2)
    return network, lambda pixels: opened.raw_heads(pixels, loaded)


PATHS = {"keras": keras_raws, "folded": folded_raws} | {
    name: partial(engine_raws, name) for name in ENGINES
}


@pytest.mark.parametrize("path", helpers.shared_params(oracles, lambda path: path.stem))
@pytest.mark.parametrize("graph", PATHS)
def test_detections_match_darknet(graph, path):
    oracle = helpers.shared_json(f"oracle/{path.name}")
    network, run = PATHS[graph](oracle["model"])
    pixels = picture_of(oracle, network)
    raws = run(pixels)
    comparison = Comparison(raws)
    size = pixels.shape[1:3]

    candidates = decode.find_candidates(raws, network, size, score_threshold=0.1)
    assert not np.any(candidates.pictures)
    ours = rows(candidates.classes, candidates.scores, candidates.boxes)
    comparison.assert_same(ours, oracle["raw_0.1"], 0.11)

    kept = decode.find_detections(
        raws,
        network,
        size,
        score_threshold=0.25,
        iou_threshold=0.45,
        max_boxes=100,
        suppression=PLAIN,
    )
    count = int(kept.counts[0])
    ours = rows(kept.classes[0, :count], kept.scores[0, :count], kept.boxes[0, :count])
    comparison.assert_same(ours, oracle["nms_0.25_0.45"], 0.25)

    # Natively, and in a picture of the input's size: the same to rounding, infinite sides cut.
    contiguous = [np.ascontiguousarray(raw) for raw in raws]
    (native,) = Decoder(network, PLAIN)(contiguous, size, [size], max_boxes=100, letter_box=False)
    assert native.classes.tolist() == kept.classes[0, :count].numpy().tolist()
    np.testing.assert_allclose(native.scores, kept.scores[0, :count], rtol=1e-5)
    corners = decode.to_corners(kept.boxes[:, :count], [[size]])[0]
    np.testing.assert_allclose(native.boxes, corners, rtol=1e-4, atol=1e-2)


def oracles_in_pixels():
    """All but those whose boxes are infinitely wide: left and right do not tell where they are."""
    return [path for path in oracles() if "IR_small_v3" not in path.stem]


@pytest.mark.parametrize("path", helpers.shared_params(oracles_in_pixels, lambda path: path.stem))
def test_the_inference_function_answers_what_darknet_does(path):
    oracle = helpers.shared_json(f"oracle/{path.name}")
    function = folded_function(oracle["model"])
    network = function.network
    pixels = picture_of(oracle, network)
    comparison = Comparison(function.raw_heads(pixels))
    height, width = network.input_shape[:2]
    for images in (pixels, np.round(pixels * 255).astype(np.uint8)):
        kept = function(images)
        count = int(kept.counts[0])
        left, top, right, bottom = np.split(kept.boxes[0, :count].numpy().astype(float), 4, 1)
        boxes = [(left + right) / 2 / width, (top + bottom) / 2 / height]
        boxes += [(right - left) / width, (bottom - top) / height]
        ours = rows(kept.classes[0, :count], kept.scores[0, :count], np.concatenate(boxes, 1))
        comparison.assert_same(ours, oracle["nms_0.25_0.45"], 0.25)


def test_darknets_recorded_detections_are_many(shared):
    lists = [helpers.shared_json(f"oracle/{path.name}") for path in oracles()]
    assert len(lists) == 25
    assert sum(row[1] > 0.11 for oracle in lists for row in oracle["raw_0.1"]) > 700
    assert sum(len(oracle["nms_0.25_0.45"]) for oracle in lists) > 100


def test_the_stock_network_is_the_one_the_official_file_came_with(official_tiny):
    theirs, ours = parse_cfg(official_tiny.cfg), networks.network("yolov4-tiny")
    assert helpers.network_facts(ours) == helpers.network_facts(theirs)
    assert ours.input_shape == theirs.input_shape
