"""Models with the right floats whose results differ from Darknet's: one warning for each kind."""

import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support import foreign_models, load_helpers
from support.cfgs import conv, maxpool, net, normalized, route, section, yolo
from support.foreign_models import HEAD, STYLES, L, Recorder
from support.messages import said, warned
from yolotf.models import differences
from yolotf.models.keras_module import keras

SIZE = 32
CFG = (
    net(SIZE)
    + normalized(8, 3)
    + normalized(16, 3, "mish", stride=2)
    + maxpool(2)
    + normalized(8)
    + maxpool(3, 1)
    + conv(12, 3, activation="relu")
    + section("upsample", stride=2)
    + route(-1, 1)
    + normalized(8, 3, "swish")
    + conv(HEAD)
    + yolo()
)
NETWORK = yolotf.parse_cfg(CFG)


def model(**changes):
    """The model of `CFG` by hand; `changes` replace layers or options of it."""

    def choose(name, usual):
        return changes.get(name, usual)

    def conv(x, number, filters, size, activate, stride=1, norm=True):
        padding = choose(f"padding_{number}", None)
        if padding is None and stride == 2:
            x = L.ZeroPadding2D(((1, 0), (1, 0)))(x)
            padding = "valid"
        elif isinstance(padding, tuple):
            x, padding = L.ZeroPadding2D(padding)(x), "valid"
        x = L.Conv2D(
            filters,
            size,
            stride,
            padding=padding or "same",
            use_bias=not norm,
            name=f"kernel_{number}",
        )(x)
        if norm:
            epsilon = choose("epsilon", 1e-5)
            x = L.BatchNormalization(epsilon=epsilon, name=f"norm_{number}")(x)
        return choose(f"activate_{number}", activate)(x)

    def leaky(name):
        return lambda x: L.LeakyReLU(0.1, name=name)(x)

    inputs = L.Input((SIZE, SIZE, 3))
    x = conv(inputs, 0, 8, 3, leaky("leaky_0"))
    fine = x = conv(x, 1, 16, 3, L.Activation("mish", name="mish_1"), stride=2)
    x = choose("pool_2", L.MaxPooling2D(2, 2, name="pool_2"))(x)
    x = conv(x, 3, 8, 1, leaky("leaky_3"))
    x = choose("pool_4", L.MaxPooling2D(3, 1, padding="same", name="pool_4"))(x)
    x = conv(x, 5, 12, 3, L.ReLU(name="relu_5"), norm=False)
    x = choose("upsample_6", L.UpSampling2D(2, name="upsample_6"))(x)
    parts = [x, fine]
    parts = parts[::-1] if "swap_7" in changes else parts
    x = L.Concatenate(name="concat_7")(parts)
    x = conv(x, 8, 8, 3, L.Activation("swish", name="swish_8"))
    return keras().Model(inputs, L.Conv2D(HEAD, 1, name="kernel_9")(x), name="by_hand")


def shifted(values):
    return L.MaxPooling2D(3, 1, name="pool_4")(L.ZeroPadding2D(1)(values))


def resized(method):
    def resize(values):
        rows, columns = values.shape[1] * 2, values.shape[2] * 2
        if keras().__name__ == "tf_keras":
            return tf.image.resize(values, (rows, columns), method=method)
        return keras().ops.image.resize(values, (rows, columns), interpolation=method)

    return resize


def lambda_resized(method):
    return L.Lambda(
        lambda values: tf.image.resize(values, (16, 16), method=method),
        output_shape=(16, 16, 12),
        name="lambda_6",
    )


def none(values):
    return values


FAULTS = {
    "a slope of 0.3": ({"activate_0": L.LeakyReLU(0.3, name="bad")}, "leaky_slope", ["bad"]),
    "a slope of 0.2 twice": (
        {
            "activate_0": L.LeakyReLU(0.2, name="bad_0"),
            "activate_3": L.LeakyReLU(0.2, name="bad_3"),
        },
        "leaky_slope",
        ["bad_0", "bad_3"],
    ),
    "the slope of PyTorch": (
        {"activate_3": L.LeakyReLU(0.01, name="bad")},
        "leaky_slope",
        ["bad"],
    ),
    "relu for leaky": ({"activate_0": L.ReLU(name="bad")}, "activation", ["bad"]),
    "mish for leaky": ({"activate_0": L.Activation("mish", name="bad")}, "activation", ["bad"]),
    "leaky for mish": ({"activate_1": L.LeakyReLU(0.1, name="bad")}, "activation", ["bad"]),
    "no activation": ({"activate_3": none}, "activation", ["kernel_3"]),
    "tanh for swish": ({"activate_8": L.Activation("tanh", name="bad")}, "activation", ["bad"]),
    "mish written wrong": (
        {"activate_1": lambda x: x * keras().activations.tanh(x)},
        "activation",
        ["kernel_1"],
    ),
    "'same' at stride 2": ({"padding_1": "same"}, "padding", ["kernel_1"]),
    "zeros on the far side": ({"padding_1": ((0, 1), (0, 1))}, "padding", ["kernel_1"]),
    "no zeros in front of a pooling of borders": ({"pool_4": shifted}, "padding", ["pool_4"]),
    "zeros of another size": (
        {"padding_8": ((2, 0), (2, 0))},
        "padding",
        ["kernel_8"],
    ),
    "a swapped concatenation": ({"swap_7": True}, "concat_order", ["concat_7"]),
    "bilinear": (
        {"upsample_6": L.UpSampling2D(2, interpolation="bilinear", name="bad")},
        "upsampling",
        ["bad"],
    ),
    "a bilinear operation": ({"upsample_6": resized("bilinear")}, "upsampling", []),
    "a bilinear lambda": ({"upsample_6": lambda_resized("bilinear")}, "upsampling", ["lambda_6"]),
    "epsilon": ({"epsilon": 0.5}, "epsilon", ["norm_1"]),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.weights"
    path.write_bytes(load_helpers.content(CFG))
    return path


def answer(of):
    picture = np.random.default_rng(0).random((1, SIZE, SIZE, 3), np.float32)
    return np.asarray(of(picture))


@pytest.fixture(scope="module")
def reference(weights):
    built = yolotf.build_model(NETWORK)
    assert yolotf.load_darknet_weights(built, weights).warnings == ()
    return answer(built)


def test_hand_made_model_computes_what_darknet_does(weights, reference):
    right = model()
    assert yolotf.load_darknet_weights(right, weights, cfg=NETWORK).warnings == ()
    np.testing.assert_allclose(answer(right), reference, rtol=1e-4, atol=1e-4)
    assert yolotf.load_darknet_weights(model(), weights).warnings == ()


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_difference_is_one_warning_with_its_layers(fault, weights, reference):
    changes, kind, names = FAULTS[fault]
    wrong = model(**changes)
    report = yolotf.load_darknet_weights(wrong, weights, cfg=NETWORK)
    listed = differences.differences(wrong, NETWORK, _assignments(wrong))
    assert [difference.kind for difference in listed] == [kind], listed
    assert report.warnings == (listed[0].message,)
    for name in names:
        assert name in " ".join(listed[0].layers)
        assert kind == "epsilon" or name in listed[0].message
    assert not np.allclose(answer(wrong), reference, rtol=1e-3, atol=1e-3)


def _assignments(of):
    from yolotf.loading.plan import plan_for

    return plan_for(of, NETWORK).assignments


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_diagnose_and_save_warn_alike(fault, weights, tmp_path):
    from yolotf.loading.diagnose import against_model

    changes, kind, _ = FAULTS[fault]
    wrong = model(**changes)
    yolotf.load_darknet_weights(wrong, weights, cfg=NETWORK)
    diagnosed = against_model(yolotf.diagnose(weights, NETWORK), wrong)
    assert diagnosed.ok
    assert [warning["kind"] for warning in diagnosed.warnings] == [kind]
    assert diagnosed.to_dict()["warnings"][0]["layers"]
    with warned(UserWarning) as caught:
        yolotf.save_darknet_weights(wrong, tmp_path / "out.weights", network=NETWORK)
    assert len(caught) == 1
    if kind != "epsilon":
        assert diagnosed.warnings[0]["message"] in str(caught[0].message)


SHOWN_ALONE = ("a slope of 0.3", "'same' at stride 2", "bilinear", "epsilon")


@pytest.mark.parametrize("fault", SHOWN_ALONE)
def test_arithmetic_unlike_darknets_is_seen_without_a_cfg(fault, weights):
    changes, kind, names = FAULTS[fault]
    wrong = model(**changes)
    (warning,) = yolotf.load_darknet_weights(wrong, weights).warnings
    (difference,) = differences.differences(wrong)
    assert (difference.kind, difference.message) == (kind, warning)
    assert names[0] in " ".join(difference.layers)
    (diagnosed_warning,) = yolotf.diagnose(weights, wrong).warnings
    assert diagnosed_warning["kind"] == kind


EQUALS = {
    "relu as an operation": {"activate_5": lambda x: keras().activations.relu(x)},
    "leaky as a relu": {"activate_0": L.ReLU(negative_slope=0.1)},
    "mish written out": {
        "activate_1": lambda x: x * keras().activations.tanh(keras().activations.softplus(x))
    },
    "swish written out": {"activate_8": lambda x: x * keras().activations.sigmoid(x)},
    "an activation in a lambda": {
        "activate_0": L.Lambda(lambda x: tf.maximum(x, 0.1 * x), output_shape=(32, 32, 8))
    },
    "dropout in between": {"activate_3": lambda x: L.LeakyReLU(0.1)(L.Dropout(0.5)(x))},
    "zeros on all sides at stride 2": {"padding_1": ((1, 1), (1, 1))},
    "explicit zeros": {"padding_0": ((1, 1), (1, 1)), "padding_8": ((1, 1), (1, 1))},
    "nearest as an operation": {"upsample_6": resized("nearest")},
    "nearest in a lambda": {"upsample_6": lambda_resized("nearest")},
    "a pooling that needs no padding": {"pool_2": L.MaxPooling2D(2, 2, padding="same")},
}


@pytest.mark.slow
@pytest.mark.parametrize("way", EQUALS)
def test_equal_arithmetic_is_not_warned_of(way, weights, reference):
    if keras().__name__ == "tf_keras" and "mish" in way:
        pytest.skip("tf_keras joins it with the convolution, which a CPU cannot do")
    right = model(**EQUALS[way])
    assert yolotf.load_darknet_weights(right, weights, cfg=NETWORK).warnings == ()
    np.testing.assert_allclose(answer(right), reference, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("with_cfg", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_models_of_public_projects_are_warned_of_epsilon_only(style, with_cfg, tmp_path):
    path = foreign_models.weights_file(tmp_path / "small.weights")
    options = {"cfg": foreign_models.CFG} if with_cfg else {}
    (warning,) = yolotf.load_darknet_weights(STYLES[style](Recorder()), path, **options).warnings
    said(warning)


@pytest.mark.slow
@pytest.mark.parametrize("with_cfg", [False, True])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("fault", ["slope", "same", "bilinear"])
def test_differences_are_found_in_every_style(style, with_cfg, fault, tmp_path, monkeypatch):
    path = foreign_models.weights_file(tmp_path / "small.weights")
    kind = {"slope": "leaky_slope", "same": "padding", "bilinear": "upsampling"}[fault]
    if fault == "slope":
        monkeypatch.setattr(foreign_models.L, "LeakyReLU", lambda _: LEAKY(0.3))
    elif fault == "same":
        monkeypatch.setattr(foreign_models.L, "ZeroPadding2D", lambda _: L.Identity())
        monkeypatch.setattr(foreign_models.L, "Conv2D", _same)
    else:
        monkeypatch.setattr(
            foreign_models.L, "UpSampling2D", lambda size: UPSAMPLE(size, "bilinear")
        )
    wrong = STYLES[style](Recorder())
    options = {"cfg": foreign_models.CFG} if with_cfg else {}
    report = yolotf.load_darknet_weights(wrong, path, **options)
    monkeypatch.undo()
    assert kind in [difference.kind for difference in differences.differences(wrong)]
    assert len(report.warnings) == 2, report.warnings


LEAKY, CONV, RESIZE = L.LeakyReLU, L.Conv2D, L.UpSampling2D


def UPSAMPLE(size, interpolation):
    return RESIZE(size, interpolation=interpolation)


def _same(*arguments, padding, **options):
    return CONV(*arguments, padding="same", **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov4-tiny", "yolov3-tiny"])
def test_a_stock_network_is_compared_without_a_cfg(name, tmp_path):
    network = yolotf.network(name, classes=2, size=96)
    path = tmp_path / "stock.weights"
    path.write_bytes(load_helpers.content(network.to_cfg()))
    original = yolotf.build_model(network)

    def clone(layer):
        options = {**layer.get_config(), "name": f"mine_{layer.name}"}
        if isinstance(layer, L.LeakyReLU) and layer.name == "conv_4_leaky":
            return L.ReLU(name="mine_relu")
        return type(layer).from_config(options)

    copy = keras().models.clone_model(original, clone_function=clone)
    (warning,) = yolotf.load_darknet_weights(copy, path).warnings
    said(warning)
    right = keras().models.clone_model(original)
    assert yolotf.load_darknet_weights(right, path).warnings == ()


def test_a_saved_and_reloaded_model_has_no_differences(tmp_path):
    path = tmp_path / "any.weights"
    path.write_bytes(load_helpers.content(load_helpers.EVERYTHING))
    built = load_helpers.build(load_helpers.EVERYTHING)
    built.save(tmp_path / "model.keras")
    again = keras().models.load_model(tmp_path / "model.keras", compile=False)
    network = yolotf.parse_cfg(load_helpers.EVERYTHING)
    assert yolotf.load_darknet_weights(again, path, cfg=network).warnings == ()
    assert yolotf.load_darknet_weights(again, path).warnings == ()


def test_cfg_warnings_are_in_the_report(weights):
    network = yolotf.parse_cfg(CFG.replace("[maxpool]", "nonsense\n[maxpool]", 1))
    assert network.warnings
    for loaded, options in ((yolotf.build_model(network), {}), (model(), {"cfg": network})):
        report = yolotf.load_darknet_weights(loaded, weights, **options)
        assert report.warnings == network.warnings
