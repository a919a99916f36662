"""The plan for native code: which segment of the file goes into which variable."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from yolotf import _core
from yolotf.darknet.network import Network
from yolotf.darknet.roles import Role
from yolotf.darknet.segments import FLOAT_BYTES, Segment

if (
    TYPE_CHECKING
):  # imported lazily: costs 0.1 s, which an error about a missing file can do without
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Slot:
    """A variable of a model and its role in its layer.

    Attributes:
        name: for example `conv_17/kernel`.
        role: as in `Segment`.
        variable: the `tf.Variable`, possibly distributed; in a plan shared by several models, the
            placeholder that `Plan.bound` replaces.
        shape: shape of the variable.
        dtype: name of its dtype.
        depthwise: the kernel is `(size, size, channels, multiplier)`, not HWIO.
        blocks: number of kernels (or biases) with equally many filters that it is split into; if
            more than 1, a leading axis of the variable.
        holder: the attribute of the Keras layer: Keras 3 wraps the variable.
        as_stored: kernels and biases keep Darknet's axis order: OIHW, (out, in).
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
    """A segment and the variable it goes into."""

    segment: Segment
    slot: Slot
    shape: tuple[int, ...]
    """The shape the variable must have, in Keras' axis order, or Darknet's if `slot.as_stored`."""
    blocks: int
    filters: int
    channels: int
    spatial: int
    norm: Segment | None = None
    """The gamma of the batch normalization folded into it; mean and variance follow gamma."""


def replicas(variable: Any) -> list[Any]:
    """Returns the variables of all replicas; the variable itself if it is not distributed."""
    import tensorflow as tf  # not with `import yolotf`

    if isinstance(variable, tf.distribute.DistributedValues):
        return list(variable.values)
    return [variable]


class Targets:
    """The variables that a plan writes, with one assignment for each replica of a variable.

    Attributes:
        assignments: the plan's, repeated for each replica of a distributed variable.
        variables: the variable of each assignment.
        symbolic: index of the first variable that belongs to a graph and has no memory, or None.
    """

    def __init__(self, assignments: tuple[Assignment, ...]) -> None:
        """Resolves replicas."""
        import tensorflow as tf  # not with `import yolotf`

        by_assignment = [replicas(assignment.slot.variable) for assignment in assignments]
        self.variables = list(itertools.chain.from_iterable(by_assignment))
        self.assignments = assignments  # the same object: the plan caches its rows
        if len(self.variables) != len(self.assignments):
            self.assignments = tuple(
                assignment
                for assignment, variables in zip(self.assignments, by_assignment, strict=True)
                for _ in variables
            )
        symbolic = (
            index
            for index, variable in enumerate(self.variables)
            if tf.is_symbolic_tensor(variable.handle)
        )
        self.symbolic = next(symbolic, None)

    @functools.cached_property
    def cpu(self) -> str | None:
        """The local CPU device that all variables are on, or None."""
        devices = {variable.device for variable in self.variables}
        if len(devices) != 1 or not re.match(r"/job:localhost/.*device:CPU:\d+$", min(devices)):
            return None
        return str(devices.pop())

    @functools.cached_property
    def wide(self) -> bool:
        """Whether any variable is float64, which native code does not write."""
        return any(assignment.slot.dtype == "float64" for assignment in self.assignments)

    @functools.cached_property
    def handles(self) -> Any:
        """The resource handles of all variables, in one tensor."""
        import tensorflow as tf  # not with `import yolotf`

        with tf.device(self.cpu):
            return tf.raw_ops.Pack(values=[variable.handle for variable in self.variables], axis=0)


@dataclass(frozen=True)
class Plan:
    """Which parts of a file go into which variables.

    Attributes:
        assignments: in file order.
        floats: number of floats the file must have after its header; None if any file that is
            long enough will do.
        network: the cfg that the segments come from; None if there is no cfg.
    """

    assignments: tuple[Assignment, ...]
    floats: int | None
    network: Network | None

    def expected_bytes(self, header_bytes: int) -> int:
        """Returns the size the file must have in bytes; -1 if it may be longer than the plan."""
        return -1 if self.floats is None else header_bytes + FLOAT_BYTES * self.floats

    def rows(
        self, header_bytes: int, assignments: Sequence[Assignment] | None = None
    ) -> NDArray[np.int64]:
        """Returns the plan for native code, a row per assignment (`segments_from_rows`, plan.h)."""
        if assignments is not None:
            return _rows(assignments, header_bytes)
        if header_bytes not in self._own_rows:
            self._own_rows[header_bytes] = _rows(self.assignments, header_bytes)
            self._own_rows[header_bytes].flags.writeable = False
        return self._own_rows[header_bytes]

    @functools.cached_property
    def _own_rows(self) -> dict[int, NDArray[np.int64]]:
        """Rows of all assignments by header size, cached for plans that are loaded repeatedly."""
        return {}

    def bound(self, variables: Mapping[Any, Any]) -> Plan:
        """Returns a copy with each variable replaced by its value in `variables`."""
        assignments = tuple(
            replace(
                assignment,
                slot=replace(assignment.slot, variable=variables[assignment.slot.variable]),
            )
            for assignment in self.assignments
        )
        return replace(self, assignments=assignments)

    @functools.cached_property
    def targets(self) -> Targets:
        """The variables that it writes; imports TensorFlow."""
        return Targets(self.assignments)

    @functools.cached_property
    def layer_names(self) -> tuple[str, ...]:
        """See `layer_names`."""
        return layer_names(self.assignments)

    @functools.cached_property
    def section_count(self) -> int:
        """Number of sections that are loaded."""
        return len({assignment.segment.layer for assignment in self.assignments})

    @functools.cached_property
    def loaded_floats(self) -> int:
        """Number of floats that are loaded."""
        return sum(assignment.segment.count for assignment in self.assignments)


def _rows(assignments: Sequence[Assignment], header_bytes: int) -> NDArray[np.int64]:
    import numpy as np  # lazily, see above

    rows = np.ones((len(assignments), _core.PLAN_COLUMNS), np.int64)
    for row, assignment in zip(rows, assignments, strict=True):
        fields = Fields(
            offset=header_bytes + assignment.segment.offset,
            norm_offset=0 if assignment.norm is None else header_bytes + assignment.norm.offset,
            blocks=assignment.blocks,
            filters=assignment.filters,
            channels=assignment.channels,
            spatial=assignment.spatial,
            role=Role(assignment.slot.role if assignment.norm else assignment.segment.role).number,
            rank=len(assignment.shape),
        )
        numbers = (*fields, *assignment.shape)
        row[: len(numbers)] = numbers
    return rows


class Fields(NamedTuple):
    """How a row of a plan begins, before the extents: `PLAN_FIELDS`, see csrc/weights/plan.h."""

    offset: int
    norm_offset: int
    blocks: int
    filters: int
    channels: int
    spatial: int
    role: int
    rank: int


def assignment(segment: Segment, slot: Slot) -> Assignment:
    """Returns how the floats of `segment` are arranged in the variable of `slot`.

    The variable's shape is only used to find the multiplier of a depthwise kernel and to tell a
    dense layer from a 1x1 convolution. Native code checks the shape before it writes anything.
    """
    blocks = channels = spatial = 1
    shape: tuple[int, ...]
    match segment.role, segment.shape:
        case "kernel", (inputs, outputs) if segment.transposed and slot.as_stored:
            filters, channels, shape = inputs, outputs, (outputs, inputs)
        case "kernel", _ if segment.transposed:
            filters, channels, shape = 1, segment.count, segment.shape
        case "kernel", (outputs, _) | (outputs, _, _, _) if slot.as_stored:
            # One block per filter, so that a folded batch normalization finds each filter.
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
    """Returns `assignment` with a batch normalization folded in (network.c:1297-1335).

    With factor = gamma / sqrt(variance + 1e-5), a kernel becomes kernel * factor, a bias becomes
    beta - mean * factor, and a scale is the factor.

    Args:
        segment: the kernel; for a bias, beta; for a scale, gamma.
        gamma: the first of the segments gamma, mean and variance, which follow each other.
        slot: its role is `kernel`, `bias` or `scale`.
    """
    plain = assignment(segment, slot)
    if slot.role == "kernel":
        return replace(plain, norm=gamma)
    return replace(plain, filters=segment.count, channels=1, norm=gamma)


def layer_names(assignments: Iterable[Assignment]) -> tuple[str, ...]:
    """Returns a Keras layer name for each section or part: that of its kernel, if it has one."""
    named: dict[tuple[int, str], str] = {}
    for assignment in assignments:
        place = assignment.segment.layer, assignment.segment.part
        name = assignment.slot.name.rpartition("/")[0]
        if assignment.slot.role == "kernel":
            named[place] = name
        else:
            named.setdefault(place, name)
    return tuple(named.values())
