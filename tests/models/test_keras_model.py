"""The Keras model: its layers, and each of them against Darknet's loops in NumPy.

The loops are Darknet's CPU code in its order of axes, channels before rows and columns. The tests
of sections (`test_section_...`) run a second time with tf_keras, in another process.
"""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support import helpers, numpy_loader, weights_files
from support import networks_of_sections as sections
from support.cfgs import conv, net, normalized, route, shortcut, yolo
from support.messages import refused
from yolotf.darknet import cfg
from yolotf.errors import UnsupportedSectionError
from yolotf.models.build import build_model, layer_name, network_of
from yolotf.models.keras_layers import FlexibleConv2D, GroupedConv2D, convolve
from yolotf.models.keras_module import keras
from yolotf.weights import layout

LEGACY = os.environ.get("TF_USE_LEGACY_KERAS") == "1"


def parse(text, shape=(3, 8, 10)):
    """The network of sections on a picture of (channels, rows, columns)."""
    channels, height, width = shape
    return cfg.parse_cfg(net(height, width, channels) + text)


def outputs(model, x):
    """The model's outputs for NCHW images, as NCHW arrays."""
    heads = model(np.ascontiguousarray(x.transpose(0, 2, 3, 1)), training=False)
    heads = heads if isinstance(heads, list) else [heads]
    return [np.asarray(head).transpose(0, 3, 1, 2) for head in heads]


def run(text, shape=(3, 8, 10), weights=None):
    """Two random images, the arrays of a random file by (section, role), and the model's output.

    `weights` overrides arrays of the file.
    """
    network = parse(text, shape)
    full = network.to_cfg()
    content = numpy_loader.random_file(full)
    stored = numpy_loader.arrays(full, content)
    for array in stored:
        if weights and (array.index, array.role) in weights:
            values = np.asarray(weights[array.index, array.role], np.float32)
            stored[array] = np.broadcast_to(values, array.shape)
    content = weights_files.content(*stored.values())
    model = build_model(network)
    numpy_loader.load(model, full, content)
    x = np.random.default_rng(7).normal(size=(2, *shape)).astype(np.float32)
    (y,) = outputs(model, x)
    assert y.shape[1:] == tuple(np.array(network.layers[-1].output_shape)[[2, 0, 1]])
    return x, {(array.index, array.role): values for array, values in stored.items()}, y


def same(output, expected, tolerance=2e-5):
    assert output.shape == expected.shape
    largest = np.abs(expected).max()
    assert largest > 0
    assert np.abs(output - expected).max() <= tolerance * largest


def windows(x, size, stride_y, stride_x, top, left, rows, columns, dilation=1, outside=0.0):
    """(batch, channels, size, size, rows, columns): what a window sees at each of its places."""
    batch, channels, height, width = x.shape
    seen = np.full((batch, channels, size, size, rows, columns), outside, x.dtype)
    for dy in range(size):
        for dx in range(size):
            for i in range(rows):
                for j in range(columns):
                    y, z = i * stride_y + dy * dilation - top, j * stride_x + dx * dilation - left
                    if 0 <= y < height and 0 <= z < width:
                        seen[:, :, dy, dx, i, j] = x[:, :, y, z]
    return seen


def convolution(x, kernel, groups, stride_y, stride_x, padding, dilation):
    """im2col_cpu_ext and gemm, one group after the other (convolutional_layer.c)."""
    size = kernel.shape[2]
    rows = (x.shape[2] + 2 * padding - size) // stride_y + 1
    columns = (x.shape[3] + 2 * padding - size) // stride_x + 1
    before = padding * dilation
    seen = windows(x, size, stride_y, stride_x, before, before, rows, columns, dilation)
    parts = zip(np.split(seen, groups, 1), np.split(kernel, groups, 0), strict=True)
    return np.concatenate([np.einsum("bcmnij,fcmn->bfij", *part) for part in parts], 1)


CONVOLUTIONS = {
    "1x1": {"size": 1},
    "3x3": {"size": 3, "pad": 1},
    "without padding": {"size": 3},
    "stride 2, even": {"size": 3, "pad": 1, "stride": 2},
    "stride 2, odd": {"size": 3, "pad": 1, "stride": 2, "shape": (4, 9, 7)},
    "stride 2, 1x1": {"size": 1, "stride": 2},
    "stride 3": {"size": 5, "pad": 1, "stride": 3, "shape": (4, 11, 13)},
    "even size": {"size": 2, "pad": 1},
    "even size, stride 2": {"size": 4, "pad": 1, "stride": 2},
    "padding 2": {"size": 3, "padding": 2},
    "padding 1 of 5": {"size": 5, "padding": 1, "stride": 2},
    "pad before padding": {"size": 3, "pad": 1, "padding": 5},
    "strides": {"size": 3, "pad": 1, "stride_x": 2, "stride_y": 1},
    "dilation": {"size": 3, "pad": 1, "dilation": 2},
    "dilation, stride": {"size": 3, "pad": 1, "dilation": 3, "stride": 2},
    "groups": {"size": 3, "pad": 1, "groups": 2},
    "groups, stride": {"size": 3, "pad": 1, "groups": 2, "stride": 2},
    "depthwise": {"size": 3, "pad": 1, "groups": 4, "filters": 4},
    "depthwise, stride": {"size": 3, "pad": 1, "groups": 4, "filters": 4, "stride": 2},
    "depthwise, strides": {"size": 3, "pad": 1, "groups": 4, "filters": 4, "stride_x": 2},
    "depthwise, dilation": {"size": 3, "pad": 1, "groups": 4, "filters": 4, "dilation": 2},
    "depthwise, both": {
        "size": 3, "pad": 1, "groups": 4, "filters": 4, "dilation": 2, "stride": 2,
    },
    "multiplier": {"size": 3, "pad": 1, "groups": 4, "filters": 12},
    "fewer filters than channels": {"size": 3, "pad": 1, "groups": 2, "filters": 2},
    "one channel": {"size": 3, "pad": 1, "shape": (1, 8, 8)},
    "larger than the picture": {"size": 5, "pad": 1, "shape": (4, 2, 3)},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_section_convolutional_is_im2col_and_a_product(options):
    options = {"filters": 6, **options}
    shape = options.pop("shape", (4, 8, 10))
    text = "[convolutional]\nactivation=linear\n"
    text += "".join(f"{key}={value}\n" for key, value in options.items())
    x, stored, y = run(text, shape)
    stride = options.get("stride", 1)
    padding = options["size"] // 2 if options.get("pad") else options.get("padding", 0)
    expected = convolution(
        x,
        stored[0, "kernel"],
        options.get("groups", 1),
        options.get("stride_y", stride),
        options.get("stride_x", stride),
        padding,
        options.get("dilation", 1),
    )
    same(y, expected + stored[0, "bias"][:, None, None])


ANTIALIASED = {
    "1": (1, 2, 2),
    "2": (2, 2, 2),
    "other": (-3, 1, 1),
    "strides": (1, 2, 3),
}


def blurred(x, antialiasing, stride_y, stride_x):
    """The fixed convolution behind a section, convolutional_layer.c:801-835."""
    size, pad = (2, 0) if antialiasing == 2 else (3, 1)
    kernel = np.full((2, 2), 1 / 4) if size == 2 else np.outer([1, 2, 1], [1, 2, 1]) / 16
    rows = (x.shape[2] + 2 * pad - size) // stride_y + 1
    columns = (x.shape[3] + 2 * pad - size) // stride_x + 1
    seen = windows(x, size, stride_y, stride_x, pad, pad, rows, columns)
    return np.einsum("bcmnij,mn->bcij", seen, kernel)


@pytest.mark.parametrize(("how", "stride_y", "stride_x"), ANTIALIASED.values(), ids=ANTIALIASED)
@pytest.mark.parametrize("groups", [1, 3])
def test_section_convolutional_with_antialiasing_blurs_where_it_would_stride(
    how, stride_y, stride_x, groups
):
    text = f"[convolutional]\nfilters=6\nsize=3\npad=1\nactivation=leaky\ngroups={groups}\n"
    text += f"stride_y={stride_y}\nstride_x={stride_x}\nantialiasing={how}\n"
    x, stored, y = run(text, (3, 9, 10))
    z = convolution(x, stored[0, "kernel"], groups, 1, 1, 1, 1) + stored[0, "bias"][:, None, None]
    same(y, blurred(np.where(z > 0, z, 0.1 * z), how, stride_y, stride_x))


@pytest.mark.parametrize(("how", "stride_y", "stride_x"), ANTIALIASED.values(), ids=ANTIALIASED)
def test_section_maxpool_with_antialiasing_blurs_where_it_would_stride(how, stride_y, stride_x):
    text = f"[maxpool]\nsize=2\nstride_y={stride_y}\nstride_x={stride_x}\nantialiasing={how}\n"
    x, _, y = run(text + "[convolutional]\nfilters=2\nactivation=linear\n", (3, 9, 10))
    network = parse(text, (3, 9, 10))
    largest = windows(x, 2, 1, 1, 0, 0, 9, 10, outside=-np.inf).max((2, 3))
    (output,) = outputs(build_model(network), x)
    same(output, blurred(largest, how, stride_y, stride_x))
    assert y.shape[2:] == output.shape[2:]


def test_an_antialiased_section_of_the_same_extents_can_be_referred_to():
    text = "[maxpool]\nsize=2\nstride=1\nantialiasing=1\n[avgpool]\n[route]\nlayers=0\n"
    assert build_model(parse(text)).outputs[0].shape[1:] == (8, 10, 3)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("normalize", [0, 1])
def test_flipped_kernel_is_read_and_saved_filters_last(groups, normalize, tmp_path):
    text = f"[convolutional]\nfilters=8\nsize=3\npad=1\nflipped=1\ngroups={groups}\n"
    text += f"batch_normalize={normalize}\nactivation=linear\n"
    network = parse(text, (4, 8, 10))
    content = numpy_loader.random_file(network.to_cfg())
    (tmp_path / "a.weights").write_bytes(content)
    stored = {
        array.role: values
        for array, values in numpy_loader.arrays(network.to_cfg(), content).items()
    }
    # The same floats, channels of a group first: im2col's rows, then filters.
    kernel = stored["kernel"].ravel().reshape(4 // groups * 9, 8).T
    kernel = kernel.reshape(8, 4 // groups, 3, 3)
    model = build_model(network)
    yolotf.load_darknet_weights(model, tmp_path / "a.weights", verify=False)
    x = np.random.default_rng(7).normal(size=(2, 4, 8, 10)).astype(np.float32)
    (y,) = outputs(model, x)
    z = convolution(x, kernel, groups, 1, 1, 1, 1)
    if normalize:
        gamma, mean, variance, beta = (
            stored[role][:, None, None]
            for role in ("gamma", "moving_mean", "moving_variance", "beta")
        )
        z = (z - mean) / np.sqrt(variance + 0.00001) * gamma + beta
    else:
        z += stored["bias"][:, None, None]
    same(y, z)
    yolotf.save_darknet_weights(model, tmp_path / "b.weights")
    assert (tmp_path / "b.weights").read_bytes()[20:] == content[20:]
    model.save(tmp_path / "m.keras")
    (again,) = outputs(keras().models.load_model(tmp_path / "m.keras"), x)
    np.testing.assert_array_equal(again, y)


XNOR = {
    "of any channels": {"size": 3, "pad": 1, "shape": (5, 8, 10)},
    "3x3": {"size": 3, "pad": 1},
    "stride": {"size": 3, "pad": 1, "stride": 2, "shape": (32, 9, 7)},
    "1x1": {"size": 1},
    "even size": {"size": 4, "pad": 1, "stride": 3},
    "groups count for nothing": {"size": 3, "pad": 1, "groups": 2},
    "larger than the picture": {"size": 5, "pad": 1, "shape": (32, 2, 3)},
}


@pytest.mark.parametrize("options", XNOR.values(), ids=XNOR)
def test_section_convolutional_counts_equal_signs_for_xnor(options):
    options = {"filters": 6, **options}
    shape = options.pop("shape", (32, 8, 10))
    text = "[convolutional]\nxnor=1\nbatch_normalize=1\nactivation=leaky\n"
    text += "".join(f"{key}={value}\n" for key, value in options.items() if key != "groups")
    network = parse(text + f"groups={options.get('groups', 1)}\n", shape)
    assert [bool(network.warnings), network.layers[0].groups] == ["groups" in options, 1]
    x, stored, y = run(text, shape, {(0, "gamma"): [1, -0.5, 2, 0.1, 1, -1]})
    kernel = stored[0, "kernel"]
    factor = stored[0, "gamma"] / np.sqrt(stored[0, "moving_variance"] + 0.00001)
    kernel = kernel * factor[:, None, None, None]
    size, stride = options["size"], options.get("stride", 1)
    padding = size // 2 if options.get("pad") else 0
    rows, columns = y.shape[2:]
    seen = windows(x > 0, size, stride, stride, padding, padding, rows, columns, outside=False)
    # gemm_nn_custom_bin_mean_transposed, gemm.c: what lies outside has a bit of 0, too.
    equal = np.zeros(y.shape)
    for channel in range(6):
        agree = seen == (kernel[channel] > 0)[None, :, :, :, None, None]
        equal[:, channel] = agree.sum((1, 2, 3))
    z = (2 * equal - kernel[0].size) * np.abs(kernel).mean((1, 2, 3))[:, None, None]
    z += (stored[0, "beta"] - factor * stored[0, "moving_mean"])[:, None, None]
    same(y, np.where(z > 0, z, 0.1 * z))


def test_only_the_sign_goes_on_from_xnor_with_bin_output():
    text = "[convolutional]\nxnor=1\nsize=3\npad=1\nfilters=2\nactivation=leaky\n"
    y = run(text + "bin_output=1\n")[-1]
    leaky = run(text)[-1]
    same(leaky, np.where(y > 0, y, 0.1 * y))


def test_signs_are_trained_as_hardtan_and_kernels_as_themselves():
    layer = FlexibleConv2D(1, 1, use_bias=False)
    x = tf.constant([-2.0, -0.5, 0.0, 0.5, 2.0])[None, :, None, None]
    layer.build(x.shape)
    layer.kernel.assign(np.full(layer.kernel.shape, 0.25))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, xnor=True)
    np.testing.assert_array_equal(np.ravel(y), [-0.25, -0.25, -0.25, 0.25, 0.25])
    by_x, by_kernel = tape.gradient(y, [x, layer.trainable_variables[0]])
    np.testing.assert_array_equal(np.ravel(by_x), [0, 0.25, 0.25, 0.25, 0])
    np.testing.assert_array_equal(np.ravel(by_kernel), [-1])


def test_section_convolutional_normalizes_with_darknets_epsilon():
    text = "[convolutional]\nfilters=4\nsize=1\nbatch_normalize=1\nactivation=leaky\n"
    # So small that Keras' own epsilon, 1e-3, would be the larger part of the root.
    x, stored, y = run(text, weights={(0, "moving_variance"): [0, 1e-6, 1e-5, 1e-4]})
    mean, variance, gamma, beta = (
        stored[0, role][:, None, None]
        for role in ("moving_mean", "moving_variance", "gamma", "beta")
    )
    z = convolution(x, stored[0, "kernel"], 1, 1, 1, 0, 1)
    z = (z - mean) / np.sqrt(variance + 0.00001) * gamma + beta
    same(y, np.where(z > 0, z, 0.1 * z))


def test_section_batchnorm_normalizes_with_darknets_epsilon():
    x, stored, y = run("[batchnorm]\n", weights={(0, "moving_variance"): [0, 1e-5, 3.0]})
    mean, variance, gamma, beta = (
        stored[0, role][:, None, None]
        for role in ("moving_mean", "moving_variance", "gamma", "beta")
    )
    same(y, (x - mean) / np.sqrt(variance + 0.00001) * gamma + beta)


def softplus(x):
    return x if x > 20 else math.exp(x) if x < -20 else math.log(math.exp(x) + 1)


def stair(x):
    whole = math.floor(x)
    return math.floor(x / 2) if whole % 2 == 0 else (x - whole) + math.floor(x / 2)


def plse(x):
    return 0.01 * (x + 4) if x < -4 else 0.01 * (x - 4) + 1 if x > 4 else 0.125 * x + 0.5


def lhtan(x):
    return 0.001 * x if x < 0 else 0.001 * (x - 1) + 1 if x > 1 else x


ACTIVATIONS = {
    "elu": lambda x: x if x >= 0 else math.exp(x) - 1,
    "gelu": lambda x: 0.5 * x * (1 + math.tanh(0.797885 * x + 0.035677 * x**3)),
    "hard_mish": lambda x: x if x > 0 else x * x / 2 + x if x > -2 else 0,
    "hardtan": lambda x: min(max(x, -1), 1),
    "leaky": lambda x: x if x > 0 else 0.1 * x,
    "lhtan": lhtan,
    "linear": lambda x: x,
    "loggy": lambda x: 2 / (1 + math.exp(-x)) - 1,
    "logistic": lambda x: 1 / (1 + math.exp(-x)),
    "mish": lambda x: x * math.tanh(softplus(x)),
    "plse": plse,
    "ramp": lambda x: x * (x > 0) + 0.1 * x,
    "relie": lambda x: x if x > 0 else 0.01 * x,
    "relu": lambda x: x * (x > 0),
    "relu6": lambda x: min(max(x, 0), 6),
    "revleaky": lambda x: x if x > 0 else 0.1 * x,
    "selu": lambda x: 1.0507 * x if x >= 0 else 1.0507 * 1.6732 * (math.exp(x) - 1),
    "stair": stair,
    "swish": lambda x: x / (1 + math.exp(-x)),
    "tanh": lambda x: 2 / (1 + math.exp(-2 * x)) - 1,
}


def normalize_channels(x):
    """activations.c:183, one place at a time."""
    positive = np.where(x > 0, x, 0)
    return positive / (0.0001 + positive.sum())


def normalize_channels_softmax(x, largest=0.0):
    """activations.c:211, one place at a time."""
    powers = np.exp(x - largest)
    return powers / (0.0001 + powers.sum())


CHANNEL_ACTIVATIONS = {
    "normalize_channels": normalize_channels,
    "normalize_channels_softmax": normalize_channels_softmax,
    "normalize_channels_softmax_maxval": lambda x: normalize_channels_softmax(x, x.max()),
}


def test_section_activations_are_all_covered():
    assert ACTIVATIONS.keys() | CHANNEL_ACTIVATIONS.keys() == cfg.ACTIVATIONS


@pytest.mark.parametrize("name", sorted(cfg.ACTIVATIONS))
def test_section_activation_is_darknets_formula(name):
    text = f"[convolutional]\nfilters=3\nsize=1\nactivation={name}\n"
    model = build_model(parse(text))
    numpy_loader.load(
        model,
        parse(text).to_cfg(),
        weights_files.content(np.zeros(3), np.eye(3)),
    )
    # Every piece of every formula, whole numbers for stair, and both ends of mish.
    x = np.r_[np.linspace(-9, 9, 217), -25, -2, -1, 0, 1, 2, 4, 6, 25][-216:]
    x = np.concatenate([x, -x[:24]]).astype(np.float32).reshape(1, 3, 8, 10)
    (y,) = outputs(model, x)
    if name in CHANNEL_ACTIVATIONS:
        expected = np.apply_along_axis(CHANNEL_ACTIVATIONS[name], 1, x.astype(np.float64))
    else:
        expected = np.vectorize(ACTIVATIONS[name], otypes=[float])(x.astype(np.float64))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["leaky", "relu6", "selu", "logistic", "ramp"])
def test_section_activation_stands_alone(name):
    x, _, y = run(f"[activation]\nactivation={name}\n")
    same(y, np.vectorize(ACTIVATIONS[name], otypes=[float])(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_section_activation_survives_graph_optimization(name):
    # TensorFlow joins convolution, normalization and activation into operations of its own.
    section_text = (
        f"[convolutional]\nfilters=8\nsize=3\npad=1\nbatch_normalize=1\nactivation={name}\n"
    )
    text = section_text + section_text
    model = build_model(parse(text, (8, 8, 8)))
    full = parse(text, (8, 8, 8)).to_cfg()
    numpy_loader.load(model, full, numpy_loader.random_file(full))
    x = np.random.default_rng(1).random((2, 8, 8, 8), dtype=np.float32)
    # As model.predict runs it, with variables that may change.
    traced = tf.function(lambda x: model(x, training=False))(x)
    same(np.asarray(traced), np.asarray(model(x, training=False)))


POOLS = {
    "2/2": "size=2\nstride=2",
    "2/1": "size=2\nstride=1",
    "3/2": "size=3\nstride=2",
    "3/2 odd": "size=3\nstride=2",
    "5/1": "size=5\nstride=1",
    "13/1": "size=13\nstride=1",
    "no padding": "size=3\nstride=2\npadding=0",
    "padding 1 of 4": "size=4\nstride=2\npadding=1",
    "padding 3 of 3": "size=3\nstride=3\npadding=3",
    "strides": "size=3\nstride_x=2\nstride_y=1",
    "default size": "stride=3",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["maxpool", "local_avgpool"])
@pytest.mark.parametrize("name", POOLS)
def test_section_pool_starts_half_its_padding_outside(kind, name):
    shape = (3, 7, 9) if name.endswith("odd") else (3, 8, 10)
    x, _, y = run(f"[{kind}]\n{POOLS[name]}\n", shape)
    options = dict(line.split("=") for line in POOLS[name].splitlines())
    stride = int(options.get("stride", 1))
    size = int(options.get("size", stride))
    stride_y, stride_x = (int(options.get(key, stride)) for key in ("stride_y", "stride_x"))
    padding = int(options.get("padding", size - 1))
    rows = (shape[1] + padding - size) // stride_y + 1
    columns = (shape[2] + padding - size) // stride_x + 1
    seen = windows(
        x, size, stride_y, stride_x, padding // 2, padding // 2, rows, columns, outside=np.nan
    )
    middle = np.nanmax if kind == "maxpool" else np.nanmean
    same(y, middle(seen, axis=(2, 3)))


@pytest.mark.parametrize("filters", [1, 2, 3, 6])
def test_section_maxpool_depth_takes_every_nth_channel(filters):
    x, _, y = run(f"[maxpool]\nmaxpool_depth=1\nout_channels={filters}\n", (6, 4, 5))
    same(y, np.stack([x[:, g::filters].max(1) for g in range(filters)], 1))


def test_section_maxpool_depth_of_uneven_parts():
    x, _, y = run("[maxpool]\nmaxpool_depth=1\nout_channels=4\n", (6, 4, 5))
    same(y, np.stack([x[:, g::4].max(1) for g in range(4)], 1))


def test_section_avgpool_is_the_mean_of_each_channel():
    x, _, y = run("[avgpool]\n")
    same(y, x.mean((2, 3), keepdims=True))


def reorg_cpu(x, width, height, channels, stride, forward):
    """blas.c:10-37 on flat memory, number by number."""
    flat, out = x.ravel(), np.zeros(x.size, x.dtype)
    depth = channels // stride**2
    for k in range(channels):
        for j in range(height):
            for i in range(width):
                inner = i + width * (j + height * k)
                c2, offset = k % depth, k // depth
                w2, h2 = i * stride + offset % stride, j * stride + offset // stride
                outer = w2 + width * stride * (h2 + height * stride * c2)
                if forward:
                    out[outer] = flat[inner]
                else:
                    out[inner] = flat[outer]
    return out


REORGS = [
    ("reorg", 2, 0, (8, 6, 4)),
    ("reorg", 3, 0, (9, 6, 3)),
    ("reorg", 2, 1, (8, 4, 6)),
    ("reorg3d", 2, 0, (5, 6, 4)),
    ("reorg3d", 2, 1, (16, 4, 6)),
]


@pytest.mark.parametrize(("kind", "stride", "reverse", "shape"), REORGS)
def test_section_reorg_moves_floats_as_reorg_cpu(kind, stride, reverse, shape):
    x, _, y = run(f"[{kind}]\nstride={stride}\nreverse={reverse}\n", shape)
    # reorg_old_layer.c gives the input's shape, reorg_layer.c the output's.
    channels, height, width = shape if kind == "reorg" else y.shape[1:]
    expected = [reorg_cpu(image, width, height, channels, stride, reverse) for image in x]
    np.testing.assert_array_equal(y, np.reshape(expected, y.shape))


def test_section_reorg_is_not_space_to_depth():
    x, _, y = run("[reorg]\nstride=2\n", (8, 6, 4))
    naive = tf.nn.space_to_depth(x.transpose(0, 2, 3, 1), 2).numpy().transpose(0, 3, 1, 2)
    assert y.shape == naive.shape
    assert (y != naive).any()


def shortcut_multilayer_cpu(inputs, weights, normalization):
    """blas.c:77-129 for pictures of one size."""
    first = inputs[0].astype(np.float64)
    channels = first.shape[1]
    factors = np.ones((len(inputs), channels))
    if weights is not None:
        weights = np.broadcast_to(weights, factors.shape).astype(np.float64)
        for c in range(channels):
            column = weights[:, c]
            if normalization == "none":
                factors[:, c] = column
            else:
                relu = np.where(column > 0, column, 0)
                parts = relu if normalization == "relu" else np.exp(column - column.max())
                factors[:, c] = parts / (0.0001 + parts.sum())
    out = first * factors[0][:, None, None]
    for other, factor in zip(inputs[1:], factors[1:], strict=True):
        for c in range(min(channels, other.shape[1])):
            out[:, c] += factor[c] * other[:, c]
    return out


WEIGHTS = [("none", "none")] + [
    (kind, normalization)
    for kind in ("per_feature", "per_channel")
    for normalization in ("none", "relu", "softmax")
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "normalization"), WEIGHTS)
@pytest.mark.parametrize("filters", [(5, 5, 5), (5, 3, 7), (3, 5, 5), (7, 5, 3)])
def test_section_shortcut_adds_common_channels(filters, kind, normalization):
    third, second, first = filters[2], filters[1], filters[0]
    text = conv(third) + conv(second) + conv(first)
    text += f"[shortcut]\nfrom=-2,-3\nactivation=linear\nweights_type={kind}\n"
    text += f"weights_normalization={normalization}\n"
    x, stored, y = run(text)
    inputs = []
    for index in range(3):
        x = convolution(x, stored[index, "kernel"], 1, 1, 1, 0, 1)
        x = x + stored[index, "bias"][:, None, None]
        inputs.insert(0, x)
    weights = stored.get((3, "shortcut"))
    assert (weights is None) == (kind == "none")
    same(y, shortcut_multilayer_cpu(inputs, weights, normalization))


def shortcut_cpu(add, out):
    """blas.c:227-250, for pictures that are larger than what they are added to."""
    stride = add.shape[3] // out.shape[3]
    out = out.copy()
    for k in range(min(add.shape[1], out.shape[1])):
        for j in range(out.shape[2]):
            for i in range(out.shape[3]):
                out[:, k, j, i] += add[:, k, j * stride, i * stride]
    return out


@pytest.mark.parametrize("filters", [(4, 4), (3, 5), (5, 3)])
def test_section_shortcut_of_a_larger_picture_takes_every_second_pixel(filters):
    text = conv(filters[0]) + conv(filters[1], 3, stride=2) + shortcut(-2, activation="leaky")
    x, stored, y = run(text)
    first = convolution(x, stored[0, "kernel"], 1, 1, 1, 0, 1) + stored[0, "bias"][:, None, None]
    out = convolution(first, stored[1, "kernel"], 1, 2, 2, 1, 1)
    expected = shortcut_cpu(first, out + stored[1, "bias"][:, None, None])
    same(y, np.where(expected > 0, expected, 0.1 * expected))


@pytest.mark.parametrize(("group_id", "indices"), [(0, "-1"), (1, "-1"), (1, "-1,-2"), (0, "0,0")])
def test_section_route_takes_one_group_of_each_input(group_id, indices):
    text = conv(6) + "[upsample]\nstride=1\n"
    text += f"[route]\nlayers={indices}\ngroups=2\ngroup_id={group_id}\n"
    x, stored, y = run(text)
    x = convolution(x, stored[0, "kernel"], 1, 1, 1, 0, 1) + stored[0, "bias"][:, None, None]
    part = x[:, 3 * group_id : 3 * group_id + 3]
    same(y, np.concatenate([part] * len(indices.split(",")), 1))


def test_section_route_joins_in_the_order_written():
    text = conv(2) + "[route]\nlayers=0\n" + "[activation]\nactivation=ramp\n"
    x, stored, y = run(text + "[route]\nlayers=-1,0,-2\n")
    x = convolution(x, stored[0, "kernel"], 1, 1, 1, 0, 1) + stored[0, "bias"][:, None, None]
    same(y, np.concatenate([x * (x > 0) + 0.1 * x, x, x], 1))


@pytest.mark.parametrize(("stride", "scale"), [(2, 1), (3, 1), (2, 0.5), (1, 1)])
def test_section_upsample_repeats_the_nearest(stride, scale):
    x, _, y = run(f"[upsample]\nstride={stride}\nscale={scale}\n")
    same(y, scale * x.repeat(stride, 2).repeat(stride, 3))


@pytest.mark.parametrize("scale", [1, 0.25])
def test_section_upsample_backwards_sums_the_window_up(scale):
    x, _, y = run(f"[upsample]\nstride=-2\nscale={scale}\n")
    expected = np.zeros((2, 3, 4, 5), np.float32)
    for j in range(8):
        for i in range(10):
            expected[:, :, j // 2, i // 2] += scale * x[:, :, j, i]
    same(y, expected)


def test_section_scale_channels_multiplies_each_channel():
    text = conv(4) + "[avgpool]\n[scale_channels]\nfrom=-2\nactivation=leaky\n"
    x, stored, y = run(text)
    x = convolution(x, stored[0, "kernel"], 1, 1, 1, 0, 1) + stored[0, "bias"][:, None, None]
    expected = x * x.mean((2, 3), keepdims=True)
    same(y, np.where(expected > 0, expected, 0.1 * expected))


def test_section_scale_channels_multiplies_each_place():
    text = conv(4) + conv(1) + "[scale_channels]\nfrom=-2\nscale_wh=1\n"
    x, stored, y = run(text)
    first = convolution(x, stored[0, "kernel"], 1, 1, 1, 0, 1) + stored[0, "bias"][:, None, None]
    scale = convolution(first, stored[1, "kernel"], 1, 1, 1, 0, 1)
    same(y, first * (scale + stored[1, "bias"][:, None, None]))


def test_section_sam_multiplies_number_by_number():
    x, stored, y = run(conv(4) + conv(4) + "[sam]\nfrom=-2\nactivation=relu\n")
    first = convolution(x, stored[0, "kernel"], 1, 1, 1, 0, 1) + stored[0, "bias"][:, None, None]
    scale = convolution(first, stored[1, "kernel"], 1, 1, 1, 0, 1)
    product = first * (scale + stored[1, "bias"][:, None, None])
    same(y, np.where(product > 0, product, 0))


@pytest.mark.parametrize("normalize", [0, 1])
def test_section_connected_reads_channels_rows_columns(normalize):
    section_text = f"[connected]\noutput=7\nbatch_normalize={normalize}\nactivation=leaky\n"
    x, stored, y = run(section_text + section_text)
    for index in range(2):
        x = x.reshape(2, -1) @ stored[index, "kernel"].T
        if normalize:
            root = np.sqrt(stored[index, "moving_variance"] + 0.00001)
            x = (x - stored[index, "moving_mean"]) / root * stored[index, "gamma"]
        x = x + stored[index, "beta" if normalize else "bias"]
        x = np.where(x > 0, x, 0.1 * x)
    same(y, x[:, :, None, None])


@pytest.mark.parametrize(("size", "stride", "pad"), [(3, 1, 1), (3, 2, 1), (3, 1, 0), (2, 2, 0)])
def test_section_local_has_a_kernel_for_every_place(size, stride, pad):
    text = f"[local]\nfilters=4\nsize={size}\nstride={stride}\npad={pad}\nactivation=ramp\n"
    x, stored, y = run(text, (3, 6, 7))
    rows, columns = y.shape[2:]
    seen = windows(x, size, stride, stride, pad, pad, rows, columns)
    kernel = stored[0, "kernel"].reshape(rows, columns, 4, 3, size, size)
    z = np.einsum("bcmnij,ijfcmn->bfij", seen, kernel) + stored[0, "bias"]
    same(y, z * (z > 0) + 0.1 * z)


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("temperature", [1, 3])
@pytest.mark.parametrize("shape", [(6, 1, 1), (6, 3, 2)])
def test_section_softmax_goes_over_flat_groups(shape, groups, temperature):
    x, _, y = run(f"[softmax]\ngroups={groups}\ntemperature={temperature}\n", shape)
    flat = x.reshape(2, groups, -1) / temperature
    powers = np.exp(flat - flat.max(2, keepdims=True))
    same(y, (powers / powers.sum(2, keepdims=True)).reshape(x.shape))


@pytest.mark.parametrize("noadjust", [0, 1])
@pytest.mark.parametrize(("height", "width"), [(8, 10), (5, 7), (6, 3)])
def test_section_crop_keeps_the_middle(noadjust, height, width):
    x, _, y = run(f"[crop]\ncrop_height={height}\ncrop_width={width}\nnoadjust={noadjust}\n")
    top, left = (8 - height) // 2, (10 - width) // 2
    middle = x[:, :, top : top + height, left : left + width]
    same(y, middle if noadjust else 2 * middle - 1)


@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_section_normalization_moves_its_window_as_darknet(size):
    text = f"[normalization]\nsize={size}\nalpha=0.1\nbeta=0.6\nkappa=9\n"
    x, _, y = run(text, (9, 3, 4))
    squared = x.astype(np.float64) ** 2
    norms = np.full_like(squared, 9)
    norms[:, 0] += 0.1 * squared[:, : size // 2].sum(1)
    for k in range(1, 9):
        norms[:, k] = norms[:, k - 1]
        before, after = k - (size - 1) // 2 - 1, k + size // 2
        if before >= 0:
            norms[:, k] -= 0.1 * squared[:, before]
        if after < 9:
            norms[:, k] += 0.1 * squared[:, after]
    same(y, x * norms**-0.6)


def test_section_implicit_is_the_same_for_every_picture():
    _, stored, y = run("[implicit]\nfilters=5\natoms=2\n")
    weights = stored[0, "implicit"]
    # representation_layer.c:60: the file's floats are the output's, channels first.
    np.testing.assert_array_equal(y, np.stack([weights[:, :, None]] * 2))


def test_section_implicit_scales_channels():
    x, stored, y = run(conv(5) + "[implicit]\nfilters=5\n[scale_channels]\nfrom=-2\n")
    x = convolution(x, stored[0, "kernel"], 1, 1, 1, 0, 1) + stored[0, "bias"][:, None, None]
    same(y, x * stored[1, "implicit"][:, :, None])


def test_section_dropout_and_cost_change_nothing():
    for text in (
        "[dropout]\nprobability=.9\n",
        "[dropout]\ndropblock=1\n",
        "[cost]\n",
        "[empty]\n",
    ):
        x, _, y = run("[upsample]\nstride=1\n" + text)
        np.testing.assert_array_equal(y, x)


SHARES = {
    "same": ("", ""),
    "dilation": ("", "dilation=2\n"),
    "stride": ("", "stride=2\n"),
    "both": ("dilation=2\n", "stride=2\n"),
    "groups": ("groups=2\n", "groups=2\ndilation=3\n"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("normalize", [0, 1])
def test_section_share_index_uses_one_kernel(name, normalize):
    common = f"filters=4\nsize=3\npad=1\nbatch_normalize={normalize}\nactivation="
    first, second = SHARES[name]
    text = f"[convolutional]\n{common}linear\n{first}"
    text += f"[convolutional]\nshare_index=0\n{common}leaky\n{second}"
    text += f"[convolutional]\nshare_index=-1\n{common}mish\n"
    x, stored, y = run(text + ("groups=2\n" if name == "groups" else ""), (4, 8, 10))
    assert {index for index, _ in stored} == {0}
    for options, activation in ((first, "linear"), (second, "leaky"), ("", "mish")):
        written = dict(line.split("=") for line in options.splitlines())
        stride, dilation = int(written.get("stride", 1)), int(written.get("dilation", 1))
        groups = 2 if name == "groups" else 1
        x = convolution(x, stored[0, "kernel"], groups, stride, stride, 1, dilation)
        if normalize:
            root = np.sqrt(stored[0, "moving_variance"] + 0.00001)
            scale = (stored[0, "gamma"] / root)[:, None, None]
            x = (x - stored[0, "moving_mean"][:, None, None]) * scale
        x = x + stored[0, "beta" if normalize else "bias"][:, None, None]
        x = np.vectorize(ACTIVATIONS[activation], otypes=[float])(x)
    same(y, x)


def test_section_names_say_which_section_a_layer_is():
    text = (
        conv(4)
        + normalized(4, 3, "mish", stride=2)
        + "[maxpool]\nsize=2\nstride=1\n[route]\nlayers=-1,-2\n[route]\nlayers=-1\n"
        + conv(8, activation="leaky")
        + "[shortcut]\nfrom=-2\nactivation=leaky\n[upsample]\nstride=2\n[batchnorm]\n"
        + "[dropout]\n[avgpool]\n[connected]\noutput=3\nactivation=relu\nbatch_normalize=1\n"
        + "[softmax]\n"
    )
    assert [layer.name for layer in build_model(parse(text)).layers] == [
        "input",
        "conv_0",
        "conv_1_pad",
        "conv_1",
        "conv_1_bn",
        "conv_1_mish",
        "maxpool_2",
        "route_3",
        "conv_5",
        "conv_5_leaky",
        "shortcut_6",
        "shortcut_6_leaky",
        "upsample_7",
        "batchnorm_8",
        "dropout_9",
        "avgpool_10",
        "connected_11",
        "connected_11_bn",
        "connected_11_relu",
        "softmax_12",
    ]


ANCHORS = "1,1, 2,2, 3,3, 4,4, 5,5, 6,6"
HEADS = (
    conv(18)
    + yolo(1, ANCHORS, "3,4,5", num=6)
    + route(0)
    + conv(21)
    + yolo(2, ANCHORS, num=6)
    + route(0)
    + conv(9)
    + route(-3)
)


def test_section_heads_are_the_outputs_of_the_model_in_order():
    network = parse(HEADS)
    model = build_model(network)
    assert isinstance(model.outputs, list)
    assert [tuple(output.shape) for output in model.outputs] == [
        (None, 8, 10, 18),
        (None, 8, 10, 21),
    ]
    # Nothing that enters a head depends on section 6.
    assert "conv_6" not in {layer.name for layer in model.layers}


def test_section_model_can_be_saved_and_loaded(tmp_path):
    text = EVERYTHING
    network = parse(text, (3, 28, 36))
    full = network.to_cfg()
    model = build_model(network)
    numpy_loader.load(model, full, numpy_loader.random_file(full))
    x = np.random.default_rng(5).random((2, 3, 28, 36), dtype=np.float32)
    model.save(tmp_path / "model.keras")
    loaded = keras().models.load_model(tmp_path / "model.keras")
    (expected,), (actual,) = outputs(model, x), outputs(loaded, x)
    assert np.ptp(expected) > 0
    np.testing.assert_array_equal(actual, expected)
    assert network_of(model) is network
    assert network_of(loaded) is None


EVERYTHING = """
[crop]
crop_width=36
crop_height=28
[convolutional]
filters=16
size=3
stride=2
pad=1
batch_normalize=1
activation=mish
[convolutional]
filters=16
groups=16
size=3
pad=1
stride=2
batch_normalize=1
activation=swish
[convolutional]
filters=16
groups=4
size=3
pad=1
batch_normalize=1
activation=gelu
[convolutional]
share_index=3
filters=16
groups=4
size=3
pad=1
dilation=2
stride=2
batch_normalize=1
activation=leaky
[convolutional]
filters=16
groups=2
size=3
pad=1
activation=relu6
[maxpool]
size=3
stride=2
[route]
layers=-1
groups=2
group_id=1
[implicit]
filters=8
[scale_channels]
from=-2
activation=tanh
[shortcut]
from=-3,-4
weights_type=per_channel
weights_normalization=softmax
activation=mish
[upsample]
stride=2
scale=.5
[reorg]
stride=2
[reorg3d]
stride=1
[normalization]
[maxpool]
maxpool_depth=1
out_channels=8
[local]
filters=4
size=3
pad=1
activation=selu
[dropout]
[batchnorm]
[connected]
output=10
batch_normalize=1
activation=loggy
[softmax]
groups=2
temperature=.5
"""


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_section_mixed_precision_keeps_variables_float32(policy):
    network = parse(EVERYTHING, (3, 28, 36))
    content = numpy_loader.random_file(network.to_cfg())
    x = np.random.default_rng(5).random((2, 28, 36, 3), dtype=np.float32)
    answers = []
    mixed = keras().mixed_precision
    before = mixed.global_policy() if LEGACY else mixed.dtype_policy()
    by_argument = build_model(network, dtype=policy)
    mixed.set_global_policy(policy)
    try:
        by_global = build_model(network)
    finally:
        mixed.set_global_policy(before)
    for model in (build_model(network), by_argument, by_global):
        assert {tf.as_dtype(weight.dtype) for weight in model.weights} == {tf.float32}
        numpy_loader.load(model, network.to_cfg(), content)
        answers.append(tf.convert_to_tensor(model(x, training=False)))
    assert [answer.dtype for answer in answers[1:]] == [policy.removeprefix("mixed_")] * 2
    for answer in answers[1:]:
        difference = tf.cast(answer, tf.float32) - answers[0]
        assert np.abs(difference).max() < 0.02


def test_section_model_trains():
    network = parse(EVERYTHING, (3, 28, 36))
    model = build_model(network)
    full = network.to_cfg()
    numpy_loader.load(model, full, numpy_loader.random_file(full))
    random = np.random.default_rng(5)
    x, target = random.random((4, 28, 36, 3), dtype=np.float32), np.eye(10)[:4, None, None]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(x, training=True) - target.astype(np.float32)))
    gradients = tape.gradient(loss, list(model.trainable_variables))
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.name
        assert gradient.shape == variable.shape
        assert np.isfinite(gradient).all(), variable.name


def _with_zeros_between(kernel, dilations):
    """The kernel with zeros between its values: without a dilation it acts as `kernel` with one."""
    for axis, rate in enumerate(dilations):
        rows = tf.unstack(kernel, axis=axis)
        zeros = [tf.zeros_like(rows[0])] * (rate - 1)
        spread = [part for row in rows[:-1] for part in (row, *zeros)] + rows[-1:]
        kernel = tf.stack(spread, axis=axis)
    return kernel


@pytest.mark.slow
@pytest.mark.parametrize(
    ("groups", "strides", "dilations"),
    [
        (3, (1, 1), (1, 1)),
        (3, (2, 2), (1, 1)),
        (1, (1, 1), (2, 2)),
        (3, (1, 1), (2, 3)),
        (3, (3, 2), (2, 2)),
    ],
)
@pytest.mark.parametrize("padding", ["SAME", "VALID", [[0, 0], [3, 1], [0, 2], [0, 0]]], ids=str)
def test_section_convolution_has_the_gradient_of_its_groups(groups, strides, dilations, padding):
    random = np.random.default_rng(2)
    x = tf.constant(random.normal(size=(2, 11, 12, 6)).astype(np.float32))
    kernel = tf.Variable(random.normal(size=(3, 3, 6 // groups, 12)).astype(np.float32))

    def split(x, kernel):
        kernel = _with_zeros_between(kernel, dilations)
        parts = zip(tf.split(x, groups, -1), tf.split(kernel, groups, -1), strict=True)
        return tf.concat([tf.nn.conv2d(*part, strides, padding) for part in parts], -1)

    def gradients(function):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.square(function(x, kernel)))
        return tape.gradient(loss, [x, kernel])

    def ours(x, kernel):
        return convolve(x, kernel, strides, padding, dilations)

    np.testing.assert_allclose(ours(x, kernel), split(x, kernel), rtol=1e-5, atol=1e-5)
    for gradient, expected in zip(gradients(ours), gradients(split), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-3)
    for gradient, expected in zip(
        tf.function(lambda: gradients(ours))(), gradients(split), strict=True
    ):
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", sections.SECTIONS)
def test_section_is_channels_last_whatever_keras_image_format(name):
    network = yolotf.parse_cfg(sections.around(sections.SECTIONS[name]))
    backend = keras().backend
    x = np.random.default_rng(0).random((2, 6, 8, 3), dtype=np.float32)

    def answer():
        keras().utils.set_random_seed(1)
        model = build_model(network)
        return model.get_config(), np.asarray(model(x, training=False))

    format_before = backend.image_data_format()
    expected_config, expected = answer()
    backend.set_image_data_format("channels_first")
    try:
        config, actual = answer()
    finally:
        backend.set_image_data_format(format_before)
    assert config == expected_config
    np.testing.assert_array_equal(actual, expected)


REFUSED = {
    "antialiased channels": (
        "[maxpool]\nmaxpool_depth=1\nout_channels=3\nantialiasing=1\n", 8,
    ),
    "antialiased signs": (
        "[convolutional]\nsize=3\npad=1\nxnor=1\nantialiasing=1\n", 9,
    ),
    "antialiased reference": (
        "[maxpool]\nsize=2\nstride=2\nantialiasing=1\n[avgpool]\n[route]\nlayers=0\n",
        10,
    ),
    "zero_nonmax": ("[maxpool]\nsize=2\nstride=2\nmaxpool_zero_nonmax=1\n", 8),
    "coordconv": ("[convolutional]\ncoordconv=1\n", 6),
    "xnor, few channels": (
        "[convolutional]\nsize=3\nstride=2\npad=1\nxnor=1\n", 9,
    ),
    "xnor, strides": (
        conv(32) + "[convolutional]\nsize=3\nstride_x=2\npad=1\nxnor=1\n", 13,
    ),
    "xnor, dilation": (
        conv(32) + "[convolutional]\nsize=3\ndilation=2\npad=1\nxnor=1\n", 11,
    ),
    "binary": ("[convolutional]\nbinary=1\n", 6),
    "dilation": ("[convolutional]\nsize=3\ndilation=2\n", 7),
    "depth": ("[maxpool]\nmaxpool_depth=1\nout_channels=4\n", 7),
    "local": ("[local]\nsize=5\npad=1\n", 6),
    "spatial": ("[softmax]\nspatial=1\n", 6),
    "groups": ("[softmax]\ngroups=2\n", 6),
    "activation": ("[activation]\nactivation=mish\n", 6),
    "sam": (conv(3) + conv(3) + "[sam]\nfrom=-2\nactivation=swish\n", 15),
    "shortcut": (
        conv(3) + conv(3) + "[shortcut]\nfrom=-2\nactivation=hard_mish\n",
        15,
    ),
    "smaller": (
        conv(3, 3, stride=2) + "[upsample]\nstride=4\n[shortcut]\nfrom=-2\n", 14,
    ),
    "upsample": ("[upsample]\nstride=-3\n", 6),
    "crnn": ("[crnn]\n", 5),
    "conv_lstm": ("[conv_lstm]\n", 5),
    "shared": (
        conv(3) + "[convolutional]\nfilters=2\nshare_index=0\nactivation=linear\n",
        11,
    ),
    "shared pool": ("[avgpool]\n[convolutional]\nshare_index=0\n", 7),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_section_is_refused_with_its_line(name):
    text, line = REFUSED[name]
    with refused(UnsupportedSectionError, code="unsupported-section", line=line):
        build_model(parse(text))


def test_reading_a_head_is_refused():
    with refused(UnsupportedSectionError):
        build_model(parse(HEADS.replace("layers=0", "layers=1", 1)))


def test_unused_sections_are_not_checked():
    text = HEADS.replace("filters=9\nsize=1", "filters=9\nsize=1\nbinary=1")
    assert len(build_model(parse(text)).outputs) == 2


@pytest.mark.parametrize("groups", [2, 3])
def test_grouped_convolutions_are_convolutions_to_keras(groups):
    model = build_model(parse(f"[convolutional]\nfilters=12\nsize=3\ngroups={groups}\n", (6, 8, 8)))
    layer = model.get_layer("conv_0")
    assert isinstance(layer, GroupedConv2D)
    assert isinstance(layer, keras().layers.Conv2D)
    assert layer.kernel.shape == (3, 3, 6 // groups, 12)


def test_model_that_yolotf_did_not_build_has_no_network():
    assert network_of(keras().Sequential()) is None
    assert network_of([]) is None


@pytest.mark.parametrize(
    ("source", "name"), [("yolo v4 (mine).cfg", "yolo_v4_mine"), ("<cfg>", "cfg"), ("ж", "darknet")]
)
def test_models_are_named_after_their_cfg(source, name):
    network = cfg.parse_text(net(8) + "[avgpool]\n", source=source)
    assert build_model(network).name == name
    assert build_model(network, name="other").name == "other"


def small(path):
    """The network on few pixels, or as it is if its dense layers need their size."""
    network = cfg.parse_cfg(path)
    if any(isinstance(layer, cfg.Connected | cfg.Crop | cfg.Detection) for layer in network.layers):
        return network
    deep = path.stem.startswith(("cspx-p7", "yolov4-p"))
    return network.resized(128 if deep else 64)


def check_stock(network):
    model = build_model(network)
    layers = {layer.name: layer for layer in model.layers}
    floats = 0
    for layer in network.layers:
        if isinstance(layer, cfg.Convolutional) and layer.share_index is None:
            keras_layer = layers[f"conv_{layer.index}"]
            assert layer_name(layer) == keras_layer.name
            assert (f"conv_{layer.index}_bn" in layers) == layer.batch_normalize
            assert (f"conv_{layer.index}_{layer.activation}" in layers) == (
                layer.activation != "linear"
            )
            assert keras_layer.use_bias != layer.batch_normalize
            depthwise = layer.groups == layer.input_shape.channels > 1
            assert isinstance(keras_layer, keras().layers.DepthwiseConv2D) == depthwise
            floats += layer.filters * (4 if layer.batch_normalize else 1)
            floats += layer.size**2 * layer.input_shape.channels // layer.groups * layer.filters
    ends = [network.layers[head.index - 1] for head in network.heads] or [network.layers[-1]]
    assert [tuple(output.shape[1:]) for output in model.outputs] == [
        tuple(end.output_shape) for end in ends
    ]
    assert model.count_params() == layout.floats(network) >= floats > 0


@pytest.mark.parametrize("path", helpers.cfg_params(helpers.must_cfgs))
def test_stock_detectors_build_with_every_float_of_their_file(path):
    check_stock(small(path))


def classifiers():
    return [
        helpers.SHARED / "cfg" / row["file"]
        for row in helpers.inventory()
        if row["klass"].startswith("NOT detector: classifier")
    ]


@pytest.mark.parametrize("path", helpers.cfg_params(classifiers))
def test_stock_classifiers_build_with_every_float_of_their_file(path):
    check_stock(small(path))


RARE = [
    "Gaussian_yolov3_BDD",
    "resnet152_trident",
    "tiny-yolo_xnor",
    "yolo9000",
    "yolov3-tiny_xnor",
    "yolov4-sam-mish-csp-reorg-bfm",
]


@pytest.mark.parametrize("name", RARE)
def test_rare_detectors_build_with_every_float_of_their_file(name, shared):
    check_stock(small(shared / f"cfg/{name}.cfg"))


def test_sections_that_feed_no_head_have_no_layer(shared):
    network = cfg.parse_cfg(shared / "cfg/yolov4-tiny_contrastive.cfg", size=64)
    model = build_model(network)
    names = {layer.name for layer in model.layers}
    unused = [
        layer
        for layer in network.layers
        if isinstance(layer, cfg.Convolutional) and layer_name(layer) not in names
    ]
    # The embedding that [contrastive] trains; all of it comes after the last head's input.
    assert unused
    total = sum(
        segment.count
        for segment in layout.segments(network)
        if segment.layer in {layer.index for layer in unused}
    )
    assert model.count_params() + total == layout.floats(network)


def test_trident_shares_kernels_between_dilations(shared):
    network = cfg.parse_cfg(shared / "cfg/resnet152_trident.cfg", size=64)
    sharing = [
        layer
        for layer in network.layers
        if isinstance(layer, cfg.Convolutional) and layer.share_index is not None
    ]
    names = {layer.name for layer in build_model(network).layers}
    assert len(sharing) == 54
    assert not names & {layer_name(layer) for layer in sharing}
    assert {f"conv_{layer.share_index}" for layer in sharing} <= names


@pytest.mark.slow
@pytest.mark.skipif(LEGACY, reason="of Keras 3")
def test_saved_models_load_in_a_process_that_never_parsed_a_cfg(tmp_path):
    network = parse(EVERYTHING, (3, 28, 36))
    model = build_model(network)
    full = network.to_cfg()
    numpy_loader.load(model, full, numpy_loader.random_file(full))
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(5).random((2, 28, 36, 3), dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    script = (
        "import sys, numpy, keras, yolotf.keras_layers\n"
        "model = keras.models.load_model(sys.argv[1] + '/model.keras')\n"
        "x = numpy.load(sys.argv[1] + '/x.npy')\n"
        "numpy.save(sys.argv[1] + '/y.npy', model(x, training=False))\n"
    )
    # Without oneDNN, as on machines whose TensorFlow has none: other kernels, the same answer.
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"},
        check=True,
        capture_output=True,
    )
    same(np.load(tmp_path / "y.npy"), np.asarray(model(x, training=False)))


def test_other_backends_than_tensorflow_are_refused(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    with refused(ImportError):
        keras.__wrapped__()


@pytest.mark.parametrize(
    "activation",
    ["elu", "leaky", "logistic", "mish", "relie", "relu", "relu6", "selu", "swish", "tanh"],
)
def test_a_traced_shortcut_activates_as_an_untraced_one(activation):
    """TensorFlow 2.21 forgets LeakyRelu's slope where it joins it to a convolution and a sum."""
    network = cfg.parse_cfg(
        net(16, channels=8) + 2 * conv(8, 3) + shortcut(-2, activation=activation)
    )
    model = build_model(network)
    rng = np.random.default_rng(7)
    for variable in model.variables:
        variable.assign(rng.standard_normal(variable.shape))
    pictures = rng.standard_normal((2, 16, 16, 8)).astype(np.float32)
    eager, traced = model(pictures), tf.function(model)(pictures)
    np.testing.assert_allclose(traced, eager, rtol=1e-4, atol=1e-4 * np.abs(eager).max())
