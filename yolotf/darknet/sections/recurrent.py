"""Sections with a memory, which no graph here computes; what they store is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from yolotf.darknet import stored
from yolotf.darknet.layer import (
    Before,
    Layer,
    Place,
    Refusal,
    Shape,
    Surroundings,
    section,
    windows,
)
from yolotf.darknet.options import Options
from yolotf.darknet.stored import Stored


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

    def stored(self) -> Iterator[Stored]:
        """As the section of its kind; `dontloadscales` of the whole never reaches it."""
        if not self.size:
            return stored.dense(
                self.filters,
                self.input_channels,
                normalized=self.batch_normalize,
                part=self.name,
            )
        kernel = (self.filters, self.input_channels // self.groups, self.size, self.size)
        return stored.convolution(kernel, normalized=self.batch_normalize, part=self.name)


@section("rnn")
@section("gru")
@section("lstm")
@section("crnn")
@section("conv_lstm")
@section("history")
@dataclass(frozen=True, kw_only=True)
class Recurrent(Layer):
    """`[rnn]`, `[gru]`, `[lstm]`, `[crnn]`, `[conv_lstm]`, `[history]`: its parts in file order."""

    sublayers: tuple[SubLayer, ...]

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Recurrent:
        """Reads the options of its type."""
        match place.type:
            case "rnn":
                shape, parts = _rnn(place, options)
            case "gru" | "lstm":
                shape, parts = _gates(place, options)
            case "history":
                rows, columns, channels = place.input_shape
                shape = Shape(rows, columns, channels * options.int("history_size", 4, at_least=1))
                parts = []
            case _:
                shape, parts = _convolutional(place, options)
        return cls(**place.fields(shape), sublayers=tuple(parts))

    def stored(self) -> Iterator[Stored]:
        """Its parts, one after the other."""
        for part in self.sublayers:
            yield from part.stored()

    def refusal(self, network: Surroundings) -> Refusal | None:
        """Always."""
        return Refusal(f"[{self.type}] cannot be built")

    @property
    def fixes_size(self) -> bool:
        """Dense parts have a row for every float."""
        return True


_Parts = tuple[Shape, list[SubLayer]]


def _rnn(place: Place, options: Options) -> _Parts:
    inputs, output = place.input_shape.floats, options.int("output", 1, at_least=1)
    hidden = options.int("hidden", 1, at_least=1)
    normalize = options.flag("batch_normalize")
    return Shape(1, 1, output), [
        _dense("input", inputs, hidden, normalize),
        _dense("self", hidden, hidden, normalize),
        _dense("output", hidden, output, normalize),
    ]


def _dense(name: str, inputs: int, output: int, normalize: bool) -> SubLayer:
    return SubLayer(
        name=name,
        input_channels=inputs,
        filters=output,
        size=0,
        groups=1,
        batch_normalize=normalize,
    )


def _gates(place: Place, options: Options) -> _Parts:
    inputs, output = place.input_shape.floats, options.int("output", 1, at_least=1)
    normalize = options.flag("batch_normalize")
    # File order, parser.c:2305-2322: gru reads its input gates first, lstm its state gates.
    if place.type == "gru":
        names = [(f"input_{gate}", inputs) for gate in "zrh"]
        names += [(f"state_{gate}", output) for gate in "zrh"]
    else:
        names = [(f"w{gate}", output) for gate in "figo"]
        names += [(f"u{gate}", inputs) for gate in "figo"]
    return Shape(1, 1, output), [_dense(name, count, output, normalize) for name, count in names]


def _convolutional(place: Place, options: Options) -> _Parts:
    shape = place.input_shape
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

    if place.type == "crnn":
        hidden = options.int("hidden", 1, at_least=1)
        parts = [
            convolution("input", shape.channels, hidden),
            convolution("self", hidden, hidden),
            convolution("output", hidden, output),
        ]
    else:
        # parser.c:2323-2340; a bottleneck has one wide wf in place of four w.
        parts = []
        if options.flag("peephole"):
            parts += [convolution(f"v{gate}", output, output) for gate in "fio"]
        if options.flag("bottleneck"):
            parts += [convolution("wf", 2 * output, output)]
        else:
            parts += [convolution(f"w{gate}", output, output) for gate in "figo"]
        parts += [convolution(f"u{gate}", shape.channels, output) for gate in "figo"]
    rows, columns = windows(options, place, 2 * padding, size, (stride, stride))
    return Shape(rows, columns, output), parts
