"""What every section after `[net]` is: a `Layer`, and the register of their classes.

A section type has one class in `yolotf.darknet.sections`, and the class owns all that is known
about it: how its options are read (`parse`), what it puts out, what it stores in the file and in
which order (`stored`), what it keeps from one frame to the next (`states`), what about it no graph
can express (`refusal`) and whether its arithmetic holds for one picture size only (`fixes_size`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, TypedDict, TypeVar

from yolotf.darknet.activations import CONVOLUTION_ONLY
from yolotf.darknet.options import Options, flag
from yolotf.darknet.roles import Stored
from yolotf.darknet.syntax import Section
from yolotf.errors import UnsupportedSectionError

NETWORK_INPUT = -1
"""The layer index that stands for the network's own input."""


class Shape(NamedTuple):
    """What a layer puts out, without the batch: rows, columns, channels."""

    height: int
    width: int
    channels: int

    @property
    def floats(self) -> int:
        """Floats per picture."""
        return self.height * self.width * self.channels


class Refusal(NamedTuple):
    """Something that cannot be done with a section: why, and the option that asks for it."""

    what: str
    key: str | None = None


class Fields(TypedDict):
    """The fields of every `Layer`."""

    index: int
    type: str
    line: int
    section: Section
    inputs: tuple[int, ...]
    input_shape: Shape
    output_shape: Shape


@dataclass(frozen=True)
class Place:
    """Where a section stands: what every layer starts from."""

    index: int
    type: str
    section: Section
    before: int
    input_shape: Shape

    def fields(self, output_shape: Shape, *others: int) -> Fields:
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


class Before(Protocol):
    """What a section may ask about the network so far."""

    def shape(self, index: int) -> Shape:
        """What layer `index` puts out; the picture for `NETWORK_INPUT`."""

    def warn(self, section: Section, key: str, message: str) -> None:
        """Adds a warning with the line of `key`."""

    def layer(self, index: int) -> Layer | None:
        """Layer `index`; None for the picture."""

    def size_hint(self) -> str:
        """What to set in `[net]` if the stride so far does not divide the picture, else ""."""

    def references(self, place: Place, options: Options, key: str) -> list[int]:
        """Absolute indices from `layers=` or `from=`, each before this layer."""


_SHORT_TYPES = {"convolutional": "conv"}


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

    makes_of_inputs: ClassVar[str] = "cat"
    """What becomes of its inputs, in the words of comparisons with a model.

    `+`, `*` or `cat` of them; of one, `window`, `enlarge` or `rearrange`.
    """

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Layer:
        """The layer at `place`.

        Raises:
            CfgError: with the line, if Darknet would refuse it or misread it in silence.
        """
        raise NotImplementedError

    @property
    def name(self) -> str:
        """What graphs and models call it: `conv_17`."""
        return f"{_SHORT_TYPES.get(self.type, self.type)}_{self.index}"

    def stored(self) -> Iterator[Stored]:
        """Everything it has in a file, in file order, whatever `dontload` says."""
        return iter(())

    @property
    def parts(self) -> Mapping[str, Layer]:
        """What computes with arrays of its own, by the `part` of `stored`: itself, unnamed."""
        return {"": self}

    @property
    def flips_kernel(self) -> bool:
        """Whether the file has its kernel channels first and filters last."""
        return False

    def refusal(self, network: Surroundings) -> Refusal | None:
        """Why no graph can compute what Darknet does, if so."""
        return None

    @property
    def fixes_size(self) -> bool:
        """Whether its arithmetic, or what it stores, holds for one picture size only."""
        return False

    def fixes_keras_size(self, network: Surroundings) -> bool:
        """Whether its Keras layer holds for one picture size only, where the section does not."""
        return False

    @property
    def kernel_source(self) -> int | None:
        """The section whose kernel it uses, if that is not its own."""
        return None

    @property
    def sets_channels(self) -> bool:
        """Whether its options alone say how many channels it puts out, whatever comes in."""
        return False

    @property
    def states(self) -> Mapping[str, Shape]:
        """What it keeps from one frame to the next, by name; zeros before the first."""
        return {}

    def has_activation(self, activation: str) -> bool:
        """Whether Darknet computes it here, rather than putting out zeros."""
        return activation not in CONVOLUTION_ONLY

    @property
    def window(self) -> str:
        """What `print(network)` says of its kernel, stride or inputs: `3 x 3 / 2`."""
        others = [index for index in self.inputs if index != self.index - 1]
        return ", ".join(map(str, others))

    @property
    def operations(self) -> int:
        """Floating point operations a picture, as Darknet counts them: those of kernels."""
        return 0

    @property
    def dontload(self) -> bool:
        """`dontload=1`: Darknet reads nothing from the file for this layer (parser.c:2279)."""
        return flag(self.section, "dontload")

    @property
    def dontloadscales(self) -> bool:
        """`dontloadscales=1`: no scales, mean and variance are read for it (parser.c:2171)."""
        return flag(self.section, "dontloadscales")

    def line_of(self, key: str) -> int:
        """The line of `key=`, or of the section if it is not written."""
        return self.section.line_of(key)

    def set_key(self, *keys: str) -> str | None:
        """The first of `keys` that is in the section with a number other than 0."""
        for key in keys:
            option = self.section.option(key)
            if option and re.match(r"[+-]?\d*\.?\d*[1-9]", option.value):
                return key
        return None


class Surroundings(Protocol):
    """What a section may ask of the network it stands in; `Network` is one."""

    @property
    def source(self) -> str:
        """The cfg's name."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All sections."""

    def where(self, layer: Layer) -> str:
        """A section's number, name and line."""

    def shape(self, index: int) -> Shape:
        """What section `index` puts out."""


def refused(network: Surroundings, layer: Layer, refusal: Refusal) -> UnsupportedSectionError:
    """The error for a section that cannot be expressed, with the line of the option."""
    return UnsupportedSectionError(
        f"{network.source}: {refusal.what}; {network.where(layer)}",
        source=network.source,
        line=layer.line_of(refusal.key) if refusal.key else layer.line,
        section=layer.type,
        layer=layer.index,
    )


SECTIONS: dict[str, type[Layer]] = {}
"""Full name of a section -> its class."""
SECTION_ALIASES: dict[str, str] = {}
"""Every name Darknet reads -> the full name (parser.c:55-100)."""


def names_that_store() -> list[str]:
    """Full names of the sections that may have something in a file."""
    return [name for name, cls in SECTIONS.items() if cls.stored is not Layer.stored]


_Class = TypeVar("_Class", bound="type[Layer]")


def section(name: str, *aliases: str) -> Callable[[_Class], _Class]:
    """Registers the class of `[name]`; a class may have several."""

    def register(cls: _Class) -> _Class:
        SECTIONS[name] = cls
        SECTION_ALIASES.update(dict.fromkeys((name, *aliases), name))
        return cls

    return register


def positions(extent: int, size: int, stride: int) -> int:
    """Windows of `size` over `extent` floats, padding included; 1 or less: none fits.

    C's division truncates toward zero, so one window that hangs over by less than a stride is
    one position (convolutional_layer.c:120, maxpool_layer.c:86).
    """
    missing = size - extent
    return -(missing // stride) + 1 if missing > 0 else -missing // stride + 1


def windows(
    options: Options, place: Place, padding: int, size: int, strides: tuple[int, int]
) -> tuple[int, int]:
    """Rows and columns that windows put out; `padding` is the sum of both sides.

    Raises:
        CfgError: not one fits.
    """
    shape = place.input_shape
    found = []
    for extent, stride in zip(shape[:2], strides, strict=True):
        found.append(positions(extent + padding, size, stride))
        if found[-1] < 1:
            raise options.fail(
                f"size={size} does not fit into {extent + padding} padded rows or columns "
                f"(input {shape.width}x{shape.height}x{shape.channels})",
                "size",
            )
    rows, columns = found
    return rows, columns


def overhang(layer: Layer, size: int, strides: tuple[int, int], padding: int) -> tuple[int, int]:
    """Rows and columns by which the last windows reach beyond all padding.

    More than 0 only where `positions` counts a window that does not fit.
    """
    rows, columns = (
        max(0, (count - 1) * stride + size - extent - padding)
        for extent, count, stride in zip(
            layer.input_shape[:2], layer.output_shape[:2], strides, strict=True
        )
    )
    return rows, columns


def window_words(size: int, strides: tuple[int, int], dilation: int = 1) -> str:
    """`3 x 3 / 2`, as Darknet prints a window (convolutional_layer.c:684)."""
    stride_y, stride_x = strides
    stride = str(stride_y) if stride_y == stride_x else f"{stride_x}x{stride_y}"
    return f"{size} x {size} / {stride}" + (f" ({dilation})" if dilation > 1 else "")


def read_strides(options: Options, default: int = 1) -> tuple[int, int]:
    """(stride_y, stride_x), parser.c:174-183."""
    stride = options.int("stride", default, at_least=1)
    stride_x, stride_y = options.int("stride_x", -1), options.int("stride_y", -1)
    return stride if stride_y < 1 else stride_y, stride if stride_x < 1 else stride_x


def activation_of(layer: Layer) -> str:
    """`activation=` of any section; `linear` where there is none."""
    found: Any = getattr(layer, "activation", "linear")
    return str(found)
