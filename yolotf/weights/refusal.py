"""Turns failures of native code into errors that name the section, variable and bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from yolotf import _core, errors
from yolotf.text import plural
from yolotf.weights import layout
from yolotf.weights.file import WeightsFile

HUGE_TEXT = f"{_core.HUGE:g}".replace("+", "")
"""`_core.HUGE` in messages: 1e30."""


@dataclass(frozen=True)
class Failure:
    """A failure of a native check, with names for code and role (csrc/weights/error.h)."""

    code: str
    segment: int = -1
    axis: int = -1
    role: str = ""
    offset: int = 0
    end: int = 0
    expected: int = 0
    actual: int = 0

    @classmethod
    def of(cls, error: _core.NativeError) -> Failure:
        """Returns the failure that an exception of `_core` describes."""
        return cls(
            error.code,
            error.segment,
            error.axis,
            role_name(error.role),
            error.offset,
            error.end,
            error.expected,
            error.found,
        )


def role_name(number: int) -> str:
    """Returns the name of a `Role` in csrc/weights/plan.h; "" if the number is not a role."""
    return _core.ROLES[number] if 0 <= number < len(_core.ROLES) else ""


class _Case(NamedTuple):
    """A failure and the load that it happened in."""

    failure: Failure
    path: str
    plan: layout.Plan
    assignments: Sequence[layout.Assignment]

    @property
    def assignment(self) -> layout.Assignment:
        return self.assignments[self.failure.segment]

    @property
    def role(self) -> str:
        """Role of the array in the file; the assignment's differs for folded normalization."""
        return self.failure.role or self.assignment.segment.role

    @property
    def where(self) -> str:
        return where(self.plan, self.assignment.segment)

    @property
    def array_facts(self) -> dict[str, Any]:
        section = self.assignment.segment.layer
        return {"path": self.path, "section": section, "layer": section, "role": self.role}

    @property
    def slot_facts(self) -> dict[str, Any]:
        return {**self.array_facts, "variable": self.assignment.slot.name}

    @property
    def range(self) -> str:
        return f"bytes {self.failure.offset}..{self.failure.end}"

    @property
    def range_facts(self) -> dict[str, Any]:
        return {**self.array_facts, "offset": self.failure.offset, "end": self.failure.end}


def refusal(
    failure: Failure,
    file: WeightsFile,
    plan: layout.Plan,
    assignments: Sequence[layout.Assignment],
) -> errors.WeightsMismatch:
    """Returns the error to raise for a failure of a native check.

    Args:
        failure: the failure.
        file: the file that was being loaded.
        plan: the plan for it.
        assignments: the assignments that `failure.segment` counts: the plan's, or one for each
            replica.
    """
    error_for = _ERRORS.get(failure.code, _bad_segment)
    return error_for(_Case(failure, file.name, plan, assignments))


def where(plan: layout.Plan, segment: layout.Segment) -> str:
    """Names the section and its line in the cfg, or the layer's index if there is no cfg."""
    if plan.network is not None:
        return plan.network.where(plan.network.layers[segment.layer])
    return f"layer {segment.layer}"


def _changed(case: _Case) -> errors.WeightsMismatch:
    return errors.FileChangedError(
        f"{case.path}: changed by another process while it was read; load it again",
        path=case.path,
    )


def _wrong_size(case: _Case) -> errors.WeightsMismatch:
    failure, plan = case.failure, case.plan
    after = f" after {where(plan, plan.assignments[-1].segment)}" if plan.assignments else ""
    return wrong_size(case.path, failure.actual, failure.expected, after)


def wrong_size(path: str, actual: int, expected: int, after: str = "") -> errors.SizeMismatchError:
    """Returns the error for a file of another size than the network's, in bytes."""
    surplus = actual - expected
    problem = f"{surplus} bytes left{after}" if surplus > 0 else f"{-surplus} bytes too short"
    return errors.SizeMismatchError(
        f"{path}: {problem}: it has {actual} bytes, the network {expected}; cfg and weights do not "
        "match",
        path=path,
        expected=expected,
        found=actual,
    )


def _file_too_short(case: _Case) -> errors.WeightsMismatch:
    failure, segment = case.failure, case.assignment.segment
    norm = case.assignment.norm
    shape = segment.shape if norm is None or case.role == segment.role else norm.shape
    return errors.SizeMismatchError(
        f"{case.path}: too short: {case.where} needs {case.role} {'x'.join(map(str, shape))} at "
        f"{case.range}, the file ends at {failure.actual}; cfg and weights do not match, or the "
        "file is truncated",
        **case.range_facts,
        expected=failure.expected,
        found=failure.actual,
    )


def _nonfinite(case: _Case) -> errors.WeightsMismatch:
    return errors.ContentError(
        f"{case.path}: {case.role} of {case.where} has "
        f"{plural(case.failure.actual, 'non-finite value')} at {case.range}; the file is damaged "
        "or its training diverged: get an undamaged copy, or use an earlier checkpoint",
        **case.range_facts,
        detected="nan_or_inf",
        count=case.failure.actual,
    )


def _huge(case: _Case) -> errors.WeightsMismatch:
    return errors.ContentError(
        f"{case.path}: {case.role} of {case.where} has {plural(case.failure.actual, 'value')} of "
        f"{HUGE_TEXT} or more at {case.range}, which no network learns; the file is damaged: get "
        "an undamaged copy",
        **case.range_facts,
        detected="huge",
        count=case.failure.actual,
    )


def _negative_variance(case: _Case) -> errors.WeightsMismatch:
    return errors.ContentError(
        f"{case.path}: moving_variance of {case.where} has "
        f"{plural(case.failure.actual, 'negative value')} at {case.range}; the size matches but "
        "the floats belong to another network, or the file is damaged: use the cfg it was trained "
        "with, or get an undamaged copy",
        **case.range_facts,
        detected="negative_variance",
        count=case.failure.actual,
    )


def _zeros(case: _Case) -> errors.WeightsMismatch:
    size = case.failure.end - case.failure.offset
    return errors.ContentError(
        f"{case.path}: {size} bytes of zeros at {case.range}, starting in the {case.role} of "
        f"{case.where}: they were never written; get the whole file again",
        **case.range_facts,
        detected="zeros",
    )


def _repeated(case: _Case) -> errors.WeightsMismatch:
    failure = case.failure
    size = failure.end - failure.offset
    return errors.ContentError(
        f"{case.path}: {case.range}, starting in the {case.role} of {case.where}, repeat the "
        f"{size} bytes at {failure.expected}..{failure.actual}: the file was assembled wrongly, "
        "for example by a resumed download; get it again",
        **case.range_facts,
        detected="repeated",
        first_offset=failure.expected,
        first_end=failure.actual,
    )


def _wrong_shape(case: _Case) -> errors.WeightsMismatch:
    assignment, slot = case.assignment, case.assignment.slot
    order = " HWIO" if len(assignment.shape) == 4 and not slot.depthwise else ""
    return errors.ModelMismatchError(
        f"{case.path}: variable {slot.name} is {slot.shape}, the file has{order} "
        f"{assignment.shape} for it; {case.where}",
        expected=assignment.shape,
        found=slot.shape,
        **case.slot_facts,
    )


def _wrong_dtype(case: _Case) -> errors.WeightsMismatch:
    slot = case.assignment.slot
    fix = "; pass cast=True to round" if slot.dtype in ("float16", "bfloat16") else ""
    return errors.ModelMismatchError(
        f"{case.path}: variable {slot.name} is {slot.dtype}, the file holds float32; "
        f"{case.where}{fix}",
        expected="float32",
        found=slot.dtype,
        **case.slot_facts,
    )


def _shared(case: _Case) -> errors.WeightsMismatch:
    other = case.assignments[case.failure.expected]
    return errors.ModelMismatchError(
        f"{case.path}: variable {case.assignment.slot.name} is used for the {case.role} of "
        f"{case.where} and for the {other.segment.role} of {where(case.plan, other.segment)}; use "
        "a variable for each",
        **case.slot_facts,
    )


def _uninitialized(case: _Case) -> errors.WeightsMismatch:
    return errors.ModelMismatchError(
        f"{case.path}: variable {case.assignment.slot.name} is not initialized; {case.where}; "
        "initialize it first",
        **case.slot_facts,
    )


def _symbolic(case: _Case) -> errors.WeightsMismatch:
    return errors.ModelMismatchError(
        f"{case.path}: variable {case.assignment.slot.name} belongs to a TensorFlow graph and has "
        f"no memory yet; {case.where}; build the model in eager mode, outside any tf.Graph",
        **case.slot_facts,
    )


def _bad_segment(case: _Case) -> errors.WeightsMismatch:
    segment = case.assignment.segment
    return errors.ModelMismatchError(
        f"{case.path}: {segment.role} {segment.shape} is not a valid array ({case.failure.code}); "
        f"{case.where}",
        **case.slot_facts,
    )


_ERRORS: dict[str, Callable[[_Case], errors.WeightsMismatch]] = {
    "changed": _changed,
    "wrong_size": _wrong_size,
    "file_too_short": _file_too_short,
    "bad_segment": _bad_segment,
    "wrong_rank": _wrong_shape,
    "wrong_shape": _wrong_shape,
    "wrong_dtype": _wrong_dtype,
    "uninitialized": _uninitialized,
    "shared": _shared,
    "symbolic": _symbolic,
    "nonfinite": _nonfinite,
    "huge": _huge,
    "negative_variance": _negative_variance,
    "zeros": _zeros,
    "repeated": _repeated,
}
"""By code of native code; `changed` is a `FileCode`, `symbolic` is only detected in Python."""
