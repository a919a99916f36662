"""The serving path: folded network, inference function, detector, reload and export."""

import copy
import gc
import inspect
import io
import json
import multiprocessing
import pickle
import re
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import yolotf
from support import helpers, messages, numpy_loader
from support.cfgs import conv, net, normalized
from support.networks_of_sections import SECTIONS, SMALL, around
from yolotf import Classifier, inference
from yolotf.darknet import stock as networks
from yolotf.darknet.cfg import parse_cfg
from yolotf.darknet.detection_options import DetectionOptions
from yolotf.errors import (
    ContentError,
    ForkedProcessError,
    SizeMismatchError,
    TensorFlowVersionError,
    UnsupportedSectionError,
    WeightsMismatch,
    YolotfError,
)
from yolotf.evaluation import evaluate
from yolotf.formats.convert import convert
from yolotf.graphs import decode
from yolotf.graphs.folded_network import FoldedNetwork
from yolotf.inference import Detector, InferenceFunction, build_function
from yolotf.inference.tensorflow_engine import TracedNetwork
from yolotf.models.build import build_model
from yolotf.runtime.decoding import Decoder
from yolotf.runtime.network import Weights as RuntimeWeights
from yolotf.runtime.options import ServingOptions
from yolotf.weights import layout, op_library
from yolotf.weights import write as writing


@pytest.fixture
def small_file(tmp_path):
    def make(seed=0, gain=1.0, text=SMALL):
        path = tmp_path / f"{seed}_{gain}.weights"
        path.write_bytes(numpy_loader.random_file(text, seed, gain))
        return path

    return make


def assert_folded_is_keras(text, tmp_path, network=None, batch=2, **options):
    network = network or parse_cfg(text)
    content = numpy_loader.random_file(text, seed=len(text))
    path = tmp_path / "random.weights"
    path.write_bytes(content)
    model = build_model(network)
    numpy_loader.load(model, text, content)
    folded = FoldedNetwork(network, **options)
    folded.load(path)
    random = np.random.default_rng(1)
    pictures = random.random((batch, *network.input_shape), np.float32)
    theirs = model(pictures)
    theirs = theirs if isinstance(theirs, list) else [theirs]
    ours = tf.function(folded)(pictures)
    assert len(ours) == len(theirs)
    for actual, other in zip(ours, theirs, strict=True):
        assert actual.shape == other.shape
        other = other.numpy()
        assert np.ptp(other) > 0
        np.testing.assert_allclose(actual, other, rtol=0, atol=1e-5 * np.abs(other).max())


@pytest.mark.slow
@pytest.mark.parametrize("use_onednn", [None, False])
@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_computes_what_the_keras_model_does(name, use_onednn, tmp_path):
    assert_folded_is_keras(around(SECTIONS[name]), tmp_path, use_onednn=use_onednn)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "yolov4",
        "yolov4-csp",
        "yolov4-tiny-3l",
        "yolov3-spp",
        "yolov7-tiny",
        "yolov2",
        "yolov3-tiny",
    ],
)
def test_stock_networks_compute_what_the_keras_models_do(name, tmp_path):
    network = networks.network(name, classes=2, size=(64, 96))
    assert_folded_is_keras(network.to_cfg(), tmp_path, network, batch=1)


def test_folding_is_exact_to_a_float(tmp_path):
    """Against the definition, in double: y = gamma (w * x - mean) / deviation + beta."""
    text = around(
        "[convolutional]\nbatch_normalize=1\nfilters=16\nsize=3\npad=1\ngroups=8\nactivation=linear"
    )
    network = parse_cfg(text)
    content = numpy_loader.random_file(text, seed=4)
    floats = np.frombuffer(content[20:], np.float32)
    position, arrays = 0, {}
    for stored in numpy_loader.stored(text):
        count = int(np.prod(stored.shape))
        arrays[stored.index, stored.role] = floats[position : position + count].reshape(
            stored.shape
        )
        position += count
    path = tmp_path / "a.weights"
    path.write_bytes(content)
    folded = FoldedNetwork(network)
    folded.load(path)
    for index, shape in ((1, (3, 3, 8, 8)), (2, (3, 3, 8, 2))):
        double = {role: arrays[index, role].astype(float) for i, role in arrays if i == index}
        scale = double["gamma"] / np.sqrt(double["moving_variance"] + 1e-5)
        kernel = double["kernel"] * scale[:, None, None, None]
        if index == 1:
            kernel = kernel.transpose(2, 3, 1, 0)
        else:
            kernel = kernel.reshape(8, 2, 3, 3).transpose(2, 3, 0, 1)
        assert folded.stored[f"{index}/kernel"].shape == shape
        np.testing.assert_allclose(folded.stored[f"{index}/kernel"].numpy(), kernel, rtol=1e-7)
        bias = double["beta"] - double["moving_mean"] * scale
        actual = folded.stored[f"{index}/bias"].numpy()
        np.testing.assert_allclose(actual, bias, rtol=1e-6, atol=1e-7)


# Loading


def variables_of(folded):
    return {name: variable.numpy() for name, variable in folded.stored.items()}


def damaged(content, kind):
    """A file for SMALL that must not load."""
    match kind:
        case "short":
            return content[:-8], SizeMismatchError
        case "long":
            return content + bytes(4), SizeMismatchError
        case "shifted":
            # As one that was written without the scales of the first layer, and with as many
            # floats more at the end.
            return content[:20] + content[20 + 4 * 24 :] + bytes(4 * 24), ContentError
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["short", "long", "shifted"])
def test_a_file_that_does_not_fit_changes_nothing(kind, small_file, tmp_path):
    folded = FoldedNetwork(parse_cfg(SMALL))
    good = small_file(1)
    folded.load(good)
    before = variables_of(folded)
    content, expected = damaged(small_file(2).read_bytes(), kind)
    bad = tmp_path / "bad.weights"
    bad.write_bytes(content)
    with messages.refused(expected):
        folded.load(bad)
    after = variables_of(folded)
    assert all(np.array_equal(before[name], after[name]) for name in before)


LARGE = net(6, 8) + 3 * normalized(512, 3) + conv(512, 3) + "[batchnorm]\n"
"""28 MB: a first load reads it in four parts."""


def large_file(path, seed):
    path.write_bytes(numpy_loader.random_file(LARGE, seed))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("op", [True, False])
@pytest.mark.parametrize("held_open", [False, True])
def test_a_first_load_gives_what_any_load_does(held_open, op, tmp_path, monkeypatch):
    """Also if the file is copied and not mapped, and without the op."""
    path = large_file(tmp_path / "a.weights", 1)
    expected = FoldedNetwork(parse_cfg(LARGE))
    expected.load(path)
    if not op:
        monkeypatch.setattr(writing, "_op_can", lambda targets: False)
    folded = FoldedNetwork(parse_cfg(LARGE))
    with path.open("r+b" if held_open else "rb"):
        folded.load(path, contents_disposable=True)
        before = {key: variable.read_value() for key, variable in folded.stored.items()}
        folded.load(path, contents_disposable=True)  # into new memory, as somebody holds the old
    for key, variable in expected.stored.items():
        np.testing.assert_array_equal(folded.stored[key].numpy(), variable.numpy())
        np.testing.assert_array_equal(before[key].numpy(), variable.numpy())


def test_a_first_load_of_a_bad_file_is_refused_and_a_good_one_follows(tmp_path):
    good = large_file(tmp_path / "a.weights", 1)
    network = parse_cfg(LARGE)
    content = bytearray(good.read_bytes())
    segments = layout.segments(network)
    variance = next(s for s in segments if s.layer == 2 and s.role == "moving_variance")
    offset = 20 + variance.offset + 4 * 300
    content[offset : offset + 4] = np.float32(-1).tobytes()
    bad = tmp_path / "bad.weights"
    bad.write_bytes(content)
    errors = []
    for disposable in (False, True):
        folded = FoldedNetwork(network)
        with pytest.raises(ContentError) as error:
            folded.load(bad, contents_disposable=disposable)
        errors.append(error.value)
        assert error.value.offset == offset
    assert str(errors[0]) == str(errors[1])
    folded.load(bad, verify=False, contents_disposable=True)
    folded.load(good, contents_disposable=True)
    expected = FoldedNetwork(network)
    expected.load(good)
    for key, variable in expected.stored.items():
        np.testing.assert_array_equal(folded.stored[key].numpy(), variable.numpy())


def test_a_first_load_of_another_size_writes_nothing(small_file, tmp_path):
    folded = FoldedNetwork(parse_cfg(SMALL))
    folded.load(small_file(1), contents_disposable=True)
    before = variables_of(folded)
    for kind in ("short", "long"):
        content, expected = damaged(small_file(2).read_bytes(), kind)
        (tmp_path / "bad.weights").write_bytes(content)
        with pytest.raises(expected):
            folded.load(tmp_path / "bad.weights", contents_disposable=True)
    after = variables_of(folded)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        build_function(parse_cfg(SMALL), tmp_path / "none.weights")


def test_sections_the_file_holds_nothing_for_are_refused():
    text = SMALL.replace("activation=mish", "activation=mish\ndontload=1")
    with messages.refused(UnsupportedSectionError):
        FoldedNetwork(parse_cfg(text))


@pytest.mark.parametrize(
    "section",
    [
        "[convolutional]\nfilters=8\nsize=2\nxnor=1",
        "[convolutional]\nfilters=8\nsize=3\ndilation=2",
        "[shortcut]\nfrom=-2\nactivation=hard_mish",
        "[maxpool]\nsize=2\nmaxpool_zero_nonmax=1",
        "[softmax]\nspatial=1",
    ],
)
def test_unsupported_sections_are_refused_with_their_line(section):
    text = around(section)
    with pytest.raises(UnsupportedSectionError) as error:
        FoldedNetwork(parse_cfg(text))
    assert error.value.layer == 2
    assert error.value.line >= text.splitlines().index(section.splitlines()[0]) + 1


def test_unused_sections_are_skipped_but_counted(tmp_path):
    head = "[convolutional]\nfilters=9\n[yolo]\nmask=0\nanchors=3,4\nclasses=4\nnum=1\n"
    text = around(head + "[convolutional]\nbatch_normalize=1\nfilters=7\n")
    path = tmp_path / "a.weights"
    path.write_bytes(numpy_loader.random_file(text))
    folded = FoldedNetwork(parse_cfg(text))
    folded.load(path)
    assert {name.split("/")[0] for name in folded.stored} == {"0", "1", "2"}


@pytest.mark.parametrize("op", [True, False])
def test_variables_are_allocated_and_not_initialized_before_the_load(op, monkeypatch):
    calls = []
    real = tf.raw_ops.Empty

    def counting(**options):
        calls.append(options["init"])
        return real(**options)

    def refuse():
        raise TensorFlowVersionError("another TensorFlow", built="1.0", running="2.0")

    monkeypatch.setattr(tf.raw_ops, "Empty", counting)
    if not op:
        monkeypatch.setattr(op_library, "op_library", refuse)
    folded = FoldedNetwork(parse_cfg(SMALL))
    assert len(folded.stored) == 10
    assert calls == ([] if op else [False] * 10)
    for variable in folded.stored.values():
        assert variable.is_initialized()
        assert variable.numpy().shape == variable.shape


def test_making_variables_needs_a_shape_for_each():
    make = op_library.op_library().yolotf_variables
    with pytest.raises(tf.errors.InvalidArgumentError, match="as many shapes as handles"):
        make(N=2, shapes=[[3]])
    first, second = make(N=2, shapes=[[3], [2, 5]])
    assert first.dtype == second.dtype == tf.resource
    tf.raw_ops.AssignVariableOp(resource=second, value=tf.ones([2, 5]))
    value = tf.raw_ops.ReadVariableOp(resource=second, dtype=tf.float32)
    assert value.numpy().tolist() == [[1.0] * 5] * 2


# From pictures to detections


def slow_resize(image, height, width):
    """image.c:1399, one number at a time."""
    rows, columns, channels = image.shape
    part = np.zeros((rows, width, channels))
    for c in range(width):
        at = c * (columns - 1) / (width - 1)
        left = int(at)
        if c == width - 1 or columns == 1:
            part[:, c] = image[:, -1]
        else:
            part[:, c] = (1 - (at - left)) * image[:, left] + (at - left) * image[:, left + 1]
    out = np.zeros((height, width, channels))
    for r in range(height):
        at = r * (rows - 1) / (height - 1)
        top = int(at)
        if r == height - 1 or rows == 1:
            out[r] = part[-1]
        else:
            out[r] = (1 - (at - top)) * part[top] + (at - top) * part[top + 1]
    return out


SIZES = [(32, 64), (64, 128), (45, 20), (17, 200), (1, 1), (300, 301)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_resized_as_darknet_does(size, channels):
    image = np.random.default_rng(2).integers(0, 256, (*size, channels)).astype(np.uint8)
    fitted = inference.fit(image[None], (32, 64), letter_box=False)
    np.testing.assert_allclose(fitted[0], slow_resize(image / 255, 32, 64), atol=2e-5)


def test_last_row_of_a_resized_image_is_its_last_row():
    """In float32 319 * (799 / 319) is below 799: Darknet's loop takes row 798 times almost 0."""
    assert int(np.float32(319) * (np.float32(799) / np.float32(319))) == 798
    image = np.random.default_rng(2).integers(9, 256, (800, 8, 3)).astype(np.uint8)
    fitted = inference.fit(image[None], (320, 8), letter_box=False)
    np.testing.assert_allclose(fitted[0, -1], image[-1] / 255, atol=1e-4)


@pytest.mark.parametrize("size", [(32, 64), (64, 128), (45, 20), (17, 200), (300, 301)])
def test_pictures_are_letter_boxed_as_darknet_does(size):
    image = np.random.default_rng(2).integers(0, 256, (*size, 3)).astype(np.uint8)
    height, width = size
    wide = 64 / width < 32 / height
    inner = (height * 64 // width, 64) if wide else (32, width * 32 // height)
    expected = np.full((32, 64, 3), 0.5)
    top, left = (32 - inner[0]) // 2, (64 - inner[1]) // 2
    resized = slow_resize(image / 255, *inner)
    expected[top : top + inner[0], left : left + inner[1]] = resized
    fitted = inference.fit(image[None], (32, 64), letter_box=True)
    np.testing.assert_allclose(fitted[0], expected, atol=2e-5)


OPTIONS = {"score_threshold": 0.2, "iou_threshold": 0.4}


def expected_detections(function, image, letter_box):
    """Detections of one picture: the raw heads in pieces tested elsewhere."""
    inputs = inference.fit(image[None], (32, 64), letter_box=letter_box)
    detections = decode.find_detections(
        function.raw_heads(inputs),
        function.network,
        (32, 64),
        score_threshold=OPTIONS["score_threshold"],
        iou_threshold=OPTIONS["iou_threshold"],
        max_boxes=300,
        image_sizes=tf.constant([image.shape[:2]]),
    )
    height, width = image.shape[:2]
    count = int(detections.counts[0])
    x, y, w, h = np.split(detections.boxes[0, :count].numpy(), 4, 1)
    boxes = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
    return np.concatenate(boxes, 1), detections.scores[0, :count], detections.classes[0, :count]


def assert_detections(detections, expected):
    boxes, scores, classes = expected
    assert len(detections) == len(scores) > 0
    np.testing.assert_allclose(detections.scores, scores, atol=1e-6)
    np.testing.assert_array_equal(detections.classes, classes)
    np.testing.assert_allclose(detections.xyxy, boxes, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("letter_box", [False, True])
def test_a_list_of_any_pictures_gives_what_each_alone_gives(letter_box, small_file, tmp_path):
    text = SMALL.replace("channels=3", f"channels=3\nletter_box={int(letter_box)}", 1)
    network = parse_cfg(text)
    detector = Detector(network, small_file(3), batch_size=4, **OPTIONS)
    wanted = DetectionOptions(
        score_threshold=OPTIONS["score_threshold"], iou_threshold=OPTIONS["iou_threshold"]
    )
    function = InferenceFunction(network, wanted)
    function.load(small_file(3))
    random = np.random.default_rng(5)
    arrays = [random.integers(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES[:4] * 2]
    Image.fromarray(arrays[1]).save(tmp_path / "a.png")
    pictures = [
        arrays[0],
        tmp_path / "a.png",
        Image.fromarray(arrays[2]),
        arrays[3].astype(np.float32) / 255,
        str(tmp_path / "a.png"),
        *arrays[5:],
    ]
    expected = [
        expected_detections(function, array, letter_box)
        for array in (*arrays[:4], arrays[1], *arrays[5:])
    ]
    answers = detector(pictures)
    assert len(answers) == len(pictures)
    for picture, answer, wanted in zip(pictures, answers, expected, strict=True):
        assert_detections(answer, wanted)
        assert_detections(detector(picture), wanted)
    assert detector([]) == []
    same = detector([arrays[0]] * 6)
    for answer in same:
        assert_detections(answer, expected[0])


@pytest.mark.slow
def test_a_batch_of_one_size_gives_what_each_picture_gives(small_file):
    function = build_function(parse_cfg(SMALL), small_file(3), **OPTIONS)
    images = np.random.default_rng(6).integers(0, 256, (5, 50, 70, 3)).astype(np.uint8)
    together = function(images)
    assert together.counts.shape == [5]
    for number, image in enumerate(images):
        boxes, scores, _ = expected_detections(function, image, False)
        count = int(together.counts[number])
        assert count == len(scores) > 0
        np.testing.assert_allclose(together.scores[number, :count], scores, atol=1e-6)
        np.testing.assert_allclose(together.boxes[number, :count], boxes, rtol=1e-4, atol=1e-3)
    for dtype in (np.float32, np.float64):
        again = function(images.astype(dtype) / 255)
        np.testing.assert_allclose(again.scores, together.scores, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("letter_box", [0, 1])
def test_an_empty_batch_has_no_answers(letter_box, small_file):
    text = SMALL.replace("channels=3", f"channels=3\nletter_box={letter_box}", 1)
    function = build_function(parse_cfg(text), small_file(3), max_boxes=7)
    for dtype in (np.uint8, np.float32):
        answer = function(np.zeros((0, 20, 30, 3), dtype))
        shapes = [column.shape.as_list() for column in answer]
        assert shapes == [[0, 7, 4], [0, 7], [0, 7], [0]]
        full = function(np.zeros((1, 20, 30, 3), dtype))
        assert [column.dtype for column in answer] == [column.dtype for column in full]
    answer = function.fitted(tf.zeros([0, 32, 64, 3]), tf.zeros([0, 2], tf.int32))
    assert answer.boxes.shape == [0, 7, 4]


def traces(function):
    steps = (*function._fit.values(), function._heads, function._detections)
    return [step.experimental_get_tracing_count() for step in steps]


def test_the_graph_is_ready_when_the_file_is_loaded(small_file):
    function = build_function(parse_cfg(SMALL), small_file(3))
    assert traces(function) == [1, 0, 1, 1]
    cold = InferenceFunction(parse_cfg(SMALL))
    cold.load(small_file(3))
    assert traces(cold) == [0, 0, 0, 0]


@pytest.mark.slow
def test_variables_are_freed_with_what_uses_them(small_file):
    """Sixteen networks of 16 MB, one after the other; a leak would need 256 MB."""
    text = around("[convolutional]\nfilters=65536\nsize=3\nactivation=linear")
    network = parse_cfg(text)

    def resident():
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def fill():
        folded = FoldedNetwork(network)
        tf.function(folded, autograph=False)(np.zeros((1, 6, 8, 3), np.float32))
        for variable in folded.stored.values():
            variable.assign(tf.zeros(variable.shape))

    fill()
    before = resident()
    for _ in range(16):
        fill()
        gc.collect()
    assert resident() - before < 64


def test_one_trace_serves_every_batch_and_size(small_file):
    function = build_function(parse_cfg(SMALL), small_file(3), **OPTIONS)
    for batch, size in ((1, (32, 64)), (3, (20, 30)), (2, (100, 90))):
        function(np.zeros((batch, *size, 3), np.uint8))
    assert traces(function) == [1, 0, 1, 1]


def test_grey_networks_take_grey_and_coloured_pictures(small_file, tmp_path):
    text = SMALL.replace("channels=3", "channels=1", 1)
    detector = Detector(parse_cfg(text), small_file(3, text=text), **OPTIONS)
    grey = np.random.default_rng(7).integers(0, 256, (32, 64)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([grey] * 3, 2)).save(tmp_path / "colour.png")
    answers = [
        detector(picture)
        for picture in (
            grey,
            grey[..., None],
            tmp_path / "grey.png",
            tmp_path / "colour.png",
            np.stack([grey] * 3, 2),
        )
    ]
    assert len(answers[0]) > 0
    for answer in answers[1:]:
        np.testing.assert_allclose(answer.scores, answers[0].scores, atol=1e-6)
        np.testing.assert_allclose(answer.xyxy, answers[0].xyxy, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_any_size_runs_on_images_without_resizing(small_file):
    function = build_function(parse_cfg(SMALL), small_file(3), any_size=True, **OPTIONS)
    assert function.stride == 8
    for size in ((32, 64), (8, 8), (64, 40)):
        image = np.random.default_rng(8).integers(0, 256, (2, *size, 3)).astype(np.uint8)
        fixed = build_function(parse_cfg(SMALL, size=size), small_file(3), **OPTIONS)
        ours, theirs = function(image), fixed(image)
        assert int(theirs.counts[0]) > 0
        np.testing.assert_array_equal(ours.counts, theirs.counts)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)
        np.testing.assert_allclose(ours.boxes, theirs.boxes, rtol=1e-4, atol=1e-3)
    with messages.refused(YolotfError) as error:
        function(np.zeros((1, 32, 44, 3), np.uint8))
    assert (error.value.input_size, error.value.stride) == ((32, 44), 8)


def test_any_size_is_refused_where_a_section_fixes_the_size():
    network = parse_cfg(SMALL.replace("[maxpool]\nsize=2", "[reorg]", 1))
    with messages.refused(UnsupportedSectionError):
        InferenceFunction(network, any_size=True)


@pytest.mark.slow
def test_thresholds_and_suppression_can_be_passed(small_file):
    network, weights = parse_cfg(SMALL), small_file(3)
    image = np.random.default_rng(9).integers(0, 256, (1, 32, 64, 3)).astype(np.uint8)

    def counts(max_boxes=2000, **options):
        function = build_function(network, weights, max_boxes=max_boxes, **options)
        return int(function(image).counts[0])

    assert counts(score_threshold=0.1) > counts(score_threshold=0.3) > counts(score_threshold=0.6)
    assert counts(score_threshold=0.1, iou_threshold=0.7) > counts(
        score_threshold=0.1, iou_threshold=0.2
    )
    assert counts(score_threshold=0.1, max_boxes=3) == 3
    # The last head has no nms_kind, so the network's own rule is the default one.
    assert counts(score_threshold=0.1) == counts(score_threshold=0.1, nms_kind="default")
    assert counts(score_threshold=0.1, nms_kind="greedynms") > counts(score_threshold=0.1)
    assert counts(score_threshold=0.1, agnostic=True) < counts(score_threshold=0.1)


def test_wanted_classes_and_suppression_across_classes_can_be_passed(small_file):
    network, weights = parse_cfg(SMALL), small_file(3)
    image = np.random.default_rng(9).integers(0, 256, (32, 64, 3)).astype(np.uint8)
    names = ["cat", "a, b", "kite", "3"]

    def found(**options):
        return Detector(
            network, weights, class_names=names, score_threshold=0.1, max_boxes=9, **options
        )(image)

    every = Detector(network, weights, score_threshold=0.1, max_boxes=10**4)(image)
    best_kites = every.xyxy[every.classes == 2][:9]
    np.testing.assert_array_equal(found(only="kite").xyxy, best_kites)
    np.testing.assert_array_equal(found(only=[2]).xyxy, best_kites)
    assert set(found(only=iter(["a, b", 0])).classes.tolist()) == {0, 1}
    assert set(found(only="cat,  2,").classes.tolist()) == {0, 2}
    detector = Detector(
        network, weights, class_names=names, score_threshold=0.1, only="cat", agnostic=True
    )
    again = pickle.loads(pickle.dumps(detector))
    assert again(image).to_dict() == detector(image).to_dict()
    function = build_function(
        network, weights, score_threshold=0.1, class_names=names, only=["kite", 3], agnostic=True
    )
    batch = function(image[None])
    count = int(batch.counts[0])
    same = found(only=["kite", "3"], agnostic=True)
    assert count >= len(same) > 1
    np.testing.assert_allclose(batch.boxes[0, : len(same)], same.xyxy, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda original: pickle.loads(pickle.dumps(original))]
)
def test_copies_read_a_relative_path_from_where_it_was_opened(
    copied, small_file, tmp_path, monkeypatch
):
    """A server may change its working folder, in which another file may have the same name."""
    for folder, seed in (("here", 3), ("elsewhere", 4)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.weights").write_bytes(small_file(seed).read_bytes())
    monkeypatch.chdir(tmp_path / "here")
    original = Detector(parse_cfg(SMALL), "a.weights")
    original.reload("a.weights")
    monkeypatch.chdir(tmp_path / "elsewhere")
    image = np.full((40, 50, 3), 90, np.uint8)
    assert str(copied(original)(image)) == str(original(image))
    assert copied(original).weights.path == str(tmp_path / "here/a.weights")


def test_unpickling_without_the_weights_file_is_an_os_error(small_file, tmp_path):
    path = tmp_path / "gone.weights"
    path.write_bytes(small_file(3).read_bytes())
    pickled = pickle.dumps(Detector(parse_cfg(SMALL), path))
    assert b"gone.weights" in pickled
    path.unlink()
    with messages.refused(FileNotFoundError) as caught:
        pickle.loads(pickled)
    assert caught.value.filename == str(path)


def test_a_function_that_xla_compiles_is_refused(small_file):
    function = build_function(parse_cfg(SMALL), small_file(3))
    images = np.zeros((1, 40, 50, 3), np.uint8)
    with messages.refused(ValueError):
        tf.function(lambda images: function(images), jit_compile=True, autograph=False)(images)
    assert tf.function(lambda images: function(images))(images).counts.shape == (1,)


def used(served, image):
    """What a worker is asked for; workers import it by name."""
    return len(served(image))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Detector, Classifier])
def test_a_worker_that_cannot_unpickle_says_so_when_it_is_used(kind, small_file, tmp_path):
    """Without this, the worker exits, and the pool waits forever."""
    path = tmp_path / "gone.weights"
    text = SMALL if kind is Detector else SMALL.partition("[yolo]")[0] + "[avgpool]\n[softmax]\n"
    path.write_bytes(small_file(3, text=text).read_bytes())
    served = kind(parse_cfg(text), path)
    path.unlink()
    image = np.zeros((8, 8, 3), np.uint8)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        with messages.refused(FileNotFoundError) as caught:
            pool.apply_async(used, (served, image)).get(timeout=100)
        assert caught.value.filename == str(path)
        assert pool.apply_async(len, ("abc",)).get(timeout=100) == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_forked_worker_says_so_when_it_is_used(small_file, tmp_path):
    path = small_file(3)
    detector = Detector(parse_cfg(SMALL), path)
    image = np.zeros((8, 8, 3), np.uint8)
    detector(image)
    with multiprocessing.get_context("fork").Pool(1) as pool, pytest.raises(ForkedProcessError):
        pool.apply_async(used, (detector, image)).get(timeout=100)


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ("cow", list("abcd")),
        (
            ["1", 4],
            None,
        ),
        ([-1], None),
        (" , ", list("abcd")),
        ([], None),
    ],
)
def test_unknown_classes_are_refused(only, names):
    with messages.refused(YolotfError):
        InferenceFunction(parse_cfg(SMALL), DetectionOptions(only=only), class_names=names)
    with messages.refused(YolotfError):
        Detector(parse_cfg(SMALL), "missing.weights", only=only, class_names=names)
    with pytest.raises(TypeError):
        Detector(parse_cfg(SMALL), "missing.weights", only=[1.5])


@pytest.mark.parametrize(
    "options",
    [
        {"score_threshold": 1},
        {"iou_threshold": 1},
        {"iou_threshold": -0.1},
        {"max_boxes": 0},
        {"nms_kind": "soft"},
    ],
)
def test_meaningless_options_are_refused_before_the_file_is_opened(options):
    for door in (Detector, build_function):
        with messages.refused(ValueError):
            door(parse_cfg(SMALL), "missing.weights", **options)


def test_defaults_are_the_same_in_every_function():
    doors = [Detector, build_function, convert, evaluate, Decoder.__call__]
    defaults = {**vars(DetectionOptions()), **vars(ServingOptions())}
    compared = set()
    for door in doors:
        for name, parameter in inspect.signature(door).parameters.items():
            # Any number of images; by the kind of network; threads of the decoder alone.
            if (door, name) in {
                (convert, "batch_size"),
                (build_function, "resize"),
                (evaluate, "resize"),
                (Decoder.__call__, "threads"),
            }:
                continue
            if name in defaults and parameter.default is not inspect.Parameter.empty:
                assert parameter.default == defaults[name], (door, name)
                compared.add(name)
    assert compared == set(defaults)


def test_names_come_from_a_file_or_a_list(small_file, tmp_path):
    (tmp_path / "a.names").write_text("one\n two \nthree\nfour\n\n", encoding="utf-8")
    for names in (tmp_path / "a.names", str(tmp_path / "a.names"), ["one", "two", "three", "four"]):
        detector = Detector(parse_cfg(SMALL), small_file(3), class_names=names)
        assert detector.class_names == ("one", "two", "three", "four")
    with messages.refused(YolotfError) as error:
        Detector(parse_cfg(SMALL), small_file(3), class_names=["a", "b", "c"])
    assert (error.value.expected, error.value.found) == (4, 3)


def test_an_array_of_images_is_a_batch(small_file):
    detector = Detector(parse_cfg(SMALL), small_file(3), batch_size=2, **OPTIONS)
    images = np.random.default_rng(4).integers(0, 256, (3, 40, 50, 3)).astype(np.uint8)
    expected = [detector(image) for image in images]
    assert min(map(len, expected)) > 0
    for batch in (images, tf.constant(images), images.astype(np.float32) / 255):
        for together, alone in zip(detector(batch), expected, strict=True):
            np.testing.assert_array_equal(together.classes, alone.classes)
            np.testing.assert_allclose(together.xyxy, alone.xyxy, rtol=1e-4, atol=1e-3)
    assert detector(images[:0]) == []
    assert len(detector(images[:1])) == 1
    with messages.refused(ValueError):
        detector([images[:2]])


def test_pictures_of_other_shapes_are_refused(small_file):
    detector = Detector(parse_cfg(SMALL), small_file(3))
    for shape in ((3,), (2, 2, 3, 4, 5)):
        with messages.refused(ValueError):
            detector(np.zeros(shape, np.uint8))
    with messages.refused(ValueError):
        detector(np.zeros((2, 3, 4, 5), np.uint8))
    text = SMALL.replace("channels=3", "channels=5", 1)
    detector = Detector(parse_cfg(text), small_file(3, text=text))
    assert len(detector(np.zeros((32, 64, 5), np.uint8)).scores) >= 0
    with messages.refused(ValueError):
        detector(np.zeros((32, 64, 3), np.uint8))


def test_the_official_file_finds_the_people_and_the_bus(official_tiny):
    detector = Detector("yolov4-tiny", official_tiny.weights, class_names=official_tiny.names)
    bus, zidane = detector([official_tiny.bus, official_tiny.zidane])
    assert bus.labels[:4] == ("person", "person", "person", "bus")
    assert zidane.labels == ("person", "tie")
    assert bus.scores[:4].min() > 0.7
    with Image.open(official_tiny.bus) as image:
        width, height = image.size
    assert bus.xyxy[:, 2].max() <= 1.05 * width
    assert bus.xyxy[:, 3].max() > 0.8 * height
    again = detector(official_tiny.bus)
    np.testing.assert_allclose(again.xyxy, bus.xyxy, rtol=1e-4, atol=0.05)


# Reloading


def answer_of(detections):
    return detections.classes.tolist(), np.round(detections.scores, 4).tolist()


def test_reload_changes_the_answers_and_back(small_file):
    first, second = small_file(3), small_file(4)
    image = np.random.default_rng(1).integers(0, 256, (32, 64, 3)).astype(np.uint8)
    detector = Detector(parse_cfg(SMALL), first, **OPTIONS)
    answers = [answer_of(Detector(parse_cfg(SMALL), f, **OPTIONS)(image)) for f in (first, second)]
    assert answers[0] != answers[1]
    for number in (0, 1, 1, 0, 1):
        detector.reload((first, second)[number])
        assert answer_of(detector(image)) == answers[number]


def test_a_bad_reload_changes_nothing_and_a_good_one_follows(small_file, tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (32, 64, 3)).astype(np.uint8)
    detector = Detector(parse_cfg(SMALL), small_file(3), **OPTIONS)
    before = answer_of(detector(image))
    bad, shifted = tmp_path / "bad.weights", tmp_path / "shifted.weights"
    bad.write_bytes(small_file(4).read_bytes()[:-8])
    shifted.write_bytes(damaged(small_file(4).read_bytes(), "shifted")[0])
    for wrong, error in (
        (bad, SizeMismatchError),
        (shifted, ContentError),
        (tmp_path / "none", FileNotFoundError),
        (shifted, ContentError),
    ):
        with pytest.raises(error):
            detector.reload(wrong)
        assert answer_of(detector(image)) == before
    detector.reload(small_file(4))
    assert answer_of(detector(image)) != before


@pytest.mark.slow
def test_answers_during_reloads_come_from_one_file(small_file, tmp_path):
    """8 threads of requests, 1,000 reloads of two files and a bad one; one set is left."""
    first, second = small_file(3), small_file(4)
    bad = tmp_path / "bad.weights"
    bad.write_bytes(first.read_bytes() + bytes(4))
    network = parse_cfg(SMALL)
    image = np.random.default_rng(1).integers(0, 256, (32, 64, 3)).astype(np.uint8)
    allowed = [answer_of(Detector(network, file, **OPTIONS)(image)) for file in (first, second)]
    assert allowed[0] != allowed[1]
    detector = Detector(network, first, **OPTIONS)
    done = threading.Event()
    answers, failures = [[] for _ in range(8)], []

    def ask(mine):
        try:
            while not done.is_set():
                mine.append(answer_of(detector(image)))
                time.sleep(0.002)  # as if something came over a network
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in answers]
    for thread in threads:
        thread.start()
    refused = 0
    current = []
    try:
        for number in range(1000):
            file = (first, second, bad)[number % 3]
            try:
                detector.reload(file)
                current.append(answer_of(detector(image)) == allowed[number % 3])
            except WeightsMismatch:
                refused += 1
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
    assert not failures
    assert refused == 333
    assert all(current)
    seen = [allowed.index(answer) for mine in answers for answer in mine]
    assert len(seen) > 1000
    assert set(seen) == {0, 1}
    sets = [candidate for candidate in gc.get_objects() if isinstance(candidate, RuntimeWeights)]
    assert [weights.arrays for weights in sets if weights.path == str(first)] == [
        detector._served.active.loaded.arrays
    ]
    assert not [weights for weights in sets if weights.path == str(second)]


def test_a_load_inside_a_function_is_refused_at_once(small_file):
    network, weights = parse_cfg(SMALL), small_file(3)
    function = build_function(network, weights)
    traced = TracedNetwork(network)
    for load in (
        lambda: function.load(weights),
        lambda: build_function(network, weights),
        lambda: traced.load(weights),
    ):
        with messages.refused(YolotfError):
            tf.function(load, autograph=False)()


# Export


RUN_EXPORTED = """
    import json, sys
    sys.modules["keras"] = None
    import numpy as np
    import tensorflow as tf

    folder, arrays, files = sys.argv[1:]
    loaded = tf.saved_model.load(folder)
    images = np.load(arrays)
    raw = loaded.signatures["serving_default"](images=tf.constant(images))
    encoded = loaded.signatures["encoded"](
        images=tf.constant([open(name, "rb").read() for name in files.split(",")])
    )
    answer = {
        kind: {name: value.numpy().tolist() for name, value in found.items()}
        for kind, found in (("raw", raw), ("encoded", encoded))
    }
    assert not any(name.startswith("yolotf") for name in sys.modules)
    print(json.dumps(answer))
"""


def assert_exported(answer, number, detections):
    count = answer["counts"][number]
    assert count == len(detections)
    np.testing.assert_allclose(answer["scores"][number][:count], detections.scores, atol=1e-5)
    assert answer["classes"][number][:count] == detections.classes.tolist()
    np.testing.assert_allclose(
        np.reshape(answer["boxes"][number][:count], (-1, 4)), detections.xyxy, rtol=1e-4, atol=1e-2
    )


@pytest.mark.slow
@pytest.mark.parametrize("letter_box", [0, 1])
def test_an_exported_model_answers_the_same_without_yolotf(letter_box, small_file, tmp_path):
    text = SMALL.replace("channels=3", f"channels=3\nletter_box={letter_box}", 1)
    detector = Detector(
        parse_cfg(text),
        small_file(3),
        class_names=["a", "b", "c", "d"],
        max_boxes=20,
        agnostic=bool(letter_box),
        only=["a", 1, "d"] if letter_box else None,
        **OPTIONS,
    )
    random = np.random.default_rng(3)
    images = random.integers(0, 256, (3, 40, 50, 3)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    names = []
    for number, (size, form) in enumerate((((70, 30), "png"), ((33, 99), "jpg"))):
        noise = random.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        picture = Image.fromarray(noise).resize(size[::-1])
        names.append(str(tmp_path / f"{number}.{form}"))
        picture.save(names[-1], quality=90)
    detector.export(tmp_path / "model")

    run = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            textwrap.dedent(RUN_EXPORTED),
            str(tmp_path / "model"),
            str(tmp_path / "images.npy"),
            ",".join(names),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert sum(answer["raw"]["counts"]) > 3
    for number, detections in enumerate(detector(list(images))):
        assert_exported(answer["raw"], number, detections)
    assert sum(answer["encoded"]["counts"]) > 1
    for number, detections in enumerate(detector(names)):
        assert_exported(answer["encoded"], number, detections)
    assert (tmp_path / "model/assets.extra/classes.names").read_text() == "a\nb\nc\nd\n"


@pytest.mark.slow
def test_a_broken_file_costs_an_exported_batch_its_own_row_only(small_file, tmp_path):
    detector = Detector(parse_cfg(SMALL), small_file(3), max_boxes=20, **OPTIONS)
    detector.export(tmp_path / "model")
    random = np.random.default_rng(3)
    files = []
    for number, form in enumerate(("png", "jpg")):
        noise = Image.fromarray(random.integers(0, 256, (6, 8, 3)).astype(np.uint8))
        noise.resize((50, 40)).save(tmp_path / f"{number}.{form}")
        files.append((tmp_path / f"{number}.{form}").read_bytes())
    broken = [b"no picture", b"", files[0][: len(files[0]) // 2], files[1][: len(files[1]) // 2]]
    batch = [broken[0], files[0], *broken[1:], files[1]]
    alone = detector(files)
    assert all(len(detections) for detections in alone)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:  # as TensorFlow Serving does
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "model"))
        encoded = signatures.signature_def["encoded"]
        outputs = {name: tensor.name for name, tensor in encoded.outputs.items()}
        served = session.run(outputs, {encoded.inputs["images"].name: batch})
    loaded = tf.saved_model.load(tmp_path / "model").signatures["encoded"]
    for answer in (served, {k: v.numpy() for k, v in loaded(images=tf.constant(batch)).items()}):
        assert answer["readable"].tolist() == [False, True, False, False, False, True]
        for number, detections in ((1, alone[0]), (5, alone[1])):
            assert_exported({k: v.tolist() for k, v in answer.items()}, number, detections)
        for name in ("boxes", "scores", "classes", "counts"):
            assert not np.any(answer[name][[0, 2, 3, 4]])


@pytest.mark.slow
def test_an_exported_detector_decodes_no_more_than_max_pixels(small_file, tmp_path):
    options = {**OPTIONS, "max_pixels": 2000}
    detector = Detector(parse_cfg(SMALL), small_file(3), max_boxes=20, **options)
    detector.export(tmp_path / "model")
    batch = []
    for form in ("png", "jpeg", "gif"):
        for size in ((50, 40), (50, 41), (20_000, 20_000)):
            memory = io.BytesIO()
            Image.new("L", size, 90).save(memory, form)
            batch.append(memory.getvalue())
    # One that says it has fewer pixels than none.
    batch.append(batch[0][:16] + b"\xff\xff\xff\xff" * 2 + batch[0][24:])
    loaded = tf.saved_model.load(tmp_path / "model").signatures["encoded"]
    readable = loaded(images=tf.constant(batch))["readable"].numpy().tolist()
    assert readable == [True, False, False, True, False, False, *[False] * 4]


@pytest.mark.slow
def test_an_exported_model_holds_standard_operations_only(small_file, tmp_path):
    Detector(parse_cfg(SMALL), small_file(3)).export(tmp_path / "model")
    loaded = tf.saved_model.load(tmp_path / "model")
    assert set(loaded.signatures) == {"serving_default", "encoded"}
    for name, nothing in (
        ("serving_default", np.zeros((0, 20, 30, 3), np.uint8)),
        ("encoded", np.zeros((0,), object)),
    ):
        answer = loaded.signatures[name](
            images=tf.constant(nothing, tf.as_dtype("string" if name == "encoded" else "uint8"))
        )
        assert answer["boxes"].shape == [0, 300, 4]
        assert answer["counts"].shape == [0]
    graph = loaded.signatures["serving_default"].graph.as_graph_def()
    operations = {node.op for node in graph.node}
    for function in graph.library.function:
        operations |= {node.op for node in function.node_def}
    assert {"ResizeBilinear", "Conv2D"} <= operations
    registered = set(tf.raw_ops.__dict__)
    functions = {function.signature.name for function in graph.library.function}
    assert operations <= registered | functions
    assert not [name for name in operations if "olotf" in name]


@pytest.mark.slow
def test_networks_of_other_channels_export_without_files(small_file, tmp_path):
    text = SMALL.replace("channels=3", "channels=5", 1)
    Detector(parse_cfg(text), small_file(3, text=text)).export(tmp_path / "model")
    assert set(tf.saved_model.load(tmp_path / "model").signatures) == {"serving_default"}


@pytest.mark.slow
def test_an_older_export_is_replaced_whole_and_other_files_stay(small_file, tmp_path, monkeypatch):
    detector = Detector(parse_cfg(SMALL), small_file(3), class_names=list("abcd"))
    served = tmp_path / "models/1"
    detector.export(served)
    parts = [served / "saved_model.pb", *(served / "variables").iterdir()]
    assert len(parts) == 3
    for part in parts:
        part.write_bytes(b"older")
    detector.export(served)
    assert all(part.read_bytes() != b"older" for part in parts)
    assert (served / "assets.extra/classes.names").read_text() == "a\nb\nc\nd\n"
    assert [entry.name for entry in served.parent.iterdir()] == ["1"]

    mine = [served / "mine.txt", served / "variables/mine.weights"]
    for path in mine:
        path.write_text("mine")
    detector.export(served)
    assert [path.read_text() for path in mine] == ["mine", "mine"]

    before = (served / "saved_model.pb").read_bytes()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(tf.saved_model, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        detector.export(served)
    assert (served / "saved_model.pb").read_bytes() == before
    assert [entry.name for entry in served.parent.iterdir()] == ["1"]


# The house


@pytest.mark.slow
def test_detecting_does_not_import_keras(small_file, tmp_path):
    code = """
        import sys
        sys.modules["keras"] = sys.modules["tf_keras"] = None
        import numpy as np
        from yolotf.darknet.cfg import parse_cfg
        from yolotf.inference import Detector

        cfg, weights, folder = sys.argv[1:]
        detector = Detector(parse_cfg(cfg), weights, score_threshold=0.2)
        assert len(detector(np.full((32, 64, 3), 99, np.uint8)).scores) >= 0
        detector.reload(weights)
        assert "tensorflow" not in sys.modules
        detector.export(folder)
    """
    (tmp_path / "small.cfg").write_text(SMALL)
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(code),
            str(tmp_path / "small.cfg"),
            str(small_file(3)),
            str(tmp_path / "model"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(yolotf.__file__).parents[1],
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("path", helpers.cfg_params(helpers.must_cfgs))
def test_every_detector_traces_to_its_detections(path):
    network = parse_cfg(path)
    smallest = 32 * max(
        1,
        max(network.input_shape.height // head.input_shape.height for head in network.heads) // 32,
    )
    network = network.resized(size=2 * smallest)
    function = InferenceFunction(network, DetectionOptions(max_boxes=10))
    function._run_without_weights()  # as while a file is loaded
    heads = function._heads.get_concrete_function().structured_outputs
    assert [raw.shape[1:].as_list() for raw in heads] == [
        list(head.input_shape) for head in network.heads
    ]
    boxes, scores, classes, counts = function._detections.get_concrete_function().structured_outputs
    assert boxes.shape.as_list() == [None, 10, 4]
    assert (scores.dtype, classes.dtype, counts.dtype) == (tf.float32, tf.int32, tf.int32)
