"""Darknet cfg text -> `Network`: every layer with its line, its resolved inputs and its shapes.

The rules are Darknet's (AlexeyAB/darknet src/parser.c and src/option_list.c):

* blanks and tabs are dropped everywhere; a line starting with `#` or `;` is a comment;
* the first of two equal keys in a section wins (option_list.c:101);
* numbers are read as C's `atoi`/`atof` do, so `180 ###P6` is 180; words are taken whole, so a
  comment after one is part of it;
* layers are counted from 0 after `[net]`; `layers=` and `from=` are absolute, or relative
  when negative;
* a missing `activation` is `logistic` in layers that store weights, `linear` elsewhere.

Where Darknet guesses in silence (an unknown activation becomes relu, an unknown section is
skipped, a word where a number belongs reads as 0) this module raises `CfgError` with the line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypedDict, Union

from yolotf.errors import CfgError

Source = Union[str, "os.PathLike[str]"]

# parser.c:55-100
SECTION_ALIASES = {
    "activation": "activation",
    "avg": "avgpool",
    "avgpool": "avgpool",
    "batchnorm": "batchnorm",
    "conn": "connected",
    "connected": "connected",
    "contrastive": "contrastive",
    "conv": "convolutional",
    "conv_lstm": "conv_lstm",
    "convolutional": "convolutional",
    "cost": "cost",
    "crnn": "crnn",
    "crop": "crop",
    "detection": "detection",
    "dropout": "dropout",
    "empty": "empty",
    "Gaussian_yolo": "Gaussian_yolo",
    "gru": "gru",
    "history": "history",
    "implicit": "implicit",
    "local": "local",
    "local_avg": "local_avgpool",
    "local_avgpool": "local_avgpool",
    "lrn": "normalization",
    "lstm": "lstm",
    "max": "maxpool",
    "maxpool": "maxpool",
    "normalization": "normalization",
    "region": "region",
    "reorg": "reorg",
    "reorg3d": "reorg3d",
    "rnn": "rnn",
    "route": "route",
    "sam": "sam",
    "scale_channels": "scale_channels",
    "shortcut": "shortcut",
    "silence": "empty",
    "soft": "softmax",
    "softmax": "softmax",
    "upsample": "upsample",
    "yolo": "yolo",
}
NET_NAMES = ("net", "network")

# activations.c:48-74
ACTIVATIONS = frozenset(
    {
        "elu",
        "gelu",
        "hard_mish",
        "hardtan",
        "leaky",
        "lhtan",
        "linear",
        "logistic",
        "loggy",
        "mish",
        "normalize_channels",
        "normalize_channels_softmax",
        "normalize_channels_softmax_maxval",
        "plse",
        "ramp",
        "relie",
        "relu",
        "relu6",
        "revleaky",
        "selu",
        "stair",
        "swish",
        "tanh",
    }
)

# parser.c:493-500
NMS_KINDS = ("default", "greedynms", "diounms")

NETWORK_INPUT = -1
"""The layer index that stands for the network's own input."""

_INT_PREFIX = re.compile(r"[+-]?\d+", re.ASCII)
_FLOAT_PREFIX = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_COMMENT = re.compile("[#;]")
# utils.c:424, strip()
_DROPPED = str.maketrans("", "", " \t\r")


class Shape(NamedTuple):
    """What a layer puts out, without the batch: rows, columns, channels."""

    height: int
    width: int
    channels: int

    @property
    def floats(self) -> int:
        """Floats per picture."""
        return self.height * self.width * self.channels


class Option(NamedTuple):
    """One `key=value` line."""

    key: str
    value: str
    line: int


@dataclass(frozen=True)
class Section:
    """One `[name]` block as written: nothing resolved yet."""

    name: str
    line: int
    options: tuple[Option, ...] = ()

    def option(self, key: str) -> Option | None:
        """The first option called `key`, as Darknet finds it (option_list.c:101)."""
        return next((option for option in self.options if option.key == key), None)

    def with_option(self, key: str, value: object) -> Section:
        """The same section with `key` set: in place where it stands, at the end otherwise."""
        found = self.option(key)
        changed = Option(key, str(value), found.line if found else self.line)
        if found is None:
            return replace(self, options=(*self.options, changed))
        return replace(
            self, options=tuple(changed if option is found else option for option in self.options)
        )


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One section after `[net]`, resolved.

    Attributes:
        index: counts from 0 after `[net]`; what `route` and `shortcut` refer to.
        type: the section's full name, without brackets (`conv` is `convolutional`).
        line: the line of `[type]` in the cfg, from 1.
        section: the section as written.
        inputs: absolute indices of the layers it reads, `NETWORK_INPUT` for the picture.
        input_shape: output shape of the first input.
        output_shape: what it puts out.
    """

    index: int
    type: str
    line: int
    section: Section
    inputs: tuple[int, ...]
    input_shape: Shape
    output_shape: Shape

    @property
    def dontload(self) -> bool:
        """`dontload=1`: Darknet reads nothing from the file for this layer (parser.c:2279)."""
        return _flag(self.section, "dontload")

    @property
    def dontloadscales(self) -> bool:
        """`dontloadscales=1`: no scales, mean and variance are read for it (parser.c:2171)."""
        return _flag(self.section, "dontloadscales")

    def line_of(self, key: str) -> int:
        """The line of `key=`, or of the section if it is not written."""
        option = self.section.option(key)
        return option.line if option else self.line


@dataclass(frozen=True, kw_only=True)
class Convolutional(Layer):
    """`[convolutional]` (parser.c:169)."""

    filters: int
    size: int
    stride_y: int
    stride_x: int
    padding: int
    dilation: int
    groups: int
    batch_normalize: bool
    activation: str
    share_index: int | None
    flipped: bool
    antialiasing: int


@dataclass(frozen=True, kw_only=True)
class Connected(Layer):
    """`[connected]` (parser.c:349): a dense layer over the flattened (channels, rows, columns)."""

    output: int
    batch_normalize: bool
    activation: str


@dataclass(frozen=True, kw_only=True)
class Local(Layer):
    """`[local]`: a convolution whose kernel differs at every position (parser.c:148)."""

    filters: int
    size: int
    stride: int
    pad: bool
    activation: str


@dataclass(frozen=True, kw_only=True)
class Batchnorm(Layer):
    """`[batchnorm]`: batch normalization on its own (parser.c:909)."""


@dataclass(frozen=True, kw_only=True)
class Pool(Layer):
    """`[maxpool]` and `[local_avgpool]`; `padding` is the sum of both sides (parser.c:837)."""

    size: int
    stride_y: int
    stride_x: int
    padding: int
    maxpool_depth: bool
    out_channels: int
    antialiasing: int


@dataclass(frozen=True, kw_only=True)
class Avgpool(Layer):
    """`[avgpool]`: the mean over all rows and columns."""


@dataclass(frozen=True, kw_only=True)
class Route(Layer):
    """`[route]`: its inputs one after the other; with `groups`, only part `group_id` of each."""

    groups: int
    group_id: int


@dataclass(frozen=True, kw_only=True)
class Shortcut(Layer):
    """`[shortcut]`: inputs[0] is the layer before, the rest are added to it (parser.c:915)."""

    activation: str
    weights_type: str
    weights_normalization: str

    @property
    def nweights(self) -> int:
        """Stored floats (shortcut_layer.c:49-51)."""
        if self.weights_type == "per_feature":
            return len(self.inputs)
        if self.weights_type == "per_channel":
            return len(self.inputs) * self.input_shape.channels
        return 0


@dataclass(frozen=True, kw_only=True)
class ScaleChannels(Layer):
    """`[scale_channels]`: inputs[1] multiplied by inputs[0], one number a channel."""

    activation: str
    scale_wh: bool


@dataclass(frozen=True, kw_only=True)
class Sam(Layer):
    """`[sam]`: inputs[1] multiplied by inputs[0], element by element."""

    activation: str


@dataclass(frozen=True, kw_only=True)
class Upsample(Layer):
    """`[upsample]`: nearest neighbour, times `scale`; a negative stride sums down instead."""

    stride: int
    scale: float
    reverse: bool


@dataclass(frozen=True, kw_only=True)
class Reorg(Layer):
    """`[reorg]` (Darknet's own shuffle) and `[reorg3d]` (space to depth)."""

    stride: int
    reverse: bool


@dataclass(frozen=True, kw_only=True)
class Dropout(Layer):
    """`[dropout]`: nothing at inference."""

    probability: float


@dataclass(frozen=True, kw_only=True)
class Softmax(Layer):
    """`[softmax]`."""

    groups: int
    temperature: float
    spatial: bool
    tree: str | None


@dataclass(frozen=True, kw_only=True)
class Activation(Layer):
    """`[activation]`."""

    activation: str


@dataclass(frozen=True, kw_only=True)
class Crop(Layer):
    """`[crop]`: the middle part; maps 0..1 to -1..1 unless `noadjust` (crop_layer.c)."""

    noadjust: bool


@dataclass(frozen=True, kw_only=True)
class Normalization(Layer):
    """`[normalization]`: local response normalization."""

    size: int
    alpha: float
    beta: float
    kappa: float


@dataclass(frozen=True, kw_only=True)
class Implicit(Layer):
    """`[implicit]`: a stored constant."""

    filters: int
    atoms: int


@dataclass(frozen=True, kw_only=True)
class Passive(Layer):
    """`[cost]`, `[empty]`, `[contrastive]`: the input unchanged as far as inference goes."""


@dataclass(frozen=True, kw_only=True)
class SubLayer:
    """A convolution or dense layer inside a recurrent section."""

    name: str
    input_channels: int
    filters: int
    size: int
    """0 for a dense layer."""
    groups: int
    batch_normalize: bool


@dataclass(frozen=True, kw_only=True)
class Recurrent(Layer):
    """`[rnn]`, `[gru]`, `[lstm]`, `[crnn]`, `[conv_lstm]`, `[history]`: its parts in file order."""

    sublayers: tuple[SubLayer, ...]


@dataclass(frozen=True, kw_only=True)
class Head(Layer):
    """A layer whose input is the raw answer of a detector."""

    classes: int
    coords: int
    anchors: tuple[tuple[float, float], ...]
    """(width, height) of the anchors this head uses, in its own order."""


@dataclass(frozen=True, kw_only=True)
class Yolo(Head):
    """`[yolo]` and `[Gaussian_yolo]` (parser.c:448); anchors in pixels of the network's input."""

    mask: tuple[int, ...]
    scale_x_y: float
    new_coords: bool
    nms_kind: str
    beta_nms: float


@dataclass(frozen=True, kw_only=True)
class Region(Head):
    """`[region]` (parser.c:666); anchors in grid cells."""

    softmax: bool
    tree: str | None
    map: str | None


@dataclass(frozen=True, kw_only=True)
class Detection(Head):
    """`[detection]` of YOLO version 1 (parser.c:722); no anchors."""

    num: int
    side: int
    softmax: bool
    sqrt: bool


@dataclass(frozen=True)
class Network:
    """A parsed cfg.

    Attributes:
        source: the cfg's file name, or what it was made from; used in messages.
        net: the `[net]` section.
        layers: all sections after it, resolved; `layers[i].index == i`.
        input_shape: rows, columns, channels of the picture.
        name: the stock network it is, if it was asked for by name.
        warnings: lines Darknet ignores, one sentence each.
    """

    source: str
    net: Section
    layers: tuple[Layer, ...]
    input_shape: Shape
    name: str | None = None
    warnings: tuple[str, ...] = field(default=(), compare=False)

    @property
    def heads(self) -> tuple[Head, ...]:
        """The detection heads in cfg order."""
        return tuple(layer for layer in self.layers if isinstance(layer, Head))

    @property
    def classes(self) -> int | None:
        """The heads' class count; None without heads or where they differ."""
        counts = {head.classes for head in self.heads}
        return counts.pop() if len(counts) == 1 else None

    @property
    def letter_box(self) -> bool:
        """`letter_box=1`: pictures keep their proportions on a grey ground."""
        return _flag(self.net, "letter_box")

    @property
    def sections(self) -> tuple[Section, ...]:
        """`[net]` and every section after it, as written."""
        return (self.net, *(layer.section for layer in self.layers))

    def where(self, layer: Layer) -> str:
        """`section 17 [convolutional] (yolov4.cfg:131)`."""
        return f"section {layer.index} [{layer.type}] ({self.source}:{layer.line})"

    def to_cfg(self) -> str:
        """A cfg that Darknet reads as this network."""
        return sections_to_cfg(self.sections)

    def resized(
        self, size: int | tuple[int, int] | None = None, channels: int | None = None
    ) -> Network:
        """The same network for another picture size: `size` or `(height, width)`, and channels."""
        return resolve(
            self.sections, source=self.source, name=self.name, size=size, channels=channels
        )

    def with_classes(self, classes: int) -> Network:
        """The same network for another number of classes.

        Sets `classes=` in every head and `filters=` in the convolution before it, which is
        what Darknet's documentation tells people to edit.

        Raises:
            CfgError: a head does not follow a convolution directly.
        """
        if classes < 1:
            raise CfgError(
                f"{self.source}: classes must be at least 1, not {classes}",
                source=self.source,
                found=classes,
            )
        sections = list(self.sections)
        for head in self.heads:
            before = self.layers[head.index - 1] if head.index else None
            if not isinstance(before, Convolutional) or isinstance(head, Detection):
                raise CfgError(
                    f"{self.source}: {self.where(head)} has no convolution right before it, "
                    "so its class count cannot be changed; edit the cfg",
                    source=self.source,
                    line=head.line,
                )
            filters = len(head.anchors) * (head.coords + 1 + classes)
            sections[head.index + 1] = head.section.with_option("classes", classes)
            sections[before.index + 1] = before.section.with_option("filters", filters)
        return resolve(sections, source=self.source, name=self.name)


def parse_cfg(
    source: Source, *, size: int | tuple[int, int] | None = None, channels: int | None = None
) -> Network:
    """Reads a Darknet cfg.

    Args:
        source: a path, or the text itself (a string with a line break or starting with `[`).
        size: overrides `width` and `height` of `[net]`: one number, or `(height, width)`.
        channels: overrides `channels` of `[net]`.

    Returns:
        The network, every reference resolved and every shape computed.

    Raises:
        CfgError: with the line, if Darknet would refuse the text or misread it in silence.
        OSError: the file cannot be read.
    """
    if isinstance(source, str) and ("\n" in source or source.lstrip().startswith("[")):
        text, name = source, "<cfg>"
    else:
        path = Path(source)
        text, name = path.read_bytes().decode("utf-8-sig", "backslashreplace"), path.name
    return parse_text(text, source=name, size=size, channels=channels)


def parse_text(
    text: str,
    *,
    source: str,
    name: str | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
) -> Network:
    """`parse_cfg` for text that is at hand; `source` stands for the file in messages."""
    warnings: list[str] = []
    sections = read_sections(text, source=source, warnings=warnings)
    network = resolve(sections, source=source, name=name, size=size, channels=channels)
    return replace(network, warnings=(*warnings, *network.warnings))


def read_sections(text: str, *, source: str, warnings: list[str]) -> list[Section]:
    """Splits cfg text into sections (read_cfg, parser.c:1800); adds ignored lines to `warnings`."""
    sections: list[Section] = []
    name, start, options = "", 0, list[Option]()

    def finish() -> None:
        if name:
            sections.append(Section(name, start, tuple(options)))

    for line, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        stripped = raw.translate(_DROPPED)
        if not stripped.strip() or stripped[0] in "#;\0":
            continue
        odd = next((c for c in _COMMENT.split(stripped)[0] if c.isspace()), None)
        if odd:
            # Copied from a web page; to Darknet it is part of the key, the word or the number.
            raise CfgError(
                f"{source}: character U+{ord(odd):04X} looks like a blank and is none to Darknet; "
                f"line {line}; replace it by a blank",
                source=source,
                line=line,
                found=odd,
            )
        if stripped[0] == "[":
            finish()
            name, start, options = _section_name(stripped, line, source), line, []
            continue
        if not name:
            raise CfgError(
                f"{source}: text before the first section: {raw.strip()[:60]!r}; line {line}; "
                "a cfg starts with [net]",
                source=source,
                line=line,
            )
        key, equals, value = stripped.partition("=")
        if not equals or not value or not key:
            warnings.append(f"{source}:{line}: ignored, not key=value: {stripped[:60]!r}")
            continue
        if any(option.key == key for option in options):
            warnings.append(f"{source}:{line}: ignored, {key}= is set earlier in [{name}]")
        options.append(Option(key, value, line))
    finish()
    return sections


def sections_to_cfg(sections: Iterable[Section]) -> str:
    """Cfg text: one blank line between sections, options in their order."""
    blocks = []
    for section in sections:
        lines = [f"[{section.name}]"]
        lines += [f"{option.key}={option.value}" for option in section.options]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def resolve(
    sections: Sequence[Section],
    *,
    source: str,
    name: str | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
) -> Network:
    """Turns sections into a `Network`; see `parse_cfg` for the arguments and errors."""
    if not sections:
        raise CfgError(f"{source}: no sections; a cfg starts with [net]", source=source, line=1)
    net, *rest = sections
    if net.name not in NET_NAMES:
        raise CfgError(
            f"{source}: the first section is [{net.name}], not [net]; line {net.line}; "
            "a cfg starts with [net]",
            source=source,
            line=net.line,
        )
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        net = net.with_option("height", height).with_option("width", width)
    if channels is not None:
        net = net.with_option("channels", channels)
    resolver = _Resolver(source, net)
    layers = [resolver.add(section) for section in rest]
    return Network(source, net, tuple(layers), resolver.input_shape, name, tuple(resolver.warnings))


def _section_name(stripped: str, line: int, source: str) -> str:
    name = stripped[1:].removesuffix("]")
    if stripped != f"[{name}]" or (name not in SECTION_ALIASES and name not in NET_NAMES):
        raise CfgError(
            f"{source}: unknown section {stripped[:60]}; line {line}; Darknet would put an empty "
            "layer there",
            source=source,
            line=line,
            section=stripped,
        )
    return name


def _flag(section: Section, key: str) -> bool:
    option = section.option(key)
    found = _INT_PREFIX.match(option.value) if option else None
    return bool(found and found.group().strip("+-0"))


class _Options:
    """Typed reading of one section's options, with errors that name the line."""

    def __init__(self, section: Section, source: str) -> None:
        self.section = section
        self.source = source

    def fail(self, message: str, key: str | None = None, **facts: object) -> CfgError:
        option = self.section.option(key) if key else None
        line = option.line if option else self.section.line
        what, separator, fix = message.partition("; ")
        text = f"{self.source}: {what}; [{self.section.name}] in line {line}{separator}{fix}"
        return CfgError(text, source=self.source, line=line, section=self.section.name, **facts)

    def _numbers(self, key: str, values: Sequence[str], pattern: re.Pattern[str]) -> list[str]:
        """What C reads of each value; a comment ends the list."""
        numbers = []
        for value in values:
            found = pattern.match(value)
            if not found:
                raise self.fail(
                    f"{key}={','.join(values)} holds {value!r}, which is not a number",
                    key,
                    found=value,
                )
            numbers.append(found.group())
        return numbers

    def _values(self, key: str) -> str | None:
        option = self.section.option(key)
        return _COMMENT.split(option.value)[0] if option else None

    def ints(self, key: str) -> list[int] | None:
        values = self._values(key)
        if values is None:
            return None
        numbers = self._numbers(key, values.split(","), _INT_PREFIX)
        for number in numbers:
            if abs(float(number)) >= 2**31:
                raise self.fail(f"{key}={number[:20]} does not fit into 32 bits", key)
        return [int(number) for number in numbers]

    def floats(self, key: str) -> list[float] | None:
        values = self._values(key)
        if values is None:
            return None
        # A comma at the end of anchors= adds nothing; at the end of layers= it adds layer 0.
        numbers = self._numbers(key, values.rstrip(",").split(","), _FLOAT_PREFIX)
        return [float(number) for number in numbers]

    def int(self, key: str, default: int, *, at_least: int | None = None) -> int:
        numbers = self.ints(key)
        value = numbers[0] if numbers else default
        if at_least is not None and value < at_least:
            raise self.fail(f"{key}={value} must be at least {at_least}", key, found=value)
        return value

    def flag(self, key: str) -> bool:
        return self.int(key, 0) != 0

    def float(self, key: str, default: float) -> float:
        numbers = self.floats(key)
        return numbers[0] if numbers else default

    def text(self, key: str, default: str) -> str:
        option = self.section.option(key)
        return option.value if option else default

    def one_of(self, key: str, default: str, allowed: Mapping[str, str]) -> str:
        value = self.text(key, default)
        if value not in allowed:
            raise self.fail(f"unknown {key}={value}; one of {', '.join(allowed)}", key, found=value)
        return allowed[value]

    def activation(self, default: str) -> str:
        value = self.text("activation", default)
        if value not in ACTIVATIONS:
            raise self.fail(
                f"unknown activation={value}; Darknet would use relu in its place",
                "activation",
                found=value,
            )
        return value


class _Resolver:
    """Adds layers one by one, as parse_network_cfg_custom does (parser.c:1344)."""

    def __init__(self, source: str, net: Section) -> None:
        self.source = source
        self.layers: list[Layer] = []
        self.warnings: list[str] = []
        options = _Options(net, source)
        options.flag("letter_box")
        height = options.int("height", 0, at_least=0)
        width = options.int("width", 0, at_least=0)
        channels = options.int("channels", 0, at_least=0)
        inputs = options.int("inputs", height * width * channels, at_least=0)
        if not inputs:
            raise options.fail(
                f"the input has no size: width={width} height={height} channels={channels}; "
                "set all three in [net]"
            )
        if height and width and channels:
            self.input_shape = Shape(height, width, channels)
        else:
            self.input_shape = Shape(1, 1, inputs)

    def shape(self, index: int) -> Shape:
        return self.input_shape if index == NETWORK_INPUT else self.layers[index].output_shape

    def add(self, section: Section) -> Layer:
        if section.name in NET_NAMES:
            raise _Options(section, self.source).fail("a second [net]; a cfg has one")
        kind = SECTION_ALIASES[section.name]
        index = len(self.layers)
        options = _Options(section, self.source)
        before = index - 1  # NETWORK_INPUT for the first
        base = _Base(index, kind, section, before, self.shape(before))
        options.flag("dontload")
        options.flag("dontloadscales")
        layer = _BUILDERS[kind](self, base, options)
        self.layers.append(layer)
        return layer

    def warn(self, section: Section, key: str, message: str) -> None:
        option = section.option(key)
        line = option.line if option else section.line
        self.warnings.append(f"{self.source}:{line}: {message}")

    def references(self, base: _Base, options: _Options, key: str) -> list[int]:
        """Absolute indices from `layers=` or `from=`, each before this layer."""
        numbers = options.ints(key)
        option = options.section.option(key)
        if not numbers or not option:
            raise options.fail(f"{key}= is missing")
        if option.value.count(",") >= len(numbers):
            # parser.c:1076 counts every comma.
            raise options.fail(
                f"{key}={option.value} has a comma in its comment, which Darknet reads as one more "
                "layer; move the comment to its own line",
                key,
            )
        resolved = []
        for number in numbers:
            index = base.index + number if number < 0 else number
            if not 0 <= index < base.index:
                raise options.fail(
                    f"{key}={number} points to layer {index}, this is layer {base.index}; "
                    "only layers before it can be used",
                    key,
                    found=index,
                )
            resolved.append(index)
        return resolved


class _Common(TypedDict):
    index: int
    type: str
    line: int
    section: Section
    inputs: tuple[int, ...]
    input_shape: Shape
    output_shape: Shape


@dataclass(frozen=True)
class _Base:
    """What every layer starts from."""

    index: int
    type: str
    section: Section
    before: int
    input_shape: Shape

    def common(self, output_shape: Shape, *others: int) -> _Common:
        """The fields of `Layer`; `others` are inputs besides the layer before."""
        return {
            "index": self.index,
            "type": self.type,
            "line": self.section.line,
            "section": self.section,
            "inputs": (self.before, *others),
            "input_shape": self.input_shape,
            "output_shape": output_shape,
        }


_Builder = Callable[[_Resolver, _Base, _Options], Layer]
_BUILDERS: dict[str, _Builder] = {}


def _builds(*kinds: str) -> Callable[[_Builder], _Builder]:
    def register(builder: _Builder) -> _Builder:
        _BUILDERS.update(dict.fromkeys(kinds, builder))
        return builder

    return register


def _strides(options: _Options, default: int) -> tuple[int, int]:
    """(stride_y, stride_x), parser.c:174-183."""
    stride = options.int("stride", default, at_least=1)
    stride_x, stride_y = options.int("stride_x", -1), options.int("stride_y", -1)
    return stride if stride_y < 1 else stride_y, stride if stride_x < 1 else stride_x


def _window(options: _Options, base: _Base, extent: int, size: int, stride: int) -> int:
    """Positions of a window of `size` over `extent` floats, padding included."""
    if extent < size:
        shape = base.input_shape
        raise options.fail(
            f"size={size} does not fit into {extent} padded rows or columns "
            f"(input {shape.width}x{shape.height}x{shape.channels})",
            "size",
        )
    return (extent - size) // stride + 1


@_builds("convolutional")
def _convolutional(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    shape = base.input_shape
    filters = options.int("filters", 1, at_least=1)
    size = options.int("size", 1, at_least=1)
    groups = options.int("groups", 1, at_least=1)
    stride_y, stride_x = _strides(options, 1)
    padding = size // 2 if options.flag("pad") else options.int("padding", 0, at_least=0)
    if shape.channels % groups or filters % groups:
        raise options.fail(
            f"groups={groups} does not divide {shape.channels} input channels and "
            f"filters={filters}",
            "groups",
        )
    share = options.ints("share_index")
    share_index = None
    if share:
        (share_index,) = resolver.references(base, options, "share_index")
    return Convolutional(
        **base.common(
            Shape(
                _window(options, base, shape.height + 2 * padding, size, stride_y),
                _window(options, base, shape.width + 2 * padding, size, stride_x),
                filters,
            )
        ),
        filters=filters,
        size=size,
        stride_y=stride_y,
        stride_x=stride_x,
        padding=padding,
        dilation=1 if size == 1 else options.int("dilation", 1, at_least=1),
        groups=groups,
        batch_normalize=options.flag("batch_normalize") or options.flag("cbn"),
        activation=options.activation("logistic"),
        share_index=share_index,
        flipped=options.flag("flipped"),
        antialiasing=options.int("antialiasing", 0),
    )


@_builds("connected")
def _connected(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    output = options.int("output", 1, at_least=1)
    return Connected(
        **base.common(Shape(1, 1, output)),
        output=output,
        batch_normalize=options.flag("batch_normalize"),
        activation=options.activation("logistic"),
    )


@_builds("local")
def _local(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    shape = base.input_shape
    filters = options.int("filters", 1, at_least=1)
    size = options.int("size", 1, at_least=1)
    stride = options.int("stride", 1, at_least=1)
    pad = options.flag("pad")
    # local_layer.c:10-24: with pad the window may hang over by size - 1 in all.
    lost = 1 if pad else size
    output_shape = Shape(
        (shape.height - lost) // stride + 1, (shape.width - lost) // stride + 1, filters
    )
    if output_shape.height < 1 or output_shape.width < 1:
        raise options.fail(f"size={size} does not fit into {shape.width}x{shape.height}", "size")
    return Local(
        **base.common(output_shape),
        filters=filters,
        size=size,
        stride=stride,
        pad=pad,
        activation=options.activation("logistic"),
    )


@_builds("batchnorm")
def _batchnorm(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    return Batchnorm(**base.common(base.input_shape))


@_builds("maxpool", "local_avgpool")
def _pool(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    shape = base.input_shape
    stride_y, stride_x = _strides(options, 1)
    stride = options.int("stride", 1, at_least=1)
    size = options.int("size", stride, at_least=1)
    padding = options.int("padding", size - 1, at_least=0)
    maximum = base.type == "maxpool"
    depth = maximum and options.flag("maxpool_depth")
    out_channels = options.int("out_channels", 1, at_least=1)
    if depth:
        output_shape = Shape(shape.height, shape.width, out_channels)
    else:
        output_shape = Shape(
            _window(options, base, shape.height + padding, size, stride_y),
            _window(options, base, shape.width + padding, size, stride_x),
            shape.channels,
        )
    return Pool(
        **base.common(output_shape),
        size=size,
        stride_y=stride_y,
        stride_x=stride_x,
        padding=padding,
        maxpool_depth=depth,
        out_channels=out_channels,
        antialiasing=options.int("antialiasing", 0) if maximum else 0,
    )


@_builds("avgpool")
def _avgpool(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    return Avgpool(**base.common(Shape(1, 1, base.input_shape.channels)))


@_builds("route")
def _route(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    indices = resolver.references(base, options, "layers")
    groups = options.int("groups", 1, at_least=1)
    group_id = options.int("group_id", 0, at_least=0)
    shapes = [resolver.shape(index) for index in indices]
    first = shapes[0]
    for index, shape in zip(indices, shapes, strict=True):
        if shape[:2] != first[:2]:
            raise options.fail(
                f"layers {indices[0]} and {index} differ in size: {first.width}x{first.height} "
                f"and {shape.width}x{shape.height}; route joins layers of one size",
                "layers",
            )
        if shape.channels % groups or group_id >= groups:
            raise options.fail(
                f"groups={groups} group_id={group_id} does not fit the {shape.channels} channels "
                f"of layer {index}",
                "groups",
            )
    common = base.common(
        Shape(first.height, first.width, sum(shape.channels for shape in shapes) // groups)
    )
    common["inputs"] = tuple(indices)
    common["input_shape"] = first
    return Route(**common, groups=groups, group_id=group_id)


_WEIGHTS_TYPES = {
    "none": "none",
    "per_feature": "per_feature",
    "per_layer": "per_feature",
    "per_channel": "per_channel",
}
_WEIGHTS_NORMALIZATIONS = {"none": "none", "relu": "relu", "avg_relu": "relu", "softmax": "softmax"}


@_builds("shortcut")
def _shortcut(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    others = resolver.references(base, options, "from")
    for index in others:
        other = resolver.shape(index)
        if other[:2] != base.input_shape[:2]:
            # pjreddie's Darknet, which resnet50.cfg and its family were written for, takes
            # every second row and column; AlexeyAB's asserts (parser.c:979).
            resolver.warn(
                base.section,
                "from",
                f"layers {base.before} and {index} differ in size: "
                f"{base.input_shape.width}x{base.input_shape.height} and "
                f"{other.width}x{other.height}",
            )
    return Shortcut(
        **base.common(base.input_shape, *others),
        activation=options.activation("linear"),
        weights_type=options.one_of("weights_type", "none", _WEIGHTS_TYPES),
        weights_normalization=options.one_of(
            "weights_normalization", "none", _WEIGHTS_NORMALIZATIONS
        ),
    )


@_builds("scale_channels")
def _scale_channels(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    source = resolver.references(base, options, "from")[0]
    shape, scale_wh = resolver.shape(source), options.flag("scale_wh")
    # scale_channels_layer.c: one number a channel, or one map for all channels.
    expected = Shape(shape.height, shape.width, 1) if scale_wh else Shape(1, 1, shape.channels)
    if base.input_shape != expected:
        raise options.fail(
            f"scale_channels needs {expected.width}x{expected.height}x{expected.channels} "
            f"before it, found {base.input_shape.width}x{base.input_shape.height}x"
            f"{base.input_shape.channels}",
            "from",
        )
    return ScaleChannels(
        **base.common(shape, source), activation=options.activation("linear"), scale_wh=scale_wh
    )


@_builds("sam")
def _sam(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    source = resolver.references(base, options, "from")[0]
    shape = resolver.shape(source)
    if shape != base.input_shape:
        raise options.fail(
            f"sam needs layers {base.before} and {source} of one shape, found "
            f"{tuple(base.input_shape)} and {tuple(shape)}",
            "from",
        )
    return Sam(**base.common(shape, source), activation=options.activation("linear"))


@_builds("upsample")
def _upsample(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    shape, stride = base.input_shape, options.int("stride", 2)
    if stride == 0:
        raise options.fail("stride=0", "stride")
    reverse, stride = stride < 0, abs(stride)
    height, width = (
        (shape.height // stride, shape.width // stride)
        if reverse
        else (shape.height * stride, shape.width * stride)
    )
    return Upsample(
        **base.common(Shape(height, width, shape.channels)),
        stride=stride,
        scale=options.float("scale", 1.0),
        reverse=reverse,
    )


@_builds("reorg", "reorg3d")
def _reorg(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    height, width, channels = base.input_shape
    stride = options.int("stride", 1, at_least=1)
    reverse = options.flag("reverse")
    # reorg_cpu splits channels by stride^2 in both directions (blas.c), so [reorg] needs
    # them to divide even when it packs rows and columns into channels.
    if (
        height % stride
        or width % stride
        or ((reverse or base.type == "reorg") and channels % stride**2)
    ):
        raise options.fail(f"stride={stride} does not divide {width}x{height}x{channels}", "stride")
    output_shape = (
        Shape(height * stride, width * stride, channels // stride**2)
        if reverse
        else Shape(height // stride, width // stride, channels * stride**2)
    )
    return Reorg(**base.common(output_shape), stride=stride, reverse=reverse)


@_builds("dropout")
def _dropout(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    return Dropout(**base.common(base.input_shape), probability=options.float("probability", 0.2))


@_builds("softmax")
def _softmax(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    return Softmax(
        **base.common(base.input_shape),
        groups=options.int("groups", 1, at_least=1),
        temperature=options.float("temperature", 1.0),
        spatial=options.float("spatial", 0.0) != 0.0,
        tree=options.text("tree", "") or None,
    )


@_builds("activation")
def _activation(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    return Activation(**base.common(base.input_shape), activation=options.activation("linear"))


@_builds("crop")
def _crop(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    height = options.int("crop_height", 1, at_least=1)
    width = options.int("crop_width", 1, at_least=1)
    shape = base.input_shape
    if height > shape.height or width > shape.width:
        raise options.fail(
            f"{width}x{height} is more than {shape.width}x{shape.height}", "crop_width"
        )
    return Crop(
        **base.common(Shape(height, width, shape.channels)), noadjust=options.flag("noadjust")
    )


@_builds("normalization")
def _normalization(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    return Normalization(
        **base.common(base.input_shape),
        size=options.int("size", 5, at_least=1),
        alpha=options.float("alpha", 0.0001),
        beta=options.float("beta", 0.75),
        kappa=options.float("kappa", 1.0),
    )


@_builds("implicit")
def _implicit(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    filters = options.int("filters", 128, at_least=1)
    atoms = options.int("atoms", 1, at_least=1)
    common = base.common(Shape(atoms, 1, filters))
    common["inputs"] = ()
    return Implicit(**common, filters=filters, atoms=atoms)


@_builds("cost", "empty", "contrastive")
def _passive(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    return Passive(**base.common(base.input_shape))


@_builds("rnn")
def _rnn(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    inputs, output = base.input_shape.floats, options.int("output", 1, at_least=1)
    hidden = options.int("hidden", 1, at_least=1)
    normalize = options.flag("batch_normalize")
    return Recurrent(
        **base.common(Shape(1, 1, output)),
        sublayers=(
            _dense("input", inputs, hidden, normalize),
            _dense("self", hidden, hidden, normalize),
            _dense("output", hidden, output, normalize),
        ),
    )


def _dense(name: str, inputs: int, output: int, normalize: bool) -> SubLayer:
    return SubLayer(
        name=name,
        input_channels=inputs,
        filters=output,
        size=0,
        groups=1,
        batch_normalize=normalize,
    )


@_builds("gru", "lstm")
def _gates(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    inputs, output = base.input_shape.floats, options.int("output", 1, at_least=1)
    normalize = options.flag("batch_normalize")
    # File order, parser.c:2305-2322: gru reads its input gates first, lstm its state gates.
    if base.type == "gru":
        names = [(f"input_{gate}", inputs) for gate in "zrh"]
        names += [(f"state_{gate}", output) for gate in "zrh"]
    else:
        names = [(f"w{gate}", output) for gate in "figo"]
        names += [(f"u{gate}", inputs) for gate in "figo"]
    return Recurrent(
        **base.common(Shape(1, 1, output)),
        sublayers=tuple(_dense(name, count, output, normalize) for name, count in names),
    )


@_builds("crnn", "conv_lstm")
def _convolutional_recurrent(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    shape = base.input_shape
    size = options.int("size", 3, at_least=1)
    stride = options.int("stride", 1, at_least=1)
    padding = size // 2 if options.flag("pad") else options.int("padding", 0, at_least=0)
    groups = options.int("groups", 1, at_least=1)
    normalize = options.flag("batch_normalize")
    output = options.int("output", 1, at_least=1)

    def convolution(name: str, channels: int, filters: int) -> SubLayer:
        if channels % groups or filters % groups:
            raise options.fail(
                f"groups={groups} does not divide {channels} input channels and {filters} filters",
                "groups",
            )
        return SubLayer(
            name=name,
            input_channels=channels,
            filters=filters,
            size=size,
            groups=groups,
            batch_normalize=normalize,
        )

    if base.type == "crnn":
        hidden = options.int("hidden", 1, at_least=1)
        parts = [
            convolution("input", shape.channels, hidden),
            convolution("self", hidden, hidden),
            convolution("output", hidden, output),
        ]
    else:
        # parser.c:2323-2340; a bottleneck has one wide wf in place of four w.
        bottleneck = options.flag("bottleneck")
        parts = []
        if options.flag("peephole"):
            parts += [convolution(f"v{gate}", output, output) for gate in "fio"]
        if bottleneck:
            parts += [convolution("wf", 2 * output, output)]
        else:
            parts += [convolution(f"w{gate}", output, output) for gate in "figo"]
        parts += [convolution(f"u{gate}", shape.channels, output) for gate in "figo"]
    return Recurrent(
        **base.common(
            Shape(
                _window(options, base, shape.height + 2 * padding, size, stride),
                _window(options, base, shape.width + 2 * padding, size, stride),
                output,
            )
        ),
        sublayers=tuple(parts),
    )


@_builds("history")
def _history(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    shape = base.input_shape
    channels = shape.channels * options.int("history_size", 4, at_least=1)
    return Recurrent(**base.common(Shape(shape.height, shape.width, channels)), sublayers=())


def _anchors(
    resolver: _Resolver, options: _Options, used: Sequence[int]
) -> tuple[tuple[float, float], ...]:
    """The anchors numbered `used`; what is not written is 0.5 (yolo_layer.c:54)."""
    floats = options.floats("anchors") or []
    missing = 2 * (max(used) + 1) - len(floats)
    if missing > 0:
        resolver.warn(
            options.section,
            "anchors",
            f"anchors= holds {len(floats)} numbers, {missing} fewer than are used; "
            "the rest is 0.5, as in Darknet",
        )
        floats = floats + [0.5] * missing
    return tuple((floats[2 * number], floats[2 * number + 1]) for number in used)


def _head_shape(options: _Options, base: _Base, each: int, count: int, classes: int) -> Shape:
    """The head's shape, if the layer before it has the channels for it (parser.c:457)."""
    shape, needed = base.input_shape, each * count
    if shape.channels != needed:
        raise options.fail(
            f"classes={classes} with {count} anchors needs filters={needed} in the layer before, "
            f"which has {shape.channels}; set filters={needed}, or classes and mask to match",
            "classes",
            expected=needed,
            found=shape.channels,
        )
    return shape


@_builds("yolo", "Gaussian_yolo")
def _yolo(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    classes = options.int("classes", 20, at_least=1)
    num = options.int("num", 1, at_least=1)
    mask: Sequence[int] = options.ints("mask") or range(num)
    coords = 8 if base.type == "Gaussian_yolo" else 4
    shape = _head_shape(options, base, classes + coords + 1, len(mask), classes)
    if min(mask) < 0:
        raise options.fail(f"mask={min(mask)} is not an anchor", "mask")
    if max(mask) >= num:
        # cspx-p7-mish.cfg does this; Darknet reads past the end of its anchors there.
        resolver.warn(options.section, "mask", f"mask={max(mask)} but num={num}")
    nms_kind = options.text("nms_kind", "default")
    if nms_kind not in NMS_KINDS:
        resolver.warn(
            options.section,
            "nms_kind",
            f"unknown nms_kind={nms_kind}; default in its place, as in Darknet",
        )
        nms_kind = "default"
    return Yolo(
        **base.common(shape),
        classes=classes,
        coords=coords,
        anchors=_anchors(resolver, options, mask),
        mask=tuple(mask),
        scale_x_y=options.float("scale_x_y", 1.0),
        new_coords=options.flag("new_coords"),
        nms_kind=nms_kind,
        beta_nms=options.float("beta_nms", 0.6),
    )


@_builds("region")
def _region(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    classes = options.int("classes", 20, at_least=1)
    coords = options.int("coords", 4, at_least=1)
    num = options.int("num", 1, at_least=1)
    shape = _head_shape(options, base, classes + coords + 1, num, classes)
    return Region(
        **base.common(shape),
        classes=classes,
        coords=coords,
        anchors=_anchors(resolver, options, range(num)),
        softmax=options.flag("softmax"),
        tree=options.text("tree", "") or None,
        map=options.text("map", "") or None,
    )


@_builds("detection")
def _detection(resolver: _Resolver, base: _Base, options: _Options) -> Layer:
    classes = options.int("classes", 1, at_least=1)
    coords = options.int("coords", 1, at_least=1)
    num = options.int("num", 1, at_least=1)
    side = options.int("side", 7, at_least=1)
    needed, found = side * side * ((1 + coords) * num + classes), base.input_shape.floats
    if needed != found:
        raise options.fail(
            f"side={side} num={num} coords={coords} classes={classes} needs {needed} inputs, "
            f"the layer before puts out {found}",
            "side",
            expected=needed,
            found=found,
        )
    return Detection(
        **base.common(base.input_shape),
        classes=classes,
        coords=coords,
        anchors=(),
        num=num,
        side=side,
        softmax=options.flag("softmax"),
        sqrt=options.flag("sqrt"),
    )
