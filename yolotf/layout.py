"""Network -> the file's segments; segments and variables -> the plan that the native code runs.

A `.weights` file is a header and then nothing but float32s, in the order of the cfg
(AlexeyAB/darknet src/parser.c:2242-2355, `load_weights_upto`). A `Segment` is one run of them
that belongs to one array: where it starts, how many floats, and the array's shape in Darknet's
order of axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from yolotf import cfg
from yolotf.errors import UnsupportedSectionError

FLOAT_BYTES = 4
HEADER_BYTES = 20
"""Size of today's header; files older than version 0.2 have 16."""


@dataclass(frozen=True)
class Segment:
    """One contiguous run of float32s in the file.

    Attributes:
        layer: index of the section, from 0 after `[net]`.
        part: name of the sub-layer inside recurrent sections, else "".
        role: beta, gamma, moving_mean, moving_variance, kernel, bias or weights. A
            convolution without batch norm stores a bias; with it, the same place is beta.
        offset: bytes from the end of the header.
        shape: Darknet's: (filters,), kernels OIHW `(filters, in / groups, size, size)`,
            dense kernels `(out, in)`.
    """

    layer: int
    part: str
    role: str
    offset: int
    shape: tuple[int, ...]

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


def segments(network: cfg.Network, *, transposed: bool = False) -> list[Segment]:
    """Lists what the file of `network` holds, in order; the segments touch.

    Args:
        network: the parsed cfg.
        transposed: the header's flag (major or minor above 1000): dense kernels are stored
            `(in, out)`; their shape is given so.

    Raises:
        UnsupportedSectionError: a section whose stored size Darknet itself leaves undefined.
    """
    found: list[Segment] = []
    offset = 0
    for layer in network.layers:
        for part, role, shape in _stored(network, layer, transposed):
            segment = Segment(layer.index, part, role, offset, shape)
            found.append(segment)
            offset = segment.end
    return found


def floats(network: cfg.Network) -> int:
    """Floats in the file of `network`, the header aside."""
    found = segments(network)
    return found[-1].end // FLOAT_BYTES if found else 0


def size_bytes(network: cfg.Network, header_bytes: int = HEADER_BYTES) -> int:
    """The byte size of the file of `network`."""
    return header_bytes + FLOAT_BYTES * floats(network)


_Stored = tuple[str, str, tuple[int, ...]]


def _stored(network: cfg.Network, layer: cfg.Layer, transposed: bool) -> Iterator[_Stored]:
    """(part, role, shape) of everything `layer` stores."""
    if layer.dontload:
        return
    scales = not layer.dontloadscales
    channels = layer.input_shape.channels
    match layer:
        case cfg.Convolutional(share_index=None):
            kernel = (layer.filters, channels // layer.groups, layer.size, layer.size)
            if layer.flipped:
                raise UnsupportedSectionError(
                    f"{network.source}: flipped=1 is not supported; {network.where(layer)}",
                    source=network.source,
                    line=layer.line_of("flipped"),
                )
            yield from _convolution("", kernel, layer.batch_normalize, scales)
        case cfg.Connected():
            yield from _dense(
                "",
                layer.input_shape.floats,
                layer.output,
                layer.batch_normalize,
                scales,
                transposed,
            )
        case cfg.Batchnorm():
            yield "", "beta", (channels,)
            yield from _scales("", channels)
        case cfg.Local():
            rows, columns, filters = layer.output_shape
            yield "", "bias", (filters, rows, columns)
            yield (
                "",
                "kernel",
                (rows * columns, filters, channels, layer.size, layer.size),
            )
        case cfg.Shortcut() if layer.nweights:
            yield "", "weights", (len(layer.inputs), layer.nweights // len(layer.inputs))
        case cfg.Implicit():
            yield "", "weights", (layer.filters, layer.atoms)
        case cfg.Recurrent():
            # dontloadscales stays with the section; its parts never hear of it.
            for part in layer.sublayers:
                if part.size:
                    kernel = (
                        part.filters,
                        part.input_channels // part.groups,
                        part.size,
                        part.size,
                    )
                    yield from _convolution(part.name, kernel, part.batch_normalize, True)
                else:
                    yield from _dense(
                        part.name,
                        part.input_channels,
                        part.filters,
                        part.batch_normalize,
                        True,
                        transposed,
                    )
        case _:
            return


def _convolution(
    part: str, kernel: tuple[int, int, int, int], batch_normalize: bool, scales: bool
) -> Iterator[_Stored]:
    """parser.c:2160-2194: biases, then scales, mean, variance, then the kernel."""
    filters = kernel[0]
    yield part, "beta" if batch_normalize else "bias", (filters,)
    if batch_normalize and scales:
        yield from _scales(part, filters)
    yield part, "kernel", kernel


def _dense(
    part: str, inputs: int, output: int, batch_normalize: bool, scales: bool, transposed: bool
) -> Iterator[_Stored]:
    """parser.c:2093-2112: biases, the kernel, then scales, mean, variance."""
    yield part, "beta" if batch_normalize else "bias", (output,)
    yield part, "kernel", (inputs, output) if transposed else (output, inputs)
    if batch_normalize and scales:
        yield from _scales(part, output)


def _scales(part: str, channels: int) -> Iterator[_Stored]:
    for role in ("gamma", "moving_mean", "moving_variance"):
        yield part, role, (channels,)
