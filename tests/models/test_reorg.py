"""Stand-ins for `[reorg]`: those that order the channels differently are warned of, once."""

import os

import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support import helpers, messages, weights_files
from support.cfgs import conv, net, normalized, route, section
from yolotf.models.keras_module import keras

pytestmark = pytest.mark.slow

LEGACY = os.environ.get("TF_USE_LEGACY_KERAS") == "1"
L = keras().layers
SIZE = 32
FILTERS = 16


def network(stride=2, kind="reorg"):
    head = conv(30) + section(
        "region", anchors="1,1, 2,2, 3,3, 4,4, 5,5", classes=1, coords=4, num=5, softmax=1
    )
    text = net(SIZE) + normalized(FILTERS, 3) + normalized(8, 3, stride=stride)
    text += route(-2) + section(kind, stride=stride) + route(-1, -3) + normalized(8) + head
    return yolotf.parse_cfg(text)


def model(stand_in, stride=2):
    """The network by hand, `stand_in` in place of `[reorg]`."""

    def convolved(x, filters, size, step=1):
        x = L.ZeroPadding2D(size // 2)(x)
        x = L.Conv2D(filters, size, strides=step, use_bias=False)(x)
        return L.LeakyReLU(0.1)(L.BatchNormalization(epsilon=1e-5)(x))

    x = L.Input((SIZE, SIZE, 3))
    early = convolved(x, FILTERS, 3)
    late = convolved(early, 8, 3, stride)
    joined = L.Concatenate()([stand_in(early, stride), late])
    return keras().Model(x, L.Conv2D(30, 1)(convolved(joined, 8, 1)))


def space_to_depth(x, stride):
    return L.Lambda(lambda values: tf.nn.space_to_depth(values, stride))(x)


def transposed(order):
    def stand_in(x, stride):
        rows = SIZE // stride
        x = L.Reshape((rows, stride, rows, stride, FILTERS))(x)
        return L.Reshape((rows, rows, FILTERS * stride * stride))(L.Permute(order)(x))

    return stand_in


def focus(x, stride):
    corners = [(row, column) for row in range(stride) for column in range(stride)]
    return L.Concatenate()([x[:, row::stride, column::stride] for row, column in corners])


class Packed(L.Layer):
    """A custom layer, as another project may have it."""

    def __init__(self, stride, **kwargs):
        super().__init__(**kwargs)
        self.stride = stride

    def call(self, inputs):
        rows, columns = inputs.shape[1] // self.stride, inputs.shape[2] // self.stride
        x = tf.reshape(inputs, (-1, rows, self.stride, columns, self.stride, FILTERS))
        x = tf.transpose(x, (0, 1, 3, 5, 2, 4))
        return tf.reshape(x, (-1, rows, columns, FILTERS * self.stride**2))

    def compute_output_shape(self, shape):
        batch, rows, columns, channels = shape
        return batch, rows // self.stride, columns // self.stride, channels * self.stride**2


def packed(x, stride):
    return Packed(stride)(x)


def darknet(x, stride):
    shape = (SIZE, SIZE, FILTERS)
    target = (SIZE // stride, SIZE // stride, FILTERS * stride**2)
    return yolotf.keras_layers.Reorg(stride, False, shape, target)(x)


def darknet_by_hand(x, stride):
    def shuffle(values):
        # blas.c:9-37, channels first.
        planes = tf.transpose(values, (0, 3, 1, 2))
        depth = FILTERS // stride**2
        parts = tf.reshape(planes, (-1, depth, SIZE, stride, SIZE, stride))
        parts = tf.transpose(parts, (0, 3, 5, 1, 2, 4))
        rows = SIZE // stride
        planes = tf.reshape(parts, (-1, FILTERS * stride**2, rows, rows))
        return tf.transpose(planes, (0, 2, 3, 1))

    return L.Lambda(shuffle)(x)


WRONG = {
    "space_to_depth": space_to_depth,
    "rows before columns": transposed((1, 3, 2, 4, 5)),
    "columns before rows": transposed((1, 3, 4, 2, 5)),
    "channels first": transposed((1, 3, 5, 2, 4)),
    "slices": focus,
    "a layer": packed,
}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "a.weights"
    helpers.write_weights(path, network())
    return path


def warnings_of(built, weights, source):
    report = yolotf.load_darknet_weights(built, weights, cfg=source)
    return [warning for warning in report.warnings if "[reorg]" in warning]


@pytest.mark.parametrize("name", list(WRONG))
def test_other_channel_order_is_one_warning(name, weights):
    built = model(WRONG[name])
    (warning,) = warnings_of(built, weights, network())
    messages.said(warning)
    # The warning is right: the outputs differ.
    reference = yolotf.build_model(network())
    yolotf.load_darknet_weights(reference, weights)
    picture = np.random.default_rng(0).random((1, SIZE, SIZE, 3)).astype(np.float32)
    assert not np.allclose(np.asarray(built(picture)), np.asarray(reference(picture)), rtol=1e-2)


@pytest.mark.parametrize("stand_in", [darknet, darknet_by_hand])
def test_darknets_own_order_is_not_warned_of(stand_in, weights):
    built = model(stand_in)
    assert warnings_of(built, weights, network()) == []
    reference = yolotf.build_model(network())
    yolotf.load_darknet_weights(reference, weights)
    picture = np.random.default_rng(0).random((1, SIZE, SIZE, 3)).astype(np.float32)
    np.testing.assert_allclose(
        np.asarray(built(picture)), np.asarray(reference(picture)), rtol=1e-3, atol=1e-4
    )


def test_space_to_depth_is_right_for_reorg3d(weights):
    assert warnings_of(model(space_to_depth), weights, network(kind="reorg3d")) == []


def test_darknets_reorg_is_wrong_for_reorg3d(weights):
    assert len(warnings_of(model(darknet), weights, network(kind="reorg3d"))) == 1


@pytest.mark.parametrize("stride", [4])
def test_other_strides_are_compared(stride, tmp_path):
    network_of_stride = network(stride)
    path = tmp_path / "a.weights"
    helpers.write_weights(path, network_of_stride)
    assert len(warnings_of(model(space_to_depth, stride), path, network_of_stride)) == 1
    assert warnings_of(model(darknet, stride), path, network_of_stride) == []


def test_stock_network_is_known_without_a_cfg(tmp_path):
    # The file's size and the model say that it is yolov2-voc with two classes.
    from support import by_hand

    stock = yolotf.network("yolov2-voc", classes=2)
    size_bytes = yolotf.weights.layout.size_bytes(stock)
    path = weights_files.write_zeros(tmp_path / "a.weights", size_bytes)
    built = by_hand.model_of(stock, reorg=space_to_depth)
    assert len(warnings_of(built, path, None)) == 1


def test_model_without_a_graph_is_not_compared(weights):
    class Hidden(keras().Model):
        def __init__(self):
            super().__init__()
            self.pads = [L.ZeroPadding2D(1), L.ZeroPadding2D(1)]
            self.kernels = [
                L.Conv2D(FILTERS, 3, use_bias=False),
                L.Conv2D(8, 3, strides=2, use_bias=False),
                L.Conv2D(8, 1, use_bias=False),
                L.Conv2D(30, 1),
            ]
            self.norms = [L.BatchNormalization(epsilon=1e-5) for _ in range(3)]
            self.leaky = L.LeakyReLU(0.1)
            self.packed = Packed(2)

        def call(self, inputs):
            early = self.leaky(self.norms[0](self.kernels[0](self.pads[0](inputs))))
            late = self.leaky(self.norms[1](self.kernels[1](self.pads[1](early))))
            x = tf.concat([self.packed(early), late], -1)
            return self.kernels[3](self.leaky(self.norms[2](self.kernels[2](x))))

    built = Hidden()
    built(np.zeros((1, SIZE, SIZE, 3), np.float32))
    assert len(warnings_of(built, weights, network())) == 1


@pytest.mark.skipif(not LEGACY, reason="of tf_keras")
def test_tensorflow_function_of_tf_keras_is_warned_of(weights):
    built = model(lambda x, stride: tf.nn.space_to_depth(x, stride))
    (warning,) = warnings_of(built, weights, network())
    messages.said(warning)
