"""Channels that are still in parts, joined when something needs them in one piece.

A wide convolution puts out its blocks (see `onednn.convolve`), a `[route]` the channels of several
sections. To join them is to copy them: needless where a `[route]` takes a part of them, and less
behind a `[maxpool]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from yolotf.graphs.operations import Operations, Tensor


class Part(NamedTuple):
    """Channels in one piece."""

    tensor: Tensor
    """[batch, rows, columns, channels]."""
    channels: int


class Joined:
    """What a section puts out, in parts; a graph joins them once at most."""

    def __init__(self, ops: Operations, parts: list[Part]) -> None:
        """Writes nothing yet."""
        self.parts = parts
        self._ops = ops
        self._whole: Tensor | None = None

    def whole(self) -> Tensor:
        """In one piece."""
        if self._whole is None:
            values = [part.tensor for part in self.parts]
            self._whole = (
                values[0] if len(values) == 1 else self._ops.ConcatV2(values=values, axis=3)
            )
        return self._whole

    def group(self, groups: int, number: int) -> Joined | None:
        """Group `number` of `groups` equal ones; None if a part would have to be cut."""
        channels = sum(part.channels for part in self.parts) // groups
        start, found = 0, []
        for part in self.parts:
            end = start + part.channels
            if number * channels <= start and end <= (number + 1) * channels:
                found.append(part)
            start = end
        whole = sum(part.channels for part in found) == channels
        return Joined(self._ops, found) if whole else None

    def each(self, write: Callable[[Tensor], Tensor]) -> Joined:
        """What `write` makes of every part; it looks at no more than one channel at once."""
        return Joined(self._ops, [part._replace(tensor=write(part.tensor)) for part in self.parts])
