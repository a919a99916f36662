"""Arguments that are numbers or switches, given as other types, at every function."""

import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import yolotf
from support import helpers
from support.cfgs import conv, net, section, yolo
from support.messages import refused
from yolotf import argument_numbers
from yolotf.evaluation import evaluate_classifier

DETECTOR = net(32) + conv(18) + yolo(1, "4,4, 8,8, 16,16")
CLASSIFIER = net(16) + conv(10) + section("avgpool") + section("softmax")

NO_NUMBERS = ["2", b"2", [2], None, 1j, np.array([1, 2]), np.bool_(True), True, tf.constant("2")]
FRACTIONS = [2.0, 2.5, math.nan, math.inf, np.float32(2), np.array(2.0), tf.constant(2.0)]
WHOLE = [2, np.int64(2), np.uint8(2), np.array(2), tf.constant(2)]
REAL = [0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), tf.constant(0.5)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    for name, cfg in (("d", DETECTOR), ("c", CLASSIFIER)):
        (folder / f"{name}.cfg").write_text(cfg)
        helpers.write_weights(folder / f"{name}.weights", yolotf.parse_cfg(cfg))
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    (folder / "a.txt").write_text("0 .5 .5 .5 .5\n")
    (folder / "c0.names").write_text("".join(f"c{number}\n" for number in range(10)))
    (folder / "list.txt").write_text("a.png\n")
    (folder / "d.data").write_text("classes=1\nvalid=list.txt\n")
    (folder / "c.data").write_text("classes=10\nvalid=list.txt\nlabels=c0.names\n")
    return folder


def taking(kind):
    """Returns (function, argument) of each function that takes a number of this kind."""
    places = {
        "count": [
            *(("detector", name) for name in ("max_boxes", "batch_size", "threads", "max_pixels")),
            *(("classifier", name) for name in ("batch_size", "threads", "max_pixels")),
            *(("function", name) for name in ("max_boxes", "classes")),
            *(("evaluate", name) for name in ("batch_size", "threads", "max_pixels", "points")),
            *(("convert", name) for name in ("batch_size", "classes", "max_boxes")),
            *(("save", name) for name in ("seen", "upto")),
            *(("detector", "classes"), ("diagnose", "classes"), ("inspect", "classes")),
            *(("build_model", "classes"), ("top", "top"), ("evaluate_classifier", "top")),
            ("draw", "line_width"),
        ],
        "real": [
            *(("detector", name) for name in ("score_threshold", "iou_threshold", "timeout")),
            *(("function", name) for name in ("score_threshold", "iou_threshold")),
            *(("evaluate", name) for name in ("score_threshold", "match_iou")),
            *(("convert", name) for name in ("score_threshold", "iou_threshold")),
            *(("load", "timeout"), ("diagnose", "timeout"), ("inspect", "timeout")),
        ],
        "flag": [
            *(("detector", name) for name in ("agnostic", "letter_box", "bgr")),
            *(("save", "overwrite"), ("convert", "overwrite"), ("draw", "overwrite")),
            *(("function", "agnostic"), ("classifier", "bgr"), ("evaluate", "letter_box")),
            *(("load", name) for name in ("strict", "by_name", "skip_mismatch", "cast", "verify")),
            *(("convert", name) for name in ("any_size", "decode", "suppress", "float16")),
            *(("convert", name) for name in ("reverse_outputs", "allow_inaccurate", "old_keras")),
            *(("function", "any_size"), ("function_load", "verify"), ("function_load", "trace")),
            *(("save", "fold_epsilon"), ("to_yolo", "scores"), ("draw", "labels")),
            ("rows", "scan_all"),
        ],
    }
    return pytest.mark.parametrize(("function", "argument"), places[kind])


def call(function, files, **options):
    cfg, weights, image = files / "d.cfg", files / "d.weights", files / "a.png"
    classifier = files / "c.cfg", files / "c.weights"
    functions = {
        "detector": lambda: yolotf.Detector(cfg, weights, **options)(image),
        "function": lambda: yolotf.build_function(cfg, weights, **options),
        "classifier": lambda: yolotf.Classifier(*classifier, **options)(image),
        "top": lambda: yolotf.Classifier(*classifier)(image, **options),
        "evaluate": lambda: yolotf.evaluate(cfg, weights, files / "d.data", **options),
        "evaluate_classifier": lambda: evaluate_classifier(
            *classifier, files / "c.data", **options
        ),
        "convert": lambda: yolotf.convert(
            weights, cfg, files / "out.onnx", **{"suppress": True, **options}
        ),
        "build_model": lambda: yolotf.build_model(cfg, **options),
        "load": lambda: yolotf.load_darknet_weights(yolotf.build_model(cfg), weights, **options),
        "save": lambda: yolotf.save_darknet_weights(
            yolotf.build_model(cfg), files / "out.weights", **options
        ),
        "diagnose": lambda: yolotf.diagnose(weights, cfg, **options),
        "inspect": lambda: yolotf.inspect(weights, cfg, **options),
        "function_load": lambda: yolotf.build_function(cfg, weights).load(weights, **options),
        "rows": lambda: yolotf.diagnose(weights, cfg).rows(**options),
        "to_yolo": lambda: yolotf.Detector(cfg, weights)(image).to_yolo((8, 8), **options),
        "draw": lambda: yolotf.Detector(cfg, weights)(image).draw(
            image, **{"path": files / "out.png", **options}
        ),
    }
    return functions[function]()


@taking("count")
def test_what_is_no_whole_number_is_refused_where_one_is_needed(function, argument, files):
    for value in (*NO_NUMBERS, *FRACTIONS):
        if value is not None:  # the default of most
            with pytest.raises(TypeError) as caught:
                call(function, files, **{argument: value})
            assert argument in str(caught.value)
            assert "\n" not in str(caught.value)


@taking("real")
def test_what_is_no_number_is_refused_where_one_is_needed(function, argument, files):
    for value in NO_NUMBERS:
        if value is not None:
            with pytest.raises(TypeError) as caught:
                call(function, files, **{argument: value})
            assert f"{argument}=" in str(caught.value)
            assert "\n" not in str(caught.value)


SIZED = {
    "network": lambda size: yolotf.network("yolov4-tiny", size=size),
    "parse_cfg": lambda size: yolotf.parse_cfg(DETECTOR, size=size),
    "resized": lambda size: yolotf.parse_cfg(DETECTOR).resized(size),
}


@pytest.mark.parametrize("sized", SIZED.values(), ids=SIZED)
def test_size_is_a_whole_number_or_two(sized):
    wrong = ("64", "64x32", 64.0, True, (64, "64"), (True, 64), (64,), (64, 64, 3), {}, b"64")
    for size in wrong:
        with refused(TypeError):
            sized(size)
    for size in (64, np.int64(64), (64, 32), [64, np.int32(32)], np.array([64, 32])):
        assert sized(size).input_shape[:2] == (64, 64 if np.ndim(size) == 0 else 32)


@taking("flag")
def test_text_and_other_numbers_are_no_switches(function, argument, files):
    for value in ("no", b"1", 2, 0.5, math.inf, [True], np.array([True, False])):
        with pytest.raises(TypeError) as caught:
            call(function, files, **{argument: value})
        assert f"{argument}=" in str(caught.value)


def test_numbers_of_numpy_and_tensorflow_are_taken(files):
    for whole, real in zip(WHOLE, REAL, strict=True):
        options = {"max_boxes": whole, "batch_size": whole, "threads": whole, "iou_threshold": real}
        detections = call("detector", files, **options, score_threshold=real, timeout=real)
        assert len(detections) <= 2
    assert argument_numbers.flag("bgr", np.bool_(False)) is False


def test_numbers_out_of_range_are_refused(files):
    for options in (
        {"max_boxes": 2**31},  # a function in a graph would return as many rows
        {"max_boxes": 10**30},
        {"threads": 2**63},
        {"max_pixels": 0},
        {"score_threshold": 10**400},
        {"iou_threshold": math.nan},
        {"timeout": -1.0},
    ):
        with refused(ValueError):
            call("detector", files, **options)
    assert call("detector", files, timeout=10**30) is not None
