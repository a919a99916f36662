"""Makes the configuration in a saved Keras model readable by older versions of Keras.

A `.keras` or `.h5` file holds the configuration of every layer. Keras refuses configurations with
unknown keys, so by default only the version that wrote a file and later ones can read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from yolotf.models import traversal
from yolotf.models.keras_module import keras

Config = dict[str, Any]

_LATER_KEYS: Mapping[str, Config] = {
    "BatchNormalization": {"renorm": False, "renorm_clipping": None, "renorm_momentum": 0.99},
    "Dense": {"quantization_config": None},
}
"""Keys added to layers since Keras 3.1, with the default values that can be dropped."""

_LATER_INITIALIZER_KEYS: Config = {"input_axes": None, "output_axes": None}


def make_portable(model: Any, *, old_keras: bool) -> None:
    """Makes `model.save` write files that Keras 3.4 can read, or Keras 3.1 with `old_keras`.

    Args:
        model: a functional model; modified.
        old_keras: Keras up to 3.3 expects a list of inputs where later versions write a single
            input without the list. Later versions read the list as well, but the loaded model
            then has its input in a list, and they warn when it is called with an array.
    """
    if keras().__name__ == "tf_keras":
        return
    for layer in traversal.layers(model):
        later_keys = _LATER_KEYS.get(type(layer).__name__, {})
        layer.get_config = _without(layer.get_config, later_keys)
    if old_keras:
        model.get_config = _with_inputs_in_a_list(model.get_config)


def readers(*, old_keras: bool) -> str:
    """Returns the versions that read a model saved after `make_portable`; "" for tf_keras."""
    if keras().__name__ == "tf_keras":
        return ""
    return f"Keras {'3.1' if old_keras else '3.4'} or later"


def _without(get_config: Callable[[], Config], defaults: Config) -> Callable[[], Config]:
    def portable_config() -> Config:
        config = _without_defaults(get_config(), defaults)
        for key, value in config.items():
            if key.endswith("_initializer") and isinstance(value, dict):
                options = _without_defaults(value["config"], _LATER_INITIALIZER_KEYS)
                config[key] = {**value, "config": options}
        return config

    return portable_config


def _without_defaults(config: Config, defaults: Config) -> Config:
    return {
        key: value for key, value in config.items() if key not in defaults or value != defaults[key]
    }


def _with_inputs_in_a_list(get_config: Callable[[], Config]) -> Callable[[], Config]:
    def config_with_lists() -> Config:
        config = get_config()
        for key in ("input_layers", "output_layers"):
            tensor = config[key]
            if isinstance(tensor[0], str):  # [layer, call, tensor]
                config[key] = [tensor]
        return config

    return config_with_lists


def own_layers(model: Any) -> list[str]:
    """Returns the classes of `yolotf.keras_layers` that a reader of the model needs."""
    classes = {type(layer) for layer in traversal.layers(model)}
    return sorted(cls.__name__ for cls in classes if cls.__module__.split(".")[0] == "yolotf")
