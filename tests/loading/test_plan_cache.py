"""Cached plans are used while a model is unchanged, and never after a change."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support import numpy_loader, weights_files
from support.load_helpers import (
    EVERYTHING,
    HEAD,
    NET,
    build,
    content,
    conv,
    same,
    scramble,
    snapshot,
)
from support.messages import refused, said
from yolotf import errors
from yolotf.loading import plan as plans
from yolotf.loading.plan_cache import ModelFingerprint
from yolotf.models import notes
from yolotf.models.layer_names import network_of
from yolotf.weights import layout

TEXT = (
    NET
    + conv(16, 3, batch_normalize=1, activation="leaky")
    + conv(16, 3, batch_normalize=1, activation="leaky")
    + conv(16, 3, batch_normalize=1, activation="leaky")
    + conv(18)
    + HEAD
)


@pytest.fixture
def weights(tmp_path):
    """Writes a file for TEXT with numbers of `seed`."""

    def write(seed=0, text=TEXT):
        path = tmp_path / f"{seed}.weights"
        path.write_bytes(content(text, seed))
        return path

    return write


@pytest.fixture
def walks(monkeypatch):
    """A list with an entry for every walk through a model."""
    calls = []
    walk = plans.plan_for

    def counted(*arguments, **options):
        calls.append(arguments)
        return walk(*arguments, **options)

    monkeypatch.setattr(plans, "plan_for", counted)
    return calls


def by_numpy(model, text, seed):
    """The variables after a plain loader has read the file."""
    scramble(model, 1)
    numpy_loader.load(model, text, content(text, seed))
    return snapshot(model)


@pytest.mark.parametrize("text", [TEXT, EVERYTHING], ids=["detector", "everything"])
def test_model_is_walked_once_and_every_load_writes_all_of_it(text, weights, walks):
    model = build(text)
    for seed in (1, 2, 3):
        expected = by_numpy(model, text, seed)
        scramble(model)
        report = yolotf.load_darknet_weights(model, weights(seed, text))
        assert same(snapshot(model), expected)
        assert report.variables == len(model.variables)
        assert report.loaded[0] == "conv_0"
    assert len(walks) == 1


def test_a_refused_load_is_refused_again_and_changes_nothing(weights, walks):
    model = build(TEXT)
    path = weights(1)
    yolotf.load_darknet_weights(model, path)
    before = snapshot(model)
    path.write_bytes(path.read_bytes()[:-8])
    messages = set()
    for _ in range(2):
        with pytest.raises(errors.SizeMismatchError) as caught:
            yolotf.load_darknet_weights(model, path)
        messages.add(str(caught.value))
    with pytest.raises(errors.SizeMismatchError) as caught:
        yolotf.load_darknet_weights(build(TEXT), path)
    assert messages == {str(caught.value)}
    assert same(snapshot(model), before)
    assert len(walks) == 2


def test_transposed_dense_kernels_have_their_own_plan(tmp_path, walks):
    text = NET + conv(4) + "[connected]\noutput=7\nactivation=linear\n"
    model = build(text)
    data = content(text, 1)
    usual, turned = tmp_path / "a.weights", tmp_path / "b.weights"
    usual.write_bytes(data)
    turned.write_bytes(weights_files.header(version=(1001, 2, 5), seen_bytes=8) + data[20:])
    snapshots = []
    for path in (usual, turned, usual, turned):
        scramble(model)
        yolotf.load_darknet_weights(model, path)
        snapshots.append(snapshot(model))
    assert same(snapshots[0], snapshots[2])
    assert same(snapshots[1], snapshots[3])
    assert not same(snapshots[0], snapshots[1])
    assert len(walks) == 2


def unlocked(layer):
    """The layer with its attributes unlocked: Keras locks those of a built layer."""
    layer._tracker.unlock()
    return layer


def replace_gamma(model):
    layer = unlocked(model.get_layer("conv_1_bn"))
    layer.gamma = keras.Variable(np.full(16, 5, np.float32), name="gamma")


def replace_kernel(model):
    layer = unlocked(model.get_layer("conv_1"))
    layer._kernel = keras.Variable(np.full((3, 3, 16, 16), 5, np.float32), name="kernel")


def replace_what_a_variable_wraps(model):
    model.get_layer("conv_1").kernel._value = tf.Variable(np.full((3, 3, 16, 16), 5, np.float32))


def swap_names(model):
    for suffix in ("", "_bn"):
        first, second = (model.get_layer(f"conv_{index}{suffix}") for index in (1, 2))
        first.name, second.name = second.name, first.name


def swap_variables(model):
    first, second = (unlocked(model.get_layer(f"conv_{index}_bn")) for index in (1, 2))
    first.gamma, second.gamma = second.gamma, first.gamma


def swap_layer(model):
    other = build(TEXT).get_layer("conv_1")
    model._operations = [
        other if operation.name == "conv_1" else operation for operation in model._operations
    ]
    assert model.get_layer("conv_1") is other


CHANGES = [
    replace_gamma,
    replace_kernel,
    replace_what_a_variable_wraps,
    swap_names,
    swap_variables,
    swap_layer,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_model_that_was_changed_is_walked_again(change, weights, walks):
    model = build(TEXT)
    yolotf.load_darknet_weights(model, weights(1))
    variables_before = {layer: list(layer.variables) for layer in model.layers}
    change(model)
    removed = [
        (variable, variable.numpy().copy())
        for layer, variables in variables_before.items()
        for variable in variables
        if not any(variable is current for now in model.layers for current in now.variables)
    ]
    layers = {layer.name: layer for layer in model.layers}
    report = yolotf.load_darknet_weights(model, weights(2))
    assert len(walks) == 2
    assert report.variables == 17
    # Array by array from the file, not by what the model says about itself.
    floats = np.frombuffer(content(TEXT, 2), "<f4", offset=20)
    channels, at = 3, 0
    for index, (filters, size) in enumerate(((16, 3), (16, 3), (16, 3), (18, 1))):
        names = ["beta", "gamma", "moving_mean", "moving_variance"] if index < 3 else ["bias"]
        for name in names:
            layer = layers[f"conv_{index}_bn" if index < 3 else f"conv_{index}"]
            assert np.array_equal(getattr(layer, name).numpy(), floats[at : at + filters]), name
            at += filters
        count = filters * channels * size * size
        kernel = floats[at : at + count].reshape(filters, channels, size, size)
        assert np.array_equal(layers[f"conv_{index}"].kernel.numpy(), kernel.transpose(2, 3, 1, 0))
        at, channels = at + count, filters
    assert at == floats.size
    # Variables that the model no longer has keep their numbers.
    for variable, numbers in removed:
        assert np.array_equal(variable.numpy(), numbers)


@pytest.mark.parametrize("extent", [15, 17])
def test_a_variable_of_another_shape_is_refused_by_name(extent, weights):
    model = build(TEXT)
    yolotf.load_darknet_weights(model, weights(1))
    layer = unlocked(model.get_layer("conv_1_bn"))
    layer.gamma = keras.Variable(np.ones(extent, np.float32), name="gamma")
    before = snapshot(model)
    with refused(errors.WeightsMismatch):
        yolotf.load_darknet_weights(model, weights(2))
    assert same(snapshot(model), before)


def test_a_variable_that_is_gone_is_refused(weights):
    model = build(TEXT)
    yolotf.load_darknet_weights(model, weights(1))
    model.get_layer("conv_1_bn").gamma = None
    with refused(errors.ModelMismatchError):
        yolotf.load_darknet_weights(model, weights(2))


def test_every_load_compares_what_the_model_computes(weights):
    model = build(TEXT)
    assert not yolotf.load_darknet_weights(model, weights(1)).warnings
    model.get_layer("conv_1_bn").epsilon = 1e-3
    (warning,) = yolotf.load_darknet_weights(model, weights(1)).warnings
    said(warning)
    model.get_layer("conv_1_bn").epsilon = 1e-5
    assert not yolotf.load_darknet_weights(model, weights(1)).warnings


def test_changes_that_no_plan_depends_on_keep_the_plan(weights, walks):
    model = build(TEXT)
    yolotf.load_darknet_weights(model, weights(1))
    model.trainable = False
    model.get_layer("conv_1").activation = keras.activations.relu
    model.get_layer("conv_2").dtype_policy = keras.DTypePolicy("mixed_float16")
    expected = by_numpy(model, TEXT, 2)
    scramble(model)
    yolotf.load_darknet_weights(model, weights(2))
    assert same(snapshot(model), expected)
    assert len(walks) == 1


def test_variables_of_16_bits_are_refused_in_every_load(weights):
    model = build(TEXT, dtype="float16")
    for _ in range(2):
        with refused(errors.WeightsMismatch):
            yolotf.load_darknet_weights(model, weights(1))
        yolotf.load_darknet_weights(model, weights(1), cast=True)


def test_another_network_of_the_same_model_has_its_own_plan(weights):
    model = build(TEXT)
    network = network_of(model)
    fingerprint = ModelFingerprint.of(model, network)
    assert fingerprint.matches(ModelFingerprint.of(model, network))
    assert not fingerprint.matches(ModelFingerprint.of(model, yolotf.parse_cfg(TEXT)))
    assert not fingerprint.matches(fingerprint._replace(built=False))
    assert not fingerprint.matches(fingerprint._replace(names=fingerprint.names[1:]))
    assert not fingerprint.matches(
        fingerprint._replace(references=[None, *fingerprint.references[1:]])
    )


@pytest.mark.slow
def test_a_remembered_plan_keeps_no_model_alive(weights):
    model = build(TEXT)
    yolotf.load_darknet_weights(model, weights(1))
    yolotf.load_darknet_weights(model, weights(1))
    count = len(notes._notes)
    gone = weakref.ref(model), weakref.ref(model.get_layer("conv_1"))
    del model
    keras.backend.clear_session()
    gc.collect()
    assert [reference() for reference in gone] == [None, None]
    assert len(notes._notes) < count


@pytest.mark.slow
def test_segments_of_a_network_are_cached_for_it_alone():
    seen = []
    for filters in range(1, 40):
        network = yolotf.parse_cfg(NET + conv(filters))
        for _ in range(2):
            assert layout.segments(network)[0].shape == (filters,)
            assert layout.floats(network) == filters * 4
        layout.segments(network).clear()
        assert len(layout.segments(network)) == 2
        seen.append(weakref.ref(network))
        del network
        gc.collect()
    assert not any(reference() for reference in seen)
