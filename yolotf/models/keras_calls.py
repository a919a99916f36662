"""What a call in a Keras model does to its input, in the terms of Darknet's sections.

Layers of Keras 3 and tf_keras, `keras.ops` and wrapped TensorFlow functions are told apart by
their names and attributes. What has no name here and no weights is tried out on a few numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolotf.graphs import activations
from yolotf.models.keras_graph import Call
from yolotf.models.traversal import class_names

Sides = tuple[tuple[int, int], tuple[int, int]]
"""Rows before and after, columns before and after."""


class Pad(NamedTuple):
    """Zeros around the picture."""

    sides: Sides


class Window(NamedTuple):
    """A convolution's or pooling's window; padding is `same`, `valid` or `Sides`."""

    kind: str
    size: tuple[int, int]
    strides: tuple[int, int]
    padding: str | Sides


class Enlarge(NamedTuple):
    """Rows and columns repeated, or something smoother."""

    interpolation: str


Effect = Pad | Window | Enlarge


def name_of_call(layer: Any) -> str:
    """`conv2d_3`; of an operation without a layer its function: `tf.nn.relu`."""
    return str(getattr(layer, "name", None) or type(layer).__name__)


def function_name(layer: Any) -> str:
    """The class, or the function that a layer of tf_keras wraps: `LeakyReLU`, `leaky_relu`."""
    symbol = str(getattr(layer, "symbol", "")).rpartition(".")[2]
    return symbol or type(layer).__name__


def effect(call: Call) -> Effect | None:
    """What the call does to rows and columns; None for everything else."""
    layer = call.layer
    bases = class_names(layer)
    function = function_name(layer).lower()
    if "ZeroPadding2D" in bases:
        return Pad(_sides(layer.padding))
    if function in ("pad", "padv2"):
        return _pad(call)
    if "PaddedPooling2D" in bases:
        size = (layer.pool_size, layer.pool_size)
        return Window(layer.mode, size, _pair(layer.strides), _sides(layer.padding))
    for kind, names in _POOLS.items():
        if names & bases:
            strides = layer.pool_size if layer.strides is None else layer.strides
            return Window(kind, _pair(layer.pool_size), _pair(strides), str(layer.padding).lower())
    if function in ("max_pool2d", "max_pool", "avg_pool2d", "avg_pool"):
        return _pool(call, "max" if function.startswith("max") else "mean")
    if "UpSampling2D" in bases:
        return Enlarge(str(layer.interpolation))
    if "Resizing" in bases or function == "resize":
        return Enlarge(_interpolation(call))
    if function in ("resize_nearest_neighbor", "resize_bilinear", "resize_bicubic"):
        return Enlarge(function.removeprefix("resize_").removesuffix("_neighbor"))
    return None


_POOLS = {
    "max": {"MaxPooling2D", "MaxPool"},
    "mean": {"AveragePooling2D", "AveragePool"},
}


def window_of(layer: Any) -> Window | None:
    """The window of a convolution; None where its attributes do not say it."""
    if "FlexibleConv2D" in class_names(layer):  # is told in every call
        return None
    size, strides = getattr(layer, "kernel_size", None), getattr(layer, "strides", None)
    padding = getattr(layer, "padding", None)
    if size is None or strides is None or not isinstance(padding, str):
        return None
    dilation = _pair(getattr(layer, "dilation_rate", 1))
    rows, columns = (d * (k - 1) + 1 for d, k in zip(dilation, _pair(size), strict=True))
    return Window("convolution", (rows, columns), _pair(strides), padding.lower())


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    values = [int(one) for one in value]
    if len(values) == 4:  # NHWC
        values = values[1:3]
    return (values[0], values[-1])


def _sides(padding: Any) -> Sides:
    rows, columns = ((one, one) if isinstance(one, int) else one for one in padding)
    return (int(rows[0]), int(rows[1])), (int(columns[0]), int(columns[1]))


def _option(call: Call, *names: str, place: int | None = None) -> Any:
    """An option of an operation: its attribute, or its argument by name or place."""
    for name in names:
        value = getattr(call.layer, name, None)
        if value is not None:
            return value
    args, kwargs = call.arguments()
    for name in names:
        if kwargs.get(name) is not None:
            return kwargs[name]
    return args[place] if place is not None and place < len(args) else None


def _pad(call: Call) -> Pad | None:
    paddings = _option(call, "pad_width", "paddings", place=1)
    try:
        sides = [tuple(int(extent) for extent in side) for side in paddings]
    except TypeError:
        return None
    if len(sides) != 4 or (sides[0], sides[3]) != ((0, 0), (0, 0)):
        return None
    return Pad(_sides(sides[1:3]))


def _pool(call: Call, kind: str) -> Window | None:
    size = _option(call, "ksize", "pool_size", place=1)
    strides = _option(call, "strides", place=2)
    padding = _option(call, "padding", place=3)
    if size is None or not isinstance(padding, str):
        return None
    return Window(kind, _pair(size), _pair(size if strides is None else strides), padding.lower())


def _interpolation(call: Call) -> str:
    found = _option(call, "interpolation", "method", place=2)
    text = str(getattr(found, "value", found or "bilinear")).lower()
    return text.removesuffix("_neighbor")


def pads_of(window: Window, extents: Sequence[int]) -> tuple[Sides, tuple[int, int]]:
    """What `padding` adds to rows and columns, and how many positions the window then has."""
    sides, positions = [], []
    for axis, extent in enumerate(extents):
        size, stride = window.size[axis], window.strides[axis]
        if window.padding == "same":
            count = -(-extent // stride)
            missing = max(0, (count - 1) * stride + size - extent)
            sides.append((missing // 2, missing - missing // 2))
        else:
            side = (0, 0) if isinstance(window.padding, str) else window.padding[axis]
            count = (extent + sum(side) - size) // stride + 1
            sides.append(side)
        positions.append(count)
    return (sides[0], sides[1]), (positions[0], positions[1])


# Activations

PROBE: NDArray[np.float32] = np.concatenate(
    [np.linspace(-9, 9, 37), [-0.3, -0.05, 0.0, 0.05, 0.3, -30.0, 30.0]]
).astype(np.float32)
"""Where activations are compared."""

_STOCK_NAMES = {
    "linear": "linear",
    "relu": "relu",
    "relu6": "relu6",
    "mish": "mish",
    "swish": "swish",
    "silu": "swish",
    "sigmoid": "logistic",
    "tanh": "tanh",
    "elu": "elu",
}


class Response(NamedTuple):
    """What an activation answers to `PROBE`, and what it is called."""

    name: str
    values: NDArray[np.float32]

    @property
    def slope(self) -> float | None:
        """Of a function that is x above zero and falls as a line below; else None."""
        below = PROBE < 0
        if not np.allclose(self.values[~below], PROBE[~below], atol=1e-3, rtol=1e-3):
            return None
        slope = float(self.values[below][0] / PROBE[below][0])
        line = np.allclose(self.values[below], slope * PROBE[below], atol=1e-3, rtol=1e-3)
        return slope if line else None

    def same(self, other: Response) -> bool:
        """Whether both are one function, as far as half precision and approximations show."""
        return bool(np.allclose(self.values, other.values, atol=6e-3, rtol=6e-3))


def leaky(slope: float, name: str = "leaky") -> Response:
    """Its argument above zero, `slope` times it below."""
    return Response(name, np.where(PROBE > 0, PROBE, slope * PROBE).astype(np.float32))


class Activations:
    """Responses of Darknet's activations and of calls; each is worked out once."""

    def __init__(self) -> None:
        self._darknet: dict[str, Response] = {}

    def darknet(self, name: str) -> Response | None:
        """Of one of Darknet's; None for those that look at more than one number."""
        import tensorflow as tf  # only models that need it come here

        if name.startswith("normalize_channels"):
            return None
        if name not in self._darknet:
            values = np.asarray(activations.activate(tf.raw_ops, tf.constant(PROBE), name))
            self._darknet[name] = Response(name, values.astype(np.float32))
        return self._darknet[name]

    def of_layer(self, layer: Any) -> Response | None:
        """Of a layer or operation that its class or attributes name; None if they do not."""
        bases = class_names(layer)
        function = function_name(layer).lower()
        if "LeakyReLU" in bases or (function == "leakyrelu" and hasattr(layer, "negative_slope")):
            slope = getattr(layer, "negative_slope", None)
            slope = getattr(layer, "alpha", 0.3) if slope is None else slope
            return leaky(float(np.asarray(slope)))
        if function in ("relu6", "mish", "silu", "sigmoid") and not hasattr(layer, "units"):
            return self.darknet(_STOCK_NAMES[function])
        chosen = getattr(layer, "activation", None)
        if isinstance(chosen, str):  # yolotf's own
            return self.darknet(chosen)
        if chosen is not None and "Activation" in bases:
            return self.of_function(chosen)
        return None

    def of_function(self, function: Callable[[Any], Any]) -> Response | None:
        """Of an `activation=` argument."""
        name = str(getattr(function, "__name__", type(function).__name__))
        if name in _STOCK_NAMES and getattr(function, "__module__", "").startswith(
            ("keras", "tf_keras", "tensorflow")
        ):
            return self.darknet(_STOCK_NAMES[name])
        found = self._tried(lambda values: function(values))
        return None if found is None else Response(name, found)

    def of_region(self, start: Call, region: Sequence[Call], end: Call) -> Response | None:
        """Of calls from `start` to `end`, in the order of computation."""
        if len(region) == 1 and (named := self.of_layer(region[0].layer)) is not None:
            return named

        def run(values: Any) -> Any:
            results = {id(start): values}
            for call in region:
                results[id(call)] = called(call, results)
            return results[id(end)]

        found = self._tried(run, rank=len(start.shape))
        if found is None:
            return None
        response = Response(" ".join(function_name(one.layer).lower() for one in region), found)
        return self.named(response)

    def named(self, response: Response) -> Response:
        """The same with Darknet's name, if Darknet has such a function."""
        for name in (
            "linear",
            "relu",
            "leaky",
            "mish",
            "swish",
            "logistic",
            "relu6",
            "tanh",
            "elu",
        ):
            known = self.darknet(name)
            if known is not None and response.same(known):
                return known
        return response

    def _tried(self, function: Callable[[Any], Any], rank: int = 4) -> NDArray[np.float32] | None:
        """The answers to `PROBE`; None if it fails or is not a function of each number alone."""
        import tensorflow as tf  # only models that need it come here

        turned = PROBE[::-1]
        answers = []
        for values in (PROBE, turned):
            shaped = tf.reshape(tf.constant(values), (1,) * (rank - 1) + (-1,))
            try:
                answer = np.asarray(function(shaped), np.float32)
            except Exception:  # anything may be in a user's layer
                return None
            if answer.shape != tuple(shaped.shape):
                return None
            answers.append(answer.ravel())
        return answers[0] if np.allclose(answers[0], answers[1][::-1], atol=1e-3) else None


def called(call: Call, results: Mapping[int, Any]) -> Any:
    """The call done on numbers, its symbolic tensors replaced by `results` of their calls."""
    import tensorflow as tf  # only models that need it come here

    values = {
        id(tensor): results[id(source)]
        for tensor, source in zip(call.tensors(), call.inputs, strict=True)
    }
    args, kwargs = call.arguments()
    args, kwargs = tf.nest.map_structure(
        lambda one: values.get(id(one), one), (list(args), dict(kwargs))
    )
    return call.layer(*args, **kwargs)


def has_weights(layer: Any) -> bool:
    """Whether a layer holds variables, so that it is more than an activation."""
    return bool(getattr(layer, "weights", None))


def consumers(calls: Iterable[Call]) -> dict[int, list[Call]]:
    """The calls that read from each, by its id."""
    found: dict[int, list[Call]] = {}
    for call in calls:
        for source in dict.fromkeys(call.inputs):
            found.setdefault(id(source), []).append(call)
    return found


def tried_enlargement(call: Call) -> Enlarge | None:
    """What a function of unknown inside does that makes a picture larger by whole numbers."""
    import tensorflow as tf  # only models that need it come here

    before = [extent or 0 for extent in call.inputs[0].shape[1:]]
    after = [extent or 0 for extent in call.shape[1:]]
    if len(before) != 3 or len(after) != 3 or 0 in (*before, *after):
        return None
    (height, width, channels), (rows, columns, _) = before, after
    if channels != after[2] or rows <= height or rows % height or columns % width:
        return None
    random = np.random.default_rng(0)
    values = random.standard_normal((1, height, width, channels)).astype(np.float32)
    try:
        answer = np.asarray(called(call, {id(call.inputs[0]): tf.constant(values)}), np.float32)
    except Exception:  # anything may be in a user's layer
        return None
    nearest = values.repeat(rows // height, axis=1).repeat(columns // width, axis=2)
    same = answer.shape == nearest.shape and np.allclose(answer, nearest, atol=1e-3)
    return Enlarge("nearest" if same else "no nearest neighbor")
