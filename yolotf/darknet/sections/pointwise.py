"""Sections that keep rows and columns: activations, softmax, normalization, constants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from yolotf.darknet.layer import Before, Layer, Place, Refusal, Shape, Surroundings, section
from yolotf.darknet.options import Options
from yolotf.darknet.roles import Role, Stored


@section("dropout")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Dropout(Layer):
    """`[dropout]`: the identity at inference."""

    probability: float

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Dropout:
        """Reads the options (parser.c:867)."""
        return cls(**place.fields(place.input_shape), probability=options.float("probability", 0.2))


@section("softmax", "soft")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Softmax(Layer):
    """`[softmax]`: over all channels, or over each of `groups` groups."""

    groups: int
    temperature: float
    spatial: bool
    tree: str | None

    normalizes_classes = True

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Softmax:
        """Reads the options (parser.c:379)."""
        return cls(
            **place.fields(place.input_shape),
            groups=options.int("groups", 1, at_least=1),
            temperature=options.float("temperature", 1.0),
            spatial=options.float("spatial", 0.0) != 0.0,
            tree=options.text("tree", "") or None,
        )

    @property
    def class_tree(self) -> str | None:
        """`tree=`."""
        return self.tree

    @property
    def fixes_size(self) -> bool:
        """True: groups span rows, columns and channels."""
        return True

    def refusal(self, network: Surroundings) -> Refusal | None:
        """Options for which Darknet reads beyond its input."""
        if self.spatial:
            # softmax_layer.c:110 reads past its input on a GPU; on a CPU it is ignored.
            return Refusal(
                "spatial= is not supported, because Darknet ignores it on a CPU and reads past its "
                "input on a GPU; remove it",
                "spatial",
            )
        channels = self.input_shape.channels
        if channels % self.groups and not self.tree:
            return Refusal(
                f"groups={self.groups} does not divide {channels} channels; set a divisor of "
                f"{channels}",
                "groups",
            )
        return None


@section("activation")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Activation(Layer):
    """`[activation]`: an activation function as a section."""

    activation: str

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Activation:
        """Reads the options (parser.c:1043)."""
        return cls(**place.fields(place.input_shape), activation=options.activation("linear"))


@section("normalization", "lrn")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Normalization(Layer):
    """`[normalization]`: local response normalization."""

    size: int
    alpha: float
    beta: float
    kappa: float

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Normalization:
        """Reads the options (parser.c:899)."""
        return cls(
            **place.fields(place.input_shape),
            size=options.int("size", 5, at_least=1),
            alpha=options.float("alpha", 0.0001),
            beta=options.float("beta", 0.75),
            kappa=options.float("kappa", 1.0),
        )


@section("implicit")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Implicit(Layer):
    """`[implicit]`: a stored constant, initialized around `mean` with `std`."""

    filters: int
    atoms: int
    mean: float = 0.0
    std: float = 0.2

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Implicit:
        """Reads the options (parser.c:1031-1036)."""
        filters = options.int("filters", 128, at_least=1)
        atoms = options.int("atoms", 1, at_least=1)
        fields = place.fields(Shape(atoms, 1, filters))
        fields["inputs"] = ()
        mean, std = options.float("mean", 0.0), options.float("std", 0.2)
        return cls(**fields, filters=filters, atoms=atoms, mean=mean, std=std)

    def stored(self) -> Iterator[Stored]:
        """The constant (parser.c:2351)."""
        yield Stored("", Role.WEIGHTS, (self.filters, self.atoms))

    @property
    def channels_key(self) -> str:
        """`filters=`."""
        return "filters"


@section("cost")
@section("empty", "silence")
@section("contrastive")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Passive(Layer):
    """`[cost]`, `[empty]`, `[contrastive]`: the identity at inference."""

    passes_classes = True

    @property
    def only_trains(self) -> bool:
        """True for `[cost]`."""
        return self.type == "cost"

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Passive:
        """It has no options that matter at inference."""
        return cls(**place.fields(place.input_shape))
