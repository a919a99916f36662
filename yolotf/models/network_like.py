"""Keras model -> a `Network` that stores the same floats, to compare a file with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yolotf.darknet import cfg
from yolotf.errors import PlanError
from yolotf.models.arrange import preferred
from yolotf.models.built import network_of
from yolotf.models.stock import stock_networks
from yolotf.models.structure import Structure, Unit
from yolotf.weights import layout


class ModelNetwork(cfg.Network):
    """A chain of a model's layers; it can be compared with a file, not built."""

    def where(self, layer: cfg.Layer) -> str:
        """`layer conv2d_17 of model yolov4`."""
        return f"layer {layer.section.name} of {self.source}"


def network_like(model: Any) -> cfg.Network:
    """The network `model` was built from, the stock network it is, or a chain of its layers.

    Args:
        model: any built Keras model.

    Returns:
        A network whose segments are what a file for `model` would hold.

    Raises:
        PlanError: the model has no layer that Darknet could have stored.
    """
    own = network_of(model)
    if own is not None:
        return own
    structure = Structure(model)
    try:
        order: Sequence[Unit] = preferred(structure)
    except PlanError:
        order = structure.units  # as they were made: the likeliest of several
    if not order:
        raise PlanError(f"{structure.name}: no layer with weights that Darknet has too")
    shapes = [stored for unit in order for stored in unit.stored()]
    for network in stock_networks(structure.floats):
        if [(one.role, one.shape) for one in layout.segments(network)] == shapes:
            return network
    layers = [_layer(index, unit) for index, unit in enumerate(order)]
    return ModelNetwork(structure.name, cfg.Section("net", 0), tuple(layers), layers[0].input_shape)


def _layer(index: int, unit: Unit) -> cfg.Layer:
    """A layer that stores what the unit holds; where it gets its input from is not known."""
    roles = dict(unit.stored())
    section = cfg.Section(unit.name, 0)
    kernel = roles.get("kernel")
    before = index - 1 if index else cfg.NETWORK_INPUT

    def place(channels: int, filters: int) -> dict[str, Any]:
        return {
            "index": index,
            "line": 0,
            "section": section,
            "inputs": (before,),
            "input_shape": cfg.Shape(1, 1, channels),
            "output_shape": cfg.Shape(1, 1, filters),
        }

    if kernel is None:
        (channels,) = {shape[0] for shape in roles.values()}
        return cfg.Batchnorm(type="batchnorm", **place(channels, channels))
    if len(kernel) == 2:
        output, inputs = kernel
        return cfg.Connected(
            type="connected",
            output=output,
            batch_normalize="gamma" in roles,
            activation="linear",
            **place(inputs, output),
        )
    filters, channels, size, _ = kernel
    groups = filters if channels == 1 and unit.leaf.slots["kernel"].depthwise else 1
    return cfg.Convolutional(
        type="convolutional",
        filters=filters,
        size=size,
        stride_y=1,
        stride_x=1,
        padding=0,
        dilation=1,
        groups=groups,
        batch_normalize="gamma" in roles,
        activation="linear",
        share_index=None,
        flipped=False,
        antialiasing=0,
        **place(channels * groups, filters),
    )
