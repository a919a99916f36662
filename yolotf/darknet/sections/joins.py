"""Sections that read other layers than the previous one: routes, shortcuts, products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from yolotf.darknet.layer import Before, Layer, Place, Refusal, Shape, Surroundings, section
from yolotf.darknet.options import Options
from yolotf.darknet.roles import Role, Stored


@section("route")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Route(Layer):
    """`[route]`: concatenates its inputs; with `groups`, only group `group_id` of each."""

    groups: int
    group_id: int

    @property
    def references(self) -> tuple[int, ...]:
        """All inputs: `layers=`."""
        return self.inputs

    @property
    def channel_inputs(self) -> tuple[int, ...]:
        """All inputs."""
        return self.inputs

    def channels_from(self, input_channels: float) -> float:
        """One of `groups` equal parts of the inputs' channels."""
        return input_channels / self.groups

    @property
    def window(self) -> str:
        """The inputs, and the group of each."""
        part = f" {self.group_id + 1}/{self.groups}" if self.groups > 1 else ""
        return ", ".join(map(str, self.inputs)) + part

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Route:
        """Reads the options (parser.c:1064)."""
        indices = before.references(place, options, "layers")
        groups = options.int("groups", 1, at_least=1)
        group_id = options.int("group_id", 0, at_least=0)
        shapes = [before.shape(index) for index in indices]
        first = shapes[0]
        for index, shape in zip(indices, shapes, strict=True):
            if shape[:2] != first[:2]:
                raise options.fail(
                    f"layers {indices[0]} and {index} differ in size: "
                    f"{first.width}x{first.height} and {shape.width}x{shape.height}; route needs "
                    f"layers of one size{before.size_hint()}",
                    "layers",
                )
            if shape.channels % groups or group_id >= groups:
                raise options.fail(
                    f"groups={groups} group_id={group_id} does not match the {shape.channels} "
                    f"channels of layer {index}; set groups= to a divisor of {shape.channels}, and "
                    "group_id= below groups=",
                    "groups",
                )
        fields = place.fields(
            Shape(first.height, first.width, sum(shape.channels for shape in shapes) // groups)
        )
        fields["inputs"] = tuple(indices)
        fields["input_shape"] = first
        return cls(**fields, groups=groups, group_id=group_id)


_WEIGHTS_TYPES = {
    "none": "none",
    "per_feature": "per_feature",
    "per_layer": "per_feature",
    "per_channel": "per_channel",
}
_WEIGHTS_NORMALIZATIONS = {"none": "none", "relu": "relu", "avg_relu": "relu", "softmax": "softmax"}


@section("shortcut")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Shortcut(Layer):
    """`[shortcut]`: adds the other inputs to inputs[0], the previous layer (parser.c:915)."""

    activation: str
    weights_type: str
    weights_normalization: str

    makes_of_inputs = "+"

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Shortcut:
        """Reads the options."""
        others = before.references(place, options, "from")
        shape = place.input_shape
        for index in others:
            other = before.shape(index)
            if other[:2] != shape[:2]:
                # pjreddie's Darknet, which resnet50.cfg and similar were written for, reads every
                # second row and column; AlexeyAB's asserts (parser.c:979).
                before.warn(
                    place.section,
                    "from",
                    f"layers {place.before} and {index} differ in size: "
                    f"{shape.width}x{shape.height} and {other.width}x{other.height}"
                    f"{before.size_hint()}",
                )
        return cls(
            **place.fields(shape, *others),
            activation=options.activation("linear"),
            weights_type=options.one_of("weights_type", "none", _WEIGHTS_TYPES),
            weights_normalization=options.one_of(
                "weights_normalization", "none", _WEIGHTS_NORMALIZATIONS
            ),
        )

    @property
    def nweights(self) -> int:
        """Number of stored floats (shortcut_layer.c:49-51)."""
        if self.weights_type == "per_feature":
            return len(self.inputs)
        if self.weights_type == "per_channel":
            return len(self.inputs) * self.input_shape.channels
        return 0

    def stored(self) -> Iterator[Stored]:
        """A factor per input, or per input and channel (parser.c:2348)."""
        if self.nweights:
            each = self.nweights // len(self.inputs)
            yield Stored("", Role.WEIGHTS, (len(self.inputs), each))

    def refusal(self, network: Surroundings) -> Refusal | None:
        """Inputs whose sizes are not a common multiple apart."""
        first = self.input_shape
        for index in self.inputs[1:]:
            shape = network.shape(index)
            step_y, step_x = shape.height // first.height, shape.width // first.width
            if step_y != step_x or step_y == 0:
                return Refusal(
                    f"layer {index} is {shape.width}x{shape.height} and cannot be added to "
                    f"{first.width}x{first.height}; name layers of one size in from=",
                    "from",
                )
        return None

    def is_plain_sum(self, network: Surroundings) -> bool:
        """Whether all inputs have the same shape and there are no factors."""
        return self.weights_type == "none" and all(
            network.shape(index) == self.input_shape for index in self.inputs
        )

    def fixes_keras_size(self, network: Surroundings) -> bool:
        """True for inputs of other sizes, or with factors: the Keras layer computes them once."""
        return not self.is_plain_sum(network)

    def has_activation(self, activation: str) -> bool:
        """Those of `activate`, and mish and swish (shortcut_layer.c:130)."""
        return activation in ("mish", "swish") or super().has_activation(activation)


@section("scale_channels")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ScaleChannels(Layer):
    """`[scale_channels]`: multiplies inputs[1] by inputs[0], a factor per channel."""

    activation: str
    scale_wh: bool

    makes_of_inputs = "*"

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> ScaleChannels:
        """Reads the options (parser.c:999)."""
        source = before.references(place, options, "from")[0]
        shape, scale_wh = before.shape(source), options.flag("scale_wh")
        factors = place.input_shape
        # scale_channels_layer.c: a factor per channel, or per row and column.
        expected = Shape(shape.height, shape.width, 1) if scale_wh else Shape(1, 1, shape.channels)
        if factors != expected:
            raise options.fail(
                f"scale_channels needs {expected.width}x{expected.height}x{expected.channels} "
                f"before it, found {factors.width}x{factors.height}x{factors.channels}; add an "
                "[avgpool] before it, or name another layer in from=",
                "from",
            )
        return cls(
            **place.fields(shape, source),
            activation=options.activation("linear"),
            scale_wh=scale_wh,
        )


@section("sam")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Sam(Layer):
    """`[sam]`: multiplies inputs[1] by inputs[0], element by element."""

    activation: str

    makes_of_inputs = "*"

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Sam:
        """Reads the options (parser.c:1021)."""
        source = before.references(place, options, "from")[0]
        shape = before.shape(source)
        if shape != place.input_shape:
            raise options.fail(
                f"sam needs layers {place.before} and {source} of one shape, found "
                f"{tuple(place.input_shape)} and {tuple(shape)}; name another layer in from=",
                "from",
            )
        return cls(**place.fields(shape, source), activation=options.activation("linear"))
