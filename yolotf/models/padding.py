"""Where the padding of a model's convolutions and pools differs from Darknet's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from yolotf.darknet import cfg
from yolotf.darknet.layer import Sliding
from yolotf.models.keras_calls import Pad, Window, effect, pads_of
from yolotf.models.keras_graph import Call
from yolotf.models.units import passes

NO_SIDES = ((0, 0), (0, 0))


def of_convolution(
    window: Window,
    shape: Sequence[int | None],
    sides: Any,
    section: cfg.Layer | None,
    visible: bool,
) -> str | None:
    """Returns how the windows of a convolution begin or end elsewhere; None if they don't.

    Args:
        window: its window.
        shape: the shape of its input, before padding by `sides`.
        sides: explicit zeros around the input.
        section: the section it was loaded as.
        visible: whether it is known that there is no other padding than `sides`.
    """
    sliding = None if section is None else section.sliding
    extents = _extents(shape, None if sliding is None else section)
    begins, positions = _windows(window, extents, sides)
    # No window reads zeros after the last one.
    ends = [
        max(0, (count - 1) * stride + size - extent - before)
        for count, stride, size, extent, before in zip(
            positions, window.strides, window.size, extents, begins, strict=True
        )
    ]
    text = _pads_text(begins, ends)
    if not visible and window.padding != "same":
        return None
    if sliding is None:
        if any(end > begin for begin, end in zip(begins, ends, strict=True)):
            return f"{text}, Darknet as many on both sides"
        return None
    if window.strides != sliding.strides:
        return None
    before = sliding.padding_before
    if (begins, positions) == ([before, before], _expected(window, extents, sliding)):
        return None
    return f"{text}, Darknet {before} on all sides"


def of_pool(window: Window, call: Call, section: cfg.Layer) -> str | None:
    """Returns how the windows of a pool begin or end elsewhere; None if they don't.

    Args:
        window: its window.
        call: its call in the model.
        section: the pool in the cfg.
    """
    sliding = section.sliding
    if sliding is None:
        return None
    if window.size != (sliding.size, sliding.size) or window.strides != sliding.strides:
        return None
    source, sides = zeros_before(call)
    if sides != NO_SIDES:
        return "zeros before a pooling layer, Darknet ignores positions outside the image"
    extents = _extents(source.shape, section)
    begins, positions = _windows(window, extents, sides)
    before, wanted = sliding.padding_before, _expected(window, extents, sliding)
    if (begins, positions) == ([before, before], wanted):
        return None
    return (
        f"{begins[0]} rows before and {positions[0]} out of {extents[0]}, Darknet {before} before "
        f"and {wanted[0]} out"
    )


def _windows(window: Window, extents: Sequence[int], sides: Any) -> tuple[list[int], list[int]]:
    """Returns the zeros before the first window, and the windows, of rows and columns."""
    padded = [extent + sum(side) for extent, side in zip(extents, sides, strict=True)]
    own, positions = pads_of(window, padded)
    begins = [before + more for (before, _), (more, _) in zip(sides, own, strict=True)]
    return begins, list(positions)


def _expected(window: Window, extents: Sequence[int], sliding: Sliding) -> list[int]:
    """Returns the windows of rows and columns that Darknet has."""
    return [
        (extent + sliding.total_padding - size) // stride + 1
        for extent, size, stride in zip(extents, window.size, window.strides, strict=True)
    ]


def zeros_before(call: Call) -> tuple[Call, Any]:
    """Returns the source of a call's input before padding, and the padding in between."""
    source = call.inputs[0]
    sides: Any = NO_SIDES
    while source.layer is not None and len(source.inputs) == 1:
        changes = effect(source)
        if isinstance(changes, Pad):
            sides = tuple(
                (before + more_before, after + more_after)
                for (before, after), (more_before, more_after) in zip(
                    sides, changes.sides, strict=True
                )
            )
        elif not passes(source.layer):
            break
        source = source.inputs[0]
    return source, sides


def _extents(shape: Sequence[int | None], section: cfg.Layer | None) -> list[int]:
    """Returns rows and columns; the section's, or 64, where the model's are None."""
    usual = (64, 64) if section is None else section.input_shape[:2]
    known = shape[1:3] if len(shape) == 4 else (None, None)
    return [
        extent if extent is not None else other for extent, other in zip(known, usual, strict=True)
    ]


def _pads_text(begins: Iterable[int], ends: Iterable[int]) -> str:
    (top, left), (bottom, right) = begins, ends
    if top == left == bottom == right:
        return f"{top} on all sides"
    if (top, bottom) == (left, right):
        return f"{top} before and {bottom} after"
    return f"{top} above, {bottom} below, {left} left, {right} right"
