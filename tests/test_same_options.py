"""Every way to detect or evaluate takes the same options."""

import argparse
import importlib
import inspect
import json
from dataclasses import fields

import numpy as np
import pytest

import yolotf
from support.messages import refused, said
from yolotf import evaluation
from yolotf.cli.commands import COMMANDS, main
from yolotf.darknet.detection_options import DetectionOptions
from yolotf.evaluation.classification import LabelledImages, evaluate_classifier
from yolotf.runtime.options import ServingOptions

COMMENT = """[net]
width=32
height=32
channels=3
[convolutional]
filters=18
size=1
activation=linear # read by hank-ai's Darknet
"""
DETECTOR = COMMENT + "[yolo]\nmask=0,1,2\nanchors=10,14, 23,27, 37,58\nclasses=1\nnum=3\n"
CLASSIFIER = COMMENT + "[avgpool]\n[softmax]\n"


def names(options):
    return {field.name for field in fields(options)}


BOXES, SERVING = names(DetectionOptions), names(ServingOptions)
SCORED = {"iou_threshold", "max_boxes", "agnostic", "only"}
"""Darknet's map fixes these three, and counts all classes."""
NO_ARRAYS = {"bgr"}
"""Only arrays can be BGR."""

PYTHON = [
    (yolotf.Detector, {"dialect"} | BOXES | SERVING),
    (yolotf.Classifier, {"dialect", "resize"} | SERVING),
    (yolotf.build_function, {"dialect", "timeout"} | BOXES),
    (yolotf.evaluate, {"dialect"} | BOXES - SCORED | SERVING - NO_ARRAYS),
    (evaluate_classifier, {"dialect", "resize"} | SERVING - NO_ARRAYS),
    (yolotf.build_model, {"dialect", "timeout"}),
    (yolotf.convert, {"dialect", "timeout", "max_pixels"}),
    (yolotf.diagnose, {"dialect", "timeout"}),
    (yolotf.inspect, {"dialect", "timeout"}),
]
TAKEN = [
    ("detect", {"dialect"} | BOXES | SERVING - NO_ARRAYS),
    ("classify", {"dialect", "resize"} | SERVING - NO_ARRAYS),
    ("eval", {"dialect"} | BOXES - SCORED | SERVING - NO_ARRAYS),
    ("export", {"dialect"} | BOXES | {"max_pixels", "timeout"}),
    ("convert", {"dialect", "max_pixels", "timeout"}),
    ("check", {"dialect", "timeout"}),
    ("inspect", {"dialect", "timeout"}),
    ("save", {"dialect", "timeout"}),
]


@pytest.mark.parametrize(("function", "options"), PYTHON)
def test_functions_take_every_option_with_the_same_default(function, options):
    parameters = inspect.signature(function).parameters
    assert options - set(parameters) == set()
    shared = {**vars(DetectionOptions()), **vars(ServingOptions())}
    for name in options & set(shared) - {"resize"}:
        assert parameters[name].default == shared[name], name


@pytest.mark.parametrize(("command", "options"), TAKEN)
def test_commands_take_every_option(command, options):
    parser = argparse.ArgumentParser()
    importlib.import_module(f"yolotf.cli.{COMMANDS[command][0]}").add_arguments(parser)
    assert options - {action.dest for action in parser._actions} == set()


def test_ray_takes_every_option():
    pytest.importorskip("ray")
    from yolotf.ray import Settings, detect_dataset

    of_a_replica = {"threads", "timeout", "bgr"}  # cpus, weights_timeout_s
    options = {"dialect"} | BOXES | SERVING - of_a_replica
    assert options - set(Settings.model_fields) == set()
    assert options - set(inspect.signature(detect_dataset).parameters) == set()
    given = {
        "score_threshold": 0.5,
        "iou_threshold": 0.3,
        "max_boxes": 7,
        "nms_kind": "diounms",
        "agnostic": True,
        "only": ["person", 2],
        "letter_box": True,
        "resize": "opencv_exact",
    }
    assert set(given) == BOXES
    settings = Settings(network="yolov4-tiny", weights="none", **given)
    assert settings.detection_options() == DetectionOptions(**given)
    with refused(ValueError):
        Settings(network="yolov4-tiny", weights="none", nms_kind="soft")


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boxes.cfg").write_text(DETECTOR)
    (tmp_path / "classes.cfg").write_text(CLASSIFIER)
    (tmp_path / "net.weights").write_bytes(bytes(20))
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "list.txt").write_text("a.png\n")
    (tmp_path / "net.data").write_text("classes=1\nvalid=list.txt\n")


def detector_of_settings(network, weights, **options):
    pytest.importorskip("ray")
    from yolotf.ray.settings import Settings, detector_of

    return detector_of(Settings(network=network, weights=weights, **options))


NO_IMAGES = LabelledImages("data", (), (), ())
CALLS = {
    "Detector": lambda **options: yolotf.Detector("boxes.cfg", "net.weights", **options),
    "Classifier": lambda **options: yolotf.Classifier("classes.cfg", "net.weights", **options),
    "build_function": lambda **options: yolotf.build_function(
        "boxes.cfg", "net.weights", **options
    ),
    "build_model": lambda **options: yolotf.build_model("boxes.cfg", **options),
    "evaluate": lambda **options: yolotf.evaluate(
        "boxes.cfg", "net.weights", "net.data", **options
    ),
    "evaluate_classifier": lambda **options: evaluate_classifier(
        "classes.cfg", "net.weights", NO_IMAGES, **options
    ),
    "convert": lambda **options: yolotf.convert("net.weights", "boxes.cfg", "a.onnx", **options),
    "diagnose": lambda **options: yolotf.diagnose("net.weights", "boxes.cfg", **options),
    "inspect": lambda **options: yolotf.inspect("net.weights", "boxes.cfg", **options),
    "ray": lambda **options: detector_of_settings("boxes.cfg", "net.weights", **options),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore:.*is read as linear")
def test_every_function_reads_the_cfg_in_the_dialect(name, files):
    with refused(yolotf.CfgError, line=8):
        CALLS[name](dialect="alexeyab")
    try:
        CALLS[name](dialect="hank-ai")
    except yolotf.CfgError as error:
        pytest.fail(str(error))
    except yolotf.YolotfError:
        pass  # the file is empty
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (Ray's is pydantic's)
        CALLS[name](dialect="pjreddie")
    assert "dialect" in str(caught.value)


@pytest.mark.parametrize("network", ["yolov4-tiny", yolotf.network("yolov4-tiny")])
def test_a_dialect_that_would_be_ignored_is_refused(network):
    given = "pjreddie" if isinstance(network, str) else "hank-ai"
    with refused(ValueError):
        yolotf.Detector(network, "none.weights", dialect=given)
    with refused(ValueError):
        yolotf.build_model(network, dialect=given)


def test_a_dialect_is_not_for_models():
    model = yolotf.build_model(DETECTOR, dialect="hank-ai")
    with refused(ValueError):
        yolotf.diagnose("none.weights", model, dialect="hank-ai")


def boxes(detections):
    return [[box["class"], round(box["score"], 4)] for box in detections["detections"]]


@pytest.mark.slow
def test_every_way_takes_the_kind_of_suppression(official_tiny, tmp_path, monkeypatch, capsys):
    cfg, weights, bus = (str(official_tiny.cfg), str(official_tiny.weights), official_tiny.bus)
    expected = {
        kind: boxes(
            yolotf.Detector(cfg, weights, score_threshold=0.05, nms_kind=kind)(bus).to_dict()
        )
        for kind in ("default", "greedynms")
    }
    assert len(expected["default"]) < len(expected["greedynms"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels").mkdir()
    (tmp_path / "bus.jpg").write_bytes(bus.read_bytes())
    (tmp_path / "labels" / "bus.txt").write_text("5 .5 .5 .9 .5\n")
    (tmp_path / "list.txt").write_text("bus.jpg\n")
    (tmp_path / "obj.data").write_text("classes=80\nvalid=list.txt\n")
    files = ["--cfg", cfg, "--weights", weights]
    counts = set()
    for kind, detections in expected.items():
        option = ["--nms-kind", kind, "--thresh", "0.05"]
        assert main(["detect", "bus.jpg", *files, "--json", *option]) == 0
        assert boxes(json.loads(capsys.readouterr().out)) == detections
        assert main(["eval", "--data", "obj.data", *files, "--json", *option]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["nms_kind"] == kind
        counts.add(result["detections"])
        assert main(["export", weights, "--cfg", cfg, "-o", kind, *option]) == 0
        capsys.readouterr()
        tf = pytest.importorskip("tensorflow")
        image = tf.io.decode_jpeg(bus.read_bytes(), dct_method="INTEGER_ACCURATE")[None]
        loaded = tf.saved_model.load(kind)
        answer = loaded.signatures["serving_default"](images=image)
        count = int(answer["counts"][0])
        assert answer["classes"][0, :count].numpy().tolist() == [box[0] for box in detections]
        np.testing.assert_allclose(
            answer["scores"][0, :count], [box[1] for box in detections], atol=1e-3
        )
    assert len(counts) == 2


def test_a_replica_takes_the_kind_of_suppression(official_tiny):
    files = (str(official_tiny.cfg), str(official_tiny.weights))
    options = {"score_threshold": 0.05, "nms_kind": "default", "only": ["person", "bus"]}
    here = yolotf.Detector(*files, class_names=str(official_tiny.names), **options)
    replica = detector_of_settings(*files, class_names=str(official_tiny.names), **options)
    assert boxes(replica(official_tiny.bus).to_dict()) == boxes(here(official_tiny.bus).to_dict())


def test_commands_for_classifiers_refuse_options_of_detectors(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.weights").write_bytes(bytes(20))
    (tmp_path / "classes.cfg").write_text(CLASSIFIER)
    (tmp_path / "images.data").write_text("classes=18\nvalid=list.txt\nlabels=labels.txt\n")
    (tmp_path / "list.txt").write_text("a.png\n")
    (tmp_path / "labels.txt").write_text("a\n")
    network = ["--cfg", "classes.cfg", "--dialect", "hank-ai"]
    files = [*network, "--weights", "net.weights", "--data", "images.data"]
    for option in (["--nms-kind", "default"], ["--resize", "opencv-exact"]):
        assert main(["eval", *files, *option]) == 2
        said(capsys.readouterr().err)
        assert main(["export", "net.weights", *network, "-o", "served", *option]) == 2
        said(capsys.readouterr().err)


def test_python_takes_what_evaluation_prints(official_tiny, tmp_path):
    (tmp_path / "bus.txt").write_text("5 .5 .5 .9 .5\n")
    (tmp_path / "bus.jpg").write_bytes(official_tiny.bus.read_bytes())
    result = evaluation.evaluate(
        official_tiny.cfg, official_tiny.weights, tmp_path, nms_kind="default", threads=1
    )
    assert result.about["nms_kind"] == "default"
