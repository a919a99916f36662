"""The public names, and the names that arguments and attributes had before."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import yolotf
from yolotf._public import also_named, renamed
from yolotf.darknet.coco import COCO_NAMES

ROOT = Path(__file__).parents[1]


def test_stub_reference_and_dir_agree():
    stub = (ROOT / "yolotf/__init__.pyi").read_text(encoding="utf-8")
    named = set(re.findall(r"import \w+ as (\w+)$", stub, re.MULTILINE))
    reference = "\n".join(
        page.read_text(encoding="utf-8") for page in (ROOT / "docs/api").glob("*.md")
    )
    errors = {name for name in named if isinstance(getattr(yolotf.errors, name, None), type)}
    pages = set(re.findall(r"^::: yolotf\.(\w+)$", reference, re.MULTILINE))
    assert pages - {"errors", "progress"} == named - errors
    assert set(yolotf.__all__) == (named | {"__version__"}) - {"detect_dataset"}


@renamed(old="new")
def function(new=0, *, other=1):
    """Returns both."""
    return new, other


@also_named(second="first")
def function_of_two_names(first):
    return first


def test_an_old_argument_works_and_says_its_new_name():
    with pytest.warns(DeprecationWarning, match=r"^function\(\): old= is called new= now$") as seen:
        assert function(old=3) == (3, 1)
    assert seen[0].filename == __file__
    with pytest.raises(TypeError, match="both old= and new="):
        function(new=1, old=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'odl'"):
        function(odl=2)


def test_a_second_name_is_as_good():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert function_of_two_names(second=2) == 2


@pytest.fixture
def detector(official_tiny):
    return yolotf.Detector("yolov4-tiny", official_tiny.weights)


def test_a_stock_network_knows_its_class_names(detector, official_tiny):
    assert detector.class_names == COCO_NAMES
    labels = detector(official_tiny.bus).labels
    assert labels[0] in COCO_NAMES


def test_old_names_of_a_detector_and_its_detections(detector, official_tiny):
    with pytest.warns(DeprecationWarning, match="class_names"):
        assert detector.names == COCO_NAMES
    with pytest.warns(DeprecationWarning, match="images="):
        found = detector(pictures=np.zeros((8, 8, 3), np.uint8))
    with pytest.warns(DeprecationWarning, match=r"labels now.*Detector\.class_names"):
        assert found.names == found.labels
    with pytest.warns(DeprecationWarning, match="is called") as seen:
        old = yolotf.Detector(
            "yolov4-tiny", official_tiny.weights, names=COCO_NAMES, score=0.5, iou=0.3
        )
    assert {str(one.message).split(" is ")[0] for one in seen} == {
        f"Detector(): {name}=" for name in ("names", "score", "iou")
    }
    assert old._wanted.score_threshold == 0.5


def test_another_class_count_as_the_error_advises(tmp_path):
    path = tmp_path / "three.weights"
    three = yolotf.network("yolov3-tiny", classes=3)  # no other network is of its size
    yolotf.save_darknet_weights(yolotf.build_model(three), path)
    with pytest.raises(yolotf.SizeMismatchError, match="pass classes=3"):
        yolotf.Detector("yolov3-tiny", path)
    detector = yolotf.Detector("yolov3-tiny", path, classes=3)
    assert (detector.network.classes, detector.class_names) == (3, ())
    function = yolotf.build_function("yolov3-tiny", path, classes=3)
    assert function.network.classes == 3
