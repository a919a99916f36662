"""A network's whole file loaded into a part of the network, alone or under other layers."""

import json

import numpy as np
import pytest

import yolotf
from support import load_helpers, messages, numpy_loader
from support.cfgs import conv, net, normalized, route, yolo
from yolotf.models.keras_module import keras

L = keras().layers
CUSTOM = (
    net(32)
    + normalized(8, 3, stride=2)
    + normalized(16, 3, stride=2)
    + normalized(8)
    + normalized(16, 3)
    + conv(18)
    + yolo()
    + route(-3)
    + normalized(8, 3)
    + conv(18)
    + yolo()
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The stock network, and a file of it."""
    network = yolotf.network("yolov4-tiny", size=32)
    path = tmp_path_factory.mktemp("tiny") / "some.weights"
    path.write_bytes(load_helpers.content(network.to_cfg()))
    return network, path


@pytest.fixture
def custom(tmp_path):
    """A network that is no stock network, and a file of it."""
    path = tmp_path / "own.weights"
    path.write_bytes(load_helpers.content(CUSTOM))
    return yolotf.parse_cfg(CUSTOM), path


def part_of(network, name):
    """The network's model up to a layer."""
    whole = yolotf.build_model(network)
    return keras().Model(whole.input, whole.get_layer(name).output, name="part")


def reloaded(model, folder):
    model.save(folder / "part.keras")
    return keras().models.load_model(folder / "part.keras")


def renamed(model, _):
    """The layers are called `a_0`, `a_1`, ...: names say nothing of sections."""

    def clone(layer):
        config = layer.get_config()
        config["name"] = f"a_{[other.name for other in model.layers].index(layer.name)}"
        return type(layer).from_config(config)

    return keras().models.clone_model(model, clone_function=clone)


ORIGINS = {
    "of build_model": lambda model, _: model,
    "read": reloaded,
    "cloned": lambda model, _: keras().models.clone_model(model),
    "renamed": renamed,
}


def check_filled(model, network, path, layers):
    """Every kernel of the model is that of the file, as a plain NumPy loader reads it."""
    stored = numpy_loader.arrays(network.to_cfg(), path.read_bytes())
    kernels = [
        values.transpose(2, 3, 1, 0)
        for array, values in stored.items()
        if array.role == "kernel" and array.index in layers
    ]
    loaded = [values for values in model.get_weights() if values.ndim == 4]
    assert len(loaded) == len(kernels)
    for values in kernels:
        assert any(np.array_equal(values, kernel) for kernel in loaded)


@pytest.mark.slow
@pytest.mark.parametrize("origin", ORIGINS.values(), ids=ORIGINS.keys())
@pytest.mark.parametrize("options", [{}, {"cfg": "yolov4-tiny"}], ids=["alone", "with cfg"])
def test_first_layers_of_a_stock_network_are_loaded(tiny, origin, options, tmp_path):
    network, path = tiny
    model = origin(part_of(network, "conv_28_leaky"), tmp_path)
    assert not yolotf.diagnose(path, model).causes
    report = yolotf.load_darknet_weights(model, path, **options)
    assert (len(report.loaded), report.untouched, report.skipped) == (17, (), ())
    assert report.unused == ("conv_29", "conv_32", "conv_35", "conv_36")
    (warning,) = report.warnings
    assert warning.startswith(f"{model.name} ")
    messages.said(warning.removeprefix(model.name))
    check_filled(model, network, path, range(29))


def test_branch_that_lacks_layers_is_loaded_by_its_names(tiny):
    network, path = tiny
    model = part_of(network, "conv_35_leaky")  # without conv_28 and 29, which come before it
    report = yolotf.load_darknet_weights(model, path)
    assert report.unused == ("conv_28", "conv_29", "conv_36")
    check_filled(model, network, path, {*range(28), 32, 35})


def test_part_of_a_custom_network_is_loaded_without_arguments(custom):
    network, path = custom
    model = part_of(network, "conv_3_leaky")
    report = yolotf.load_darknet_weights(model, path)
    assert (report.loaded, report.unused) == (
        ("conv_0", "conv_1", "conv_2", "conv_3"),
        ("conv_4", "conv_7", "conv_8"),
    )
    check_filled(model, network, path, range(4))


def test_part_read_from_a_file_needs_its_cfg(custom, tmp_path):
    network, path = custom
    model = reloaded(part_of(network, "conv_3_leaky"), tmp_path)
    with messages.refused(yolotf.SizeMismatchError):
        yolotf.load_darknet_weights(model, path)
    assert len(yolotf.load_darknet_weights(model, path, cfg=network).loaded) == 4
    check_filled(model, network, path, range(4))


OWN_LAYERS = {
    "dense": lambda: [L.GlobalAveragePooling2D(), L.Dense(5, name="own")],
    "convolution": lambda: [L.Conv2D(5, 1, name="own")],
    "normalized dense": lambda: [
        L.GlobalAveragePooling2D(),
        L.Dense(5, use_bias=False, name="own"),
        L.BatchNormalization(name="own_bn"),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("own", OWN_LAYERS.values(), ids=OWN_LAYERS.keys())
@pytest.mark.parametrize("options", [{}, {"cfg": "yolov4-tiny"}], ids=["alone", "with cfg"])
def test_layers_on_top_are_refused_with_the_networks_name(tiny, own, options):
    network, path = tiny
    part = part_of(network, "conv_28_leaky")
    x = part.output
    for layer in own():
        x = layer(x)
    model = keras().Model(part.input, x, name="mine")
    before = model.get_weights()
    with messages.refused(yolotf.WeightsMismatch) as refused:
        yolotf.load_darknet_weights(model, path, **options)
    if not options:
        (cause,) = refused.value.diagnosis.to_dict()["causes"]
        assert (cause["kind"], cause["file"]) == ("architecture", "yolov4-tiny")
        messages.said(cause["message"])
    for values, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(values, other)
    report = yolotf.load_darknet_weights(model, path, skip_mismatch=True, **options)
    assert (len(report.loaded), report.untouched) == (17, ("own",))
    check_filled(part, network, path, range(29))


OTHERS = {
    "Conv1D": lambda: [L.Reshape((-1, 512)), L.Conv1D(4, 1, name="own")],
    "SeparableConv2D": lambda: [L.SeparableConv2D(4, 1, name="own")],
    "Conv2DTranspose": lambda: [L.Conv2DTranspose(4, 1, name="own")],
    "LayerNormalization": lambda: [L.LayerNormalization(name="own")],
    "GroupNormalization": lambda: [L.GroupNormalization(8, name="own")],
    "PReLU": lambda: [L.PReLU(name="own")],
    "LSTM": lambda: [L.Reshape((-1, 512)), L.LSTM(4, name="own")],
}


@pytest.mark.slow
@pytest.mark.parametrize("own", OTHERS.values(), ids=OTHERS.keys())
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cfg": "yolov4-tiny"},
        {"skip_mismatch": True},
        {"by_name": True, "strict": False},
        {"by_name": True, "skip_mismatch": True},
    ],
    ids=json.dumps,
)
def test_layers_that_no_section_can_fill_are_named_in_every_report(tiny, own, options):
    network, path = tiny
    part = part_of(network, "conv_28_leaky")
    x = part.output
    for layer in own():
        x = layer(x)
    model = keras().Model(part.input, x, name="mine")
    report = yolotf.load_darknet_weights(model, path, **options)
    assert len(report.loaded) == 17
    assert any(name == "own" or "lstm" in name for name in report.untouched), report.untouched
    assert "untouched" in str(report)


def test_the_parts_of_an_attention_are_named(tiny):
    network, path = tiny
    part = part_of(network, "conv_28_leaky")
    x = L.Reshape((-1, 512))(part.output)
    model = keras().Model(part.input, L.MultiHeadAttention(2, 4, name="own")(x, x))
    report = yolotf.load_darknet_weights(model, path, skip_mismatch=True)
    assert set(report.untouched) == {"query", "key", "value", "attention_output"}


def test_part_that_ends_before_its_batch_normalization_is_refused(tiny):
    network, path = tiny
    with messages.refused(yolotf.ModelMismatchError):
        yolotf.load_darknet_weights(part_of(network, "conv_28"), path)


def test_layers_that_resemble_the_first_ones_are_not_filled(tiny):
    # The same names and kernels, another number of filters in one.
    _, path = tiny
    other = yolotf.parse_cfg(net(32) + normalized(32, 3, stride=2) + normalized(24, 3, stride=2))
    model = part_of(other, "conv_1_leaky")
    with pytest.raises(yolotf.WeightsMismatch):
        yolotf.load_darknet_weights(model, path)
