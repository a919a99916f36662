"""Heads with any class tree, against NumPy that computes all of its probabilities."""

import itertools
import math
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from support.messages import refused
from support.slow_decoding import network_of, raw_for
from yolotf import _core
from yolotf.darknet.decoding import NMS_KINDS, Suppression
from yolotf.runtime.decoding import Decoder

SIZE = (64, 96)
ODD = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0], np.float32)


class Answers(NamedTuple):
    """What NumPy computes for one head."""

    raw: np.ndarray
    """For the head without tree and softmax: of each box one class number, its score."""
    scores: np.ndarray
    compared: np.ndarray
    """All that was compared with a half."""
    objectness: np.ndarray


def random_parents(classes, random):
    """Half of the classes have the parent of the one before them."""
    parents = []
    for place in range(classes):
        goes_on = place > 0 and random.random() < 0.5
        parents.append(parents[-1] if goes_on else int(random.integers(-1, place)))
    return parents


def runs_of(parents):
    return [len(list(run)) for _, run in itertools.groupby(parents)]


def networks_of(parents, fixes, folder, net=""):
    """A head of the tree for each of `fixes`, and as many without tree and softmax."""
    path = Path(folder, "random.tree")
    path.write_text("".join(f"c{place} {parent}\n" for place, parent in enumerate(parents)))
    filters = 2 * (5 + len(parents))
    head = f"[region]\nanchors=1,1.5,3,2\nclasses={len(parents)}\ncoords=4\nnum=2\n"
    extras = [f"softmax=1\ntree={path}\n{'classfix=-1' if fix else ''}" for fix in fixes]
    heads = [(filters, head + extra) for extra in extras]
    return network_of(*heads, net=net), network_of(*[(filters, head)] * len(fixes), net=net)


def probabilities_of(numbers, parents):
    """[boxes, classes]: softmax_tree and hierarchy_predictions."""
    likely, start = np.empty(numbers.shape), 0
    for count in runs_of(parents):
        part = numbers[:, start : start + count]
        powers = np.exp((part - part.max(1, keepdims=True)).astype(np.float64))
        likely[:, start : start + count] = powers / powers.sum(1, keepdims=True)
        start += count
    for place, parent in enumerate(parents):
        if parent >= 0:
            likely[:, place] *= likely[:, parent]
    return likely


def answers_of(raw, parents, fix, score):
    """Boxes as get_region_boxes computes them (region_layer.c:379-420)."""
    rows = raw.reshape(-1, 5 + len(parents))
    with np.errstate(all="ignore"):
        objectness = 1 / (1 + np.exp(-rows[:, 4].astype(np.float64)))
        likely = probabilities_of(rows[:, 5:], parents)
    compared = np.append(likely, objectness if fix else [])
    if fix:
        objectness[objectness < 0.5] = 0
    scores = np.zeros(likely.shape)
    for box in np.flatnonzero(objectness > score):
        last = np.flatnonzero(likely[box] > 0.5)[-1:]
        scores[box, last] = likely[box, last]
    sure = np.full((len(rows), 1), 100, np.float32)
    plain = np.hstack([rows[:, :4], sure, scores.astype(np.float32)])
    return Answers(plain.reshape(raw.shape), scores, compared, objectness)


def is_decided(answers, score):
    """Whether no comparison depends on the last bit, in which implementations may differ."""
    compared = np.concatenate([answer.compared for answer in answers])
    objectness = np.concatenate([answer.objectness for answer in answers])
    scores = np.sort(np.concatenate([answer.scores[answer.scores > 0] for answer in answers]))
    gaps = np.diff(scores)
    return not (
        np.any(np.abs(compared - 0.5) < 2e-6)
        or np.any(np.abs(objectness - score) < 1e-6 * score)
        or np.any(np.abs(scores - score) < 2e-6)
        or np.any((gaps > 0) & (gaps < 2e-6))
    )


@st.composite
def problems(draw):
    """Parents, which heads have a class fix, their numbers, pictures, the rule and options."""
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    parents = random_parents(draw(st.integers(1, 25)), random)
    fixes = draw(st.lists(st.booleans(), min_size=1, max_size=3))
    batch = draw(st.integers(1, 3))
    with tempfile.TemporaryDirectory() as folder:
        network, plain = networks_of(
            parents, fixes, folder, f"letter_box={draw(st.integers(0, 1))}"
        )
        rule = Suppression(draw(st.sampled_from(NMS_KINDS)), 0.4)
        decoder = Decoder(network, rule)
    scale = draw(st.sampled_from([0.5, 3.0]))
    raws = raw_for(plain, batch=batch, seed=draw(st.integers(0, 10**6)), scale=scale)
    for raw in raws:
        is_odd = random.random(raw.shape) < draw(st.sampled_from([0, 0.03]))
        raw[is_odd] = random.choice(ODD, np.count_nonzero(is_odd))
    pictures = st.tuples(st.integers(2, 900), st.integers(2, 900))
    options = {
        "image_sizes": draw(st.lists(pictures, min_size=batch, max_size=batch)),
        "score_threshold": draw(
            st.sampled_from([0.0, 0.005, 0.25, 0.55, 0.9, math.nextafter(1, 0)])
        ),
        "iou_threshold": draw(st.sampled_from([0.0, 0.45, 0.9])),
        "max_boxes": draw(st.sampled_from([1, 4, 300])),
        "agnostic": draw(st.booleans()),
        "unwanted": draw(st.lists(st.integers(0, len(parents)), max_size=3)),
        "threads": draw(st.integers(1, 2)),
    }
    return parents, fixes, raws, decoder, Decoder(plain, rule), options


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(problems())
def test_detections_match_those_of_all_class_probabilities(problem):
    parents, fixes, raws, decoder, plain, options = problem
    score = options["score_threshold"]
    answers = [answers_of(raw, parents, fix, score) for raw, fix in zip(raws, fixes, strict=True)]
    assume(is_decided(answers, score))
    expected = plain([answer.raw for answer in answers], SIZE, **options)
    for actual, other in zip(decoder(raws, SIZE, **options), expected, strict=True):
        assert actual.classes.tolist() == other.classes.tolist()
        assert actual.boxes.tolist() == other.boxes.tolist()
        np.testing.assert_allclose(actual.scores, other.scores, rtol=1e-6)


@pytest.mark.parametrize("score", [0.005, 0.25])
def test_large_trees_give_the_same_detections(score, tmp_path):
    random = np.random.default_rng(8)
    parents, fixes = random_parents(300, random), [False, True]
    network, plain = networks_of(parents, fixes, tmp_path)
    raws = raw_for(network, batch=8, seed=9, scale=2.5)
    answers = [answers_of(raw, parents, fix, score) for raw, fix in zip(raws, fixes, strict=True)]
    assert is_decided(answers, score)
    sizes = [SIZE] * 8
    detections = Decoder(network)(raws, SIZE, sizes, score_threshold=score)
    expected = Decoder(plain)(
        [answer.raw for answer in answers], SIZE, sizes, score_threshold=score
    )
    for actual, other in zip(detections, expected, strict=True):
        assert actual.classes.tolist() == other.classes.tolist()
        assert actual.boxes.tolist() == other.boxes.tolist()
        np.testing.assert_allclose(actual.scores, other.scores, rtol=1e-6)
    classes = np.concatenate([kept.classes for kept in detections])
    assert len(classes) > 60
    assert len(set(classes.tolist())) > 10


@pytest.mark.parametrize(
    ("parents", "groups"),
    [
        ([-1, -2], [2]),
        ([-1, 2], [1, 1]),
        ([-1, 2**63 - 1], [1, 1]),
        ([-1, 1], [1, 1]),
        ([1, 0], [1, 1]),
        ([-1, -1, 0], [3]),
        ([-1, -1, 0], [2]),
        ([-1, -1], []),
        ([-1, -1], [2, 1]),
        ([-1, -1], [0, 2]),
        ([-1, -1], [-1, 3]),
        ([-1, -1], [2**63 - 1] * 2),
        ([], [1]),
    ],
)
def test_invalid_trees_are_refused(parents, groups):
    with refused(ValueError):
        _core.ClassTree(parents, groups)


def test_a_tree_of_other_heads_is_refused():
    tree = _core.ClassTree([-1, -1, 0, 0], [2, 2])
    raw, sizes = np.zeros((1, 1, 1, 9), np.float32), np.ones((1, 2), np.int64)
    good, numbers = [2, 4, 1, 0, 1, 0, 0, 0], np.array([[1.0, 0.0, 5.0, 5.0]])
    options = {"score": 0.25, "iou": 0.45, "max_boxes": 3}

    def detect(head, tree):
        return _core.detections(
            [raw], np.array([head]), numbers, (1, 1), sizes, tree=tree, **options
        )

    boxes, *_ = detect(good, tree)
    assert boxes.shape == (0, 4)
    for column, value in ((0, 0), (0, 1), (0, 3), (1, 3), (1, 5), (1, -1)):
        row = list(good)
        row[column] = value
        with refused(ValueError):
            detect(row, tree)
    with pytest.raises(RuntimeError):  # one whose __init__ never ran
        detect(good, _core.ClassTree.__new__(_core.ClassTree))


def test_a_tree_may_be_empty_or_as_deep_as_it_has_classes():
    assert _core.ClassTree([], [])
    classes = 100_000
    tree = _core.ClassTree(range(-1, classes - 1), [1] * classes)
    heads, numbers = np.array([[2, classes, 1, 0, 1, 0, 0, 0]]), np.array([[1.0, 0.0, 5.0, 5.0]])
    _, scores, class_ids, _ = _core.detections(
        [np.zeros((1, 1, 1, 5 + classes), np.float32)],
        heads,
        numbers,
        (1, 1),
        np.ones((1, 2), np.int64),
        score=0.25,
        iou=0.45,
        max_boxes=3,
        tree=tree,
    )
    assert (scores.tolist(), class_ids.tolist()) == ([1.0], [classes - 1])
