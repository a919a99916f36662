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


def is_inference_object(model: Any) -> bool:
    """Returns whether `model` is yolotf's Detector, Classifier, function or folded network."""
    kind = type(model)
    return kind.__module__.startswith(("yolotf.graphs.", "yolotf.inference.")) or (
        kind.__module__ == "yolotf"
        and kind.__name__ in {"Classifier", "Detector", "InferenceFunction"}
    )


def forbid_in_tf_function(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorates `function` to raise an error when it is called inside a `tf.function`.

    It raises before AutoGraph converts everything that `function` calls.

    Raises:
        ValueError: when `function` is called while a `tf.function` is traced.
    """

    @functools.wraps(function)
    def call(*arguments: _P.args, **options: _P.kwargs) -> _R:
        tensorflow = sys.modules.get("tensorflow")
        if tensorflow is not None and tensorflow.inside_function():
            # AutoGraph re-raises built-in error types; any other becomes a StagingError.
            raise ValueError(
                f"{function.__name__} inside a tf.function would run once, when the function is "
                "traced, and never when the function is called; call it outside the function"
            )
        return function(*arguments, **options)

    # AutoGraph does not convert functions with this attribute. It is what
    # `tf.autograph.experimental.do_not_convert` sets, here without importing TensorFlow.
    call.__dict__["autograph_info__"] = {}
    return call


def check_model_and_weights(function: Callable[_P, _R]) -> Callable[_P, _R]:
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
            _check_weights(given["weights"])
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
            f"model must be a Keras model, not {type(model).__name__}; build one with "
            f"yolotf.build_model or read one with keras.models.load_model: {_CALL}"
        )
    if is_inference_object(model):
        raise TypeError(
            f"model must be a Keras model, not a {type(model).__name__}; to load another file into "
            f"a {type(model).__name__}, call its reload('yolov4.weights'), and for a Keras model, "
            f"{_CALL}"
        )
    if hasattr(model, "get_concrete_function") or hasattr(model, "structured_input_signature"):
        raise TypeError(
            "model must be a Keras model, not a tf.function; load into the Keras model that the "
            f"function calls, and the function uses the new weights: {_CALL}"
        )
    if model is None or isinstance(model, (type, int, float)):
        given = f"the class {model.__name__}" if isinstance(model, type) else repr(model)
        raise TypeError(f"model must be a built Keras model, not {given}: {_CALL}")


def _check_weights(weights: Any) -> None:
    if isinstance(weights, cfg.Network):
        raise TypeError(
            f"weights must be the file, not a Network ({weights.source}); pass the network that "
            "the file was trained as with network=: "
            "yolotf.load_darknet_weights(model, 'yolov4.weights', network=network)"
        )
    if _is_model(weights):
        raise TypeError(f"weights is a model; pass the path of the file: {_CALL}")


def check_network(network: Any) -> None:
    """Checks that a `network=` argument is a Network, a cfg or a stock name.

    Raises:
        TypeError: it is not; the message lists the accepted types.
    """
    if not isinstance(network, (cfg.Network, str, os.PathLike)):
        raise TypeError(
            "network must be a Network, a cfg's path or text, or a stock name, not "
            f"{type(network).__name__}; for example network='yolov4.cfg'"
        )


def _is_model(value: Any) -> bool:
    return hasattr(value, "layers") and hasattr(value, "weights")
