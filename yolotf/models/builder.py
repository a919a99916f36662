"""`Builder`, which builds a Keras model section by section, and its registry of build functions.

`yolotf.models.sections` registers a function for each class of section. Importing this module
imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from yolotf.darknet import cfg, graph_checks
from yolotf.darknet.layer import activation_of, registers
from yolotf.models import undrawn
from yolotf.models.activation_layers import Activation, activation_layer
from yolotf.models.layer_names import layer_name
from yolotf.models.registration import layers

BN_MOMENTUM = 0.99
"""Darknet's momentum on a GPU (batchnorm_layer.c:310,332); on a CPU it is 0.9 (:196)."""

_STOCK_BEHIND_SUMS = frozenset({"elu", "logistic", "relu", "relu6", "swish"})
"""Activations whose stock layer is correct after a sum as well; see `Builder.activated`."""

_Shared = TypeVar("_Shared")
_Function = TypeVar("_Function", bound=Callable[..., Any])

Build = Callable[["Builder", Any, Sequence[Any]], Any]
BUILDERS: dict[type[cfg.Layer], Build] = {}
"""Class of a section -> the function that builds it."""


def builds(*classes: type[cfg.Layer]) -> Callable[[_Function], _Function]:
    """Registers a function that builds `classes`: `(builder, layer, inputs) -> output`."""
    return registers(BUILDERS, classes)


class Builder:
    """Builds the symbolic tensors of a network, section by section.

    Attributes:
        network: the network to build.
        undrawn: the layers whose kernels are not initialized yet.
        images: the model's input, images NHWC.
        used: indices of the sections that are built.
        outputs: the outputs of the sections by index; the images under `NETWORK_INPUT`.
    """

    def __init__(self, network: cfg.Network, dtype: Any, undrawn: undrawn.Kernels) -> None:
        """Builds every section that the outputs depend on.

        Raises:
            UnsupportedSectionError: a section cannot be built in Keras.
        """
        self.network = network
        self.undrawn = undrawn
        self.used = graph_checks.used_layers(network)
        self.images = layers.Input(tuple(network.input_shape), name="input")
        self.outputs: dict[int, Any] = {cfg.NETWORK_INPUT: self.images}
        self._options = {} if dtype is None else {"dtype": dtype}
        self._shared: dict[Callable[..., Any], Any] = {}
        used = [network.layers[index] for index in sorted(self.used)]
        for layer in used:
            graph_checks.check_layer(network, layer)
        for layer in used:
            if type(layer) not in BUILDERS:
                raise graph_checks.refuse(
                    network,
                    layer,
                    f"no Keras layer computes [{layer.type}]; inspect and check read it",
                )
            inputs = [self.outputs[index] for index in layer.inputs]
            self.outputs[layer.index] = BUILDERS[type(layer)](self, layer, inputs)

    def named(self, layer: cfg.Layer, suffix: str = "") -> dict[str, Any]:
        """Returns the arguments of every Keras layer of a section: name and dtype."""
        return {"name": layer_name(layer) + suffix, **self._options}

    def spatial(self, layer: cfg.Layer, suffix: str = "") -> dict[str, Any]:
        """Returns `named` and channels last, whatever `keras.config.image_data_format()` is."""
        return {"data_format": "channels_last", **self.named(layer, suffix)}

    def shared(self, kind: Callable[[Builder], _Shared]) -> _Shared:
        """Returns `kind(self)`, created once: state that sections of one family share."""
        if kind not in self._shared:
            self._shared[kind] = kind(self)
        shared: _Shared = self._shared[kind]
        return shared

    def activated(
        self, layer: cfg.Layer, x: Any, *, suffix: str | None = None, behind_kernel: bool = False
    ) -> Any:
        """Applies the section's activation to `x`.

        Args:
            layer: the section.
            x: the tensor.
            suffix: suffix of the layer's name; by default the name of the activation.
            behind_kernel: whether `x` comes directly from a convolution or its normalization.
        """
        activation = activation_of(layer)
        if activation == "linear":
            return x
        # TensorFlow 2.21 fuses a convolution without batch normalization, a sum and an activation
        # that it recognizes: LeakyRelu then has a slope of 0.2, and Mish is not implemented.
        stock = behind_kernel or activation in _STOCK_BEHIND_SUMS
        make = activation_layer if stock else Activation
        suffix = f"_{activation}" if suffix is None else suffix
        return make(activation, **self.named(layer, suffix))(x)

    def batch_normalization(self, layer: cfg.Layer, suffix: str = "_bn") -> Any:
        """Returns the layer for a section's batch normalization."""
        return layers.BatchNormalization(
            momentum=BN_MOMENTUM, epsilon=graph_checks.BN_EPSILON, **self.named(layer, suffix)
        )

    def rescaled(self, layer: cfg.Layer, x: Any, scale: float, offset: float = 0.0) -> Any:
        """Returns `scale * x + offset`."""
        return layers.Rescaling(scale, offset, **self.named(layer, "_scale"))(x)
