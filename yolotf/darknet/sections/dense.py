"""`[connected]` and `[batchnorm]`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from yolotf.darknet.layer import Before, Layer, Place, Shape, section
from yolotf.darknet.options import Options
from yolotf.darknet.roles import Role, Stored, dense, scales


@section("connected", "conn")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Connected(Layer):
    """`[connected]` (parser.c:349): a dense layer over the flattened (channels, rows, columns)."""

    output: int
    batch_normalize: bool
    activation: str

    stores_per_channel = True
    reduces_extents = True

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Connected:
        """Reads the options."""
        output = options.int("output", 1, at_least=1)
        return cls(
            **place.fields(Shape(1, 1, output)),
            output=output,
            batch_normalize=options.flag("batch_normalize"),
            activation=options.activation("logistic"),
        )

    @property
    def operations(self) -> int:
        """A multiplication and an addition per kernel value."""
        return 2 * self.input_shape.floats * self.output

    def stored(self) -> Iterator[Stored]:
        """Bias or beta, the kernel, and the rest of the batch normalization."""
        yield from dense(
            self.output,
            self.input_shape.floats,
            normalized=self.batch_normalize,
            with_scales=not self.dontloadscales,
        )

    @property
    def channels_key(self) -> str:
        """`output=`."""
        return "output"

    @property
    def fixes_size(self) -> bool:
        """True: the kernel has a row for each float of the input."""
        return True

    @property
    def stored_by_size(self) -> bool:
        """True, for the same reason."""
        return True


@section("batchnorm")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Batchnorm(Layer):
    """`[batchnorm]`: batch normalization as a section (parser.c:909)."""

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Batchnorm:
        """It has no options."""
        return cls(**place.fields(place.input_shape))

    def stored(self) -> Iterator[Stored]:
        """Beta, gamma, mean and variance; `dontloadscales` has no effect (parser.c:2233)."""
        channels = self.input_shape.channels
        yield Stored("", Role.BETA, (channels,))
        yield from scales(channels)
