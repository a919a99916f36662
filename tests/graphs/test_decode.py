"""Decoding and suppression against NumPy written one box at a time, as Darknet's loops run."""

import math

import numpy as np
import pytest
import tensorflow as tf

from support.messages import refused
from support.slow_decoding import (
    HEADS,
    network_of,
    pairs_of,
    raw_for,
    region,
    shares,
    slow_decode,
    slow_suppress,
    yolo,
)
from yolotf.darknet.cfg import parse_cfg
from yolotf.errors import UnsupportedSectionError
from yolotf.graphs import decode


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("dynamic", [False, True])
def test_every_head_decodes_like_darknets_loops(name, dynamic):
    network = network_of(HEADS[name], height=64, width=96)
    (head,), (raw,) = network.heads, raw_for(network)
    shape = [None, None, None, raw.shape[-1]] if dynamic else raw.shape
    decoded = tf.function(
        lambda x, size: decode.decode_head(x, head, (size[0], size[1]) if dynamic else (64, 96)),
        input_signature=[tf.TensorSpec(shape), tf.TensorSpec([2], tf.int32)],
    )(raw, [64, 96])
    expected = slow_decode(raw, head, 64, 96)
    for part, actual in enumerate(decoded):
        wanted = np.array([[box[part] for box in picture] for picture in expected])
        np.testing.assert_allclose(actual, wanted, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["decode", "find_candidates"])
def test_functions_that_xla_compiles_are_refused(name):
    """XLA computes other boxes than TensorFlow, without an error."""
    network = network_of(yolo())
    (raw,) = raw_for(network)
    options = {"iou_threshold": 0.45, "max_boxes": 7} if name == "decode" else {}

    def compute(raw):
        return getattr(decode, name)([raw], network, (64, 96), score_threshold=0.25, **options)

    with refused(ValueError):
        tf.function(compute, jit_compile=True, autograph=False)(raw)
    assert len(tf.function(compute)(raw).boxes)


def test_a_head_is_decoded_by_xla_as_without():
    network = network_of(yolo())
    (head,), (raw,) = network.heads, raw_for(network)
    compiled = tf.function(lambda x: decode.decode_head(x, head, (64, 96)), jit_compile=True)(raw)
    for part, expected in zip(compiled, decode.decode_head(raw, head, (64, 96)), strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_static_shapes_stay_known_while_tracing():
    network = network_of(yolo())
    shapes = {}

    @tf.function(input_signature=[tf.TensorSpec([None, *network.heads[0].input_shape])])
    def trace(raw):
        shapes["boxes"] = decode.decode_head(raw, network.heads[0], (64, 96)).boxes.shape
        detections = decode.find_detections(
            [raw], network, (64, 96), score_threshold=0.25, iou_threshold=0.45, max_boxes=7
        )
        shapes["found"] = detections.boxes.shape
        return detections.counts

    trace.get_concrete_function()
    assert shapes["boxes"].as_list() == [None, 2 * 3 * 2, 4]
    assert shapes["found"].as_list() == [None, 7, 4]


@pytest.mark.parametrize("softmax", [0, 1])
@pytest.mark.parametrize("sqrt", [0, 1])
def test_version_1_detection_layer_decodes_like_darknets_loops(softmax, sqrt):
    side, num, classes = 3, 2, 4
    outputs = side * side * (classes + num * 5)
    network = parse_cfg(
        f"[net]\nwidth=8\nheight=8\nchannels=3\n[connected]\noutput={outputs}\n"
        f"activation=linear\n[detection]\nclasses={classes}\ncoords=4\nside={side}\nnum={num}\n"
        f"softmax={softmax}\nsqrt={sqrt}\n"
    )
    raw = np.random.default_rng(1).normal(0, 1, (2, outputs)).astype(np.float32)
    decoded = decode.decode_head(tf.constant(raw), network.heads[0], (8, 8))
    for b in range(2):
        x = raw[b].astype(float)
        for cell in range(side * side):
            numbers = list(x[cell * classes : (cell + 1) * classes])
            for anchor in range(num):
                index = cell * num + anchor
                box = x[side * side * (classes + num) + 4 * index :][:4]
                power = 2 if sqrt else 1
                wanted = (
                    (box[0] + cell % side) / side,
                    (box[1] + cell // side) / side,
                    box[2] ** power,
                    box[3] ** power,
                )
                np.testing.assert_allclose(decoded.boxes[b, index], wanted, rtol=1e-5)
                assert decoded.objectness[b, index] == raw[b, side * side * classes + index]
                np.testing.assert_allclose(
                    decoded.probabilities[b, index],
                    shares(numbers) if softmax else numbers,
                    rtol=1e-5,
                )


def test_a_convolution_before_a_version_1_head_is_flattened_channels_first():
    network = parse_cfg(
        "[net]\nwidth=2\nheight=2\nchannels=3\n[convolutional]\nfilters=7\nactivation=linear\n"
        "[detection]\nclasses=2\ncoords=4\nside=2\nnum=1\n"
    )
    raw = np.arange(28, dtype=np.float32).reshape(1, 7, 2, 2)  # channels first, as in Darknet
    decoded = decode.decode_head(tf.constant(raw.transpose(0, 2, 3, 1)), network.heads[0], (2, 2))
    np.testing.assert_array_equal(decoded.probabilities[0], np.arange(8).reshape(4, 2))
    np.testing.assert_array_equal(decoded.objectness[0], [8, 9, 10, 11])


@pytest.mark.parametrize("name", HEADS)
def test_candidates_are_the_pairs_above_the_threshold(name):
    network = network_of(HEADS[name], yolo("nms_kind=greedynms"))
    raws = raw_for(network, batch=3, seed=3)
    candidates = decode.find_candidates(raws, network, (64, 96), score_threshold=0.2)
    expected = pairs_of(network, raws, (64, 96), 0.2)
    assert sum(map(len, expected)) > 20
    for number, pairs in enumerate(expected):
        mine = np.flatnonzero(candidates.pictures == number)
        assert candidates.classes.numpy()[mine].tolist() == [pair[1] for pair in pairs]
        np.testing.assert_allclose(
            candidates.scores.numpy()[mine], [p[0] for p in pairs], rtol=1e-5
        )
        np.testing.assert_allclose(candidates.boxes.numpy()[mine], [p[2] for p in pairs], rtol=1e-5)


def test_low_objectness_rules_a_yolo_box_out_whatever_its_classes_say():
    # With new_coords the numbers are taken as they are, so a probability can exceed 1.
    network = network_of(yolo("new_coords=1", anchors="9,9", mask="0"), height=32, width=32)
    raw = np.zeros((1, 1, 1, 9), np.float32)
    raw[..., 4], raw[..., 5] = 0.2, 4.0
    candidates = decode.find_candidates([raw], network, (32, 32), score_threshold=0.25)
    assert candidates.scores.shape[0] == 0


def test_a_region_box_without_softmax_counts_by_the_product_alone():
    network = network_of(region("softmax=0"), height=32, width=32)
    raw = np.zeros((1, 1, 1, 18), np.float32)
    raw[..., 4], raw[..., 5] = math.log(0.2 / 0.8), 4.0
    candidates = decode.find_candidates([raw], network, (32, 32), score_threshold=0.25)
    np.testing.assert_allclose(candidates.scores, [0.8], rtol=1e-5)


def test_classfix_minus_one_drops_region_boxes_of_low_objectness():
    raw = np.zeros((1, 1, 1, 18), np.float32)
    raw[..., 4], raw[..., 13] = math.log(0.49 / 0.51), math.log(0.51 / 0.49)
    for extra, count in (("softmax=1", 8), ("softmax=1\nclassfix=-1", 4)):
        network = network_of(region(extra), height=32, width=32)
        candidates = decode.find_candidates([raw], network, (32, 32), score_threshold=0.1)
        assert candidates.scores.shape[0] == count


def crowd(seed, count, classes=3):
    """Boxes in heaps, so that chains of exclusion occur."""
    random = np.random.default_rng(seed)
    centre = random.choice(random.uniform(0.2, 0.8, (6, 2)), count)
    boxes = np.concatenate(
        [centre + random.normal(0, 0.04, (count, 2)), random.uniform(0.1, 0.4, (count, 2))], 1
    )
    return (
        boxes.astype(np.float32),
        random.integers(0, classes, count).astype(np.int32),
        random.permutation(np.linspace(0.05, 0.95, count)).astype(np.float32),
    )


def suppress_crowds(crowds, suppression, threshold, max_boxes):
    columns = zip(*crowds, strict=True)
    boxes, classes, scores = (np.concatenate(column) for column in columns)
    pictures = np.repeat(np.arange(len(crowds), dtype=np.int32), [len(c[1]) for c in crowds])
    mixed = np.random.default_rng(0).permutation(len(scores))
    candidates = decode.Candidates(
        *(tf.constant(column[mixed]) for column in (pictures, boxes, classes, scores))
    )

    @tf.function(autograph=False)
    def run(candidates):
        return decode.suppress(
            candidates, len(crowds), suppression, iou_threshold=threshold, max_boxes=max_boxes
        )

    return run(candidates)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "beta"), [("default", 0.6), ("greedynms", 0.3), ("diounms", 0.6), ("diounms", 0.3)]
)
@pytest.mark.parametrize("threshold", [0.2, 0.45, 0.7])
def test_suppression_leaves_what_the_greedy_loop_leaves(kind, beta, threshold):
    # Empty, small, exactly one tile, and several tiles.
    sizes = (0, 1, 40, 128, 129, 700)
    crowds = [crowd(seed, size) for seed, size in enumerate(sizes)]
    kept = suppress_crowds(crowds, decode.Suppression(kind, beta), threshold, 700)
    longest = 0
    for number, (boxes, classes, scores) in enumerate(crowds):
        pairs = list(zip(scores.tolist(), classes.tolist(), boxes.tolist(), strict=True))
        expected = slow_suppress(pairs, threshold, kind, beta)
        longest = max(longest, len(expected))
        assert kept.counts[number] == len(expected)
        rows = slice(0, len(expected))
        np.testing.assert_array_equal(kept.scores[number, rows], [p[0] for p in expected])
        np.testing.assert_array_equal(kept.classes[number, rows], [p[1] for p in expected])
        np.testing.assert_array_equal(
            kept.boxes[number, rows], np.reshape([p[2] for p in expected], (-1, 4))
        )
        for column in (kept.boxes, kept.scores, kept.classes):
            assert not np.any(column[number, len(expected) :])
    assert 20 < longest < 700


def test_the_rules_differ_on_the_test_material():
    boxes, classes, scores = crowd(5, 300)
    pairs = list(zip(scores.tolist(), classes.tolist(), boxes.tolist(), strict=True))
    left = {
        (kind, beta): len(slow_suppress(pairs, 0.45, kind, beta))
        for kind, beta in (("default", 0), ("greedynms", 0), ("diounms", 0.3))
    }
    assert len(set(left.values())) == 3


@pytest.mark.slow
def test_max_boxes_keeps_the_best():
    crowds = [crowd(1, 500), crowd(2, 20), crowd(3, 500)]
    rule = decode.Suppression("default", 0.6)
    every = suppress_crowds(crowds, rule, 0.3, 500)
    some = suppress_crowds(crowds, rule, 0.3, 9)
    assert every.counts[0] > 9 < every.counts[2]
    assert some.counts.numpy().tolist() == [9, min(9, every.counts[1]), 9]
    np.testing.assert_array_equal(some.scores, every.scores[:, :9])
    np.testing.assert_array_equal(some.boxes, every.boxes[:, :9])


def test_boxes_without_extent_exclude_nothing():
    boxes = np.array([[0.5, 0.5, 0, 0]] * 2, np.float32)
    crowds = [(boxes, np.zeros(2, np.int32), np.array([0.9, 0.8], np.float32))]
    for kind in ("default", "greedynms", "diounms"):
        kept = suppress_crowds(crowds, decode.Suppression(kind, 0.6), 0.45, 4)
        assert kept.counts[0] == 2


def test_equal_overlap_is_not_above_the_threshold():
    # One box is half of the other: their overlap is 0.5 without rounding.
    boxes = np.array([[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.25]], np.float32)
    crowds = [(boxes, np.zeros(2, np.int32), np.array([0.9, 0.8], np.float32))]
    rule = decode.Suppression("default", 0.6)
    assert suppress_crowds(crowds, rule, 0.5, 4).counts[0] == 2
    assert suppress_crowds(crowds, rule, 0.49, 4).counts[0] == 1


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (yolo("nms_kind=greedynms\nbeta_nms=0.3"), ("greedynms", 0.3)),
        (yolo("nms_kind=diounms"), ("diounms", 0.6)),
        (yolo("nms_kind=cornersnms"), ("default", 0.6)),
        (region(), ("default", 0.6)),
    ],
)
def test_the_last_head_says_how_to_suppress(last, expected):
    network = network_of(yolo("nms_kind=diounms\nbeta_nms=0.9"), last)
    assert decode.suppression_of(network) == expected


@pytest.mark.parametrize("kind", ["default", "greedynms", "diounms"])
def test_from_raw_heads_to_detections_of_a_batch(kind):
    network = network_of(yolo(f"nms_kind={kind}\nbeta_nms=0.4"), yolo(f"nms_kind={kind}"))
    raws = raw_for(network, batch=4, seed=8, scale=2)
    raws[0][1], raws[1][1] = -20, -20  # nothing in the second picture
    detections = decode.find_detections(
        raws, network, (64, 96), score_threshold=0.15, iou_threshold=0.3, max_boxes=200
    )
    for number, pairs in enumerate(pairs_of(network, raws, (64, 96), 0.15)):
        expected = slow_suppress(pairs, 0.3, kind, 0.6)
        assert detections.counts[number] == len(expected)
        rows = slice(0, len(expected))
        np.testing.assert_allclose(
            detections.scores[number, rows], [p[0] for p in expected], rtol=1e-5
        )
        np.testing.assert_array_equal(detections.classes[number, rows], [p[1] for p in expected])
    assert detections.counts[1] == 0
    assert min(detections.counts[0], detections.counts[2], detections.counts[3]) > 3


@pytest.mark.parametrize("picture", [(480, 640), (640, 480), (333, 1000), (7, 5), (64, 96)])
def test_letter_box_is_undone_as_darknet_does(picture):
    height, width, net_height, net_width = *picture, 64, 96
    if net_width / width < net_height / height:
        inner_width, inner_height = net_width, height * net_width // width
    else:
        inner_width, inner_height = width * net_height // height, net_height
    # A box in the picture, put into the letter box by hand.
    box = np.array([0.3, 0.6, 0.2, 0.5])
    left, top = (net_width - inner_width) / 2, (net_height - inner_height) / 2
    seen = [
        (left + box[0] * inner_width) / net_width,
        (top + box[1] * inner_height) / net_height,
        box[2] * inner_width / net_width,
        box[3] * inner_height / net_height,
    ]
    size = decode.letter_box_size([picture], (net_height, net_width))
    assert size.numpy().tolist() == [[inner_height, inner_width]]
    boxes_in_pixels = decode.undo_letter_box(
        tf.constant([seen], tf.float32), tf.constant([picture]), (64, 96)
    )
    np.testing.assert_allclose(boxes_in_pixels, [box], rtol=1e-5)
    corners = decode.to_corners(boxes_in_pixels, [picture])
    np.testing.assert_allclose(
        corners,
        [[0.2 * width, 0.35 * height, 0.4 * width, 0.85 * height]],
        rtol=1e-5,
    )


def test_letter_boxed_networks_suppress_in_the_pictures_proportions():
    # Two boxes beside each other overlap by 0.681. Less the centre distance that is 0.632 in
    # the input, and 0.680 in a picture 25 times as wide, whose boxes are much higher
    # relative to it.
    raw = np.full((1, 1, 2, 9), -20, np.float32)
    raw[..., 4:6] = 5
    raw[0, 0, 0, :2], raw[0, 0, 1, :2] = (1.4, 0), (-1.4, 0)
    raw[..., 2:4] = 0.8
    counts = {}
    for letter_box in (0, 1):
        head = yolo("nms_kind=greedynms", anchors="30,30", mask="0")
        network = network_of(head, height=32, width=64, net=f"letter_box={letter_box}")
        for picture in ((32, 64), (32, 1600)):
            detections = decode.find_detections(
                [raw],
                network,
                (32, 64),
                score_threshold=0.25,
                iou_threshold=0.66,
                max_boxes=5,
                image_sizes=tf.constant([picture]),
            )
            counts[letter_box, picture[1]] = int(detections.counts[0])
    assert counts == {(0, 64): 2, (0, 1600): 2, (1, 64): 2, (1, 1600): 1}


def test_a_class_tree_is_of_all_heads_or_of_none():
    network = network_of(region("tree=data/9k.tree"), region())
    with refused(UnsupportedSectionError):
        decode.check_heads(network)


def test_a_head_with_a_class_tree_needs_the_tree():
    network = network_of(region("tree=data/9k.tree"))
    with refused(UnsupportedSectionError):
        decode.decode_head(raw_for(network)[0], network.heads[0], (64, 96))


def test_a_network_without_heads_is_refused():
    network = parse_cfg("[net]\nwidth=4\nheight=4\nchannels=3\n[convolutional]\nfilters=2\n")
    with refused(UnsupportedSectionError):
        decode.check_heads(network)


def test_regions_of_other_than_four_coordinates_are_refused():
    network = network_of((2 * 11, region()[1].replace("coords=4", "coords=6")))
    with refused(UnsupportedSectionError):
        decode.check_heads(network)


def test_a_single_head_may_come_without_its_list():
    network = network_of(yolo())
    (raw,) = raw_for(network, batch=1, scale=2)
    options = {"score_threshold": 0.2, "iou_threshold": 0.45, "max_boxes": 9}
    bare = decode.find_detections(raw, network, (64, 96), **options)
    listed = decode.find_detections([raw], network, (64, 96), **options)
    assert bare.counts[0] > 0
    np.testing.assert_array_equal(bare.boxes, listed.boxes)


def test_raw_heads_of_other_shapes_are_refused():
    network = network_of(yolo(), yolo())
    raws = raw_for(network)
    with refused(ValueError):
        decode.find_candidates(raws[0], network, (64, 96), score_threshold=0.2)
    with refused(ValueError):
        decode.decode_head(raws[0][..., :17], network.heads[0], (64, 96))


@pytest.mark.parametrize("extent", [math.inf, math.nan, 1e38])
def test_infinite_box_sides_reach_from_edge_to_edge(extent):
    boxes = tf.constant([[0.25, 0.5, extent, 0.5], [0.25, 0.5, 0.5, extent]])
    corners = decode.to_corners(boxes, [[480, 640]]).numpy().tolist()
    assert corners == [[0, 120, 640, 360], [0, 0, 320, 480]]


def test_nan_box_centres_reach_from_edge_to_edge():
    corners = decode.to_corners(tf.constant([[math.nan, math.inf, 0.5, 0.5]]), [[480, 640]])
    assert corners.numpy().tolist() == [[0, 0, 640, 480]]
