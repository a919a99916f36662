"""Stock networks written as Python: `network("yolov4", classes=3)`.

Each is the network of the cfg of the same name that ships with Darknet (AlexeyAB/darknet cfg/),
layer for layer, so files trained with that cfg load into it. Detectors also have the options for
training (learning rate, loss weights, augmentation): Darknet can train from
`network(...).to_cfg()`.

References between layers are never typed in: every builder method returns the index of the layer
it added, counted from 0 after `[net]` as Darknet counts, and later layers name that index.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from yolotf import argument_numbers
from yolotf._public import public
from yolotf.darknet import cfg
from yolotf.darknet.dialects import Dialect, check_dialect
from yolotf.darknet.stock import (
    builder,
    classifiers,
    csresnext,
    efficientnet,
    scaled,
    yolov2,
    yolov3,
    yolov4,
    yolov7,
)
from yolotf.errors import CfgError
from yolotf.text import whole_number

FAMILIES = (yolov4, yolov3, yolov2, yolov7, scaled, csresnext, efficientnet, classifiers)
"""The modules that register networks."""

_NOT_DARKNET = re.compile(r"yolo(v?(5|6|8|9|1\d|26)|x|r|nas|s$|world)")
"""Names of detectors from other frameworks."""


@public
def network(
    name: str,
    *,
    classes: int | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
) -> cfg.Network:
    """Builds a stock network.

    Args:
        name: one of `NAMES` or `CLASSIFIERS`; upper case, `_`, `-` and spaces make no difference.
        classes: number of classes; by default that of the stock cfg, such as the 80 of COCO.
        size: image size in pixels, a number or `(height, width)`: multiples of the coarsest head's
            stride, 32 for most networks; by default the stock cfg's.
        channels: image channels.

    Returns:
        The network; its lines are those of its `to_cfg()`.

    Raises:
        CfgError: an unknown name (facts `name`, `known`, `nearest`), or a number that the
            network cannot have.
        TypeError: an argument is not a number; the message shows the call that was meant.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a stock network's, as network('yolov4'), not {name!r:.80}")
    _check_counts(name, classes, channels)
    classes = None if classes is None else int(classes)
    channels = int(channels)
    key = builder.key(name)
    stock = builder.DETECTORS.get(key) or builder.CLASSIFIERS.get(key)
    if stock is None:
        raise _unknown(name)
    if classes is None:
        classes = stock.classes
    for option, count in (("classes", classes), ("channels", channels)):
        if count < 1:
            raise CfgError(
                f"{stock.name}: {option} must be at least 1, not {count}",
                source=stock.name,
                found=count,
            )
    if size is None:
        size = stock.size
    height, width = argument_numbers.height_and_width(
        size, lambda correct: f"network({name!r}, size={correct})"
    )
    _check_multiples(stock, height, width)
    net = builder.Builder(classes)
    stock.build(net)
    first = builder.section(
        "net", {"width": width, "height": height, "channels": channels, **stock.training}
    )
    text = cfg.sections_to_cfg([first, *net.sections])
    return cfg.parse_text(text, source=stock.name, name=stock.name)


def _unknown(name: str) -> CfgError:
    """Returns the error for an unknown name, with the likeliest correction."""
    key = builder.key(name)
    nearest = difflib.get_close_matches(key, builder.DETECTORS, n=1)
    suggestion = f"; did you mean {builder.DETECTORS[nearest[0]].name}?" if nearest else ""
    if _NOT_DARKNET.match(key):
        # Similar in name only: its weights are PyTorch's, and no .weights file exists.
        nearest = []
        suggestion = f"; {name} is not a Darknet network and has no .weights files"
    elif name.endswith(".cfg"):
        suggestion = f"; a cfg is read by yolotf.parse_cfg({name!r})"
    return CfgError(
        f"unknown network {name!r}{suggestion}; known: {', '.join(NAMES)}",
        name=name,
        known=NAMES,
        nearest=builder.DETECTORS[nearest[0]].name if nearest else None,
    )


def _check_multiples(stock: builder.Stock, height: int, width: int) -> None:
    """Raises CfgError unless both sides are multiples of the coarsest head's stride."""
    for side, pixels in (("height", height), ("width", width)):
        if pixels < stock.stride or pixels % stock.stride:
            nearest = max(1, round(pixels / stock.stride)) * stock.stride
            raise CfgError(
                f"{stock.name}: {side} {pixels} is not a multiple of {stock.stride}; "
                f"the nearest is {nearest}",
                source=stock.name,
                found=pixels,
                nearest=nearest,
            )


def _check_counts(name: str, classes: object, channels: object) -> None:
    """Raises TypeError unless both are whole numbers; the message shows the call that was meant."""
    if classes is not None and not argument_numbers.is_integer(classes):
        advice = "a count; names go to Detector(..., class_names=...)"
        if isinstance(classes, (list, tuple)):
            advice = f"a count, as network({name!r}, classes={len(classes)})"
        elif isinstance(classes, str) and (count := whole_number(classes.strip())) is not None:
            advice = f"a count, as network({name!r}, classes={count})"
        raise TypeError(f"classes must be {advice}, not {classes!r:.80}")
    if not argument_numbers.is_integer(channels):
        raise TypeError(
            f"channels must be a count, as network({name!r}, channels=3), not {channels!r:.80}"
        )


def as_network(
    source: cfg.Network | cfg.Source,
    *,
    classes: int | None = None,
    dialect: Dialect | None = None,
) -> cfg.Network:
    """Returns a network given as a `Network`, a stock name, or a cfg's path or text.

    Args:
        source: the network; a file of that name takes precedence over a stock network.
        classes: number of classes, if it differs from the cfg's.
        dialect: the fork of Darknet that reads the cfg; see `parse_cfg`.

    Raises:
        CfgError: the cfg is invalid, or there is neither such a file nor such a network.
        ValueError: `dialect` is unknown, or `source` is a `Network`, whose cfg has been read.
    """
    check_dialect(dialect)
    if isinstance(source, cfg.Network):
        if dialect is not None:
            raise ValueError(
                f"dialect={dialect!r} is for the path or text of a cfg, but {source.source} is a "
                "Network, whose cfg has been read; pass the dialect to parse_cfg"
            )
        given = source
    elif (
        isinstance(source, str) and re.fullmatch(r"[\w\- ]+", source) and not Path(source).is_file()
    ):
        return network(source) if classes is None else network(source, classes=classes)
    else:
        given = cfg.parse_cfg(source, dialect=dialect)
    return given if classes is None else given.with_classes(classes)


NAMES: tuple[str, ...] = tuple(stock.name for stock in builder.DETECTORS.values())
"""What `network` can build."""

CLASSIFIERS: tuple[str, ...] = tuple(stock.name for stock in builder.CLASSIFIERS.values())
"""The stock classifiers."""


find = as_network
"""The name of `as_network` in version 0.1.0."""
