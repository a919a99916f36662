"""Sections with a memory: what they store, and what they keep from one frame to the next.

A network is described as Darknet runs it to detect, with `time_steps=1` (detector.c:1629,
demo.c:169), whatever `[net]` says: one frame a step, and what a section keeps stays in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from yolotf.darknet import roles
from yolotf.darknet.layer import (
    Before,
    Fields,
    Layer,
    Place,
    Refusal,
    Shape,
    Surroundings,
    section,
    window_words,
    windows,
)
from yolotf.darknet.options import Options
from yolotf.darknet.roles import Stored
from yolotf.darknet.sections.convolutional import Convolutional
from yolotf.darknet.sections.dense import Connected
from yolotf.darknet.syntax import Section

_GATES = "figo"
_CONSTRAIN = 32
"""`state_constrain` for one time step (parser.c:332)."""


@dataclass(frozen=True, kw_only=True)
class SubLayer:
    """A convolution or dense layer inside a recurrent section.

    Attributes:
        name: among the parts of its section.
        layer: what it would be as a section of its own; it has no line.
    """

    name: str
    layer: Convolutional | Connected

    def stored(self) -> Iterator[Stored]:
        """As the section of its kind; `dontloadscales` of the whole never reaches it."""
        layer = self.layer
        channels = layer.input_shape.channels
        if isinstance(layer, Connected):
            return roles.dense(
                layer.output,
                layer.input_shape.floats,
                normalized=layer.batch_normalize,
                part=self.name,
            )
        kernel = (layer.filters, channels // layer.groups, layer.size, layer.size)
        return roles.convolution(kernel, normalized=layer.batch_normalize, part=self.name)


@dataclass(frozen=True, kw_only=True)
class Recurrent(Layer):
    """A section of several convolutions or dense layers and a memory.

    Attributes:
        sublayers: its parts in file order.
    """

    sublayers: tuple[SubLayer, ...]

    @property
    def parts(self) -> Mapping[str, Layer]:
        """Its convolutions or dense layers, by name."""
        return {part.name: part.layer for part in self.sublayers}

    def stored(self) -> Iterator[Stored]:
        """Its parts, one after the other."""
        for part in self.sublayers:
            yield from part.stored()

    @property
    def operations(self) -> int:
        """Its parts'."""
        return sum(part.layer.operations for part in self.sublayers)

    @property
    def sets_channels(self) -> bool:
        """By `output=`."""
        return True

    @property
    def fixes_size(self) -> bool:
        """What it keeps has the size of a picture, and dense parts a row for every float."""
        return True

    def refusal(self, network: Surroundings) -> Refusal | None:
        """What its parts refuse, and windows of which Darknet stops the program."""
        if key := self.set_key("xnor"):
            return Refusal(f"{key}= cannot be built in [{self.type}]", key)
        for part in self.sublayers:
            layer = part.layer
            if isinstance(layer, Convolutional):
                if layer.input_shape[:2] != layer.output_shape[:2]:
                    return Refusal(
                        f"size={layer.size} with a padding of {layer.padding} makes "
                        f"{layer.output_shape.width}x{layer.output_shape.height} of "
                        f"{layer.input_shape.width}x{layer.input_shape.height}, and [{self.type}] "
                        "reads what it put out as it was put in; set pad=1, an odd size and "
                        "stride=1",
                        "size",
                    )
                if refused := layer.refusal(network):
                    return refused
        return None


@dataclass(frozen=True)
class _Parts:
    """Makes the parts of one section."""

    place: Place
    normalize: bool

    def _fields(self, kind: str, input_shape: Shape, output_shape: Shape) -> Fields:
        """As if its section had nothing but what the part is made with."""
        return {
            "index": self.place.index,
            "type": kind,
            "line": 0,
            "section": Section(kind, 0, ()),
            "inputs": (self.place.before,),
            "input_shape": input_shape,
            "output_shape": output_shape,
        }

    def dense(self, name: str, inputs: int, output: int, activation: str) -> SubLayer:
        """One of `output` rows."""
        fields = self._fields("connected", Shape(1, 1, inputs), Shape(1, 1, output))
        return SubLayer(
            name=name,
            layer=Connected(
                **fields, output=output, batch_normalize=self.normalize, activation=activation
            ),
        )

    def convolutions(
        self, options: Options, kernels: Mapping[str, tuple[int, int]], activation: str
    ) -> tuple[SubLayer, ...]:
        """One for each of `kernels`, which gives its input channels and filters."""
        size = options.int("size", 3, at_least=1)
        stride = options.int("stride", 1, at_least=1)
        padding = size // 2 if options.flag("pad") else options.int("padding", 0, at_least=0)
        dilation = options.int("dilation", 1, at_least=1)
        groups = options.int("groups", 1, at_least=1)
        rows, columns = windows(options, self.place, 2 * padding, size, (stride, stride))
        parts = []
        for name, (channels, filters) in kernels.items():
            if channels % groups or filters % groups:
                raise options.fail(
                    f"groups={groups} does not divide {channels} input channels and {filters} "
                    "filters",
                    "groups",
                )
            height, width, _ = self.place.input_shape
            fields = self._fields(
                "convolutional", Shape(height, width, channels), Shape(rows, columns, filters)
            )
            layer = Convolutional(
                **fields,
                filters=filters,
                size=size,
                stride_y=stride,
                stride_x=stride,
                padding=padding,
                dilation=1 if size == 1 else dilation,
                groups=groups,
                batch_normalize=self.normalize,
                activation=activation,
                share_index=None,
                flipped=False,
                antialiasing=0,
                xnor=False,
            )
            parts.append(SubLayer(name=name, layer=layer))
        return tuple(parts)


def _parts(place: Place, options: Options) -> _Parts:
    return _Parts(place, options.flag("batch_normalize"))


@dataclass(frozen=True, kw_only=True)
class _Simple(Recurrent):
    """`[rnn]` and `[crnn]`: what it keeps is the sum of two parts, and a third reads it.

    Attributes:
        hidden: channels that it keeps.
        output: channels that it puts out.
        activation: of its parts.
        shortcut: what was kept is added to what is.
    """

    hidden: int
    output: int
    activation: str
    shortcut: bool

    @property
    def states(self) -> Mapping[str, Shape]:
        """The sum."""
        return {"state": Shape(*self.output_shape[:2], self.hidden)}


@section("rnn")
@dataclass(frozen=True, kw_only=True)
class Rnn(_Simple):
    """`[rnn]` (parser.c:275, rnn_layer.c:89): dense parts."""

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Rnn:
        """Reads the options."""
        output = options.int("output", 1, at_least=1)
        hidden = options.int("hidden", 1, at_least=1)
        activation = options.activation("logistic")
        # rnn_layer.c:53
        kept = {1: "logistic", 2: "loggy"}.get(options.int("logistic", 0), activation)
        parts = _parts(place, options)
        return cls(
            **place.fields(Shape(1, 1, output)),
            sublayers=(
                parts.dense("input", place.input_shape.floats, hidden, activation),
                parts.dense("self", hidden, hidden, kept),
                parts.dense("output", hidden, output, activation),
            ),
            hidden=hidden,
            output=output,
            activation=activation,
            shortcut=options.flag("shortcut"),
        )


@dataclass(frozen=True, kw_only=True)
class _Windowed(Recurrent):
    """`[crnn]` and `[conv_lstm]`: parts that are convolutions."""

    @property
    def window(self) -> str:
        """Of its parts, all alike."""
        layer = self.sublayers[0].layer
        assert isinstance(layer, Convolutional)
        return window_words(layer.size, (layer.stride_y, layer.stride_x), layer.dilation)

    def has_activation(self, activation: str) -> bool:
        """As a convolution."""
        return True


@section("crnn")
@dataclass(frozen=True, kw_only=True)
class Crnn(_Simple, _Windowed):
    """`[crnn]` (parser.c:251, crnn_layer.c:153): `[rnn]` of convolutions."""

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Crnn:
        """Reads the options."""
        output = options.int("output", 1, at_least=1)
        hidden = options.int("hidden", 1, at_least=1)
        activation = options.activation("logistic")
        kernels = {
            "input": (place.input_shape.channels, hidden),
            "self": (hidden, hidden),
            "output": (hidden, output),
        }
        sublayers = _parts(place, options).convolutions(options, kernels, activation)
        return cls(
            **place.fields(sublayers[-1].layer.output_shape),
            sublayers=sublayers,
            hidden=hidden,
            output=output,
            activation=activation,
            shortcut=options.flag("shortcut"),
        )


@section("gru")
@dataclass(frozen=True, kw_only=True)
class Gru(Recurrent):
    """`[gru]` (parser.c:291, gru_layer.c:118); its candidate is logistic, not tanh."""

    output: int

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Gru:
        """Reads the options."""
        inputs, output = place.input_shape.floats, options.int("output", 1, at_least=1)
        parts = _parts(place, options)
        # File order, parser.c:2305-2311: first all that read the input.
        return cls(
            **place.fields(Shape(1, 1, output)),
            sublayers=(
                *(parts.dense(f"input_{gate}", inputs, output, "linear") for gate in "zrh"),
                *(parts.dense(f"state_{gate}", output, output, "linear") for gate in "zrh"),
            ),
            output=output,
        )

    @property
    def states(self) -> Mapping[str, Shape]:
        """What it put out."""
        return {"state": self.output_shape}


@section("lstm")
@dataclass(frozen=True, kw_only=True)
class Lstm(Recurrent):
    """`[lstm]` (parser.c:301, lstm_layer.c:172)."""

    output: int

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Lstm:
        """Reads the options."""
        inputs, output = place.input_shape.floats, options.int("output", 1, at_least=1)
        parts = _parts(place, options)
        # File order, parser.c:2313-2322: first all that read what was put out.
        return cls(
            **place.fields(Shape(1, 1, output)),
            sublayers=(
                *(parts.dense(f"w{gate}", output, output, "linear") for gate in _GATES),
                *(parts.dense(f"u{gate}", inputs, output, "linear") for gate in _GATES),
            ),
            output=output,
        )

    @property
    def states(self) -> Mapping[str, Shape]:
        """What it put out, and its cells."""
        return {"state": self.output_shape, "cell": self.output_shape}


@section("conv_lstm")
@dataclass(frozen=True, kw_only=True)
class ConvLstm(_Windowed):
    """`[conv_lstm]` (parser.c:311, conv_lstm_layer.c:639, on a GPU :1040).

    Attributes:
        output: channels that it puts out.
        activation: of its parts.
        lstm_activation: in place of tanh, as on a GPU; a CPU has tanh whatever the cfg says.
        peephole: gates read the cells too.
        bottleneck: gates read one convolution of what was put out and the input. On a GPU only;
            on a CPU Darknet stops.
        shortcut: with `bottleneck`, half of that convolution is added to what is put out.
        state_constrain: the largest cell; 0 for any.
    """

    LSTM_ACTIVATIONS: ClassVar[tuple[str, ...]] = ("tanh", "leaky", "linear")
    """What Darknet's kernels have (blas_kernels.cu:1589)."""

    output: int
    activation: str
    lstm_activation: str
    peephole: bool
    bottleneck: bool
    shortcut: bool
    state_constrain: int

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> ConvLstm:
        """Reads the options."""
        channels, output = place.input_shape.channels, options.int("output", 1, at_least=1)
        activation = options.activation("linear")
        peephole, bottleneck = options.flag("peephole"), options.flag("bottleneck")
        # File order, parser.c:2323-2340; a bottleneck has one wide wf in place of four w.
        kernels = {f"v{gate}": (output, output) for gate in "fio" if peephole}
        if bottleneck:
            kernels["wf"] = 2 * output, output
        else:
            kernels |= {f"w{gate}": (output, output) for gate in _GATES}
        kernels |= {f"u{gate}": (channels, output) for gate in _GATES}
        sublayers = _parts(place, options).convolutions(options, kernels, activation)
        return cls(
            **place.fields(sublayers[-1].layer.output_shape),
            sublayers=sublayers,
            output=output,
            activation=activation,
            lstm_activation=options.text("lstm_activation", "tanh"),
            peephole=peephole,
            bottleneck=bottleneck,
            shortcut=options.flag("shortcut"),
            state_constrain=options.int("state_constrain", _CONSTRAIN, at_least=0),
        )

    @property
    def states(self) -> Mapping[str, Shape]:
        """What it put out, before `shortcut`, and its cells."""
        return {"state": self.output_shape, "cell": self.output_shape}

    def refusal(self, network: Surroundings) -> Refusal | None:
        """What Darknet has no code for, or reads past its memory with."""
        if self.lstm_activation not in self.LSTM_ACTIVATIONS:
            return Refusal(
                f"lstm_activation={self.lstm_activation[:40]} is none of Darknet's, "
                f"{', '.join(self.LSTM_ACTIVATIONS)}",
                "lstm_activation",
            )
        if self.bottleneck and self.input_shape.channels != self.output:
            return Refusal(
                f"bottleneck=1 joins {self.input_shape.channels} input channels and output="
                f"{self.output} as if there were as many; set output={self.input_shape.channels}",
                "bottleneck",
            )
        if self.bottleneck and self.shortcut and self.output % 2:
            return Refusal(
                f"shortcut=1 with bottleneck=1 adds half of output={self.output} channels; make "
                "it even",
                "shortcut",
            )
        return super().refusal(network)


@section("history")
@dataclass(frozen=True, kw_only=True)
class History(Layer):
    """`[history]` (parser.c:342): the last frames' channels; of one step, those of one frame.

    Darknet shifts frames through it only where `[net]` asks for several time steps at once. With
    one, as it detects, it puts out the frame and zeros for those before it
    (conv_lstm_layer.c:290).

    Attributes:
        history_size: frames it has room for.
    """

    history_size: int

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> History:
        """Reads the options."""
        rows, columns, channels = place.input_shape
        history_size = options.int("history_size", 4, at_least=1)
        if history_size > 1:
            before.warn(
                options.section,
                "history_size",
                f"[history] puts out the newest frame and zeros for the {history_size - 1} before "
                "it, as Darknet does where it detects, one time step at once",
            )
        return cls(
            **place.fields(Shape(rows, columns, channels * history_size)),
            history_size=history_size,
        )
