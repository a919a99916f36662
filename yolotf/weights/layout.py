"""Network -> the file's segments; segments and variables -> the plan that the native code runs.

A `.weights` file is a header and then nothing but float32s, in the order of the cfg
(AlexeyAB/darknet src/parser.c:2242-2355, `load_weights_upto`). A `Segment` is one run of them
that belongs to one array: where it starts, how many floats, and the array's shape in Darknet's
order of axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolotf.darknet import cfg
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
        transposed: a dense kernel that is stored `(in, out)`, as Keras has it.
    """

    layer: int
    part: str
    role: str
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


def segments(network: cfg.Network, *, transposed: bool = False) -> list[Segment]:
    """Lists what the file of `network` holds, in order; the segments touch.

    Args:
        network: the parsed cfg.
        transposed: the header's flag (major or minor above 1000): dense kernels are stored
            `(in, out)`; their shape is given so.

    Raises:
        UnsupportedSectionError: a section whose stored size Darknet itself leaves undefined.
    """
    # Kept with the network, which cannot change.
    kept: dict[bool, list[Segment]] = network.__dict__.setdefault("_segments", {})
    if transposed not in kept:
        kept[transposed] = list(_segments(network, transposed))
    return list(kept[transposed])


def _segments(network: cfg.Network, transposed: bool) -> Iterator[Segment]:
    offset = 0
    for layer in network.layers:
        for part, role, shape in _stored(network, layer, transposed):
            flipped = transposed and role == "kernel" and len(shape) == 2
            segment = Segment(layer.index, part, role, offset, shape, flipped)
            yield segment
            offset = segment.end


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


@dataclass(frozen=True)
class Slot:
    """A variable of a model, and what it is in its layer.

    Attributes:
        name: `conv_17/kernel`.
        role: as in `Segment`.
        variable: the `tf.Variable`, which may be distributed.
        shape: of the variable.
        dtype: its name.
        depthwise: the kernel is `(size, size, channels, multiplier)`, not HWIO.
        blocks: how many kernels, or biases, of as many filters each it is cut into; their number
            is an axis in front of the others if it is more than 1.
    """

    name: str
    role: str
    variable: Any
    shape: tuple[int, ...]
    dtype: str
    depthwise: bool = False
    blocks: int = 1


@dataclass(frozen=True)
class Move:
    """One segment and the variable it goes to."""

    segment: Segment
    slot: Slot
    shape: tuple[int, ...]
    """What the variable must be, in Keras' order of axes."""
    blocks: int
    filters: int
    channels: int
    spatial: int
    norm: Segment | None = None
    """The gamma of a batch normalization that is folded in; its mean and variance follow it."""


@dataclass(frozen=True)
class Plan:
    """What to write where.

    Attributes:
        moves: in file order.
        floats: what the whole file must hold, the header aside; None if any file will do that
            is long enough.
        network: where the segments come from, if that is a cfg.
    """

    moves: tuple[Move, ...]
    floats: int | None
    network: cfg.Network | None

    def expected_bytes(self, header_bytes: int) -> int:
        """The size the file must have; -1 if it may be longer than the plan."""
        return -1 if self.floats is None else header_bytes + FLOAT_BYTES * self.floats

    def rows(self, header_bytes: int, moves: Sequence[Move] | None = None) -> NDArray[np.int64]:
        """The plan for the native code: one row a move, see `segments_from_rows` in weights.h."""
        rows = np.ones((len(self.moves if moves is None else moves), 8 + _MAX_RANK), np.int64)
        for row, move in zip(rows, self.moves if moves is None else moves, strict=True):
            row[:8] = (
                header_bytes + move.segment.offset,
                0 if move.norm is None else header_bytes + move.norm.offset,
                move.blocks,
                move.filters,
                move.channels,
                move.spatial,
                _ROLES.index(move.slot.role if move.norm else move.segment.role),
                len(move.shape),
            )
            row[8 : 8 + len(move.shape)] = move.shape
        return rows


_MAX_RANK = 5
# Role in weights.h.
_ROLES = ("bias", "beta", "gamma", "moving_mean", "moving_variance", "kernel", "weights", "scale")


def move(segment: Segment, slot: Slot) -> Move:
    """Says how the floats of `segment` become the variable of `slot`.

    The variable's own shape is looked at only to tell a depthwise kernel's multiplier; whether
    it is right is checked natively, before anything is written.
    """
    blocks = channels = spatial = 1
    match segment.role, segment.shape:
        case "kernel", (filters, channels, height, width):  # OIHW
            spatial = height * width
            shape: tuple[int, ...] = (height, width, channels, filters)
            if slot.blocks > 1:
                blocks, filters = slot.blocks, filters // slot.blocks
                shape = (blocks, height, width, channels, filters)
            if slot.depthwise:
                multiplier = slot.shape[-1] if slot.shape else 1
                if channels == 1 and multiplier and filters % multiplier == 0:
                    shape = (height, width, filters // multiplier, multiplier)
        case "kernel", (rows, columns) if segment.transposed:
            filters, channels, shape = 1, rows * columns, (rows, columns)
        case "kernel", (filters, channels):  # (out, in)
            shape = (channels, filters)
        case "kernel", (blocks, filters, channels, height, width):  # [local]
            spatial = height * width
            shape = (blocks, height, width, channels, filters)
        case "bias", (filters, height, width):  # [local]
            spatial = height * width
            shape = (height, width, filters)
        case _:
            filters, channels, shape = 1, segment.count, segment.shape
            if slot.blocks > 1:
                shape = (slot.blocks, segment.count // slot.blocks)
    return Move(segment, slot, shape, blocks, filters, channels, spatial)


def folded(segment: Segment, gamma: Segment, slot: Slot) -> Move:
    """`move` with a batch normalization folded in, whose mean and variance follow `gamma`.

    A kernel is multiplied by gamma / sqrt(variance + 1e-5), a bias becomes what beta is after
    the mean is taken off, a `scale` is that factor itself (network.c:1297-1335).

    Args:
        segment: the kernel; beta for a bias; gamma for a scale.
        gamma: where the batch normalization's three runs begin.
        slot: role `kernel`, `bias` or `scale`.
    """
    plain = move(segment, slot)
    if slot.role == "kernel":
        return replace(plain, norm=gamma)
    return replace(plain, filters=segment.count, channels=1, norm=gamma)
