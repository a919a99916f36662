"""`.keras` and `.h5` files where yolotf is missing, or Keras is older."""

import json
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf
from test_convert import DETECTOR, REST, assert_close, pictures_for, reference, write_weights

from support.cfgs import conv, net, normalized, shortcut
from support.messages import refused, said
from yolotf import errors
from yolotf.cli import commands as cli
from yolotf.formats.convert import convert
from yolotf.models.keras_module import keras

pytestmark = pytest.mark.slow

only_keras_3 = pytest.mark.skipif(
    keras().__name__ == "tf_keras", reason="tf_keras reads what tf_keras writes"
)

# Each stock activation behind a sum, parts of channels of one and of several inputs.
STOCK = (
    net(32)
    + normalized(8, 3, "mish")
    + "[route]\nlayers=-1\ngroups=4\ngroup_id=1\n"
    + conv(8, 3)
    + shortcut(-3, activation="relu")
    + shortcut(0, activation="swish")
    + "[route]\nlayers=-1,-3\ngroups=2\ngroup_id=1\n"
    + conv(8, 3)
    + shortcut(-2, activation="logistic")
    + "[connected]\noutput=6\nactivation=relu\n"
)

READ = """
import sys, numpy
from {keras} import models
picture = numpy.load(sys.argv[1])
for path in sys.argv[2:]:
    print(numpy.asarray(models.load_model(path, compile=False)(picture)).tobytes().hex())
assert "yolotf" not in sys.modules
"""


def test_keras_files_of_standard_layers_load_without_yolotf(tmp_path):
    weights = write_weights(tmp_path, STOCK)
    for kind in (".keras", ".h5"):
        assert convert(weights, STOCK, tmp_path / f"m{kind}").notes == ()
    picture = pictures_for(STOCK, batch=1)
    np.save(tmp_path / "picture.npy", picture)
    paths = [str(tmp_path / name) for name in ("picture.npy", "m.keras", "m.h5")]
    code = READ.format(keras=keras().__name__)
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], check=True, capture_output=True, text=True
    )
    for line in done.stdout.split():
        output = np.frombuffer(bytes.fromhex(line), np.float32).reshape(1, 1, 1, 6)
        assert_close([output], reference(STOCK)[1](picture))


def test_files_with_own_layers_name_the_import(tmp_path, capsys):
    (tmp_path / "net.cfg").write_text(STOCK)
    weights = write_weights(tmp_path, STOCK)
    command = ["convert", str(weights), "--cfg", str(tmp_path / "net.cfg"), "-o"]
    assert cli.main([*command, str(tmp_path / "m.keras")]) == 0
    assert "note:" not in capsys.readouterr().err
    done = convert(write_weights(tmp_path, DETECTOR), DETECTOR, tmp_path / "m.keras")
    (note,) = done.notes
    said(note)


def configurations(path):
    """The configuration of the model in a file, and those of everything in it by class."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as file:
            model = json.loads(file.read("config.json"))
    else:
        with h5py.File(path) as file:
            model = json.loads(file.attrs["model_config"])
    by_class = {}

    def look(value):
        if isinstance(value, dict):
            if {"class_name", "config"} <= value.keys():
                by_class.setdefault(value["class_name"], []).append(value["config"])
            value = list(value.values())
        if isinstance(value, list):
            for inner in value:
                look(inner)

    look(model)
    return model["config"], by_class


# What Keras 3.3.3 wrote.
KEYS_OF_KERAS_3_3 = {
    "BatchNormalization": {
        *("name", "trainable", "dtype", "axis", "momentum", "epsilon", "center", "scale"),
        *("beta_initializer", "gamma_initializer", "beta_regularizer", "gamma_regularizer"),
        *("moving_mean_initializer", "moving_variance_initializer"),
        *("beta_constraint", "gamma_constraint", "synchronized"),
    },
    "Dense": {
        *("name", "trainable", "dtype", "units", "activation", "use_bias", "kernel_initializer"),
        *("bias_initializer", "kernel_regularizer", "bias_regularizer", "kernel_constraint"),
        *("bias_constraint", "activity_regularizer"),
    },
    "Cropping2D": {"name", "trainable", "dtype", "cropping", "data_format"},
    "VarianceScaling": {"scale", "mode", "distribution", "seed"},
    "GlorotUniform": {"seed"},
}


@only_keras_3
@pytest.mark.parametrize("kind", [".keras", ".h5"])
def test_configurations_have_no_key_that_keras_3_3_does_not_know(kind, tmp_path):
    output = tmp_path / f"m{kind}"
    done = convert(write_weights(tmp_path, REST), REST, output)
    assert done.read_by == "Keras 3.4 or later"
    _, by_class = configurations(output)
    assert {"BatchNormalization", "Dense"} <= by_class.keys()
    for name in KEYS_OF_KERAS_3_3.keys() & by_class.keys():
        for config in by_class[name]:
            assert config.keys() <= KEYS_OF_KERAS_3_3[name], name


@only_keras_3
@pytest.mark.parametrize("kind", [".keras", ".h5"])
def test_keras_3_3_finds_input_and_outputs_in_lists(kind, tmp_path):
    weights, output = write_weights(tmp_path, REST), tmp_path / f"m{kind}"
    done = convert(weights, REST, output, old_keras=True)
    assert done.read_by == "Keras 3.1 or later"
    model, _ = configurations(output)
    for key in ("input_layers", "output_layers"):
        assert all(len(node) == 3 for node in model[key])
    # Today's Keras reads it, too.
    pictures = pictures_for(REST)
    heads = keras().models.load_model(output, compile=False)(tf.constant(pictures))
    assert_close([np.asarray(heads)], reference(REST)[1](pictures))


def test_old_keras_is_refused_for_other_formats(tmp_path):
    weights = write_weights(tmp_path, STOCK)
    with refused(errors.YolotfError):
        convert(weights, STOCK, tmp_path / "m.onnx", old_keras=True)
