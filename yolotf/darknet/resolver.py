"""Resolves sections one by one: finds their inputs and computes their shapes."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence

from yolotf.darknet import sections as _sections  # registers all section classes
from yolotf.darknet.layer import (
    NETWORK_INPUT,
    SECTION_ALIASES,
    SECTIONS,
    Layer,
    Place,
    Shape,
    of_class,
)
from yolotf.darknet.limits import MAX_FILE_BYTES, MAX_INT, Limits
from yolotf.darknet.options import Options
from yolotf.darknet.sections.heads import Head
from yolotf.darknet.syntax import NET_NAMES, Section, Warnings, unknown_section
from yolotf.errors import CfgError


def places_of(layers: Sequence[Layer], key: str, *, has_lines: bool) -> str:
    """`lines 580, 664`, where `key` is written; `sections 30, 37` of a stock network."""
    if not has_lines:
        return f"sections {', '.join(str(layer.index) for layer in layers)}"
    return f"lines {', '.join(str(layer.line_of(key)) for layer in layers)}"


_FORKS = {
    "yolo4": "only a fork of Darknet has it, which also reads other options in [yolo]",
    "prelu": "only a fork of Darknet has it",
    "se": "only a fork of Darknet has it; Darknet writes it as [avgpool], two [convolutional] and "
    "[scale_channels]",
    "deconvolutional": "other versions of Darknet have it",
    "deconv": "other versions of Darknet have it",
    "iseg": "other versions of Darknet have it",
    "logistic": "other versions of Darknet have it; AlexeyAB's writes it as [activation] with "
    "activation=logistic",
    "l2norm": "other versions of Darknet have it",
    "xnor": "xnor= is an option of [convolutional]",
    "depthwise_convolutional": "only a fork of Darknet has it; Darknet writes groups= in "
    "[convolutional]",
    "depthwise": "only a fork of Darknet has it; Darknet writes groups= in [convolutional]",
    "shuffle": "only a fork of Darknet has it",
    "focus": "only a fork of Darknet has it; Darknet writes it as [reorg]",
}
"""Sections in published cfgs that AlexeyAB's Darknet does not have."""


def unknown(section: Section, source: str) -> CfgError:
    """The error for a section that Darknet does not have, with the likeliest correction."""
    name = section.name
    lowered = {known.lower(): known for known in (*SECTION_ALIASES, *NET_NAMES)}
    hint = ""
    nearest = None
    if name.lower() in _FORKS:
        hint = f"; {_FORKS[name.lower()]}"
    else:
        close = difflib.get_close_matches(name.lower()[:40], lowered, n=1, cutoff=0.8)
        if close:
            nearest = lowered[close[0]]
            hint = f"; did you mean [{nearest}]?"
    return unknown_section(f"[{name}]", section.line, source, hint, nearest=nearest)


class Resolver:
    """Adds layers one by one, as parse_network_cfg_custom does (parser.c:1344)."""

    def __init__(
        self, source: str, net: Section, limits: Limits, *, has_lines: bool, written: bool
    ) -> None:
        self.source = source
        self.limits = limits
        self.has_lines = has_lines  # whether messages can name cfg lines
        self._written = written  # whether the input size is as written in the cfg
        self.net = net
        self.layers: list[Layer] = []
        self.warnings = Warnings(source, limits, has_lines=has_lines)
        self._strides: list[int] = []
        self._references = 0
        self._stored = 0
        options = Options(net, source, limits, None if has_lines else "[net]")
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
        self._check_output(options, self.input_shape)

    def shape(self, index: int) -> Shape:
        """Output shape of layer `index`; the input's shape for `NETWORK_INPUT`."""
        return self.input_shape if index == NETWORK_INPUT else self.layers[index].output_shape

    def add(self, section: Section) -> None:
        """Resolves the next section."""
        if section.name in NET_NAMES:
            raise Options(section, self.source).fail("a second [net]; a cfg has one")
        kind = SECTION_ALIASES.get(section.name)
        if kind is None:
            raise unknown(section, self.source)
        index = len(self.layers)
        name = None if self.has_lines else f"section {index} [{section.name}]"
        options = Options(section, self.source, self.limits, name)
        before = index - 1  # NETWORK_INPUT for the first
        options.flag("dontload")
        options.flag("dontloadscales")
        place = Place(index, kind, section, before, self.shape(before))
        layer = SECTIONS[kind].parse(place, options, self)
        self._check_output(options, layer.output_shape)
        self._check_stored(options, layer)
        self.layers.append(layer)
        self._strides.append(self._stride(layer))

    def finish(self) -> None:
        """Checks that need all sections."""
        self._check_size()
        _sections.heads.compare(self.layers, self._strides, self)
        self._compare_classes()

    def _compare_classes(self) -> None:
        """Warns of heads with different class counts: probably only some were edited."""
        heads = of_class(self.layers, Head)
        counts = [head.classes for head in heads]
        if len(set(counts)) < 2:
            return
        where = places_of(heads, "classes", has_lines=self.has_lines)
        numbers = f"{', '.join(map(str, counts[:-1]))} and {counts[-1]}"
        self.warnings.add(
            heads[0].line_of("classes"),
            f"the heads have {numbers} classes ({where}), so their boxes cannot be decoded "
            "together; give all of them the same classes= and the filters= that go with it",
        )

    def _check_output(self, options: Options, shape: Shape) -> None:
        """Refuses shapes that exceed Darknet's int or the file offsets."""
        if max(shape) > MAX_INT or 4 * shape.floats > MAX_FILE_BYTES:
            raise options.fail(
                f"its output has {shape.width:,}x{shape.height:,}x{shape.channels:,} floats, more "
                "than can be counted",
            )

    def _check_stored(self, options: Options, layer: Layer) -> None:
        for _, _, extents in layer.stored():
            product = 1
            for extent in extents:
                product *= extent
            self._stored += product
        if 4 * self._stored > MAX_FILE_BYTES:
            raise options.fail("the file would hold more floats than can be counted")

    def warn(self, section: Section, key: str, message: str) -> None:
        """Adds a warning with the line of `key`."""
        self.warnings.add(section.line_of(key), message)

    def layer(self, index: int) -> Layer | None:
        """Layer `index`; None for the network's input."""
        return None if index == NETWORK_INPUT else self.layers[index]

    def size_hint(self) -> str:
        """What to set in `[net]` if the stride so far does not divide the input, else ""."""
        stride = max(self._strides, default=1)
        hints = []
        for key, pixels, nearest in self._uneven(stride):
            line = f" in line {self.net.line_of(key)}" if self._written else ""
            hints.append(f"; {key}={pixels}{line} is not a multiple of {stride}: set {nearest}")
        return "".join(hints)

    def _uneven(self, stride: int) -> Iterator[tuple[str, int, str]]:
        """(key, pixels, nearest multiples) of each side that `stride` does not divide."""
        for key, pixels in zip(("height", "width"), self.input_shape[:2], strict=True):
            if pixels % stride:
                below = pixels // stride * stride
                yield key, pixels, f"{below} or {below + stride}" if below else f"{stride}"

    def _check_size(self) -> None:
        """Warns of an input size that Darknet accepts although cells do not cover it evenly."""
        heads = [head for head in of_class(self.layers, Head) if not head.fixes_size]
        rows = [head.input_shape.height for head in heads]
        steps = self.input_shape.height / min(rows, default=self.input_shape.height)
        stride = 1 << round(math.log2(steps)) if steps > 1 else 1  # detectors halve repeatedly
        for key, pixels, nearest in self._uneven(stride) if self._written else ():
            self.warn(
                self.net,
                key,
                f"{key}={pixels} is not a multiple of {stride}; AlexeyAB's Darknet accepts it, "
                "with cells that do not cover the image evenly, and trains with multiples; "
                f"hank-ai's takes multiples of 32 only; set {nearest}",
            )

    def _stride(self, layer: Layer) -> int:
        """Pixels of the input image per row of `layer`."""
        has_layer_before = layer.inputs and layer.inputs[0] >= 0
        stride = self._strides[layer.inputs[0]] if has_layer_before else 1
        rows, output_rows = layer.input_shape.height, layer.output_shape.height
        if output_rows == 1 < rows and layer.reduces_extents:
            return stride
        if output_rows <= rows:
            return max(1, stride * round(rows / output_rows))
        return max(1, stride // (output_rows // rows))

    def references(self, place: Place, options: Options, key: str) -> list[int]:
        """Absolute indices from `layers=` or `from=`; all are before this layer."""
        numbers = options.ints(key)
        option = options.section.option(key)
        if not numbers or not option:
            raise options.fail(f"{key}= is missing")
        if option.value.count(",") >= len(numbers):
            # parser.c:1076 counts every comma.
            raise options.fail(
                f"{key}={option.value[:200]} has a comma in its comment, which AlexeyAB's Darknet "
                "reads as one more layer; move the comment to its own line",
                key,
            )
        resolved = []
        for number in numbers:
            index = place.index + number if number < 0 else number
            if not 0 <= index < place.index:
                raise options.fail(
                    f"{key}={number} points to layer {index}, this is layer {place.index}; "
                    "only layers before it can be used",
                    key,
                    found=index,
                )
            resolved.append(index)
        self._references += len(resolved)
        limit = self.limits.references
        if limit is not None and self._references > limit:
            raise options.fail(
                f"{key}= and those before it name {self._references:,} layers, more than "
                f"{limit:,}; to lift this, pass limits= to parse_cfg",
                key,
                found=self._references,
                limit=limit,
            )
        return resolved
