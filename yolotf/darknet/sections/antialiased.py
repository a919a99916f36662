"""`antialiasing=`: a section computes with stride 1, and a blur after it applies the strides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from yolotf.darknet.layer import Layer, Place, Refusal, Shape, positions, windows
from yolotf.darknet.options import Options


class Blur(NamedTuple):
    """A fixed kernel over each channel (convolutional_layer.c:801-835, maxpool_layer.c:161-195)."""

    kernel: tuple[tuple[float, ...], ...]
    padding: tuple[tuple[int, int], tuple[int, int]]
    """Zero padding: ((rows before, rows after), (columns before, columns after))."""
    stride_y: int
    stride_x: int


_THREE = ((1 / 16, 2 / 16, 1 / 16), (2 / 16, 4 / 16, 2 / 16), (1 / 16, 2 / 16, 1 / 16))
_TWO = ((1 / 4, 1 / 4), (1 / 4, 1 / 4))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Antialiased(Layer):
    """A section whose strides may be applied by a blur.

    Attributes:
        size: size of the section's window.
        antialiasing: 0: no blur; 2: a 2x2 blur; any other value: a 3x3 blur.
    """

    size: int
    stride_y: int
    stride_x: int
    antialiasing: int

    @property
    def total_padding(self) -> int:
        """Padding of rows (and of columns), the sum of both sides."""
        raise NotImplementedError

    @property
    def sharp_shape(self) -> Shape:
        """Output shape before the blur."""
        if not self.antialiasing:
            return self.output_shape
        rows, columns = (
            positions(extent + self.total_padding, self.size, 1) for extent in self.input_shape[:2]
        )
        return Shape(rows, columns, self.output_shape.channels)

    @property
    def blur(self) -> Blur:
        """The blur that follows `sharp`, if `antialiasing` is set."""
        kernel = _TWO if self.antialiasing == 2 else _THREE
        before = _side(self.antialiasing)
        sides = []
        for extent, count, stride in zip(
            self.sharp_shape[:2],
            self.output_shape[:2],
            (self.stride_y, self.stride_x),
            strict=True,
        ):
            reach = (count - 1) * stride + len(kernel)
            sides.append((before, max(0, reach - extent - before)))
        return Blur(kernel, (sides[0], sides[1]), self.stride_y, self.stride_x)

    def reference_refusal(self) -> Refusal | None:
        """Why a later section cannot refer to it by number; None if it can.

        In Darknet such a reference has the extents from before the blur and reads stale data
        (parser.c:1663 only updates the next section).
        """
        if self.output_shape == self.sharp_shape:
            return None
        rows, columns, _ = self.sharp_shape
        return Refusal(
            f"layer {self.index} has antialiasing={self.antialiasing}, and a reference to it reads "
            f"{columns}x{rows} from before the blur in Darknet; put another section in between"
        )


_Section = TypeVar("_Section", bound=Antialiased)


def sharp(layer: _Section) -> _Section:
    """The section without its blur; the section itself if it has none."""
    if not layer.antialiasing:
        return layer
    return replace(layer, antialiasing=0, stride_y=1, stride_x=1, output_shape=layer.sharp_shape)


def windows_and_blur(
    options: Options,
    place: Place,
    padding: int,
    size: int,
    strides: tuple[int, int],
    antialiasing: int,
) -> tuple[int, int]:
    """`windows`, with stride 1 if a blur applies the strides.

    Raises:
        CfgError: no window fits.
    """
    if not antialiasing:
        return windows(options, place, padding, size, strides)
    rows, columns = windows(options, place, padding, size, (1, 1))
    side = 2 * _side(antialiasing)
    rows, columns = (
        positions(extent + side, 2 if antialiasing == 2 else 3, stride)
        for extent, stride in zip((rows, columns), strides, strict=True)
    )
    if min(rows, columns) < 1:
        raise options.fail(
            f"antialiasing={antialiasing} leaves nothing of {place.input_shape.width}x"
            f"{place.input_shape.height}; set a smaller stride, or remove antialiasing=",
            "antialiasing",
        )
    return rows, columns


def _side(antialiasing: int) -> int:
    return 0 if antialiasing == 2 else 1
