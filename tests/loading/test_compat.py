"""`yolotf.compat`: signatures, results and exceptions of the functions it replaces."""

import importlib
import inspect
import logging
import struct

import numpy as np
import pytest

import yolotf
from support import foreign_models, numpy_loader
from support.foreign_models import CFG, STYLES, Recorder
from support.messages import warned
from yolotf.weights import layout

pytestmark = pytest.mark.slow

# (module, function): the old signature, and the style of that project's models.
OLD = {
    ("yolov3_tf2", "load_darknet_weights"): ("(model, weights_file, tiny=False)", "submodels"),
    ("tensorflow_yolov4_tflite", "load_weights"): (
        "(model, weights_file, model_name='yolov4', is_tiny=False)",
        "flat",
    ),
    ("tensorflow_yolov4_tflite", "load_weights_v3"): ("(model, weights_file)", "flat"),
    ("tensorflow_yolov4_tflite", "load_weights_tiny"): ("(model, weights_file)", "flat"),
    ("tf2_yolov4", "load_darknet_weights_in_yolo"): (
        "(yolo_model, darknet_weights_path)",
        "three_parts",
    ),
    ("tensorflow_yolov4", "load_weights"): ("(model, weights_file, tiny=False)", "subclassed"),
    ("yolov3_tf2x", "load_yolo_weights"): ("(model, weights_file)", "flat"),
}
LOADERS = pytest.mark.parametrize("old", OLD, ids=".".join)


def function(old):
    module, name = old
    return getattr(importlib.import_module(f"yolotf.compat.{module}"), name)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return foreign_models.weights_file(tmp_path_factory.mktemp("weights") / "small.weights")


def model_of(old):
    record = Recorder()
    return STYLES[OLD[old][1]](record), record.pairs


@LOADERS
def test_signatures_are_the_old_ones(old):
    signature = inspect.signature(function(old))
    plain = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    assert str(inspect.Signature(plain)) == OLD[old][0]


@LOADERS
def test_results_are_the_old_ones(old, weights):
    model, pairs = model_of(old)
    result = function(old)(model, str(weights))
    foreign_models.assert_holds(pairs, weights)
    expected = {"tf2_yolov4": model, "tensorflow_yolov4": True}.get(old[0])
    assert result is expected


@LOADERS
def test_old_arguments_may_be_given_by_place(old, weights):
    count = OLD[old][0].count("=")
    model, pairs = model_of(old)
    function(old)(model, weights, *[False] * count)
    foreign_models.assert_holds(pairs, weights)


@LOADERS
@pytest.mark.parametrize("error", [AssertionError, ValueError])
@pytest.mark.parametrize("change", [-4, 4, 400])
def test_mismatch_is_refused_with_the_old_exceptions(old, error, change, weights, tmp_path):
    """Includes the longer file that one of the old loaders accepted silently."""
    content = weights.read_bytes()
    path = tmp_path / "other.weights"
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    model, _ = model_of(old)
    before = [variable.numpy().copy() for variable in model.weights]
    with pytest.raises(error):
        function(old)(model, path)
    for variable, values in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), values)


@LOADERS
def test_missing_file_is_the_error_of_open(old, tmp_path):
    model, _ = model_of(old)
    with pytest.raises(FileNotFoundError):
        function(old)(model, tmp_path / "missing.weights")


def test_a_load_is_logged(weights, caplog):
    model, _ = model_of(("yolov3_tf2", "load_darknet_weights"))
    with caplog.at_level(logging.INFO, logger="yolotf"):
        function(("yolov3_tf2", "load_darknet_weights"))(model, weights)
    assert "loaded 14 layers" in caplog.text


@LOADERS
@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
def test_what_makes_boxes_differ_from_darknets_is_logged_as_a_warning(
    old, epsilon, weights, caplog
):
    """At a level that Python prints without any setting."""
    model, pairs = model_of(old)
    for pair in pairs:
        if pair.norm is not None:
            pair.norm.epsilon = epsilon
    function(old)(model, weights)
    logged = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert all(record.getMessage().startswith(f"{weights}: ") for record in logged)
    assert any("epsilon" in record.getMessage() for record in logged) == (epsilon == 1e-3)


@pytest.mark.parametrize("layers", [1, 9, 13])
def test_file_of_the_first_layers_returns_false(layers, tmp_path):
    from yolotf.compat.tensorflow_yolov4 import load_weights

    network = yolotf.parse_cfg(CFG)
    stored = sorted({segment.layer for segment in layout.segments(network)})
    end = max(
        segment.end for segment in layout.segments(network) if segment.layer == stored[layers - 1]
    )
    path = tmp_path / "small.conv.9"
    path.write_bytes(numpy_loader.random_file(CFG)[: 20 + end])
    record = Recorder()
    model = STYLES["subclassed"](record)
    last = record.pairs[-1].kernel.kernel.numpy().copy()
    assert load_weights(model, path) is False
    foreign_models.assert_holds(record.pairs[:layers], path)
    np.testing.assert_array_equal(record.pairs[-1].kernel.kernel.numpy(), last)
    # The model's other layers were not loaded, so a file saved from it has their own numbers.
    with warned(UserWarning):  # Keras' own, and true
        yolotf.save_darknet_weights(model, tmp_path / "whole.weights")
    foreign_models.assert_holds(record.pairs, tmp_path / "whole.weights")


def test_saving_writes_the_old_header(weights, tmp_path):
    from yolotf.compat.tensorflow_yolov4 import load_weights, save_weights

    model = STYLES["subclassed"](Recorder())
    load_weights(model, weights)
    path = tmp_path / "saved.weights"
    with warned(UserWarning):
        assert save_weights(model, path, tiny=False) is None
    assert struct.unpack("<5i", path.read_bytes()[:20]) == (0, 2, 5, 32032000, 0)
    assert path.read_bytes()[20:] == weights.read_bytes()[20:]
