"""What both graphs, the Keras model and the inference function, are made of and refuse."""

from __future__ import annotations

import re

from yolotf.darknet import cfg
from yolotf.errors import UnsupportedSectionError

BN_EPSILON = 1e-5
"""Darknet's, blas.c:292. Keras' default is 1e-3."""

# Darknet's `activate` knows none of these and answers 0 (activations.c:77-116); only the
# sections that call other functions for them have them.
_CONVOLUTION_ONLY = frozenset(
    {
        "hard_mish",
        "mish",
        "normalize_channels",
        "normalize_channels_softmax",
        "normalize_channels_softmax_maxval",
        "swish",
    }
)


def output_layers(network: cfg.Network) -> list[int]:
    """The sections whose outputs are the graph's: those that enter a head, else the last one."""
    if network.heads:
        return [head.inputs[0] for head in network.heads]
    return [len(network.layers) - 1]


def used_layers(network: cfg.Network) -> frozenset[int]:
    """Indices of the sections the graph's outputs depend on.

    A section that shares another's kernel depends on it.
    """
    used: set[int] = set()
    waiting = output_layers(network)
    while waiting:
        index = waiting.pop()
        if index in used or index == cfg.NETWORK_INPUT:
            continue
        used.add(index)
        layer = network.layers[index]
        waiting += layer.inputs
        if isinstance(layer, cfg.Convolutional) and layer.share_index is not None:
            waiting.append(layer.share_index)
    return frozenset(used)


def shape_of(network: cfg.Network, index: int) -> cfg.Shape:
    """What layer `index` puts out; the picture for `NETWORK_INPUT`."""
    if index == cfg.NETWORK_INPUT:
        return network.input_shape
    return network.layers[index].output_shape


def refuse(
    network: cfg.Network, layer: cfg.Layer, what: str, key: str | None = None
) -> UnsupportedSectionError:
    """The error for a section that cannot be expressed, with the line of `key`."""
    return UnsupportedSectionError(
        f"{network.source}: {what}; {network.where(layer)}",
        source=network.source,
        line=layer.line_of(key) if key else layer.line,
        section=layer.type,
        layer=layer.index,
    )


def set_key(layer: cfg.Layer, *keys: str) -> str | None:
    """The first of `keys` that is in the section with a number other than 0."""
    for key in keys:
        option = layer.section.option(key)
        if option and re.match(r"[+-]?\d*\.?\d*[1-9]", option.value):
            return key
    return None


def kernel_owner(network: cfg.Network, layer: cfg.Convolutional) -> cfg.Convolutional:
    """The section whose kernel `layer` uses: its own, or that of `share_index`."""
    owner = layer
    while owner.share_index is not None:
        found = network.layers[owner.share_index]
        if not isinstance(found, cfg.Convolutional):
            raise refuse(
                network,
                owner,
                f"share_index={owner.share_index} points to [{found.type}], which has no kernel "
                "to share",
                "share_index",
            )
        owner = found
    return owner


def check_layer(network: cfg.Network, layer: cfg.Layer) -> None:
    """Raises for what neither graph can express.

    Raises:
        UnsupportedSectionError: with section and line.
    """
    for index in layer.inputs:
        if index != cfg.NETWORK_INPUT and isinstance(network.layers[index], cfg.Head):
            raise refuse(
                network,
                layer,
                f"it reads the decoded boxes of layer {index} [{network.layers[index].type}], and "
                "the graph ends before them",
            )
    _check_activation(network, layer)
    match layer:
        case cfg.Convolutional():
            _check_convolution(network, layer)
        case cfg.Local() if layer.pad and layer.size != 3:
            # Darknet pads one row and column whatever the size (local_layer.c:104), but counts
            # its positions as if the window just fitted.
            raise refuse(
                network,
                layer,
                f"[local] with pad=1 has size=3 in Darknet, not {layer.size}",
                "size",
            )
        case cfg.Shortcut():
            _check_shortcut(network, layer)
        case cfg.Pool():
            _check_pool(network, layer)
        case cfg.Upsample() if layer.reverse and (
            layer.input_shape.height % layer.stride or layer.input_shape.width % layer.stride
        ):
            raise refuse(
                network,
                layer,
                f"stride=-{layer.stride} does not divide {layer.input_shape.width}x"
                f"{layer.input_shape.height}",
                "stride",
            )
        case cfg.Reorg():
            _check_reorg(network, layer)
        case cfg.Softmax():
            _check_softmax(network, layer)
        case cfg.Recurrent():
            raise refuse(network, layer, f"[{layer.type}] cannot be built")


def _check_activation(network: cfg.Network, layer: cfg.Layer) -> None:
    activation = getattr(layer, "activation", "linear")
    known = isinstance(layer, cfg.Convolutional) or (
        isinstance(layer, cfg.Shortcut) and activation in ("mish", "swish")
    )
    if activation in _CONVOLUTION_ONLY and not known:
        raise refuse(
            network,
            layer,
            f"Darknet has no activation={activation} in [{layer.type}] and puts out zeros there; "
            "put an activation it has, or an extra [convolutional]",
            "activation",
        )


def _check_convolution(network: cfg.Network, layer: cfg.Convolutional) -> None:
    # xnor: Darknet binarizes kernel and input. coordconv: on a GPU only, a CPU ignores it.
    key = set_key(layer, "antialiasing", "binary", "xnor", "coordconv")
    if key:
        raise refuse(network, layer, f"{key}= cannot be built", key)
    if layer.dilation > 1 and 2 * layer.padding != layer.size - 1:
        raise refuse(
            network,
            layer,
            f"dilation={layer.dilation} with size={layer.size} and a padding of {layer.padding} "
            "makes Darknet write past its own output; set pad=1 and an odd size",
            "dilation",
        )
    owner = kernel_owner(network, layer)
    mine, theirs = (
        (one.size, one.filters, one.groups, one.input_shape.channels, one.batch_normalize)
        for one in (layer, owner)
    )
    if mine != theirs:
        raise refuse(
            network,
            layer,
            f"share_index={layer.share_index} points to a kernel of another kind: size, filters, "
            f"groups, channels and batch_normalize are {mine} here, {theirs} there",
            "share_index",
        )


def _check_shortcut(network: cfg.Network, layer: cfg.Shortcut) -> None:
    first = layer.input_shape
    for index in layer.inputs[1:]:
        shape = shape_of(network, index)
        step_y, step_x = shape.height // first.height, shape.width // first.width
        if step_y != step_x or step_y == 0:
            raise refuse(
                network,
                layer,
                f"layer {index} is {shape.width}x{shape.height} and cannot be added to "
                f"{first.width}x{first.height}",
                "from",
            )


def _check_pool(network: cfg.Network, layer: cfg.Pool) -> None:
    key = set_key(layer, "antialiasing", "maxpool_zero_nonmax")
    if key:
        raise refuse(network, layer, f"{key}= cannot be built", key)
    if layer.maxpool_depth and layer.out_channels > layer.input_shape.channels:
        raise refuse(
            network,
            layer,
            f"out_channels={layer.out_channels} is more than the {layer.input_shape.channels} "
            "channels of its input",
            "out_channels",
        )


def _check_reorg(network: cfg.Network, layer: cfg.Reorg) -> None:
    if layer.type == "reorg3d" and not layer.reverse:
        return
    view = layer.output_shape if layer.type == "reorg3d" else layer.input_shape
    if view.channels % layer.stride**2:
        raise refuse(
            network,
            layer,
            f"stride={layer.stride} with reverse needs channels that {layer.stride**4} divides, "
            f"not {layer.input_shape.channels}",
            "stride",
        )


def _check_softmax(network: cfg.Network, layer: cfg.Softmax) -> None:
    if layer.tree:
        raise refuse(network, layer, "[softmax] with tree= cannot be built", "tree")
    if layer.spatial:
        # softmax_layer.c:110 reads past its input, and a CPU ignores it.
        raise refuse(network, layer, "[softmax] with spatial= cannot be built", "spatial")
    channels = layer.input_shape.channels
    if channels % layer.groups:
        raise refuse(
            network, layer, f"groups={layer.groups} does not divide {channels} channels", "groups"
        )
