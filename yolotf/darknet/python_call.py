"""The Python expression that makes a network, for advice in messages."""

from __future__ import annotations

from yolotf.darknet.network import Network


def python_call(network: Network, classes: int | str | None = None) -> str:
    """Returns a Python expression for a network; pasted into a program, it makes the network.

    Args:
        network: a stock network, or one read from a cfg. For a cfg's text, which no expression
            can name, the expression starts with the caller's variable `network`.
        classes: the number of classes that the expression asks for; by default, the network's.
    """
    if network.name is None:
        call = "network" if network.folder is None else f"yolotf.parse_cfg({network.source!r})"
        return call if classes is None else f"{call}.with_classes({classes})"
    arguments = [repr(network.name)]
    if classes is None:
        classes = network.classes
    if classes is not None:
        arguments.append(f"classes={classes}")
    if network.input_shape.channels != 3:
        arguments.append(f"channels={network.input_shape.channels}")
    return f"yolotf.network({', '.join(arguments)})"
