"""Checks of argument types, with errors that show the correct call."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from yolotf.darknet import cfg

_R = TypeVar("_R")
_P = ParamSpec("_P")

_CALL = "yolotf.load_darknet_weights(model, 'yolov4.weights')"


def is_served(model: Any) -> bool:
    """Returns whether `model` is a Detector, Classifier, function or folded network of yolotf."""
    kind = type(model)
    return kind.__module__.startswith(("yolotf.graphs.", "yolotf.inference.")) or (
        kind.__module__ == "yolotf"
        and kind.__name__ in {"Classifier", "Detector", "InferenceFunction"}
    )


def outside_of_functions(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorates `function` to refuse being called while a `tf.function` is traced.

    It refuses at once, before AutoGraph converts everything that `function` calls.

    Raises:
        ValueError: when it is called while a function is traced.
    """

    @functools.wraps(function)
    def call(*arguments: _P.args, **options: _P.kwargs) -> _R:
        tensorflow = sys.modules.get("tensorflow")
        if tensorflow is not None and tensorflow.inside_function():
            # AutoGraph re-raises built-in error types; any other becomes a StagingError.
            raise ValueError(
                f"{function.__name__} inside a tf.function: that would happen once, while it is "
                "traced, and never when it is called; call it before"
            )
        return function(*arguments, **options)

    # AutoGraph does not convert functions with this attribute. It is what
    # `tf.autograph.experimental.do_not_convert` sets, here without importing TensorFlow.
    call.__dict__["autograph_info__"] = {}
    return call


def model_first(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorates `function` to check the types of its first two arguments, model and weights.

    Raises:
        TypeError: when the first argument is not a model, or the second is one.
    """

    @functools.wraps(function)
    def call(*arguments: _P.args, **options: _P.kwargs) -> _R:
        given: dict[str, Any] = {
            **dict(zip(("model", "weights"), arguments, strict=False)),
            **options,
        }
        if "model" in given:
            check_model(given["model"], given.get("weights"))
        if "weights" in given:
            _check_file(given["weights"])
        return function(*arguments, **options)

    return call


def check_model(model: Any, weights: Any = None) -> None:
    """Checks that `model` may be a Keras model.

    Raises:
        TypeError: it cannot be; the message shows the correct call.
    """
    if isinstance(model, cfg.Network):
        raise TypeError(
            f"model is a Network ({model.source}), which has no variables; build it first: "
            f"model = yolotf.build_model(network); {_CALL}"
        )
    if isinstance(model, (str, bytes, bytearray, memoryview, os.PathLike)) or hasattr(
        model, "read"
    ):
        if _is_model(weights):
            raise TypeError(f"model and weights are swapped; the model comes first: {_CALL}")
        raise TypeError(
            f"model is {type(model).__name__}, must be a Keras model; build one with "
            f"yolotf.build_model or read one with keras.models.load_model: {_CALL}"
        )
    if is_served(model):
        raise TypeError(
            f"model is a {type(model).__name__}, whose weights are its own; it takes another file "
            f"with reload('yolov4.weights'), a Keras model takes one with {_CALL}"
        )
    if hasattr(model, "get_concrete_function") or hasattr(model, "structured_input_signature"):
        raise TypeError(
            "model is a tf.function, which has been traced from a model and holds its variables "
            "only by reference; load into the Keras model that it calls, and it sees the new "
            f"weights: {_CALL}"
        )
    if model is None or isinstance(model, (type, int, float)):
        what = f"the class {model.__name__}" if isinstance(model, type) else repr(model)
        raise TypeError(f"model is {what}, must be a built Keras model: {_CALL}")


def _check_file(weights: Any) -> None:
    if isinstance(weights, cfg.Network):
        raise TypeError(
            f"weights is a Network ({weights.source}); pass the file, and the network it "
            "was trained as with cfg=: "
            "yolotf.load_darknet_weights(model, 'yolov4.weights', cfg=network)"
        )
    if _is_model(weights):
        raise TypeError(f"weights is a model; pass the path of the file: {_CALL}")


def check_source(source: Any) -> None:
    """Checks that a `cfg=` argument is a network, a path or a name.

    Raises:
        TypeError: it is none of them; the message lists the accepted types.
    """
    if not isinstance(source, (cfg.Network, str, os.PathLike)):
        raise TypeError(
            "cfg must be a Network, a cfg's path or text, or a stock name, not "
            f"{type(source).__name__}; for example cfg='yolov4.cfg'"
        )


def _is_model(value: Any) -> bool:
    return hasattr(value, "layers") and hasattr(value, "weights")
