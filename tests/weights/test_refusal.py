"""What native code refuses, without a diagnosis: the sentence and every fact of the error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support import helpers, messages
from yolotf.darknet import cfg
from yolotf.errors import ContentError, SizeMismatchError, WeightsMismatch
from yolotf.weights import layout
from yolotf.weights.arrays import fill_arrays
from yolotf.weights.file import WeightsFile

CONV = "[convolutional]\nbatch_normalize=1\nfilters=64\nsize=3\npad=1\nactivation=leaky\n"
NETWORK = cfg.parse_text(f"[net]\nwidth=16\nheight=16\nchannels=64\n{CONV}{CONV}", source="a.cfg")
SEGMENTS = layout.segments(NETWORK)
KERNEL = SEGMENTS[-1]
START = 20 + KERNEL.offset
"""The first byte of the second kernel, which has 36,864 floats."""


def slot(segment: layout.Segment, role: str, shape: tuple[int, ...]) -> layout.Slot:
    return layout.Slot("v", role, np.empty(shape, np.float32), shape, "float32")


def plain() -> tuple[layout.Assignment, ...]:
    shapes = [
        layout.assignment(segment, slot(segment, segment.role, segment.shape)).shape
        for segment in SEGMENTS
    ]
    return tuple(
        layout.assignment(segment, slot(segment, segment.role, shape))
        for segment, shape in zip(SEGMENTS, shapes, strict=True)
    )


def folded() -> tuple[layout.Assignment, ...]:
    """The second layer as an inference network has it: a kernel and a bias."""
    beta, gamma, *_, kernel = SEGMENTS[-5:]
    shape = layout.assignment(kernel, slot(kernel, "kernel", kernel.shape)).shape
    return (
        layout.folded(beta, gamma, slot(beta, "bias", (64,))),
        layout.folded(kernel, gamma, slot(kernel, "kernel", shape)),
    )


@pytest.fixture
def refusal(tmp_path: Path):
    """Changes a file, loads it, and returns the error."""
    path = tmp_path / "a.weights"
    numbers = helpers.write_weights(path, NETWORK, scale=0.05)
    assert numbers is not None

    def refused(change, moves: tuple[layout.Assignment, ...] | None = None) -> WeightsMismatch:
        path.write_bytes(change(bytearray(path.read_bytes())))
        file = WeightsFile.named(path).parsed(layout.floats(NETWORK))
        plan = layout.Plan(plain() if moves is None else moves, None, NETWORK)
        arrays = [assignment.slot.variable for assignment in plan.assignments]
        with messages.refused(WeightsMismatch, path=str(path)) as caught:
            fill_arrays(file, plan, arrays, verify=True, threads=2)
        return caught.value

    return refused


def put(start: int, content: bytes):
    def change(raw: bytearray) -> bytes:
        return bytes(raw[:start] + content + raw[start + len(content) :])

    return change


def test_block_of_zeros_is_refused(refusal) -> None:
    error = refusal(put(START + 1000, bytes(8192)))
    assert isinstance(error, ContentError)
    assert (error.detected, error.layer, error.role) == ("zeros", 1, "kernel")
    assert (error.offset, error.end) == (START + 1000, START + 9192)


def test_repeated_block_is_refused(refusal) -> None:
    def change(raw: bytearray) -> bytes:
        block = raw[START + 400 : START + 400 + 70_000]
        return bytes(raw[: START + 76_000] + block + raw[START + 146_000 :])

    error = refusal(change)
    assert isinstance(error, ContentError)
    assert (error.offset, error.end) == (START + 76_000, START + 146_000)
    assert (error.detected, error.first_offset, error.first_end) == (
        "repeated",
        START + 400,
        START + 70_400,
    )


@pytest.mark.parametrize(
    ("number", "detected"),
    [
        (
            np.inf,
            "nan_or_inf",
        ),
        (
            -1e30,
            "huge",
        ),
    ],
)
def test_values_that_no_network_has_are_refused(number: float, detected: str, refusal) -> None:
    error = refusal(put(START + 4, np.float32([number, number]).tobytes()))
    assert (error.detected, error.count) == (detected, 2)
    assert (error.offset, error.end) == (START + 4, START + 12)


def test_negative_variance_is_refused(refusal) -> None:
    start = 20 + SEGMENTS[-2].offset
    error = refusal(put(start, np.float32([-1]).tobytes()))
    assert (error.detected, error.role) == ("negative_variance", "moving_variance")
    assert (error.offset, error.end) == (start, start + 4)


def test_file_that_ends_inside_a_folded_normalization_is_refused(refusal) -> None:
    """The missing array is one of the file, not the variable it is folded into."""
    variance = SEGMENTS[-2]
    start = 20 + variance.offset
    error = refusal(lambda raw: bytes(raw[: start + 100]), folded())
    assert isinstance(error, SizeMismatchError)
    assert (error.role, error.expected, error.found) == (
        "moving_variance",
        start + 256,
        start + 100,
    )
