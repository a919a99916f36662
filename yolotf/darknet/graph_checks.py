"""Checks and facts that all graphs of a network share."""

from __future__ import annotations

from yolotf.darknet import cfg
from yolotf.darknet.layer import Refusal, activation_of, refused
from yolotf.errors import UnsupportedSectionError

BN_EPSILON = 1e-5
"""Darknet's epsilon (blas.c:292); Keras' default is 1e-3."""


def output_layers(network: cfg.Network) -> list[int]:
    """Indices of the sections that the graph outputs: the inputs of the heads, or the last one."""
    if network.heads:
        return [head.inputs[0] for head in network.heads]
    return [len(network.layers) - 1]


def output_names(network: cfg.Network) -> list[str]:
    """Names of the outputs: of the section before each head; the head's name where one repeats."""
    names = [network.layers[index].name for index in output_layers(network)]
    return [
        network.heads[position].name if name in names[:position] else name
        for position, name in enumerate(names)
    ]


def used_layers(network: cfg.Network) -> frozenset[int]:
    """Indices of the sections that the graph's outputs depend on.

    A section that shares another section's kernel depends on that section.
    """
    used: set[int] = set()
    pending = output_layers(network)
    while pending:
        index = pending.pop()
        if index in used or index == cfg.NETWORK_INPUT:
            continue
        used.add(index)
        layer = network.layers[index]
        pending += layer.inputs
        if layer.kernel_source is not None:
            pending.append(layer.kernel_source)
    return frozenset(used)


def kernel_index(network: cfg.Network, layer: cfg.Layer) -> int:
    """The index of the section whose kernel `layer` uses: its own, unless it shares another's."""
    while layer.kernel_source is not None:
        layer = network.layers[layer.kernel_source]
    return layer.index


def shape_of(network: cfg.Network, index: int) -> cfg.Shape:
    """Output shape of layer `index`; the input's shape for `NETWORK_INPUT`."""
    return network.shape(index)


def refuse(
    network: cfg.Network, layer: cfg.Layer, reason: str, key: str | None = None
) -> UnsupportedSectionError:
    """The error for a section that a graph cannot express, with the line of `key`."""
    return refused(network, layer, Refusal(reason, key))


def set_key(layer: cfg.Layer, *keys: str) -> str | None:
    """The first of `keys` that the section sets to a number other than 0."""
    return layer.set_key(*keys)


def kernel_owner(network: cfg.Network, layer: cfg.Convolutional) -> cfg.Convolutional:
    """The section whose kernel `layer` uses: its own, or that of `share_index`.

    Raises:
        UnsupportedSectionError: it shares with a section that has none.
    """
    owner = layer.kernel_owner(network)
    if owner is None:
        raise refused(
            network,
            layer,
            layer.refusal(network)
            or Refusal(
                "share_index= points to a section without a kernel; point it to a [convolutional]",
                "share_index",
            ),
        )
    return owner


def check_layer(network: cfg.Network, layer: cfg.Layer) -> None:
    """Checks that a graph can express `layer`.

    Raises:
        UnsupportedSectionError: it cannot; with section and line.
    """
    for index in layer.inputs:
        if index != cfg.NETWORK_INPUT and network.layers[index].ends_graph:
            raise refuse(
                network,
                layer,
                f"it reads the decoded boxes of layer {index} [{network.layers[index].type}], and "
                "the graph ends before them; name the layer before that head",
            )
    for index in layer.references:
        if index != cfg.NETWORK_INPUT and (why := network.layers[index].reference_refusal()):
            raise refused(network, layer, why)
    activation = activation_of(layer)
    if not layer.has_activation(activation):
        raise refuse(
            network,
            layer,
            f"Darknet has no activation={activation} in [{layer.type}] and outputs zeros there; "
            "use another activation, or add a [convolutional]",
            "activation",
        )
    refusal = layer.refusal(network)
    if refusal:
        raise refused(network, layer, refusal)


def check_stateless(network: cfg.Network, why: str) -> None:
    """Checks that a network is not recurrent.

    Args:
        network: the network.
        why: a clause that says why recurrent state is not supported here.

    Raises:
        UnsupportedSectionError: it is; with section and line.
    """
    for index in sorted(used_layers(network)):
        layer = network.layers[index]
        if layer.states:
            raise refuse(
                network, layer, f"[{layer.type}] keeps state from frame to frame, and {why}"
            )


def check_any_size(network: cfg.Network) -> None:
    """Checks that a network works for any image size.

    Raises:
        UnsupportedSectionError: it only works for one size; with section and line.
    """
    heads = {head.index for head in network.heads}
    for index in sorted(used_layers(network) | heads):
        layer = network.layers[index]
        if layer.fixes_size:
            raise refuse(
                network, layer, f"[{layer.type}] works for one image size only; leave any_size out"
            )
