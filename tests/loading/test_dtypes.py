"""Variables of every type, adapters and quantized kernels are loaded right or refused by name."""

import os

import numpy as np
import pytest

import yolotf
from support import load_helpers, numpy_loader
from support.cfgs import net, normalized
from support.messages import refused
from yolotf.models.keras_module import keras

LEGACY = os.environ.get("TF_USE_LEGACY_KERAS") == "1"
TEXT = (
    net(8)
    + normalized(8, 3)
    + normalized(8, 3, groups=8)
    + "[connected]\noutput=6\nbatch_normalize=1\nactivation=leaky\n"
    + "[connected]\noutput=4\nactivation=linear\n"
)
NETWORK = yolotf.parse_cfg(TEXT)
DOORS = {
    "load": {},
    "cfg": {"cfg": NETWORK},
    "by_name": {"by_name": True},
    "skip_mismatch": {"skip_mismatch": True},
    "both": {"by_name": True, "skip_mismatch": True},
}
each_door = pytest.mark.parametrize("options", DOORS.values(), ids=DOORS.keys())


@pytest.fixture
def path(tmp_path):
    (tmp_path / "some.weights").write_bytes(load_helpers.content(TEXT))
    return tmp_path / "some.weights"


def check_loaded(model, path, rtol=0.0):
    """Every variable has what a plain NumPy loader puts there."""
    expected = yolotf.build_model(NETWORK)
    numpy_loader.load(expected, NETWORK.to_cfg(), path.read_bytes())
    for values, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(values.astype(np.float64), other, rtol=rtol)


@pytest.mark.slow
@each_door
@pytest.mark.parametrize("cast", [False, True])
def test_float64_variables_take_every_float_as_it_is(options, cast, path, tmp_path):
    policies = keras().mixed_precision
    policy_before = (
        policies.dtype_policy() if hasattr(policies, "dtype_policy") else policies.global_policy()
    )
    set_policy = getattr(policies, "set_dtype_policy", None) or policies.set_global_policy
    set_policy("float64")
    try:
        model = yolotf.build_model(NETWORK)
    finally:
        set_policy(policy_before)
    assert all(values.dtype == "float64" for values in model.get_weights())
    assert yolotf.load_darknet_weights(model, path, cast=cast, **options).skipped == ()
    check_loaded(model, path)
    yolotf.save_darknet_weights(model, tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()


@pytest.mark.slow
@each_door
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_floats_are_rounded_if_asked(options, dtype, path):
    model = yolotf.build_model(NETWORK, dtype=dtype)
    with refused(yolotf.ModelMismatchError):
        yolotf.load_darknet_weights(model, path, **options)
    yolotf.load_darknet_weights(model, path, cast=True, **options)
    check_loaded(model, path, rtol=2**-8)


@pytest.mark.slow
@each_door
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_policies_hold_float32(options, dtype, path):
    model = yolotf.build_model(NETWORK, dtype=dtype)
    yolotf.load_darknet_weights(model, path, **options)
    check_loaded(model, path)


@pytest.mark.slow
@pytest.mark.skipif(LEGACY, reason="of Keras 3")
@each_door
def test_layers_may_each_have_their_type(options, path):
    types = {"conv_0": "float64", "conv_1": "bfloat16", "connected_2": "mixed_bfloat16"}

    def clone(layer):
        config = layer.get_config()
        if layer.name in types:
            config["dtype"] = types[layer.name]
        return type(layer).from_config(config)

    model = keras().models.clone_model(yolotf.build_model(NETWORK), clone_function=clone)
    options = {"cfg": NETWORK, **options}
    with refused(yolotf.ModelMismatchError):
        yolotf.load_darknet_weights(model, path, **options)
    yolotf.load_darknet_weights(model, path, cast=True, **options)
    check_loaded(model, path, rtol=2**-8)
    assert model.get_layer("conv_0").kernel.dtype == "float64"


def with_adapters(model):
    for name in ("conv_0", "connected_2", "connected_3"):
        model.get_layer(name).enable_lora(2)
    return model


@pytest.mark.skipif(LEGACY, reason="of Keras 3")
@each_door
def test_the_kernel_under_an_adapter_is_loaded(options, path):
    model = with_adapters(yolotf.build_model(NETWORK))
    yolotf.load_darknet_weights(model, path, **options)
    expected = yolotf.build_model(NETWORK)
    numpy_loader.load(expected, NETWORK.to_cfg(), path.read_bytes())
    x = np.random.default_rng(0).random((2, 8, 8, 3), dtype=np.float32)
    # A new adapter adds nothing.
    np.testing.assert_allclose(model(x), expected(x), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(LEGACY, reason="of Keras 3")
def test_save_writes_the_kernel_that_the_model_computes_with(path, tmp_path):
    model = with_adapters(yolotf.build_model(NETWORK, weights=path))
    random = np.random.default_rng(1)
    for name in ("conv_0", "connected_2", "connected_3"):
        adapter = model.get_layer(name).lora_kernel_b
        adapter.assign(random.normal(size=adapter.shape))
    yolotf.save_darknet_weights(model, tmp_path / "merged.weights")
    merged = yolotf.build_model(NETWORK, weights=tmp_path / "merged.weights")
    x = random.random((2, 8, 8, 3), dtype=np.float32)
    np.testing.assert_allclose(model(x), merged(x), rtol=1e-4, atol=1e-4)
    without = yolotf.build_model(NETWORK, weights=path)
    assert np.abs(without(x) - merged(x)).max() > 0.1


@pytest.mark.slow
@pytest.mark.skipif(LEGACY, reason="of Keras 3")
@each_door
@pytest.mark.parametrize("mode", ["int8", "int4"])
@pytest.mark.parametrize("loaded_before", [False, True])
def test_a_quantized_layer_is_named(options, mode, loaded_before, path, tmp_path):
    model = yolotf.build_model(NETWORK)
    if loaded_before:
        yolotf.load_darknet_weights(model, path)
    before = model.get_layer("conv_0").get_weights()
    try:
        model.get_layer("connected_3").quantize(mode)
    except (ValueError, NotImplementedError):
        pytest.skip(f"this Keras has no {mode}")
    with refused(yolotf.ModelMismatchError):
        yolotf.load_darknet_weights(model, path, **options)
    for values, other in zip(model.get_layer("conv_0").get_weights(), before, strict=True):
        np.testing.assert_array_equal(values, other)
    with refused(yolotf.ModelMismatchError):
        yolotf.save_darknet_weights(model, tmp_path / "again.weights")


@each_door
def test_a_quantization_aware_model_is_named(options, path):
    class QuantizeWrapperV2(keras().layers.Wrapper):
        """As tfmot's."""

        def call(self, inputs):
            return self.layer(inputs)

    part = yolotf.build_model(NETWORK)
    x = QuantizeWrapperV2(keras().layers.ReLU(), name="quant_relu")(part.output)
    model = keras().Model(part.input, x, name="aware")
    options = {**options, "cfg": NETWORK}
    with refused(yolotf.ModelMismatchError):
        yolotf.load_darknet_weights(model, path, **options)
