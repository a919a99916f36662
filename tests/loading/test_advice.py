"""The calls that errors and diagnoses advise work when pasted."""

import re

import keras
import numpy as np
import pytest

import yolotf
from support.cfgs import conv, net, normalized, section, yolo
from support.messages import refused
from yolotf.cli import __main__ as cli

DETECTOR = net(32) + normalized(32, 3, stride=2) + conv(21) + yolo(2, "1,1,2,2,3,3")
CLASSIFIER = (
    net(8)
    + normalized(32, 3)
    + conv(40)
    + section("avgpool")
    + section("softmax")
    + section("cost", type="sse")
)
CALL = re.compile(r"yolotf\.load_darknet_weights\(.*\)(?=;|$)")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with both cfgs and, for each, weights with another number of classes, 5."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)  # the diagnosis weighs the values
    for name, text in (("detector", DETECTOR), ("classifier", CLASSIFIER)):
        (tmp_path / f"{name}.cfg").write_text(text)
        trained = yolotf.build_model(yolotf.parse_cfg(f"{name}.cfg").with_classes(5))
        yolotf.save_darknet_weights(trained, f"{name}.weights")
    return tmp_path


def by_load(name):
    with pytest.raises(yolotf.SizeMismatchError) as caught:
        yolotf.load_darknet_weights(yolotf.build_model(f"{name}.cfg"), f"{name}.weights")
    return str(caught.value).partition("; they diverge at")[0]


def by_build(name):
    with pytest.raises(yolotf.SizeMismatchError) as caught:
        yolotf.build_model(f"{name}.cfg", weights=f"{name}.weights")
    return str(caught.value).partition("; they diverge at")[0]


def by_diagnosis(name):
    return yolotf.diagnose(f"{name}.weights", f"{name}.cfg").causes[0].fix


def by_diagnosis_of_model(name):
    model = yolotf.build_model(f"{name}.cfg")
    return yolotf.diagnose(f"{name}.weights", model).causes[0].fix


@pytest.mark.parametrize("name", ["detector", "classifier"])
@pytest.mark.parametrize("ask", [by_load, by_build, by_diagnosis, by_diagnosis_of_model])
def test_the_call_that_keeps_the_number_of_classes_works(files, name, ask):
    advice = ask(name)
    model = yolotf.build_model(f"{name}.cfg")
    names = {"yolotf": yolotf, "model": model, "file": f"{name}.weights"}
    report = eval(CALL.search(advice)[0], names)
    assert report.loaded == ("conv_0",)
    assert [skipped.name for skipped in report.skipped] == ["conv_1"]


@pytest.mark.parametrize("name", ["detector", "classifier"])
def test_check_advises_an_option_and_a_call_that_work(files, name, capsys):
    command = ["check", f"{name}.weights", "--cfg", f"{name}.cfg"]
    assert cli.main(command) == 1
    advice = capsys.readouterr().out
    assert CALL.search(advice.partition("  diverges")[0].rstrip())
    option = re.search(r"--classes \d+", advice)[0]
    assert cli.main([*command, *option.split()]) == 0


def test_functions_that_do_not_train_advise_no_training(files):
    for function in (yolotf.Detector, yolotf.build_function):
        with refused(yolotf.SizeMismatchError) as caught:
            function("detector.cfg", "detector.weights")
        assert "load_darknet_weights" not in str(caught.value)
        assert not CALL.search(caught.value.diagnosis.causes[0].fix)
        function("detector.cfg", "detector.weights", classes=5)


def test_the_number_of_classes_of_a_classifier_changes(files):
    with refused(yolotf.SizeMismatchError):
        yolotf.Classifier("classifier.cfg", "classifier.weights")
    classifier = yolotf.Classifier("classifier.cfg", "classifier.weights", classes=5)
    assert classifier.classes == 5
    assert classifier(np.zeros((8, 8, 3), np.uint8)).scores.shape == (5,)
    network = yolotf.parse_cfg("classifier.cfg")
    expected = CLASSIFIER.replace("filters=40", "filters=5")
    assert network.with_classes(5).layers == yolotf.parse_cfg(expected).layers


@pytest.mark.parametrize(
    "ending",
    [
        "[connected]\noutput=6\n",
        "[connected]\noutput=6\n[softmax]\n",
        "[connected]\noutput=6\n[cost]\n",
    ],
)
def test_a_dense_last_layer_sets_the_number_of_classes(ending):
    net = CLASSIFIER.partition("[avgpool]")[0]
    changed = yolotf.parse_cfg(net + ending).with_classes(9)
    assert changed == yolotf.parse_cfg(net + ending.replace("=6", "=9"))


def test_classes_of_a_network_without_a_class_layer_are_refused():
    backbone = CLASSIFIER.partition("[avgpool]")[0] + "[maxpool]\nsize=2\nstride=2\n"
    with refused(yolotf.CfgError):
        yolotf.parse_cfg(backbone).with_classes(9)


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("skip_mismatch", [False, True])
def test_a_network_of_another_size_is_at_fault_before_its_layers(files, by_name, skip_mismatch):
    model = yolotf.build_model("detector.cfg", classes=5)
    before = [variable.numpy() for variable in model.variables]
    with refused(yolotf.SizeMismatchError, code="size-mismatch"):
        yolotf.load_darknet_weights(
            model,
            "detector.weights",
            network="detector.cfg",
            by_name=by_name,
            skip_mismatch=skip_mismatch,
        )
    after = [variable.numpy() for variable in model.variables]
    assert all(map(np.array_equal, before, after))


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("network", [None, "detector.cfg"])
@pytest.mark.parametrize("classes", [2, 7])
def test_a_backbone_leaves_the_layers_beyond_its_end(files, by_name, network, classes):
    trained = yolotf.build_model("detector.cfg")
    yolotf.save_darknet_weights(trained, "detector.conv.1", upto=1)
    model = yolotf.build_model("detector.cfg", classes=classes)
    report = yolotf.load_darknet_weights(model, "detector.conv.1", network=network, by_name=by_name)
    assert (report.loaded, report.untouched) == (("conv_0",), ("conv_1",))
    kernels = [model.get_layer("conv_0").kernel.numpy() for model in (model, trained)]
    np.testing.assert_array_equal(*kernels)


def test_a_backbone_still_refuses_names_that_only_the_model_has(files):
    trained = yolotf.build_model("detector.cfg")
    yolotf.save_darknet_weights(trained, "detector.conv.1", upto=1)
    more = DETECTOR.replace("[yolo]", conv(21) + "[yolo]")
    model = yolotf.build_model(more)
    with refused(yolotf.ModelMismatchError):
        yolotf.load_darknet_weights(model, "detector.conv.1", network="detector.cfg", by_name=True)
