"""`Layer`, the base of all sections after `[net]`, and the registry of their classes.

Each section has a class in `yolotf.darknet.sections` that defines how its options are read
(`parse`), its output shape, the arrays it stores in a file and their order (`stored`), the state it
keeps between frames (`states`), what a graph cannot express (`refusal`), and whether it works for
one image size only (`fixes_size`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, Protocol, TypedDict, TypeVar

from yolotf.darknet.activations import CONVOLUTION_ONLY
from yolotf.darknet.options import Options, flag
from yolotf.darknet.roles import Stored
from yolotf.darknet.syntax import Section
from yolotf.errors import UnsupportedSectionError

NETWORK_INPUT = -1
"""The layer index that stands for the network's input."""


class Shape(NamedTuple):
    """Shape of an array without the batch axis: rows, columns, channels."""

    height: int
    width: int
    channels: int

    @property
    def floats(self) -> int:
        """Number of floats per image."""
        return self.height * self.width * self.channels


GPU_ONLY = "because Darknet computes it on GPUs only; remove it and train again"
"""Why some options are refused, and what to change."""


class Refusal(NamedTuple):
    """Why a section is refused and, after a semicolon, what to change; the option at fault."""

    reason: str
    key: str | None = None


class Sliding(NamedTuple):
    """How the windows of a section slide over rows and columns."""

    size: int
    """Rows and columns of a window, without dilation."""
    strides: tuple[int, int]
    """Along rows and columns."""
    padding_before: int
    """Padding before the first row, and before the first column."""
    total_padding: int
    """Padding of rows (and of columns), the sum of both sides."""


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
    """The position of a section in the network, and its input."""

    index: int
    type: str
    section: Section
    before: int
    input_shape: Shape

    def fields(self, output_shape: Shape, *others: int) -> Fields:
        """The fields of `Layer`; `others` are further inputs after the previous layer."""
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
    """The network so far, as the parser of a section sees it."""

    def shape(self, index: int) -> Shape:
        """Output shape of layer `index`; the input's shape for `NETWORK_INPUT`."""

    def warn(self, section: Section, key: str, message: str) -> None:
        """Adds a warning with the line of `key`."""

    def layer(self, index: int) -> Layer | None:
        """Layer `index`; None for the network's input."""

    def size_hint(self) -> str:
        """What to set in `[net]` if the stride so far does not divide the input, else ""."""

    def references(self, place: Place, options: Options, key: str) -> list[int]:
        """Absolute indices from `layers=` or `from=`; all are before this layer."""


_SHORT_TYPES = {"convolutional": "conv"}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Layer:
    """A resolved section after `[net]`.

    Its subclasses are dataclasses that inherit `==`, `hash` and `repr`: compiling these methods for
    each of them would make importing yolotf about a tenth slower.

    Attributes:
        index: number of the section, from 0 after `[net]`; `route` and `shortcut` refer to it.
        type: the section's full name, without brackets (`conv` is `convolutional`).
        line: the line of `[type]` in the cfg, from 1.
        section: the section as written.
        inputs: absolute indices of the layers it reads; `NETWORK_INPUT` for the network's input.
        input_shape: output shape of the first input.
        output_shape: shape of its output.
    """

    index: int
    type: str
    line: int
    section: Section
    inputs: tuple[int, ...]
    input_shape: Shape
    output_shape: Shape

    makes_of_inputs: ClassVar[str] = "cat"
    """What it does to its inputs, for comparisons with a model.

    `+`, `*` or `cat` for several inputs; `window`, `enlarge` or `rearrange` for a single one.
    """
    ends_graph: ClassVar[bool] = False
    """Whether graphs end before it: its input is an output, which is decoded separately."""
    stores_per_channel: ClassVar[bool] = False
    """Whether it stores the same number of floats for each of its output channels."""
    reduces_extents: ClassVar[bool] = False
    """Whether it reduces all rows and columns to one at once, rather than by a stride."""
    passes_classes: ClassVar[bool] = False
    """Whether its output still has a number for each class after a classifier's last layer."""
    normalizes_classes: ClassVar[bool] = False
    """Whether it turns the output of a classifier into probabilities."""

    def __eq__(self, other: object) -> bool:
        """Whether `other` is a section of the same class with the same fields."""
        if not isinstance(other, Layer) or type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        """Of all fields."""
        return hash(self._values())

    def __repr__(self) -> str:
        """The class and all fields, as of any dataclass."""
        names = (field.name for field in fields(self))
        shown = (f"{name}={value!r}" for name, value in zip(names, self._values(), strict=True))
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Layer:
        """Parses the layer at `place`.

        Raises:
            CfgError: Darknet would refuse it or silently misread it; with the line.
        """
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Its name in graphs and models: `conv_17`."""
        return f"{_SHORT_TYPES.get(self.type, self.type)}_{self.index}"

    def stored(self) -> Iterator[Stored]:
        """All its arrays in a file, in file order, even with `dontload=1`."""
        return iter(())

    @property
    def parts(self) -> Mapping[str, Layer]:
        """The layers that have arrays, by `Stored.part`: itself as "", or its sub-layers."""
        return {"": self}

    @property
    def flips_kernel(self) -> bool:
        """Whether its kernel is stored with channels first and filters last."""
        return False

    def refusal(self, network: Surroundings) -> Refusal | None:
        """Why a graph cannot compute what Darknet does; None if it can."""
        return None

    @property
    def fixes_size(self) -> bool:
        """Whether its computation or its arrays depend on the image size."""
        return False

    def fixes_keras_size(self, network: Surroundings) -> bool:
        """Whether its Keras layer, unlike the section itself, works for one image size only."""
        return False

    @property
    def kernel_source(self) -> int | None:
        """The section whose kernel it uses, if that is not its own."""
        return None

    @property
    def references(self) -> tuple[int, ...]:
        """The inputs that it names by number; the first input is usually the previous layer."""
        return self.inputs[1:]

    def reference_refusal(self) -> Refusal | None:
        """Why a later section cannot refer to it by number; None if it can."""
        return None

    @property
    def class_tree(self) -> str | None:
        """The file of the class tree that it names in `tree=`, if any."""
        return None

    @property
    def channels_key(self) -> str | None:
        """The option that sets its output channels; None if they depend on its inputs."""
        return None

    @property
    def sets_channels(self) -> bool:
        """Whether its options alone define its output channels, independent of the input."""
        return self.channels_key is not None

    @property
    def channel_inputs(self) -> tuple[int, ...]:
        """The inputs whose channels define its output channels."""
        return () if self.sets_channels or not self.input_shape.channels else self.inputs[:1]

    def channels_from(self, input_channels: float) -> float:
        """The output channels for a total of `input_channels` in its `channel_inputs`."""
        return input_channels * (self.output_shape.channels / self.input_shape.channels)

    @property
    def sliding(self) -> Sliding | None:
        """How its windows slide; None if it has no windows."""
        return None

    @property
    def only_trains(self) -> bool:
        """Whether it only matters in training, at the end of a network."""
        return False

    @property
    def channel_groups(self) -> int:
        """The groups of a kernel, which divide its input channels and its filters."""
        return 1

    @property
    def groups_divide(self) -> bool:
        """Whether the groups of its kernel divide its input channels and its filters."""
        return True

    @property
    def stored_by_size(self) -> bool:
        """Whether the number of floats that it stores depends on the image size."""
        return False

    @property
    def states(self) -> Mapping[str, Shape]:
        """Shapes of the recurrent state it keeps between frames, by name; initially zeros."""
        return {}

    def has_activation(self, activation: str) -> bool:
        """Whether Darknet computes this activation here; for others it outputs zeros."""
        return activation not in CONVOLUTION_ONLY

    @property
    def window(self) -> str:
        """Its kernel, stride or inputs in `print(network)`: `3 x 3 / 2`."""
        others = [index for index in self.inputs if index != self.index - 1]
        return ", ".join(map(str, others))

    @property
    def operations(self) -> int:
        """Floating point operations per image, as Darknet counts them: those of kernels."""
        return 0

    @property
    def dontload(self) -> bool:
        """`dontload=1`: Darknet reads no floats for this layer (parser.c:2279)."""
        return flag(self.section, "dontload")

    @property
    def dontloadscales(self) -> bool:
        """`dontloadscales=1`: Darknet reads no gamma, mean and variance (parser.c:2171)."""
        return flag(self.section, "dontloadscales")

    def line_of(self, key: str) -> int:
        """The line of `key=`, or of the section if the key is not set."""
        return self.section.line_of(key)

    def set_key(self, *keys: str) -> str | None:
        """The first of `keys` that the section sets to a number other than 0."""
        for key in keys:
            option = self.section.option(key)
            if option and re.match(r"[+-]?\d*\.?\d*[1-9]", option.value):
                return key
        return None


class Surroundings(Protocol):
    """The network as its sections see it; implemented by `Network`."""

    @property
    def source(self) -> str:
        """The cfg's name."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All sections."""

    def where(self, layer: Layer) -> str:
        """Number, name and line of a section."""

    def shape(self, index: int) -> Shape:
        """Output shape of section `index`."""


def refused(network: Surroundings, layer: Layer, refusal: Refusal) -> UnsupportedSectionError:
    """The error for an unsupported section; its place comes before the refusal's fix."""
    problem, separator, fix = refusal.reason.partition("; ")
    return UnsupportedSectionError(
        f"{network.source}: {problem}; {network.where(layer)}{separator}{fix}",
        source=network.source,
        line=layer.line_of(refusal.key) if refusal.key else layer.line,
        section=layer.type,
        layer=layer.index,
    )


SECTIONS: dict[str, type[Layer]] = {}
"""The class of each section, by its full name."""
SECTION_ALIASES: dict[str, str] = {}
"""The full name of each section name that Darknet accepts (parser.c:55-100)."""


def names_that_store() -> list[str]:
    """Full names of the sections that may have something in a file."""
    return [name for name, cls in SECTIONS.items() if cls.stored is not Layer.stored]


_Class = TypeVar("_Class", bound="type[Layer]")
_Layer = TypeVar("_Layer", bound=Layer)
_Entry = TypeVar("_Entry")


def of_class(layers: Iterable[Layer], cls: type[_Layer]) -> tuple[_Layer, ...]:
    """The layers of a class and its subclasses, in order."""
    return tuple(layer for layer in layers if isinstance(layer, cls))


def registers(
    registry: dict[type[Layer], Any], classes: Iterable[type[Layer]]
) -> Callable[[_Entry], _Entry]:
    """Returns a decorator that enters what it decorates in a package's registry, by class."""

    def register(entry: _Entry) -> _Entry:
        registry.update(dict.fromkeys(classes, entry))
        return entry

    return register


def section(name: str, *aliases: str) -> Callable[[_Class], _Class]:
    """Registers the class of `[name]`; a class can be registered for several sections."""

    def register(cls: _Class) -> _Class:
        SECTIONS[name] = cls
        SECTION_ALIASES.update(dict.fromkeys((name, *aliases), name))
        return cls

    return register


def positions(extent: int, size: int, stride: int) -> int:
    """Number of windows of `size` over `extent` rows or columns, padding included.

    C's division truncates toward zero, so a window that exceeds the extent by less than a stride
    still counts as one position (convolutional_layer.c:120, maxpool_layer.c:86). If the window is
    larger still, the result is below 1.
    """
    missing = size - extent
    return -(missing // stride) + 1 if missing > 0 else -missing // stride + 1


def windows(
    options: Options, place: Place, padding: int, size: int, strides: tuple[int, int]
) -> tuple[int, int]:
    """Output rows and columns of a sliding window; `padding` is the sum of both sides.

    Raises:
        CfgError: no window fits.
    """
    shape = place.input_shape
    counts = []
    for extent, stride in zip(shape[:2], strides, strict=True):
        counts.append(positions(extent + padding, size, stride))
        if counts[-1] < 1:
            raise options.fail(
                f"size={size} does not fit into {extent + padding} padded rows or columns "
                f"(input {shape.width}x{shape.height}x{shape.channels}); set a smaller size= or a "
                "larger width= and height= in [net]",
                "size",
            )
    rows, columns = counts
    return rows, columns


def overhang(layer: Layer, size: int, strides: tuple[int, int], padding: int) -> tuple[int, int]:
    """Rows and columns by which the last window extends beyond the padding.

    Above 0 only if `positions` counts a window that does not fit.
    """
    rows, columns = (
        max(0, (count - 1) * stride + size - extent - padding)
        for extent, count, stride in zip(
            layer.input_shape[:2], layer.output_shape[:2], strides, strict=True
        )
    )
    return rows, columns


def window_words(size: int, strides: tuple[int, int], dilation: int = 1) -> str:
    """A window as Darknet prints it, `3 x 3 / 2` (convolutional_layer.c:684)."""
    stride_y, stride_x = strides
    stride = str(stride_y) if stride_y == stride_x else f"{stride_x}x{stride_y}"
    return f"{size} x {size} / {stride}" + (f" ({dilation})" if dilation > 1 else "")


def read_strides(options: Options, default: int = 1) -> tuple[int, int]:
    """Reads (stride_y, stride_x) (parser.c:174-183)."""
    stride = options.int("stride", default, at_least=1)
    stride_x, stride_y = options.int("stride_x", -1), options.int("stride_y", -1)
    return stride if stride_y < 1 else stride_y, stride if stride_x < 1 else stride_x


def activation_of(layer: Layer) -> str:
    """The activation of a section; `linear` if it has none."""
    activation: Any = getattr(layer, "activation", "linear")
    return str(activation)
