"""Network -> the file's segments.

A `.weights` file is a header and then nothing but float32s, in the order of the cfg
(AlexeyAB/darknet src/parser.c:2242-2355, `load_weights_upto`). A `Segment` is one run of them
that belongs to one array: where it starts, how many floats, and the array's shape in Darknet's
order of axes. What each section stores is its class' to say (`yolotf.darknet.sections`).
"""

from __future__ import annotations

from dataclasses import dataclass

from yolotf.darknet.network import Network
from yolotf.darknet.roles import Role
from yolotf.weights.once import once_each

FLOAT_BYTES = 4
HEADER_BYTES = 20
"""Size of today's header; files older than version 0.2 have 16."""


@dataclass(frozen=True)
class Segment:
    """One contiguous run of float32s in the file.

    Attributes:
        layer: index of the section, from 0 after `[net]`.
        part: name of the sub-layer inside recurrent sections, else "".
        role: what it is to its layer. A convolution without batch norm stores a bias; with it,
            the same place is beta.
        offset: bytes from the end of the header.
        shape: Darknet's: (filters,), kernels OIHW `(filters, in / groups, size, size)`,
            dense kernels `(out, in)`.
        transposed: a kernel that is stored filters last: a dense one `(in, out)`, as Keras has
            it, or a convolution's `(in / groups, size, size, filters)`.
    """

    layer: int
    part: str
    role: Role
    offset: int
    shape: tuple[int, ...]
    transposed: bool = False

    @property
    def count(self) -> int:
        """Floats."""
        product = 1
        for extent in self.shape:
            product *= extent
        return product

    @property
    def size_bytes(self) -> int:
        """Bytes in the file."""
        return FLOAT_BYTES * self.count

    @property
    def end(self) -> int:
        """Bytes from the end of the header to the end of the segment."""
        return self.offset + self.size_bytes


def segments(network: Network, *, transposed: bool = False) -> list[Segment]:
    """Lists what the file of `network` holds, in order; the segments touch.

    Args:
        network: the parsed cfg.
        transposed: the header's flag (major or minor above 1000): dense kernels are stored
            `(in, out)`; their shape is given so.
    """
    return list(_segments(network, transposed=transposed))


@once_each
def _segments(network: Network, *, transposed: bool) -> tuple[Segment, ...]:
    found: list[Segment] = []
    offset = 0
    for layer in network.layers:
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
            found.append(segment)
            offset = segment.end
    return tuple(found)


def floats(network: Network) -> int:
    """Floats in the file of `network`, the header aside."""
    found = _segments(network, transposed=False)
    return found[-1].end // FLOAT_BYTES if found else 0


def size_bytes(network: Network, header_bytes: int = HEADER_BYTES) -> int:
    """The byte size of the file of `network`."""
    return header_bytes + FLOAT_BYTES * floats(network)
