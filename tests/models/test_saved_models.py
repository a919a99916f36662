"""Saved models that could run code are refused; the code in these tests does nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import pytest

from support import messages, numpy_loader
from support.cfgs import conv, net, yolo
from yolotf import build_model, parse_cfg
from yolotf.cli import commands
from yolotf.errors import YolotfError
from yolotf.models import saved

CFG = net(32) + conv(24) + yolo(3)


@pytest.fixture(params=[".keras", ".h5"])
def ending(request):
    return request.param


def harmless(path, layer):
    inputs = keras.Input((4, 4, 3))
    keras.Model(inputs, layer(inputs)).save(path)
    return path


@pytest.mark.filterwarnings("ignore")
def test_a_model_with_a_lambda_is_loaded_only_if_trusted(ending, tmp_path, capsys):
    path = harmless(tmp_path / f"m{ending}", keras.layers.Lambda(lambda x: x, name="mine"))
    with messages.refused(YolotfError):
        saved.read_model(path)
    weights = tmp_path / "a.weights"
    weights.write_bytes(numpy_loader.random_file(CFG))
    assert commands.main(["check", str(weights), "--model", str(path)]) == 2
    messages.said(messages.reported(capsys.readouterr().err))
    assert saved.read_model(path, trust=True).get_layer("mine") is not None


@pytest.mark.filterwarnings("ignore")
def test_models_of_library_layers_are_loaded(ending, tmp_path):
    path = tmp_path / f"m{ending}"
    build_model(parse_cfg(CFG)).save(path)
    assert len(saved.read_model(path).layers) == 2


def with_config(path, change):
    """Rewrites the description of the layers in a .keras file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_class_of_another_module_is_not_imported(tmp_path):
    path = harmless(tmp_path / "m.keras", keras.layers.ReLU())
    (tmp_path / "stranger.py").write_text("raise AssertionError('imported')\n")

    def change(config):
        config["config"]["layers"][1].update(module="stranger", class_name="Layer")

    with_config(path, change)
    with messages.refused(YolotfError):
        saved.read_model(path)


@pytest.mark.parametrize(
    ("function", "refused"),
    [("nn.leaky_relu", False), ("math.tanh", False), ("io.gfile.rmtree", True), ("concat", False)],
)
def test_functions_of_tensorflow_that_only_compute_are_accepted(function, refused):
    layer = {"class_name": "TFOpLambda", "config": {"name": "op", "function": function}}
    if refused:
        with messages.refused(YolotfError):
            saved._check({"config": {"layers": [layer]}}, "m.h5")
    else:
        saved._check({"config": {"layers": [layer]}}, "m.h5")


@pytest.mark.parametrize(
    "layer",
    [
        {"class_name": "layers.Lambda", "module": "keras", "config": {"name": "a"}},
        {"class_name": "ReLU", "registered_name": "Lambda", "config": {"name": "a"}},
        {"class_name": "Custom>Lambda", "config": {"name": "a"}},
        {"class_name": "TensorFlowOpLayer", "config": {"name": "a"}},
        {"class_name": "TorchModuleWrapper", "module": "keras.layers", "config": {"name": "a"}},
        {"class_name": "function", "module": "builtins", "config": "len"},
        {"class_name": "function", "module": "keras.utils", "config": "to_categorical"},
        {"class_name": "function", "module": "keras.activations", "config": "get"},
        {"class_name": "function", "module": "yolotf.text", "config": "plural"},
        {"class_name": "function", "module": "builtins", "config": ["len"]},
        {
            "class_name": "Activation",
            "config": {
                "activation": {"class_name": "function", "module": "math", "config": "floor"}
            },
        },
    ],
)
def test_other_names_of_code_are_refused(layer):
    """What Keras 2 finds by name, anywhere in Python; the code named here does nothing."""
    with messages.refused(YolotfError):
        saved._check({"config": {"layers": [layer]}}, "m.keras")


@pytest.mark.parametrize("name", ["relu", "mish", "l2", "mean_squared_error"])
def test_functions_of_keras_are_accepted(name):
    function = {"class_name": "function", "module": "builtins", "config": name}
    saved._check({"config": {"layers": [{"class_name": "Activation", "config": function}]}}, "m")


@pytest.mark.filterwarnings("ignore")
def test_how_a_model_was_compiled_does_not_matter(ending, tmp_path):
    def mine(truth, guess):
        return truth - guess

    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1, activation="mish")(inputs))
    model.compile("sgd", loss=mine)
    path = tmp_path / f"m{ending}"
    model.save(path)
    assert len(saved.read_model(path).layers) == 2


def test_file_of_the_other_keras_is_refused(tmp_path):
    path = harmless(tmp_path / "m.keras", keras.layers.ReLU())
    other = "2.19.0" if keras.__version__.startswith("3") else "3.5.0"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["metadata.json"] = json.dumps({"keras_version": other}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with messages.refused(YolotfError):
        saved.read_model(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n" + b"\0" * 600])
def test_file_that_is_no_model_is_refused(content, ending, tmp_path):
    path = tmp_path / f"m{ending}"
    path.write_bytes(content)
    with pytest.raises((YolotfError, OSError)):
        saved.read_model(path)


@pytest.mark.slow
def test_with_tf_keras_a_lambda_is_refused_too(tmp_path):
    pytest.importorskip("tf_keras")
    code = """
import sys, tf_keras
from yolotf.models import saved
inputs = tf_keras.Input((4, 4, 3))
model = tf_keras.Model(inputs, tf_keras.layers.Lambda(lambda x: x, name="mine")(inputs))
for ending in (".h5", ".keras"):
    model.save(sys.argv[1] + ending)
    try:
        saved.read_model(sys.argv[1] + ending)
    except ValueError as error:
        print(error)
    saved.read_model(sys.argv[1] + ending, trust=True)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "m")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.count("layer 'mine' is a Lambda") == 2
