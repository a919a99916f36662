"""The segments of a network's file.

A `.weights` file is a header followed by float32 values in the order of the cfg's sections
(AlexeyAB/darknet src/parser.c:2242-2355, `load_weights_upto`). A `Segment` is the run of floats
that belongs to one array: its offset, and its shape in Darknet's axis order. The section classes
define what each section stores (`yolotf.darknet.sections`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from yolotf.darknet.layer import Layer
from yolotf.darknet.roles import Role

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Segment:
    """A contiguous run of float32 values in the file: one array.

    Attributes:
        layer: index of the section, from 0 after `[net]`.
        part: name of the sub-layer in recurrent sections, else "".
        role: role of the array in its layer. What a convolution without batch normalization stores
            as its bias is beta in one with batch normalization.
        offset: bytes from the end of the header.
        shape: in Darknet's axis order: `(filters,)`, `(filters, in / groups, size, size)` (OIHW)
            for convolutions, `(out, in)` for dense kernels.
        transposed: the kernel is stored with filters last: `(in, out)` for a dense kernel, as in
            Keras, `(in / groups, size, size, filters)` for a convolution.
    """

    layer: int
    part: str
    role: Role
    offset: int
    shape: tuple[int, ...]
    transposed: bool = False

    @property
    def count(self) -> int:
        """Number of floats."""
        product = 1
        for extent in self.shape:
            product *= extent
        return product

    @property
    def size_bytes(self) -> int:
        """Size in bytes."""
        return FLOAT_BYTES * self.count

    @property
    def end(self) -> int:
        """Bytes from the end of the header to the end of the segment."""
        return self.offset + self.size_bytes


def stored_segments(layers: Iterable[Layer], *, transposed: bool = False) -> tuple[Segment, ...]:
    """The segments of the file of a network with these layers; see `Network.segments`."""
    stored: list[Segment] = []
    offset = 0
    for layer in layers:
        if layer.dontload:
            continue
        for part, role, shape in layer.stored():
            dense = transposed and role is Role.KERNEL and len(shape) == 2
            segment = Segment(
                layer.index,
                part,
                role,
                offset,
                shape[::-1] if dense else shape,
                dense or (role is Role.KERNEL and layer.flips_kernel),
            )
            stored.append(segment)
            offset = segment.end
    return tuple(stored)
