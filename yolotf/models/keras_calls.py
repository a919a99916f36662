"""Describes the calls of a Keras model in terms of Darknet's sections.

Layers of Keras 3 and tf_keras, `keras.ops` and wrapped TensorFlow functions are recognized by
their names and attributes. Other layers without weights are run on sample values.
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
    """Zeros around the image."""

    sides: Sides


class Window(NamedTuple):
    """The window of a convolution or pooling; padding is `same`, `valid` or `Sides`."""

    kind: str
    size: tuple[int, int]
    strides: tuple[int, int]
    padding: str | Sides


class Enlarge(NamedTuple):
    """An enlargement of rows and columns; Darknet's interpolation is `nearest`."""

    interpolation: str


Effect = Pad | Window | Enlarge


def name_of_call(layer: Any) -> str:
    """Returns the name of a layer, `conv2d_3`, or of an operation, `tf.nn.relu`."""
    return str(getattr(layer, "name", None) or type(layer).__name__)


def function_name(layer: Any) -> str:
    """Returns the class, `LeakyReLU`, or the function a tf_keras layer wraps, `leaky_relu`."""
    symbol = str(getattr(layer, "symbol", "")).rpartition(".")[2]
    return symbol or type(layer).__name__


def effect(call: Call) -> Effect | None:
    """Returns what a call does to rows and columns; None if it does nothing of this kind."""
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
    """Returns the window of a convolution; None if its attributes do not show it."""
    if "FlexibleConv2D" in class_names(layer):  # its window is an argument of each call
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
    values = [int(extent) for extent in value]
    if len(values) == 4:  # NHWC
        values = values[1:3]
    return (values[0], values[-1])


def _sides(padding: Any) -> Sides:
    rows, columns = ((side, side) if isinstance(side, int) else side for side in padding)
    return (int(rows[0]), int(rows[1])), (int(columns[0]), int(columns[1]))


def _option(call: Call, *names: str, place: int | None = None) -> Any:
    """Returns an option of an operation: an attribute, or an argument by name or position."""
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
    method = _option(call, "interpolation", "method", place=2)
    text = str(getattr(method, "value", method or "bilinear")).lower()
    return text.removesuffix("_neighbor")


def pads_of(window: Window, extents: Sequence[int]) -> tuple[Sides, tuple[int, int]]:
    """Returns the padding of rows and columns, and the number of window positions along each."""
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
"""The values at which activations are compared."""

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
    """An activation's name, and its values at `PROBE`."""

    name: str
    values: NDArray[np.float32]

    @property
    def slope(self) -> float | None:
        """The slope below zero of a function that is x above it; None for other functions."""
        below = PROBE < 0
        if not np.allclose(self.values[~below], PROBE[~below], atol=1e-3, rtol=1e-3):
            return None
        slope = float(self.values[below][0] / PROBE[below][0])
        line = np.allclose(self.values[below], slope * PROBE[below], atol=1e-3, rtol=1e-3)
        return slope if line else None

    def same(self, other: Response) -> bool:
        """Returns whether both are the same function, within half precision."""
        return bool(np.allclose(self.values, other.values, atol=6e-3, rtol=6e-3))


def leaky(slope: float, name: str = "leaky") -> Response:
    """Returns the response of a leaky ReLU with this slope."""
    return Response(name, np.where(PROBE > 0, PROBE, slope * PROBE).astype(np.float32))


class Activations:
    """Computes the responses of activations; those of Darknet's are cached."""

    def __init__(self) -> None:
        self._darknet: dict[str, Response] = {}

    def darknet(self, name: str) -> Response | None:
        """Returns the response of Darknet's activation; None if it is not pointwise."""
        import tensorflow as tf  # imported here: slow

        if name.startswith("normalize_channels"):
            return None
        if name not in self._darknet:
            values = np.asarray(activations.activate(tf.raw_ops, tf.constant(PROBE), name))
            self._darknet[name] = Response(name, values.astype(np.float32))
        return self._darknet[name]

    def of_layer(self, layer: Any) -> Response | None:
        """Returns the response of a layer, by its class or attributes; None if not recognized."""
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
        """Returns the response of an `activation=` argument; None if it is not pointwise."""
        name = str(getattr(function, "__name__", type(function).__name__))
        if name in _STOCK_NAMES and getattr(function, "__module__", "").startswith(
            ("keras", "tf_keras", "tensorflow")
        ):
            return self.darknet(_STOCK_NAMES[name])
        response = self._probe(lambda values: function(values))
        return None if response is None else Response(name, response)

    def of_region(self, start: Call, region: Sequence[Call], end: Call) -> Response | None:
        """Returns the response of the calls from `start` to `end`, in order of computation."""
        if len(region) == 1 and (named := self.of_layer(region[0].layer)) is not None:
            return named

        def run(values: Any) -> Any:
            results = {id(start): values}
            for call in region:
                results[id(call)] = run_call(call, results)
            return results[id(end)]

        values = self._probe(run, rank=len(start.shape))
        if values is None:
            return None
        name = " ".join(function_name(call.layer).lower() for call in region)
        return self.named(Response(name, values))

    def named(self, response: Response) -> Response:
        """Returns Darknet's response if it is the same function; otherwise the given one."""
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

    def _probe(self, function: Callable[[Any], Any], rank: int = 4) -> NDArray[np.float32] | None:
        """Returns the values at `PROBE`; None if the function fails or is not pointwise."""
        import tensorflow as tf  # imported here: slow

        answers = []
        for values in (PROBE, PROBE[::-1]):
            shaped = tf.reshape(tf.constant(values), (1,) * (rank - 1) + (-1,))
            try:
                answer = np.asarray(function(shaped), np.float32)
            except Exception:  # a user's layer may raise anything
                return None
            if answer.shape != tuple(shaped.shape):
                return None
            answers.append(answer.ravel())
        return answers[0] if np.allclose(answers[0], answers[1][::-1], atol=1e-3) else None


def run_call(call: Call, results: Mapping[int, Any]) -> Any:
    """Runs a call on values: `results`, by call id, replace its symbolic tensors."""
    import tensorflow as tf  # imported here: slow

    values = {
        id(tensor): results[id(source)]
        for tensor, source in zip(call.tensors(), call.inputs, strict=True)
    }
    args, kwargs = call.arguments()
    args, kwargs = tf.nest.map_structure(
        lambda argument: values.get(id(argument), argument), (list(args), dict(kwargs))
    )
    return call.layer(*args, **kwargs)


def has_weights(layer: Any) -> bool:
    """Returns whether a layer has variables."""
    return bool(getattr(layer, "weights", None))


def consumers(calls: Iterable[Call]) -> dict[int, list[Call]]:
    """Returns the calls that read each call, by its id."""
    readers: dict[int, list[Call]] = {}
    for call in calls:
        for source in dict.fromkeys(call.inputs):
            readers.setdefault(id(source), []).append(call)
    return readers


def probe_enlargement(call: Call) -> Enlarge | None:
    """Runs an unknown layer that enlarges images by whole factors, to see how it does so."""
    import tensorflow as tf  # imported here: slow

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
        answer = np.asarray(run_call(call, {id(call.inputs[0]): tf.constant(values)}), np.float32)
    except Exception:  # a user's layer may raise anything
        return None
    nearest = values.repeat(rows // height, axis=1).repeat(columns // width, axis=2)
    same = answer.shape == nearest.shape and np.allclose(answer, nearest, atol=1e-3)
    return Enlarge("nearest" if same else "no nearest neighbor")
