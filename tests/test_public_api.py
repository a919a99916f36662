"""The public names, and the names that arguments and attributes had before."""

import inspect
import json
import re
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import yolotf
from support.messages import refused, warned
from yolotf import evaluation
from yolotf._public import also_named, renamed, renamed_attributes
from yolotf.cli import commands as cli
from yolotf.darknet.coco import COCO_NAMES
from yolotf.runtime.decoding import Decoder

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


@pytest.mark.slow
def test_the_environment_is_what_doctor_prints(capsys):
    environment = yolotf.environment()
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out == f"{environment}\n"
    assert cli.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == environment.to_dict()
    assert {"yolotf", "tensorflow", "writing", "detecting", "engines"} <= set(environment.topics)


@renamed(old="new")
def function(new=0, *, other=1):
    """Returns both."""
    return new, other


@also_named(second="first")
def function_of_two_names(first):
    return first


def test_an_old_argument_works_and_says_its_new_name():
    with warned(DeprecationWarning) as seen:
        assert function(old=3) == (3, 1)
    assert seen[0].filename == __file__
    with refused(TypeError):
        function(new=1, old=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'odl'"):
        function(odl=2)


def test_both_names_of_an_argument_work():
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
    with warned(DeprecationWarning):
        assert detector.names == COCO_NAMES
    with warned(DeprecationWarning):
        detections = detector(pictures=np.zeros((8, 8, 3), np.uint8))
    with warned(DeprecationWarning):
        assert detections.names == detections.labels
    with warned(DeprecationWarning) as seen:
        old = yolotf.Detector(
            "yolov4-tiny", official_tiny.weights, names=COCO_NAMES, score=0.5, iou=0.3
        )
    assert len(seen) == 3
    assert old._detection_options.score_threshold == 0.5


@pytest.fixture(scope="module")
def class_counts(tmp_path_factory):
    """Weights of yolov3-tiny with 3 and with 80 classes, and a model of 80."""
    folder = tmp_path_factory.mktemp("class_counts")
    models = {count: yolotf.build_model("yolov3-tiny", classes=count) for count in (3, 80)}
    for count, model in models.items():
        yolotf.save_darknet_weights(model, folder / f"{count}.weights")
    return folder, models[80]


@pytest.mark.slow
def test_passing_classes_as_the_error_advises_works(class_counts):
    path = class_counts[0] / "3.weights"
    for function in (yolotf.Detector, partial(yolotf.convert, output=path.with_suffix(".onnx"))):
        with refused(yolotf.SizeMismatchError):
            function(weights=path, network="yolov3-tiny")
        function(weights=path, network="yolov3-tiny", classes=3)
    detector = yolotf.Detector("yolov3-tiny", path, classes=3)
    assert (detector.network.classes, detector.class_names) == (3, ())
    with refused(yolotf.SizeMismatchError):
        yolotf.build_function("yolov3-tiny", path)
    function = yolotf.build_function("yolov3-tiny", path, classes=3)
    assert function.network.classes == 3


@pytest.mark.slow
def test_the_advice_names_what_each_function_takes(class_counts):
    folder, model = class_counts
    detector = yolotf.Detector("yolov3-tiny", folder / "80.weights")
    with refused(yolotf.SizeMismatchError):
        detector.reload(folder / "3.weights")
    function = yolotf.build_function("yolov3-tiny", folder / "80.weights")
    with refused(yolotf.SizeMismatchError):
        function.load(folder / "3.weights")
    with refused(yolotf.SizeMismatchError, code="size-mismatch") as caught:
        yolotf.load_darknet_weights(model, folder / "3.weights")
    message = str(caught.value)
    assert "--classes" not in message
    call = re.search(r"load all layers .*, network=(yolotf\.network\(.*?\))\)", message)[1]
    advised = eval(call, {"yolotf": yolotf})
    report = yolotf.load_darknet_weights(model, folder / "3.weights", network=advised)
    assert len(report.skipped) == 2  # the convolutions before the heads
    with refused(yolotf.SizeMismatchError, code="size-mismatch"):
        yolotf.load_darknet_weights(model, folder / "80.weights", network=advised)
    for output in ("model.onnx", "model.h5"):
        with refused(yolotf.SizeMismatchError):
            yolotf.convert(folder / "80.weights", advised, folder / output)


def test_functions_that_take_a_network_take_classes():
    for function in (
        yolotf.Detector,
        yolotf.Classifier,
        yolotf.build_function,
        yolotf.build_model,
        yolotf.convert,
        yolotf.diagnose,
        yolotf.evaluate,
        yolotf.inspect,
        evaluation.evaluate_classifier,
    ):
        assert "classes" in inspect.signature(function).parameters, function


@renamed_attributes(names="class_names")
@dataclass(frozen=True)
class Table:
    """A class with an attribute that had another name."""

    class_names: tuple[str, ...] = ()


def test_an_old_attribute_works_and_says_its_new_name():
    with warned(DeprecationWarning):
        table = Table(names=("cat",))
    with warned(DeprecationWarning) as seen:
        assert table.names == table.class_names == ("cat",)
    assert seen[0].filename == __file__
    assert Table(("dog",)) == Table(class_names=("dog",))
    with pytest.raises(AttributeError):
        table.name  # noqa: B018


def test_old_names_of_evaluation():
    with warned(DeprecationWarning):
        data = evaluation.DataSet("a", pictures=(), names=("cat",))
    with warned(DeprecationWarning):
        assert (data.pictures, data.names) == (data.images, data.class_names) == ((), ("cat",))
    with warned(DeprecationWarning) as seen:
        score = evaluation.score(found=[], pictures=[], names=["cat"], iou_threshold=0.75)
    assert len(seen) == 4
    with warned(DeprecationWarning):
        assert (score.iou_threshold, score.pictures) == (score.match_iou, score.images)
    assert (score.match_iou, score.images) == (0.75, 0)
    with warned(DeprecationWarning):
        assert evaluation.LabelledPicture is evaluation.AnnotatedImage
    with warned(DeprecationWarning):
        assert evaluation.fitted_to_pictures is evaluation.fitted_to_images
    with warned(DeprecationWarning):
        assert evaluation.label_path(picture="a.jpg") == Path("a.txt")
    with refused(AttributeError):
        evaluation.nothing  # noqa: B018


def test_old_names_of_the_native_decoder():
    network = yolotf.network("yolov3-tiny", classes=1, size=32)
    heads = [np.zeros((1, 1, 1, 18), np.float32), np.zeros((1, 2, 2, 18), np.float32)]
    decoder = Decoder(network)
    with warned(DeprecationWarning):
        (old,) = decoder(heads, (32, 32), [(32, 32)], score=0.1, iou=0.9)
    (new,) = decoder(heads, (32, 32), [(32, 32)], score_threshold=0.1, iou_threshold=0.9)
    assert len(new.boxes) == len(old.boxes) > 0
