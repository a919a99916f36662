"""Segments and variables -> the plan that the native code runs."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from yolotf.darknet.network import Network
from yolotf.darknet.roles import Role
from yolotf.weights.segments import FLOAT_BYTES, Segment

if TYPE_CHECKING:  # an eighth of a second that a missing file does not wait for
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Slot:
    """A variable of a model, and what it is in its layer.

    Attributes:
        name: `conv_17/kernel`.
        role: as in `Segment`.
        variable: the `tf.Variable`, which may be distributed; what stands for it in a plan that
            serves many, see `Plan.bound`.
        shape: of the variable.
        dtype: its name.
        depthwise: the kernel is `(size, size, channels, multiplier)`, not HWIO.
        blocks: how many kernels, or biases, of as many filters each it is cut into; their number
            is an axis in front of the others if it is more than 1.
        holder: what the layer has in the variable's place: Keras 3 wraps it.
        as_stored: kernels and biases keep Darknet's order of axes: OIHW, (out, in).
    """

    name: str
    role: str
    variable: Any
    shape: tuple[int, ...]
    dtype: str
    depthwise: bool = False
    blocks: int = 1
    holder: Any = field(default=None, compare=False, repr=False)
    as_stored: bool = False


@dataclass(frozen=True)
class Assignment:
    """One segment and the variable it goes to."""

    segment: Segment
    slot: Slot
    shape: tuple[int, ...]
    """What the variable must be: in Keras' order of axes, or in Darknet's if the slot says so."""
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
        assignments: in file order.
        floats: what the whole file must hold, the header aside; None if any file will do that
            is long enough.
        network: where the segments come from, if that is a cfg.
    """

    assignments: tuple[Assignment, ...]
    floats: int | None
    network: Network | None

    def expected_bytes(self, header_bytes: int) -> int:
        """The size the file must have; -1 if it may be longer than the plan."""
        return -1 if self.floats is None else header_bytes + FLOAT_BYTES * self.floats

    def rows(
        self, header_bytes: int, assignments: Sequence[Assignment] | None = None
    ) -> NDArray[np.int64]:
        """The plan for native code: one row an assignment, see `segments_from_rows` in plan.h."""
        if assignments is not None:
            return _rows(assignments, header_bytes)
        if header_bytes not in self._own_rows:
            self._own_rows[header_bytes] = _rows(self.assignments, header_bytes)
            self._own_rows[header_bytes].flags.writeable = False
        return self._own_rows[header_bytes]

    @functools.cached_property
    def _own_rows(self) -> dict[int, NDArray[np.int64]]:
        """Those of all assignments, by the size of the header; a plan may serve many loads."""
        return {}

    def bound(self, variables: Mapping[Any, Any]) -> Plan:
        """The plan with other variables: those that `variables` has for its own."""
        assignments = tuple(
            replace(one, slot=replace(one.slot, variable=variables[one.slot.variable]))
            for one in self.assignments
        )
        return replace(self, assignments=assignments)

    @functools.cached_property
    def section_count(self) -> int:
        """Sections whose floats go somewhere."""
        return len({assignment.segment.layer for assignment in self.assignments})

    @functools.cached_property
    def moved_floats(self) -> int:
        """Floats of the file that go somewhere."""
        return sum(assignment.segment.count for assignment in self.assignments)


def _rows(assignments: Sequence[Assignment], header_bytes: int) -> NDArray[np.int64]:
    import numpy as np  # see above

    rows = np.ones((len(assignments), 8 + _MAX_RANK), np.int64)
    for row, one in zip(rows, assignments, strict=True):
        row[:8] = (
            header_bytes + one.segment.offset,
            0 if one.norm is None else header_bytes + one.norm.offset,
            one.blocks,
            one.filters,
            one.channels,
            one.spatial,
            Role(one.slot.role if one.norm else one.segment.role).number,
            len(one.shape),
        )
        row[8 : 8 + len(one.shape)] = one.shape
    return rows


_MAX_RANK = 5


def assignment(segment: Segment, slot: Slot) -> Assignment:
    """Says how the floats of `segment` become the variable of `slot`.

    The variable's own shape is looked at only to tell a depthwise kernel's multiplier, and a dense
    layer from a 1x1 convolution; whether
    it is right is checked natively, before anything is written.
    """
    blocks = channels = spatial = 1
    shape: tuple[int, ...]
    match segment.role, segment.shape:
        case "kernel", (inputs, outputs) if segment.transposed and slot.as_stored:
            filters, channels, shape = inputs, outputs, (outputs, inputs)
        case "kernel", _ if segment.transposed:
            filters, channels, shape = 1, segment.count, segment.shape
        case "kernel", (outputs, _) | (outputs, _, _, _) if slot.as_stored:
            # One block per filter: a batch normalization has to know where each begins.
            blocks, filters, channels = outputs, 1, segment.count // outputs
            shape = segment.shape
        case "kernel", (filters, channels, height, width):  # OIHW
            spatial = height * width
            shape = (height, width, channels, filters)
            if len(slot.shape) == 2 and spatial == 1:
                shape = (channels, filters)  # a dense layer is a 1x1 convolution
            if slot.blocks > 1:
                blocks, filters = slot.blocks, filters // slot.blocks
                shape = (blocks, height, width, channels, filters)
            if slot.depthwise:
                multiplier = slot.shape[-1] if slot.shape else 1
                if channels == 1 and multiplier and filters % multiplier == 0:
                    shape = (height, width, filters // multiplier, multiplier)
        case "kernel", (filters, channels):  # (out, in)
            shape = (1, 1, channels, filters) if len(slot.shape) == 4 else (channels, filters)
        case "kernel", (blocks, filters, channels, height, width):  # [local]
            spatial = height * width
            shape = (blocks, height, width, channels, filters)
        case "bias", (filters, height, width) if not slot.as_stored:  # [local]
            spatial = height * width
            shape = (height, width, filters)
        case _:
            filters, channels, shape = 1, segment.count, segment.shape
            if slot.blocks > 1:
                shape = (slot.blocks, segment.count // slot.blocks)
    return Assignment(segment, slot, shape, blocks, filters, channels, spatial)


def folded(segment: Segment, gamma: Segment, slot: Slot) -> Assignment:
    """`assignment` with a batch normalization folded in, whose mean and variance follow `gamma`.

    A kernel is multiplied by gamma / sqrt(variance + 1e-5), a bias becomes what beta is after
    the mean is taken off, a `scale` is that factor itself (network.c:1297-1335).

    Args:
        segment: the kernel; beta for a bias; gamma for a scale.
        gamma: where the batch normalization's three runs begin.
        slot: role `kernel`, `bias` or `scale`.
    """
    plain = assignment(segment, slot)
    if slot.role == "kernel":
        return replace(plain, norm=gamma)
    return replace(plain, filters=segment.count, channels=1, norm=gamma)
