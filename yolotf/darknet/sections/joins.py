"""Sections that read layers besides the one before: routes, shortcuts, products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from yolotf.darknet.layer import Before, Layer, Place, Refusal, Shape, Surroundings, section
from yolotf.darknet.options import Options
from yolotf.darknet.roles import Role, Stored


@section("route")
@dataclass(frozen=True, kw_only=True)
class Route(Layer):
    """`[route]`: its inputs one after the other; with `groups`, only part `group_id` of each."""

    groups: int
    group_id: int

    @property
    def window(self) -> str:
        """All it joins, and its part of each."""
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
                    f"{first.width}x{first.height} and {shape.width}x{shape.height}; route joins "
                    f"layers of one size{before.size_hint()}",
                    "layers",
                )
            if shape.channels % groups or group_id >= groups:
                raise options.fail(
                    f"groups={groups} group_id={group_id} does not fit the {shape.channels} "
                    f"channels of layer {index}",
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
@dataclass(frozen=True, kw_only=True)
class Shortcut(Layer):
    """`[shortcut]`: inputs[0] is the layer before, the rest are added to it (parser.c:915)."""

    activation: str
    weights_type: str
    weights_normalization: str

    makes_of_inputs = "+"

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Shortcut:
        """Reads the options."""
        others = before.references(place, options, "from")
        mine = place.input_shape
        for index in others:
            other = before.shape(index)
            if other[:2] != mine[:2]:
                # pjreddie's Darknet, which resnet50.cfg and its family were written for, takes
                # every second row and column; AlexeyAB's asserts (parser.c:979).
                before.warn(
                    place.section,
                    "from",
                    f"layers {place.before} and {index} differ in size: "
                    f"{mine.width}x{mine.height} and {other.width}x{other.height}"
                    f"{before.size_hint()}",
                )
        return cls(
            **place.fields(mine, *others),
            activation=options.activation("linear"),
            weights_type=options.one_of("weights_type", "none", _WEIGHTS_TYPES),
            weights_normalization=options.one_of(
                "weights_normalization", "none", _WEIGHTS_NORMALIZATIONS
            ),
        )

    @property
    def nweights(self) -> int:
        """Stored floats (shortcut_layer.c:49-51)."""
        if self.weights_type == "per_feature":
            return len(self.inputs)
        if self.weights_type == "per_channel":
            return len(self.inputs) * self.input_shape.channels
        return 0

    def stored(self) -> Iterator[Stored]:
        """A factor an input, or one an input and channel (parser.c:2348)."""
        if self.nweights:
            each = self.nweights // len(self.inputs)
            yield Stored("", Role.WEIGHTS, (len(self.inputs), each))

    def refusal(self, network: Surroundings) -> Refusal | None:
        """Maps that do not lie on each other, whatever step is taken."""
        first = self.input_shape
        for index in self.inputs[1:]:
            shape = network.shape(index)
            step_y, step_x = shape.height // first.height, shape.width // first.width
            if step_y != step_x or step_y == 0:
                return Refusal(
                    f"layer {index} is {shape.width}x{shape.height} and cannot be added to "
                    f"{first.width}x{first.height}",
                    "from",
                )
        return None

    def is_plain_sum(self, network: Surroundings) -> bool:
        """Whether its inputs have one shape and no factors."""
        return self.weights_type == "none" and all(
            network.shape(index) == self.input_shape for index in self.inputs
        )

    def fixes_keras_size(self, network: Surroundings) -> bool:
        """Steps and factors are worked out once."""
        return not self.is_plain_sum(network)

    def has_activation(self, activation: str) -> bool:
        """Besides those of `activate`, mish and swish (shortcut_layer.c:130)."""
        return activation in ("mish", "swish") or super().has_activation(activation)


@section("scale_channels")
@dataclass(frozen=True, kw_only=True)
class ScaleChannels(Layer):
    """`[scale_channels]`: inputs[1] multiplied by inputs[0], one number a channel."""

    activation: str
    scale_wh: bool

    makes_of_inputs = "*"

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> ScaleChannels:
        """Reads the options (parser.c:999)."""
        source = before.references(place, options, "from")[0]
        shape, scale_wh = before.shape(source), options.flag("scale_wh")
        mine = place.input_shape
        # scale_channels_layer.c: one number a channel, or one map for all channels.
        expected = Shape(shape.height, shape.width, 1) if scale_wh else Shape(1, 1, shape.channels)
        if mine != expected:
            raise options.fail(
                f"scale_channels needs {expected.width}x{expected.height}x{expected.channels} "
                f"before it, found {mine.width}x{mine.height}x{mine.channels}",
                "from",
            )
        return cls(
            **place.fields(shape, source),
            activation=options.activation("linear"),
            scale_wh=scale_wh,
        )


@section("sam")
@dataclass(frozen=True, kw_only=True)
class Sam(Layer):
    """`[sam]`: inputs[1] multiplied by inputs[0], element by element."""

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
                f"{tuple(place.input_shape)} and {tuple(shape)}",
                "from",
            )
        return cls(**place.fields(shape, source), activation=options.activation("linear"))
