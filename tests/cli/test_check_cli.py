"""`yolotf check` and `yolotf inspect`, and models in place of cfgs."""

import html
import json
import subprocess
import sys

import pytest

import yolotf
from support import cfgs, helpers
from support.messages import refused, said
from yolotf import diagnosis
from yolotf.cli import commands as cli
from yolotf.darknet import cfg
from yolotf.darknet import stock as networks
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
    """A file of a yolov4-tiny with 3 classes."""
    folder = tmp_path_factory.mktemp("weights")
    return write(folder / "three.weights", networks.network(TINY, classes=3))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with models of 3 and 80 classes, saved by Keras."""
    folder = tmp_path_factory.mktemp("models")
    for classes in (3, 80):
        build_model(networks.network(TINY, classes=classes, size=64)).save(
            folder / f"{classes}.keras"
        )
    return folder


def run(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    return code, capsys.readouterr()


def lines_of(printed, *labels):
    """The lines of a report that start with one of `labels`."""
    lines = (line.strip() for line in printed.out.splitlines())
    return "\n".join(line for line in lines if line.startswith(labels))


def words_of(printed):
    """The report without its line breaks, which depend on the length of paths."""
    return " ".join(printed.out.split())


def test_file_that_matches_is_exit_code_0(capsys, weights):
    code, printed = run(capsys, "check", weights, "--cfg", TINY, "--classes", 3)
    assert code == 0
    assert printed.out.startswith(f"{weights}: matches yolov4-tiny\n")
    assert printed.err == ""


def test_file_that_does_not_match_is_exit_code_1_with_cause_and_fix(capsys, weights):
    code, printed = run(capsys, "check", weights, "--cfg", TINY)
    assert code == 1
    said(lines_of(printed, "cause", "fix"))


@pytest.mark.parametrize("fault", ["missing", "folder"])
def test_unreadable_file_is_exit_code_2(capsys, tmp_path, fault):
    path = tmp_path if fault == "folder" else tmp_path / "none.weights"
    code, printed = run(capsys, "check", path, "--cfg", TINY)
    assert code == 2
    said(words_of(printed))


def test_json_is_one_object_and_nothing_else(capsys, weights):
    code, printed = run(capsys, "check", weights, "--cfg", TINY, "--json")
    answer = json.loads(printed.out)
    assert (code, answer["ok"]) == (1, False)
    assert answer["weights"]["size_bytes"] == weights.stat().st_size
    assert [(cause["kind"], cause["file"], cause["model"]) for cause in answer["causes"]] == [
        ("class_count", 3, 80)
    ]


def test_check_writes_a_page(capsys, weights, tmp_path):
    page = tmp_path / "report.html"
    code, _ = run(capsys, "check", weights, "--cfg", TINY, "--html", page)
    assert code == 1
    (cause,) = yolotf.diagnose(weights, TINY).causes
    assert html.escape(cause.text) in page.read_text("utf-8")


def test_check_needs_something_to_compare_with(capsys, weights):
    code, printed = run(capsys, "check", weights)
    assert (code, printed.out) == (2, "")
    said(printed.err)


@pytest.mark.slow
def test_check_takes_a_saved_model_in_place_of_a_cfg(capsys, weights, saved):
    assert run(capsys, "check", weights, "--model", saved / "3.keras")[0] == 0
    code, printed = run(capsys, "check", weights, "--model", saved / "80.keras")
    assert code == 1
    said(lines_of(printed, "cause"))


@pytest.mark.slow
def test_a_model_can_be_checked_against_its_cfg(capsys, weights, saved):
    arguments = ("check", weights, "--cfg", TINY, "--classes", 3, "--model")
    assert run(capsys, *arguments, saved / "3.keras")[0] == 0
    code, printed = run(capsys, *arguments, saved / "80.keras")
    assert code == 1
    said(lines_of(printed, "cause"))


def test_missing_model_is_exit_code_2(capsys, weights, tmp_path):
    code, printed = run(capsys, "check", weights, "--model", tmp_path / "none.keras")
    assert code == 2
    said(printed.err)


def test_inspect_names_the_network_of_a_file(capsys, weights):
    code, printed = run(capsys, "inspect", weights)
    assert code == 0
    assert "yolov4-tiny" in printed.out
    assert "3 classes" in printed.out


def test_inspect_names_another_kind_of_file(capsys, tmp_path):
    path = tmp_path / "page.weights"
    path.write_text("<!DOCTYPE html><html><title>Not found</title></html>")
    code, printed = run(capsys, "inspect", path, "--json")
    assert code == 1
    assert json.loads(printed.out)["detected"] == "html"


def test_inspecting_a_missing_file_is_exit_code_2(capsys, tmp_path):
    code, printed = run(capsys, "inspect", tmp_path / "none.weights")
    assert code == 2
    said(printed.err)


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


def test_model_knows_the_network_it_was_built_from():
    network = networks.network(TINY, size=64)
    assert model_network.network_like(build_model(network)) is network


@pytest.mark.slow
def test_saved_model_is_recognised_as_its_stock_network(saved):
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


def test_hand_made_model_is_compared_as_a_chain_of_its_layers(tmp_path):
    network = model_network.network_like(hand_made(8))
    assert [segment.shape for segment in layout.segments(network) if segment.role == "kernel"] == [
        (8, 3, 3, 3),
        (8, 1, 3, 3),
        (18, 8, 1, 1),
    ]
    path = write(tmp_path / "own.weights", network)
    assert yolotf.diagnose(path, hand_made(8)).ok
    mismatch = yolotf.diagnose(path, hand_made(12))
    assert not mismatch.ok
    assert mismatch.first_divergence.layer == 0
    said(mismatch.summary())


def test_failed_load_of_a_hand_made_model_carries_its_diagnosis(tmp_path):
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
def test_cfg_warnings_are_shown_with_other_classes_too(capsys, tmp_path, classes):
    text = cfgs.net(8) + "nonsense\n" + cfgs.conv(21) + cfgs.yolo(2)
    (tmp_path / "odd.cfg").write_text(text)
    network = cfg.parse_cfg(text)
    if classes:
        network = network.with_classes(classes)
    weights = write(tmp_path / "a.weights", network)
    options = ["--classes", classes] if classes else []
    code, printed = run(capsys, "check", weights, "--cfg", tmp_path / "odd.cfg", *options)
    assert code == 0
    assert "nonsense" in printed.out


def test_single_class_and_channel_are_printed_in_the_singular(capsys, tmp_path):
    text = cfgs.net(8, channels=1) + cfgs.conv(18) + cfgs.yolo()
    (tmp_path / "one.cfg").write_text(text)
    weights = write(tmp_path / "one.weights", cfg.parse_cfg(text))
    code, printed = run(capsys, "check", weights, "--cfg", tmp_path / "one.cfg")
    assert code == 0
    said(words_of(printed))


def test_weights_are_taken_from_beside_the_cfg(capsys, tmp_path):
    network = networks.network(TINY, classes=3)
    (tmp_path / "animals.cfg").write_text(network.to_cfg())
    write(tmp_path / "animals_best.weights", network)
    (tmp_path / "animals.weights").write_bytes(b"an older one")
    for given in (["--cfg", tmp_path / "animals.cfg"], [tmp_path / "animals.cfg"]):
        code, printed = run(capsys, "check", *given, "--json")
        assert code == 0
        assert json.loads(printed.out)["ok"]
        assert "animals_best.weights, beside" in printed.err
    (tmp_path / "animals_best.weights").unlink()
    code, printed = run(capsys, "check", tmp_path / "animals.cfg")
    assert code == 1  # animals.weights
    (tmp_path / "animals.weights").unlink()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["check", str(tmp_path / "animals.cfg")])
    assert stopped.value.code == 2
    assert "required: FILE" in capsys.readouterr().err


def test_check_says_which_lines_hank_ais_darknet_refuses(capsys, tmp_path):
    network = networks.network(TINY, classes=3)
    text = network.to_cfg().replace("batch=", "batch=+").replace("[yolo]", "[yolo] # a head", 1)
    (tmp_path / "animals.cfg").write_text(text + "\nshow_details=1\n")
    write(tmp_path / "animals.weights", network)
    code, printed = run(capsys, "check", tmp_path / "animals.cfg", "--dialect", "hank-ai", "--json")
    assert code == 0
    stops = [warning["message"] for warning in json.loads(printed.out)["warnings"]]
    stops = [message for message in stops if "hank-ai's Darknet stops here" in message]
    assert len(stops) == 2
    assert 'it says "key "batch" on line #' in stops[0]
    assert 'from section [yolo] is unused or invalid"' in stops[1]
    code, printed = run(capsys, "check", tmp_path / "animals.cfg", "--dialect", "alexeyab")
    assert code == 2
    assert "AlexeyAB's Darknet would put an empty layer there" in printed.err
