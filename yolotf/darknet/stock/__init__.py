"""Stock networks written as Python: `network("yolov4", classes=3)`.

Each is the network of the cfg of the same name that ships with Darknet (AlexeyAB/darknet cfg/),
layer for layer, so files trained with that cfg load into it. What training needs (learning rate,
loss weights, augmentation) is written too for detectors: Darknet can train from
`network(...).to_cfg()`.

References between layers are never typed in: every builder method returns the index of the layer
it added, counted from 0 after `[net]` as Darknet counts, and later layers name that index.
"""

from __future__ import annotations

import difflib
import numbers
import re
from pathlib import Path

from yolotf._public import public
from yolotf.darknet import cfg
from yolotf.darknet.dialects import Dialect
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
"""Names of detectors that others made in other frameworks."""


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
        classes: what it tells apart; by default what the stock cfg does, as the 80 of COCO.
        size: of the image in pixels, one number or `(height, width)`, multiples of the
            coarsest head's stride, 32 in most; by default the stock cfg's.
        channels: of the image.

    Returns:
        The network, its lines being those of its own `to_cfg()`.

    Raises:
        CfgError: an unknown name (facts `name`, `known`, `nearest`), or a number that the
            network cannot have.
        TypeError: an argument is no number; the message shows the call that was meant.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a stock network's, as network('yolov4'), not {name!r:.80}")
    _check_counts(name, classes, channels)
    classes = None if classes is None else int(classes)
    channels = int(channels)
    key = builder.key(name)
    stock = builder.DETECTORS.get(key) or builder.CLASSIFIERS.get(key)
    if stock is None:
        nearest = difflib.get_close_matches(key, builder.DETECTORS, n=1)
        suggestion = f"; did you mean {builder.DETECTORS[nearest[0]].name}" if nearest else ""
        if _NOT_DARKNET.match(key):
            # Near in name only: the weights are PyTorch's, and no .weights file exists.
            nearest = []
            suggestion = f"; {name} is not a Darknet network and has no .weights files"
        elif name.endswith(".cfg"):
            suggestion = f"; a cfg is read by yolotf.parse_cfg({name!r})"
        raise CfgError(
            f"unknown network {name!r}{suggestion}; known: {', '.join(NAMES)}",
            name=name,
            known=NAMES,
            nearest=builder.DETECTORS[nearest[0]].name if nearest else None,
        )
    if classes is None:
        classes = stock.classes
    for what, count in (("classes", classes), ("channels", channels)):
        if count < 1:
            raise CfgError(
                f"{stock.name}: {what} must be at least 1, not {count}",
                source=stock.name,
                found=count,
            )
    if size is None:
        size = stock.size
    height, width = _height_and_width(name, size)
    for what, pixels in (("height", height), ("width", width)):
        if pixels < stock.stride or pixels % stock.stride:
            nearest_size = max(1, round(pixels / stock.stride)) * stock.stride
            raise CfgError(
                f"{stock.name}: {what} {pixels} is not a multiple of {stock.stride}; "
                f"the nearest is {nearest_size}",
                source=stock.name,
                found=pixels,
                nearest=nearest_size,
            )
    net = builder.Builder(classes)
    stock.build(net)
    first = builder.section(
        "net", {"width": width, "height": height, "channels": channels, **stock.training}
    )
    text = cfg.sections_to_cfg([first, *net.sections])
    return cfg.parse_text(text, source=stock.name, name=stock.name)


def _is_int(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _check_counts(name: str, classes: object, channels: object) -> None:
    """Raises for what is no count, with the call that was meant."""
    if classes is not None and not _is_int(classes):
        advice = "a count; names go to Detector(..., class_names=...)"
        if isinstance(classes, (list, tuple)):
            advice = f"a count, as network({name!r}, classes={len(classes)})"
        elif isinstance(classes, str) and (count := whole_number(classes.strip())) is not None:
            advice = f"a count, as network({name!r}, classes={count})"
        raise TypeError(f"classes must be {advice}, not {classes!r:.80}")
    if not _is_int(channels):
        raise TypeError(
            f"channels must be a count, as network({name!r}, channels=3), not {channels!r:.80}"
        )


def _height_and_width(name: str, size: object) -> tuple[int, int]:
    """`size` as (height, width).

    Raises:
        TypeError: it is neither a whole number nor two.
    """
    if _is_int(size):
        return int(size), int(size)  # type: ignore[call-overload]
    pair = size if isinstance(size, (list, tuple)) else ()
    if len(pair) == 2 and all(map(_is_int, pair)):
        return int(pair[0]), int(pair[1])
    written = (
        re.fullmatch(r"\s*(\d+)\s*(?:[xX*,]\s*(\d+)\s*)?", size) if isinstance(size, str) else None
    )
    if written:
        width, height = written.groups()
        meant = f"({height}, {width}), height first" if height else width
    elif isinstance(size, float) and size.is_integer():
        meant = str(int(size))
    else:
        meant = "416, or (height, width)"
    raise TypeError(
        f"size must be a number or two, as network({name!r}, size={meant}); not {size!r:.80}"
    )


def as_network(
    source: cfg.Network | cfg.Source,
    *,
    classes: int | None = None,
    dialect: Dialect | None = None,
) -> cfg.Network:
    """A network from whatever names one: itself, a stock name, a cfg's path or its text.

    Args:
        source: a file of that name goes before a stock network.
        classes: for another number of classes than it says.
        dialect: whose reading of a cfg counts, see `parse_cfg`.

    Raises:
        CfgError: the cfg is broken, or there is neither such a file nor such a network.
    """
    if isinstance(source, cfg.Network):
        found = source
    elif (
        isinstance(source, str) and re.fullmatch(r"[\w\- ]+", source) and not Path(source).is_file()
    ):
        return network(source) if classes is None else network(source, classes=classes)
    else:
        found = cfg.parse_cfg(source, dialect=dialect)
    return found if classes is None else found.with_classes(classes)


NAMES: tuple[str, ...] = tuple(stock.name for stock in builder.DETECTORS.values())
"""What `network` can build."""

CLASSIFIERS: tuple[str, ...] = tuple(stock.name for stock in builder.CLASSIFIERS.values())
"""The stock classifiers."""


find = as_network
"""Its name in programs written for 0.1.0."""
