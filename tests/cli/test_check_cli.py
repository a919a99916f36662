"""`yolotf check` and `yolotf inspect`, and models in place of cfgs."""

import json
import subprocess
import sys

import pytest

import yolotf
from support import cfgs, helpers
from support.messages import refused
from yolotf.cli import commands as cli
from yolotf.darknet import cfg
from yolotf.darknet import stock as networks
from yolotf.diagnosis import result as diagnosis
from yolotf.models import network_like as model_network
from yolotf.models.build import build_model, read_model
from yolotf.models.keras_module import keras
from yolotf.weights import layout

TINY = "yolov4-tiny"


def write(path, network):
    helpers.write_weights(path, network, scale=0.1)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of a yolov4-tiny with 3 classes."""
    folder = tmp_path_factory.mktemp("weights")
    return write(folder / "three.weights", networks.network(TINY, classes=3))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Models of 3 and of 80 classes, saved by Keras."""
    folder = tmp_path_factory.mktemp("models")
    for classes in (3, 80):
        build_model(networks.network(TINY, classes=classes, size=64)).save(
            folder / f"{classes}.keras"
        )
    return folder


def run(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    return code, capsys.readouterr()


def test_a_file_that_fits_is_exit_code_0(capsys, weights):
    code, said = run(capsys, "check", weights, "--cfg", TINY, "--classes", 3)
    assert code == 0
    assert said.out.startswith(f"{weights}: matches yolov4-tiny\n")
    assert said.err == ""


def test_one_that_does_not_is_exit_code_1_with_cause_and_fix(capsys, weights):
    code, said = run(capsys, "check", weights, "--cfg", TINY)
    assert code == 1
    assert "cause        trained with 3 classes, yolov4-tiny has 80" in said.out
    assert "fix          pass classes=3, or --classes 3" in said.out


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_one_that_cannot_be_read_is_exit_code_2(capsys, tmp_path, what):
    path = tmp_path if what == "folder" else tmp_path / "none.weights"
    code, said = run(capsys, "check", path, "--cfg", TINY)
    assert code == 2
    assert "cannot be read" in said.out


def test_json_is_one_object_and_nothing_else(capsys, weights):
    code, said = run(capsys, "check", weights, "--cfg", TINY, "--json")
    answer = json.loads(said.out)
    assert (code, answer["ok"]) == (1, False)
    assert answer["weights"]["size_bytes"] == weights.stat().st_size
    assert [(one["kind"], one["file"], one["model"]) for one in answer["causes"]] == [
        ("class_count", 3, 80)
    ]


def test_a_page_is_written(capsys, weights, tmp_path):
    page = tmp_path / "report.html"
    code, _ = run(capsys, "check", weights, "--cfg", TINY, "--html", page)
    assert code == 1
    assert "trained with 3 classes" in page.read_text()


def test_check_needs_something_to_compare_with(capsys, weights):
    code, said = run(capsys, "check", weights)
    assert (code, said.out) == (2, "")
    assert said.err == "yolotf: check needs --cfg or --model\n"


@pytest.mark.slow
def test_a_saved_model_stands_for_its_network(capsys, weights, saved):
    assert run(capsys, "check", weights, "--model", saved / "3.keras")[0] == 0
    code, said = run(capsys, "check", weights, "--model", saved / "80.keras")
    assert code == 1
    assert "trained with 3 classes, yolov4-tiny has 80" in said.out


@pytest.mark.slow
def test_a_model_can_be_checked_against_its_cfg(capsys, weights, saved):
    arguments = ("check", weights, "--cfg", TINY, "--classes", 3, "--model")
    assert run(capsys, *arguments, saved / "3.keras")[0] == 0
    code, said = run(capsys, *arguments, saved / "80.keras")
    assert code == 1
    assert "conv_29/kernel is (1, 1, 512, 255)" in said.out


def test_a_model_that_is_not_there_is_exit_code_2(capsys, weights, tmp_path):
    code, said = run(capsys, "check", weights, "--model", tmp_path / "none.keras")
    assert code == 2
    assert said.err == f"yolotf: {tmp_path / 'none.keras'}: no such file or directory\n"


def test_inspect_says_what_a_file_is(capsys, weights):
    code, said = run(capsys, "inspect", weights)
    assert code == 0
    assert "yolov4-tiny" in said.out
    assert "3 classes" in said.out


def test_inspect_says_what_a_file_is_not(capsys, tmp_path):
    path = tmp_path / "page.weights"
    path.write_text("<!DOCTYPE html><html><title>Not found</title></html>")
    code, said = run(capsys, "inspect", path, "--json")
    assert code == 1
    assert json.loads(said.out)["detected"] == "html"


def test_inspecting_what_cannot_be_read_is_exit_code_2(capsys, tmp_path):
    code, said = run(capsys, "inspect", tmp_path / "none.weights")
    assert code == 2
    assert said.err.startswith(f"yolotf: {tmp_path / 'none.weights'}: ")


def test_check_and_inspect_import_no_tensorflow(weights):
    code = (
        "import sys\n"
        "from yolotf import cli\n"
        f"cli.main(['check', {str(weights)!r}, '--cfg', 'yolov4-tiny'])\n"
        f"cli.main(['inspect', {str(weights)!r}])\n"
        "sys.exit(str([m for m in ('tensorflow', 'keras', 'tf_keras') if m in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "[]\n"


# Models


def test_a_model_knows_the_network_it_was_built_from():
    network = networks.network(TINY, size=64)
    assert model_network.network_like(build_model(network)) is network


@pytest.mark.slow
def test_a_saved_model_is_the_stock_network_it_was(saved):
    network = model_network.network_like(read_model(saved / "80.keras"))
    assert (network.name, network.classes) == (TINY, 80)


def hand_made(filters):
    layers = keras().layers
    x = inputs = layers.Input((16, 16, 3))
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name="first")(x)
    x = layers.BatchNormalization(name="first_norm")(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depth")(x)
    x = layers.BatchNormalization(name="depth_norm")(x)
    x = layers.Conv2D(18, 1, name="last")(x)
    return keras().Model(inputs, x, name="hand_made")


def test_a_model_of_ones_own_is_a_chain_of_its_layers(tmp_path):
    network = model_network.network_like(hand_made(8))
    assert [one.shape for one in layout.segments(network) if one.role == "kernel"] == [
        (8, 3, 3, 3),
        (8, 1, 3, 3),
        (18, 8, 1, 1),
    ]
    path = write(tmp_path / "own.weights", network)
    assert yolotf.diagnose(path, hand_made(8)).ok
    found = yolotf.diagnose(path, hand_made(12))
    assert not found.ok
    assert found.first_divergence.layer == 0
    assert "layer first of hand_made" in str(found.summary())


def test_a_failed_load_of_ones_own_model_carries_its_diagnosis(tmp_path):
    path = write(tmp_path / "own.weights", model_network.network_like(hand_made(8)))
    with pytest.raises(yolotf.WeightsMismatch) as caught:
        yolotf.load_darknet_weights(hand_made(12), path)
    assert isinstance(caught.value.diagnosis, diagnosis.Diagnosis)
    assert not caught.value.diagnosis.ok


def test_a_model_without_weights_has_no_network():
    inputs = keras().layers.Input((4, 4, 3))
    with refused(yolotf.ModelMismatchError):
        model_network.network_like(keras().Model(inputs, keras().layers.ReLU()(inputs)))


@pytest.mark.parametrize("classes", [None, 1])
def test_what_darknet_ignores_in_the_cfg_is_told_with_other_classes_too(capsys, tmp_path, classes):
    text = cfgs.net(8) + "nonsense\n" + cfgs.conv(21) + cfgs.yolo(2)
    (tmp_path / "odd.cfg").write_text(text)
    network = cfg.parse_cfg(text)
    if classes:
        network = network.with_classes(classes)
    weights = write(tmp_path / "a.weights", network)
    options = ["--classes", classes] if classes else []
    code, said = run(capsys, "check", weights, "--cfg", tmp_path / "odd.cfg", *options)
    assert code == 0
    assert "nonsense" in said.out


def test_one_class_and_one_channel_are_not_counted_as_several(capsys, tmp_path):
    text = cfgs.net(8, channels=1) + cfgs.conv(18) + cfgs.yolo()
    (tmp_path / "one.cfg").write_text(text)
    weights = write(tmp_path / "one.weights", cfg.parse_cfg(text))
    code, said = run(capsys, "check", weights, "--cfg", tmp_path / "one.cfg")
    assert code == 0
    assert "one.cfg, 1 class, 1 channel: " in said.out
