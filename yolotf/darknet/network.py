"""`Network`: a cfg whose layers have resolved inputs and computed shapes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from yolotf import argument_numbers
from yolotf._public import public
from yolotf.darknet import dialects, hank_ai
from yolotf.darknet import sections as _sections  # registers them all
from yolotf.darknet.dialects import Dialect
from yolotf.darknet.layer import (
    NETWORK_INPUT,
    SECTION_ALIASES,
    Layer,
    Shape,
    of_class,
)
from yolotf.darknet.limits import DEFAULT, Limits
from yolotf.darknet.options import flag
from yolotf.darknet.resolver import Resolver, unknown
from yolotf.darknet.segments import Segment, stored_segments
from yolotf.darknet.syntax import (
    NET_NAMES,
    Section,
    Source,
    Warnings,
    is_text,
    read_sections,
    read_text,
    sections_to_cfg,
)
from yolotf.errors import CfgError
from yolotf.files import opening, read_files
from yolotf.files.paths import StrPath
from yolotf.text import plural, printable

Convolutional = _sections.convolutional.Convolutional
Head = _sections.heads.Head


@public
@dataclass(frozen=True, repr=False)
class Network:
    """A parsed cfg.

    Attributes:
        source: name in messages: the cfg's file name, or what the network was made from.
        net: the `[net]` section.
        layers: all sections after `[net]`, resolved; `layers[i].index == i`.
        input_shape: rows, columns and channels of the input image.
        name: name of the stock network; None for a cfg.
        warnings: what Darknet ignores or guesses, a sentence each, with the line.
        ignored: the warnings about the text, as opposed to those from resolving it.
        limits: the limits that the cfg was read with.
        folder: folder of the cfg file; other files that the cfg names are only looked for there.
            None if the cfg was not a file: then the files may be in any folder.
    """

    source: str
    net: Section
    layers: tuple[Layer, ...]
    input_shape: Shape
    name: str | None = None
    warnings: tuple[str, ...] = field(default=(), compare=False)
    ignored: tuple[str, ...] = field(default=(), compare=False, repr=False)
    limits: Limits = field(default=DEFAULT, compare=False, repr=False)
    folder: Path | None = field(default=None, compare=False, repr=False)

    def __repr__(self) -> str:
        """`<Network yolov4.cfg: 162 layers, 608x608x3, 80 classes>`."""
        height, width, channels = self.input_shape
        classes = self.classes
        suffix = f", {plural(classes, 'class', 'classes')}" if classes else ""
        layers = plural(len(self.layers), "layer")
        return printable(f"<Network {self.source}: {layers}, {width}x{height}x{channels}{suffix}>")

    def __str__(self) -> str:
        """The table that Darknet prints when it reads a cfg."""
        rows = [("layer", "type", "filters", "size / stride", "input", "output", "BFLOPs")]
        for layer in self.layers:
            filters = getattr(layer, "filters", getattr(layer, "output", ""))
            rows.append(
                (
                    str(layer.index),
                    layer.type,
                    str(filters),
                    layer.window,
                    _extents(layer.input_shape) if layer.inputs else "",
                    _extents(layer.output_shape),
                    f"{layer.operations / 1e9:.3f}" if layer.operations else "",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            cells = [
                cell.ljust(width) if left_aligned else cell.rjust(width)
                for cell, width, left_aligned in zip(row, widths, _LEFT_ALIGNED, strict=True)
            ]
            index, kind, filters, window, before, after, operations = cells
            arrow = "  " if row is rows[0] else "->"
            lines.append(
                f"{index}  {kind}  {filters}  {window}  {before} {arrow} {after}  {operations}"
            )
        total = sum(layer.operations for layer in self.layers) / 1e9
        return printable("\n".join(line.rstrip() for line in (*lines, f"{total:.3f} BFLOPs")))

    @property
    def heads(self) -> tuple[Head, ...]:
        """The detection heads in cfg order."""
        return of_class(self.layers, Head)

    @property
    def classes(self) -> int | None:
        """The heads' class count; None if there are no heads or they differ."""
        counts = {head.classes for head in self.heads}
        return counts.pop() if len(counts) == 1 else None

    @property
    def class_layer(self) -> Layer | None:
        """The last layer of a classifier with `filters=` or `output=`, its number of classes.

        None for a network with heads, and for one that ends in a section whose channels depend on
        its inputs, such as `[shortcut]`.
        """
        layers = [layer for layer in self.layers if not layer.only_trains]
        layer = None if self.heads or not layers else layers[-1]
        while layer is not None and (layer.passes_classes or layer.normalizes_classes):
            before = layer.inputs[0]
            layer = None if before == NETWORK_INPUT else self.layers[before]
        return layer if layer is not None and layer.sets_channels else None

    @property
    def convolutions_of_heads(self) -> tuple[tuple[Convolutional, Head], ...]:
        """(convolution, head) for each head whose classes set the filters of its convolution."""
        pairs = ((head.convolution(self), head) for head in self.heads)
        return tuple((before, head) for before, head in pairs if before is not None)

    @functools.cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The arrays of its file, in file order and without gaps."""
        return stored_segments(self.layers)

    @functools.cached_property
    def transposed_segments(self) -> tuple[Segment, ...]:
        """The same for a file whose header says that dense kernels are stored as `(in, out)`."""
        return stored_segments(self.layers, transposed=True)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone; cached values are computed again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def letter_box(self) -> bool:
        """`letter_box=1`: images keep their proportions, the rest is gray."""
        return flag(self.net, "letter_box")

    @property
    def sections(self) -> tuple[Section, ...]:
        """`[net]` and every section after it, as written."""
        return (self.net, *(layer.section for layer in self.layers))

    def shape(self, index: int) -> Shape:
        """Output shape of layer `index`; the input's shape for `NETWORK_INPUT`."""
        return self.input_shape if index == NETWORK_INPUT else self.layers[index].output_shape

    def where(self, layer: Layer) -> str:
        """`section 17 [convolutional] (yolov4.cfg:131)`, or without a line for a stock network."""
        place = f"section {layer.index} [{layer.type}]"
        return f"{place} of {self.name}" if self.name else f"{place} ({self.source}:{layer.line})"

    def to_cfg(self, *, dialect: Dialect | None = None) -> str:
        """A cfg that both forks of Darknet read as this network, without unknown keys.

        Args:
            dialect: `alexeyab` to also write the options that only AlexeyAB's Darknet reads:
                `max_crop`, `min_crop`, `unsupervised` and `show_details`.

        Raises:
            ValueError: `dialect` is unknown.
        """
        dialects.check_dialect(dialect)
        return sections_to_cfg(self.sections, dialect)

    def resized(
        self, size: int | tuple[int, int] | None = None, channels: int | None = None
    ) -> Network:
        """The same network for another input size, `size` or `(height, width)`, and channels."""
        return self._resolved_again(self.sections, size=size, channels=channels)

    def with_classes(self, classes: int) -> Network:
        """The same network for another number of classes.

        Sets `classes=` in every head and `filters=` in the convolution before it, as Darknet's
        documentation says; without heads, `filters=` or `output=` of the `class_layer`.

        Raises:
            CfgError: a head does not follow a convolution directly, or there are no heads and no
                `class_layer`.
        """
        classes = argument_numbers.integer("classes", classes)
        if classes < 1:
            raise CfgError(
                f"{self.source}: classes must be at least 1, not {classes}",
                source=self.source,
                found=classes,
            )
        sections = list(self.sections)
        for head in self.heads:
            before = head.convolution(self)
            if before is None:
                raise CfgError(
                    f"{self.source}: {self.where(head)} has no convolution right before it, "
                    "so its class count cannot be changed; edit the cfg",
                    source=self.source,
                    line=None if self.name else head.line,
                )
            sections[head.index + 1] = head.section.with_option("classes", classes)
            filters = before.section.with_option("filters", head.filters_for(classes))
            sections[before.index + 1] = filters
        if not self.heads:
            layer = self.class_layer
            if layer is None or layer.channels_key is None:
                raise CfgError(
                    f"{self.source}: neither a head nor a last layer with filters= or output=, so "
                    "its class count cannot be changed; edit the cfg",
                    source=self.source,
                )
            sections[layer.index + 1] = layer.section.with_option(layer.channels_key, classes)
        return self._resolved_again(sections)

    @property
    def tree_files(self) -> tuple[Path, ...]:
        """The files of class trees that sections name, as far as they exist."""
        names = {layer.class_tree for layer in self.layers if layer.class_tree}
        paths = (
            Path(name) if self.folder is None else opening.find_beside(self.folder, name)
            for name in sorted(names)
        )
        return tuple(path for path in paths if path is not None)

    def with_tree(self, path: StrPath) -> Network:
        """The same network with another file for its class tree, in any folder.

        Sets `tree=` in every section that has it.
        """
        absolute = str(Path(path).absolute())
        read_files.add(absolute)
        network = self._resolved_again(
            [
                section.with_option("tree", absolute) if section.option("tree") else section
                for section in self.sections
            ]
        )
        return replace(network, folder=None)

    def _resolved_again(
        self,
        sections: Sequence[Section],
        size: int | tuple[int, int] | None = None,
        channels: int | None = None,
    ) -> Network:
        network = resolve(
            sections,
            source=self.source,
            name=self.name,
            size=size,
            channels=channels,
            ignored=self.ignored,
            limits=self.limits,
        )
        return replace(network, folder=self.folder)


_T = TypeVar("_T")


def cached_on_network(compute: Callable[[Network], _T]) -> Callable[[Network], _T]:
    """Decorates a function of a network so that it is computed once for each network."""
    key = f"{compute.__module__}.{compute.__qualname__}"

    @functools.wraps(compute)
    def cached(network: Network) -> _T:
        if key not in network.__dict__:
            network.__dict__[key] = compute(network)
        value: _T = network.__dict__[key]
        return value

    return cached


_LEFT_ALIGNED = (False, True, False, True, False, False, False)
"""Which columns of the table are left-aligned."""


def _extents(shape: Shape) -> str:
    return f"{shape.width:>4} x{shape.height:>4} x{shape.channels:>5}"


@public
def parse_cfg(
    source: Source,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    limits: Limits = DEFAULT,
    dialect: Dialect | None = None,
) -> Network:
    """Reads a Darknet cfg.

    Args:
        source: a path, or the text itself (a string with a line break or starting with `[`).
        size: overrides `width` and `height` of `[net]`: a number, or `(height, width)`.
        channels: overrides `channels` of `[net]`.
        limits: how large a cfg may be; `yolotf.darknet.limits.UNLIMITED` for any size.
        dialect: the fork of Darknet to follow where the two read a line differently, for example a
            comment after a value: "alexeyab" or "hank-ai". By default hank-ai's, with a warning
            that states both readings. With "hank-ai", warnings list the lines at which that
            Darknet stops.

    Returns:
        The network, with all references resolved and all shapes computed.

    Raises:
        CfgError: Darknet would refuse the text or silently misread it; with the line.
        OSError: the file cannot be read.
        ValueError: an unknown dialect.
    """
    dialects.check_dialect(dialect)
    text, name = read_text(source, limits)
    network = parse_text(
        text, source=name, size=size, channels=channels, limits=limits, dialect=dialect
    )
    if is_text(source):
        return network
    network = replace(network, folder=Path(source).absolute().parent)
    for tree in network.tree_files:
        read_files.add(tree)
    return network


def parse_text(
    text: str,
    *,
    source: str,
    name: str | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    limits: Limits = DEFAULT,
    dialect: str | None = None,
) -> Network:
    """Like `parse_cfg`, for text; `source` is its name in messages."""
    warnings = Warnings(source, limits)
    sections = read_sections(text, source=source, warnings=warnings, limits=limits, dialect=dialect)
    if dialect == "hank-ai":
        for line, why, says in hank_ai.refused_lines(sections, text):
            stops = f"{dialects.NAMES[dialect]} stops here"
            warnings.add_reading(line, f'{stops}: {why}; it says "{says}"')
        for line, why in hank_ai.heads_without_detections(sections):
            warnings.add(line, f"{dialects.NAMES[dialect]} reads this, but {why}")
    sections = _renamed_reorg(sections, warnings)
    try:
        return resolve(
            sections,
            source=source,
            name=name,
            size=size,
            channels=channels,
            ignored=warnings.all(),
            limits=limits,
        )
    except CfgError as error:
        if (reading := _reading_near(error, sections, warnings)) is None:
            raise
        raise type(error)(f"{error.message}; {reading}", **error.facts) from None


def _reading_near(error: CfgError, sections: Sequence[Section], warnings: Warnings) -> str | None:
    """What the forks read differently or refuse in the section of an error, if anything."""
    line = error.facts.get("line")
    if not isinstance(line, int):
        return None
    start = max((section.line for section in sections if section.line <= line), default=1)
    end = min((section.line for section in sections if section.line > line), default=None)
    return next(
        (
            sentence
            for number, sentence in warnings.readings
            if start <= number and (end is None or number < end)
        ),
        None,
    )


_REORG_OF_2018 = {"reorg_old": "reorg", "reorg": "reorg3d"}
"""Today's names of two sections that AlexeyAB's Darknet renamed from 2018-03-03 (fe44d3d0) to
2019-05-20 (b9ea49af)."""


def _renamed_reorg(sections: list[Section], warnings: Warnings) -> list[Section]:
    """The sections under today's names, if the cfg has `[reorg_old]`."""
    if not any(section.name == "reorg_old" for section in sections):
        return sections
    renamed = []
    for section in sections:
        name = _REORG_OF_2018.get(section.name, section.name)
        if name != section.name:
            warnings.add(
                section.line,
                f"[{section.name}] is read as [{name}], as Darknet meant it from 2018-03-03 to "
                f"2019-05-20, when it had [reorg_old]; write [{name}]",
            )
        renamed.append(replace(section, name=name))
    return renamed


def resolve(
    sections: Sequence[Section],
    *,
    source: str,
    name: str | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    ignored: Sequence[str] = (),
    limits: Limits = DEFAULT,
) -> Network:
    """Turns sections into a `Network`; see `parse_cfg` for the arguments and errors."""
    if not sections:
        raise CfgError(f"{source}: no sections; a cfg starts with [net]", source=source, line=1)
    net, *rest = sections
    if net.name not in NET_NAMES:
        if net.name not in SECTION_ALIASES:
            raise unknown(net, source)
        raise CfgError(
            f"{source}: the first section is [{net.name}], not [net]; line {net.line}; "
            "a cfg starts with [net]",
            source=source,
            line=net.line,
        )
    if size is not None:
        height, width = argument_numbers.height_and_width(size)
        net = net.with_option("height", height).with_option("width", width)
    if channels is not None:
        channels = argument_numbers.integer("channels", channels)
        net = net.with_option("channels", channels)
    # A stock network has no cfg file whose lines messages could name.
    resolver = Resolver(
        source, net, limits, has_lines=name is None, written=name is None and size is None
    )
    for section in rest:
        resolver.add(section)
    resolver.finish()
    return Network(
        source=source,
        net=net,
        layers=tuple(resolver.layers),
        input_shape=resolver.input_shape,
        name=name,
        warnings=(*ignored, *resolver.warnings.all()),
        ignored=tuple(ignored),
        limits=limits,
    )
