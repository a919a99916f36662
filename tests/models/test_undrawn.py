"""Kernels are drawn when they are first read, and never if a load fills them."""

import copy
import os
import threading

import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support import messages, numpy_loader
from support.cfgs import conv, net, normalized, yolo
from yolotf.models.keras_module import keras

LEGACY = os.environ.get("TF_USE_LEGACY_KERAS") == "1"
KERAS_3 = pytest.mark.skipif(LEGACY, reason="of Keras 3")
# A plain kernel, a depthwise one, one in groups, one shared by two geometries, a dense layer.
TEXT = (
    net(16)
    + normalized(8, 3, stride=2)
    + normalized(8, 3, groups=8)
    + normalized(8, 3, groups=2)
    + normalized(8, 3)
    + normalized(8, 3, share_index=-1, stride=2)
    + conv(18)
    + yolo()
    + "[connected]\noutput=4\nactivation=linear\n"
)
NETWORK = yolotf.parse_cfg(net(16) + TEXT.partition("channels=3\n")[2].partition("[conn")[0])
DENSE = yolotf.parse_cfg(net(8) + normalized(4, 3) + "[connected]\noutput=4\nactivation=linear\n")


@pytest.fixture
def drawings(monkeypatch):
    """A list with the shape of every array that Keras draws."""
    shapes = []
    initializer = keras().initializers.RandomUniform
    call = initializer.__call__

    def counted(self, shape, *arguments, **options):
        shapes.append(tuple(shape))
        return call(self, shape, *arguments, **options)

    monkeypatch.setattr(initializer, "__call__", counted)
    return shapes


def seeded(network, seed=3, **options):
    keras().utils.set_random_seed(seed)
    return yolotf.build_model(network, **options)


def expected(network, seed=3):
    """The weights of a seed, from a model whose kernels are all drawn when it is built."""
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():  # draws at once
        return seeded(network, seed).get_weights()


def file_of(network, path):
    content = numpy_loader.random_file(network.to_cfg())
    path.write_bytes(content)
    return path


@KERAS_3
@pytest.mark.parametrize("network", [NETWORK, DENSE], ids=["convolutions", "dense"])
def test_kernels_are_drawn_when_first_read(network, drawings):
    model = seeded(network)
    assert model.count_params() == sum(np.prod(variable.shape) for variable in model.weights)
    model.summary(print_fn=lambda *_, **__: None)
    assert not drawings
    for values, other in zip(model.get_weights(), expected(network), strict=True):
        np.testing.assert_array_equal(values, other)
    kernels = sum(values.ndim > 1 for values in model.get_weights())
    assert kernels
    assert len(drawings) == 2 * kernels  # once each, and for what is expected


def outputs(model):
    x = np.random.default_rng(0).random((1, *model.input_shape[1:]), dtype=np.float32)
    return np.asarray(model(x, training=False))


def of_kernel(look):
    return lambda model, _: look(model.get_layer("conv_0").kernel)


def in_function(model, _):
    return tf.function(lambda: tf.reduce_sum(model.get_layer("conv_0").kernel, 0))().numpy()


def gradient(model, _):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(tf.ones((1, 16, 16, 3))))
    return [values.numpy() for values in tape.gradient(loss, model.trainable_variables)]


def trained(model, _):
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 16, 16, 3)), np.ones((2, *model.output_shape[1:])), verbose=0)
    return model.get_weights()


def checkpoint(model, folder):
    path = tf.train.Checkpoint(model=model).save(str(folder / "checkpoint"))
    return [
        tf.train.load_variable(path, name)
        for name, shape in tf.train.list_variables(path)
        if len(shape) == 4
    ]


def saved(model, folder):
    model.save(folder / "some.keras")
    return keras().models.load_model(folder / "some.keras").get_weights()


def darknet(model, folder):
    yolotf.save_darknet_weights(model, folder / "some.weights")
    return np.frombuffer((folder / "some.weights").read_bytes(), np.uint8)


def exported(model, folder):
    model.export(str(folder / "export"))
    loaded = tf.saved_model.load(str(folder / "export"))
    return loaded.serve(tf.ones((1, 16, 16, 3))).numpy()


def changed(model, _):
    kernel = model.get_layer("conv_0").kernel
    kernel.assign_add(np.ones(kernel.shape, np.float32))
    return kernel.numpy()


LOOKS = {
    "numpy": of_kernel(lambda kernel: kernel.numpy()),
    "array": of_kernel(np.asarray),
    "tensor": of_kernel(lambda kernel: tf.convert_to_tensor(kernel).numpy()),
    "value": of_kernel(lambda kernel: kernel.value.numpy()),
    "arithmetic": of_kernel(lambda kernel: (kernel * 2).numpy()),
    "changed": changed,
    "in a tf.function": in_function,
    "layer.get_weights": lambda model, _: model.get_layer("conv_3").get_weights(),
    "call": lambda model, _: outputs(model),
    "predict": lambda model, _: model.predict(np.ones((1, 16, 16, 3)), verbose=0),
    "gradient": gradient,
    "fit": trained,
    "checkpoint": checkpoint,
    "save": saved,
    "save_darknet_weights": darknet,
    "saved_model": exported,
    "deep copy": lambda model, _: copy.deepcopy(model.get_layer("conv_0").kernel).numpy(),
    "sub-model": lambda model, _: outputs(
        keras().Model(model.input, model.get_layer("conv_3").output)
    ),
}


@pytest.mark.slow
@KERAS_3
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
def test_every_reader_sees_what_keras_draws(look, tmp_path):
    seen = look(seeded(NETWORK), tmp_path)
    drawn = seeded(NETWORK)
    drawn.set_weights(expected(NETWORK))
    for value, expected_value in zip(seen, look(drawn, tmp_path), strict=True):
        np.testing.assert_array_equal(value, expected_value)


@KERAS_3
def test_assigned_values_are_kept(drawings):
    model = seeded(NETWORK)
    ones = [np.full(variable.shape, 7, np.float32) for variable in model.weights]
    model.set_weights(ones)
    for values in model.get_weights():
        assert (values == 7).all()


@pytest.mark.slow
@KERAS_3
def test_concurrent_readers_draw_once(drawings):
    model = seeded(NETWORK)
    start = threading.Barrier(8)
    seen = []

    def look():
        start.wait()
        seen.append(model.get_weights())

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawings) == sum(values.ndim > 1 for values in seen[0])
    for weights in seen:
        for values, other in zip(weights, expected(NETWORK), strict=True):
            np.testing.assert_array_equal(values, other)


@KERAS_3
def test_load_draws_no_kernel_that_it_fills(tmp_path, drawings):
    path = file_of(NETWORK, tmp_path / "some.weights")
    model = seeded(NETWORK)
    yolotf.load_darknet_weights(model, path)
    yolotf.save_darknet_weights(model, tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()
    assert not drawings


@KERAS_3
def test_refused_load_draws_nothing(tmp_path, drawings):
    content = numpy_loader.random_file(NETWORK.to_cfg())
    # The first variance: behind beta, gamma and mean of 8 filters.
    damaged = bytearray(content)
    damaged[20 + 4 * 24 : 20 + 4 * 25] = np.float32(-1).tobytes()
    (tmp_path / "some.weights").write_bytes(damaged)
    model = seeded(NETWORK)
    with pytest.raises(yolotf.ContentError):
        yolotf.load_darknet_weights(model, tmp_path / "some.weights")
    assert not drawings
    for values, other in zip(model.get_weights(), expected(NETWORK), strict=True):
        np.testing.assert_array_equal(values, other)


def test_model_built_with_its_file_draws_nothing(tmp_path, drawings):
    path = file_of(NETWORK, tmp_path / "some.weights")
    model = yolotf.build_model(NETWORK, weights=path)
    yolotf.save_darknet_weights(model, tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()
    assert not drawings
    (configured,) = [layer for layer in model.layers if layer.name == "conv_0"]
    maximum = configured.get_config()["kernel_initializer"]["config"]["maxval"]
    assert maximum == pytest.approx(np.sqrt(2 / 27))


def test_model_built_with_a_backbone_draws_the_rest(tmp_path, drawings):
    content = numpy_loader.random_file(NETWORK.to_cfg())
    stored = numpy_loader.arrays(NETWORK.to_cfg(), content)
    floats = sum(values.size for array, values in stored.items() if array.index < 2)
    path = tmp_path / "some.conv.2"
    path.write_bytes(content[: 20 + 4 * floats])
    model = seeded(NETWORK, weights=path)
    for variable, values in zip(model.weights, expected(NETWORK), strict=True):
        name = (variable.path if hasattr(variable, "path") else variable.name).partition("/")[0]
        if name.startswith(("conv_0", "conv_1")):
            assert (variable.numpy() != values).any()
        elif LEGACY:  # where a seed is taken when something is drawn
            assert variable.numpy().std() == pytest.approx(values.std(), rel=0.2)
        else:
            np.testing.assert_array_equal(variable.numpy(), values)
    assert len(drawings) == 3 + 5  # and the five that are expected


def test_build_refuses_as_a_load_does(tmp_path):
    other = yolotf.parse_cfg(net(16) + normalized(8, 3) + conv(18) + yolo())
    path = file_of(other, tmp_path / "some.weights")
    with pytest.raises(yolotf.WeightsMismatch) as refused:
        yolotf.build_model(NETWORK, weights=path)
    assert refused.value.diagnosis.causes
    with pytest.raises(FileNotFoundError):
        yolotf.build_model(NETWORK, weights=tmp_path / "none.weights")
    with messages.refused(TypeError):
        yolotf.build_model(7, weights=path)


def test_build_warns_of_what_a_report_lists(tmp_path):
    path = tmp_path / "some.weights"
    content = numpy_loader.random_file(NETWORK.to_cfg())
    # A header of 16 bytes under a version that asks for 20.
    path.write_bytes(content[:16] + content[20:])
    with messages.warned(UserWarning):
        yolotf.build_model(NETWORK, weights=path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_bfloat16"])
def test_build_casts_to_the_given_type(dtype, tmp_path):
    path = file_of(NETWORK, tmp_path / "some.weights")
    half = yolotf.build_model(NETWORK, weights=path, dtype=dtype).get_layer("conv_0")
    whole = yolotf.build_model(NETWORK, weights=path).get_layer("conv_0")
    (values, *_), (exact, *_) = half.get_weights(), whole.get_weights()
    assert values.dtype == ("float32" if "mixed" in dtype else dtype)
    np.testing.assert_allclose(values.astype(np.float32), exact, rtol=2**-8)
