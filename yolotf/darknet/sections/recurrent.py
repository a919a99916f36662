"""Recurrent sections: their arrays, and the state they keep between frames.

Networks are modeled as Darknet runs them for detection, with `time_steps=1` (detector.c:1629,
demo.c:169) whatever `[net]` sets: one frame per step, with the state kept between steps.
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
        name: its name in the section.
        layer: the same as a separate section, but without a line.
    """

    name: str
    layer: Convolutional | Connected

    def stored(self) -> Iterator[Stored]:
        """As in a separate section; the recurrent section's `dontloadscales` does not apply."""
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


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Recurrent(Layer):
    """A recurrent section, with several convolutions or dense layers.

    Attributes:
        sublayers: its sub-layers in file order.
    """

    sublayers: tuple[SubLayer, ...]

    @property
    def parts(self) -> Mapping[str, Layer]:
        """The sub-layers by name."""
        return {part.name: part.layer for part in self.sublayers}

    def stored(self) -> Iterator[Stored]:
        """The arrays of the sub-layers."""
        for part in self.sublayers:
            yield from part.stored()

    @property
    def operations(self) -> int:
        """Sum over the sub-layers."""
        return sum(part.layer.operations for part in self.sublayers)

    @property
    def channels_key(self) -> str:
        """`output=`."""
        return "output"

    @property
    def fixes_size(self) -> bool:
        """True: the state depends on the image size, and so do dense kernels."""
        return True

    @property
    def stored_by_size(self) -> bool:
        """True with dense sub-layers."""
        return any(part.layer.stored_by_size for part in self.sublayers)

    def refusal(self, network: Surroundings) -> Refusal | None:
        """Refusals of the sub-layers, and windows for which Darknet aborts."""
        if key := self.set_key("xnor"):
            return Refusal(
                f"{key}= is not supported in [{self.type}]; remove it and train again", key
            )
        for part in self.sublayers:
            layer = part.layer
            if isinstance(layer, Convolutional):
                if layer.input_shape[:2] != layer.output_shape[:2]:
                    return Refusal(
                        f"size={layer.size} with a padding of {layer.padding} turns "
                        f"{layer.input_shape.width}x{layer.input_shape.height} into "
                        f"{layer.output_shape.width}x{layer.output_shape.height}, but the state of "
                        f"[{self.type}] must keep its size; set pad=1, an odd size and stride=1",
                        "size",
                    )
                if refused := layer.refusal(network):
                    return refused
        return None


@dataclass(frozen=True)
class _Parts:
    """Makes the sub-layers of a section."""

    place: Place
    normalize: bool

    def _fields(self, kind: str, input_shape: Shape, output_shape: Shape) -> Fields:
        """The fields of a sub-layer, with an empty section."""
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
        """A dense sub-layer."""
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
        """A convolution for each of `kernels`, name -> (input channels, filters)."""
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
                    "filters; set groups= to a divisor of both",
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


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Simple(Recurrent):
    """`[rnn]` and `[crnn]`: the state is the sum of two sub-layers, and a third reads it.

    Attributes:
        hidden: channels of the state.
        output: output channels.
        activation: activation of the sub-layers.
        shortcut: the old state is added to the new one.
    """

    hidden: int
    output: int
    activation: str
    shortcut: bool

    @property
    def states(self) -> Mapping[str, Shape]:
        """The hidden state."""
        return {"state": Shape(*self.output_shape[:2], self.hidden)}


@section("rnn")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Rnn(_Simple):
    """`[rnn]` (parser.c:275, rnn_layer.c:89): dense sub-layers."""

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Rnn:
        """Reads the options."""
        output = options.int("output", 1, at_least=1)
        hidden = options.int("hidden", 1, at_least=1)
        activation = options.activation("logistic")
        # rnn_layer.c:53
        state_activation = {1: "logistic", 2: "loggy"}.get(options.int("logistic", 0), activation)
        parts = _parts(place, options)
        return cls(
            **place.fields(Shape(1, 1, output)),
            sublayers=(
                parts.dense("input", place.input_shape.floats, hidden, activation),
                parts.dense("self", hidden, hidden, state_activation),
                parts.dense("output", hidden, output, activation),
            ),
            hidden=hidden,
            output=output,
            activation=activation,
            shortcut=options.flag("shortcut"),
        )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Windowed(Recurrent):
    """`[crnn]` and `[conv_lstm]`: the sub-layers are convolutions."""

    @property
    def window(self) -> str:
        """Kernel, stride and dilation, which all sub-layers share."""
        layer = self.sublayers[0].layer
        assert isinstance(layer, Convolutional)
        return window_words(layer.size, (layer.stride_y, layer.stride_x), layer.dilation)

    def has_activation(self, activation: str) -> bool:
        """Always, as in a convolution."""
        return True


@section("crnn")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Crnn(_Simple, _Windowed):
    """`[crnn]` (parser.c:251, crnn_layer.c:153): an `[rnn]` of convolutions."""

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
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Gru(Recurrent):
    """`[gru]` (parser.c:291, gru_layer.c:118); its candidate state is logistic, not tanh."""

    output: int

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Gru:
        """Reads the options."""
        inputs, output = place.input_shape.floats, options.int("output", 1, at_least=1)
        parts = _parts(place, options)
        # File order, parser.c:2305-2311: first the kernels for the input.
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
        """The last output."""
        return {"state": self.output_shape}


@section("lstm")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Lstm(Recurrent):
    """`[lstm]` (parser.c:301, lstm_layer.c:172)."""

    output: int

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Lstm:
        """Reads the options."""
        inputs, output = place.input_shape.floats, options.int("output", 1, at_least=1)
        parts = _parts(place, options)
        # File order, parser.c:2313-2322: first the kernels for the last output.
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
        """The last output and the cells."""
        return {"state": self.output_shape, "cell": self.output_shape}


@section("conv_lstm")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ConvLstm(_Windowed):
    """`[conv_lstm]` (parser.c:311, conv_lstm_layer.c:639, on a GPU :1040).

    Attributes:
        output: output channels.
        activation: activation of the sub-layers.
        lstm_activation: replaces tanh, as on a GPU; on a CPU, Darknet always uses tanh.
        peephole: the gates also read the cells.
        bottleneck: the gates read one convolution of the last output and the input. Darknet only
            supports this on a GPU and aborts on a CPU.
        shortcut: with `bottleneck`, half of that convolution is added to the output.
        state_constrain: limit for the magnitude of the cells; 0: no limit.
    """

    LSTM_ACTIVATIONS: ClassVar[tuple[str, ...]] = ("tanh", "leaky", "linear")
    """Those of Darknet's GPU kernels (blas_kernels.cu:1589)."""

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
        # File order, parser.c:2323-2340; a bottleneck has one wide wf instead of four w.
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
        """The last output, before `shortcut`, and the cells."""
        return {"state": self.output_shape, "cell": self.output_shape}

    def refusal(self, network: Surroundings) -> Refusal | None:
        """Options that Darknet does not implement, or that make it read out of bounds."""
        if self.lstm_activation not in self.LSTM_ACTIVATIONS:
            return Refusal(
                f"unknown lstm_activation={self.lstm_activation[:40]}; set one of "
                f"{', '.join(self.LSTM_ACTIVATIONS)}",
                "lstm_activation",
            )
        if self.bottleneck and self.input_shape.channels != self.output:
            return Refusal(
                "bottleneck=1 needs as many output channels as input channels; set output="
                f"{self.input_shape.channels}, not {self.output}",
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
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class History(Layer):
    """`[history]` (parser.c:342): the channels of the last frames.

    Darknet only shifts frames through it if `[net]` sets several time steps. With one, as in
    detection, the output is the current frame, with zeros for the earlier ones
    (conv_lstm_layer.c:290).

    Attributes:
        history_size: number of frames.
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
                f"[history] outputs the newest frame and zeros for the {history_size - 1} before "
                "it, as Darknet does where it detects, one time step at once",
            )
        return cls(
            **place.fields(Shape(rows, columns, channels * history_size)),
            history_size=history_size,
        )
