"""Lazily concatenated channels.

A wide convolution outputs several blocks (see `onednn.convolve`), a `[route]` the channels of
several sections. Concatenation copies them; it is unnecessary if a `[route]` takes only some of the
parts, and cheaper after a `[maxpool]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from yolotf.graphs.operations import Operations, Tensor


class Chunk(NamedTuple):
    """A contiguous run of channels."""

    tensor: Tensor
    """[batch, rows, columns, channels]."""
    channels: int


class LazyConcat:
    """The output of a section in parts, concatenated at most once in a graph."""

    def __init__(self, ops: Operations, parts: list[Chunk]) -> None:
        """Wraps the parts; writes no operation yet."""
        self.parts = parts
        self._ops = ops
        self._whole: Tensor | None = None

    def whole(self) -> Tensor:
        """Returns the concatenated channels."""
        if self._whole is None:
            values = [part.tensor for part in self.parts]
            self._whole = (
                values[0] if len(values) == 1 else self._ops.ConcatV2(values=values, axis=3)
            )
        return self._whole

    def group(self, groups: int, number: int) -> LazyConcat | None:
        """Returns group `number` of `groups` equal groups; None if it would split a part."""
        channels = sum(part.channels for part in self.parts) // groups
        start, parts = 0, []
        for part in self.parts:
            end = start + part.channels
            if number * channels <= start and end <= (number + 1) * channels:
                parts.append(part)
            start = end
        is_complete = sum(part.channels for part in parts) == channels
        return LazyConcat(self._ops, parts) if is_complete else None

    def each(self, write: Callable[[Tensor], Tensor]) -> LazyConcat:
        """Applies `write`, which must treat channels independently, to every part."""
        return LazyConcat(
            self._ops, [part._replace(tensor=write(part.tensor)) for part in self.parts]
        )
