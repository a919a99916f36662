"""A small detector as public projects write it; `Recorder` records the order of the cfg.

The network has what makes the order of layers ambiguous: two branches of equal shape after the same
layer, a residual block, and two heads, of which the first ends before the second begins.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from support import weights_files
from support.cfgs import conv, net, normalized, route, section, shortcut, yolo
from yolotf.models.keras_module import keras

L: Any = keras().layers

CLASSES = 1
HEAD = 3 * (CLASSES + 5)
SIZE = 32

_OUTPUT = conv(HEAD) + yolo(CLASSES)

CFG = (
    net(SIZE)
    + normalized(8, 3)
    + normalized(16, 3, stride=2)
    + normalized(8)
    + route(-2)
    + normalized(8)
    + normalized(8)
    + normalized(8, 3)
    + shortcut(-3)
    + normalized(8)
    + route(-1, -7)
    + normalized(16)
    + normalized(32, 3, stride=2)
    + normalized(32, 3)
    + _OUTPUT
    + route(-4)
    + normalized(8)
    + section("upsample", stride=2)
    + route(-1, -8)
    + normalized(16, 3)
    + _OUTPUT
)


class Pair(NamedTuple):
    """A layer with a kernel, and its batch normalization or None."""

    kernel: Any
    norm: Any


class Normalization(L.BatchNormalization):
    """A subclass, as some projects have it for freezing."""


class Recorder:
    """Creates layers, and records them in the order of the calls, which is that of the cfg."""

    def __init__(self, normalization: Any = L.BatchNormalization, names: Any = None) -> None:
        self.pairs: list[Pair] = []
        self.normalization = normalization
        self.names = names

    def make(self, filters: int, size: int, stride: int = 1, norm: bool = True) -> Pair:
        named, norm_named = (
            {} if self.names is None else {"name": self.names(len(self.pairs)) + suffix}
            for suffix in ("", "_norm")
        )
        kernel = L.Conv2D(
            filters,
            size,
            stride,
            padding="same" if stride == 1 else "valid",
            use_bias=not norm,
            **named,
        )
        pair = Pair(kernel, self.normalization(**norm_named) if norm else None)
        self.pairs.append(pair)
        return pair

    def conv(self, x: Any, filters: int, size: int, stride: int = 1, norm: bool = True) -> Any:
        return use(self.make(filters, size, stride, norm), x)


def use(pair: Pair, x: Any) -> Any:
    if pair.kernel.strides[0] == 2:
        x = L.ZeroPadding2D(((1, 0), (1, 0)))(x)
    x = pair.kernel(x)
    return x if pair.norm is None else L.LeakyReLU(0.1)(pair.norm(x))


def picture() -> Any:
    return L.Input((SIZE, SIZE, 3))


def flat(record: Recorder) -> Any:
    """Returns one functional model, as in hunglc007/tensorflow-yolov4-tflite."""
    inputs = picture()
    middle, x = _backbone(record, inputs)
    outputs = _heads(record, middle, x)
    return keras().Model(inputs, outputs)


def _backbone(record: Recorder, x: Any) -> tuple[Any, Any]:
    x = record.conv(x, 8, 3)
    x = record.conv(x, 16, 3, 2)
    route = record.conv(x, 8, 1)
    x = record.conv(x, 8, 1)
    short = x
    x = record.conv(x, 8, 1)
    x = record.conv(x, 8, 3)
    x = L.Add()([short, x])
    x = record.conv(x, 8, 1)
    x = L.Concatenate()([x, route])
    middle = record.conv(x, 16, 1)
    return middle, record.conv(middle, 32, 3, 2)


def _heads(record: Recorder, middle: Any, x: Any) -> list[Any]:
    head = record.conv(x, 32, 3)
    coarse = record.conv(head, HEAD, 1, norm=False)
    x = record.conv(x, 8, 1)
    x = L.UpSampling2D(2)(x)
    x = L.Concatenate()([x, middle])
    x = record.conv(x, 16, 3)
    # The finer head is the first output, as in several projects.
    return [record.conv(x, HEAD, 1, norm=False), coarse]


def submodels(record: Recorder) -> Any:
    """Returns a model of models, as in zzh8829/yolov3-tf2."""
    model = keras().Model

    def backbone(x: Any) -> Any:
        inputs = L.Input(x.shape[1:])
        return model(inputs, _backbone(record, inputs), name="yolo_darknet")(x)

    def head(x: Any, filters: int, name: str) -> Any:
        inner = inputs = L.Input(x.shape[1:])
        inner = record.conv(inner, filters, 3)
        inner = record.conv(inner, HEAD, 1, norm=False)
        return model(inputs, inner, name=name)(x)

    def neck(x: Any, skip: Any) -> Any:
        inputs = [L.Input(x.shape[1:]), L.Input(skip.shape[1:])]
        inner = L.UpSampling2D(2)(record.conv(inputs[0], 8, 1))
        return model(inputs, L.Concatenate()([inner, inputs[1]]), name="yolo_conv_1")([x, skip])

    inputs = picture()
    middle, x = backbone(inputs)
    coarse = head(x, 32, "yolo_output_0")
    return model(inputs, [coarse, head(neck(x, middle), 16, "yolo_output_1")])


def three_parts(record: Recorder) -> Any:
    """Returns a model whose backbone and head are models, as in sicara/tf2-yolov4."""
    model = keras().Model
    inputs = picture()
    backbone = model(inputs, _backbone(record, inputs), name="CSPDarknet53")
    shapes = [tensor.shape[1:] for tensor in backbone.outputs]
    parts = [L.Input(shape) for shape in shapes]
    head = model(parts, _heads(record, *parts), name="YOLOv3_head")
    inputs = picture()
    return model(inputs, head(backbone(inputs)))


class Block(L.Layer):
    """Padding, convolution, norm and activation in a Sequential."""

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.sequential = keras().Sequential()
        if pair.kernel.strides[0] == 2:
            self.sequential.add(L.ZeroPadding2D(((1, 0), (1, 0))))
        self.sequential.add(pair.kernel)
        if pair.norm is not None:
            self.sequential.add(pair.norm)
            self.sequential.add(L.LeakyReLU(0.1))

    def call(self, x: Any) -> Any:
        return self.sequential(x)

    def compute_output_shape(self, shape: Any) -> Any:
        return self.sequential.compute_output_shape(shape)


class Residual(keras().Model):
    """Two blocks whose output is added to their input."""

    def __init__(self, record: Recorder) -> None:
        super().__init__()
        self.conv1 = Block(record.make(8, 1))
        self.conv2 = Block(record.make(8, 3))

    def call(self, x: Any) -> Any:
        return x + self.conv2(self.conv1(x))


class Stage(keras().Model):
    """The two branches; its attributes are in the order of the cfg."""

    def __init__(self, record: Recorder) -> None:
        super().__init__()
        self.pre = Block(record.make(16, 3, 2))
        self.part2 = Block(record.make(8, 1))
        self.part1 = Block(record.make(8, 1))
        self.residuals = keras().Sequential([Residual(record)])
        self.part1_after = Block(record.make(8, 1))
        self.concat = L.Concatenate()
        self.post = Block(record.make(16, 1))

    def call(self, x: Any) -> Any:
        x = self.pre(x)
        # Calls in another order than the attributes.
        first = self.part1_after(self.residuals(self.part1(x)))
        return self.post(self.concat([first, self.part2(x)]))


class Subclassed(keras().Model):
    """Models inside models, and Sequentials inside layers, as in hhk7734/tensorflow-yolov4."""

    def __init__(self, record: Recorder) -> None:
        super().__init__()
        self.conv0 = Block(record.make(8, 3))
        self.stage = Stage(record)
        self.down = Block(record.make(32, 3, 2))
        self.head = [Block(record.make(32, 3)), Block(record.make(HEAD, 1, norm=False))]
        self.up = Block(record.make(8, 1))
        self.upsample = L.UpSampling2D(2)
        self.concat = L.Concatenate()
        self.last = Block(record.make(16, 3))
        self.fine = Block(record.make(HEAD, 1, norm=False))

    def call(self, x: Any) -> Any:
        middle = self.stage(self.conv0(x))
        x = self.down(middle)
        coarse = self.head[1](self.head[0](x))
        x = self.concat([self.upsample(self.up(x)), middle])
        return self.fine(self.last(x)), coarse


def subclassed(record: Recorder) -> Any:
    model = Subclassed(record)
    model(picture())
    return model


STYLES = {
    "flat": flat,
    "submodels": submodels,
    "three_parts": three_parts,
    "subclassed": subclassed,
}


def weights_file(path: Any, seed: int = 0, header_bytes: int = 20) -> Any:
    """Writes a file for `CFG` at `path`."""
    from support import numpy_loader

    content = numpy_loader.random_file(CFG, seed)
    if header_bytes == 16:
        content = weights_files.header(7, version=(0, 1, 0)) + content[20:]
    path.write_bytes(content)
    return path


def assert_holds(pairs: list[Pair], path: Any, header_bytes: int = 20) -> None:
    """Asserts that every variable has the values of the file, in the order of `pairs`."""
    floats = np.frombuffer(path.read_bytes()[header_bytes:], np.float32)
    position = 0

    def take(shape: tuple[int, ...]) -> Any:
        nonlocal position
        count = int(np.prod(shape))
        position += count
        return floats[position - count : position].reshape(shape)

    def same(variable: Any, values: Any) -> None:
        np.testing.assert_array_equal(tf.convert_to_tensor(variable).numpy(), values)

    for kernel, norm in pairs:
        weights = getattr(kernel, "kernel", None)
        depthwise = weights is None or "Depthwise" in type(kernel).__name__
        weights = kernel.depthwise_kernel if weights is None else weights
        shape = tuple(weights.shape)
        if len(shape) == 2:
            same(kernel.bias, take(shape[-1:]))
            same(weights, take(shape[::-1]).T)
            continue
        height, width, channels, filters = shape
        outputs = channels * filters if depthwise else filters
        if norm is None:
            same(kernel.bias, take((outputs,)))
        else:
            for variable in (norm.beta, norm.gamma, norm.moving_mean, norm.moving_variance):
                same(variable, take((outputs,)))
        if depthwise:
            values = take((channels, filters, height, width)).transpose(2, 3, 0, 1)
        else:
            values = take((filters, channels, height, width)).transpose(2, 3, 1, 0)
        same(weights, values)
    assert position == floats.size
