"""Words of what native code refuses, as they are without a diagnosis: every fact in its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support import helpers
from yolotf.darknet import cfg
from yolotf.errors import ContentError, SizeMismatchError, WeightsMismatch
from yolotf.weights import layout, write
from yolotf.weights.file import WeightsFile

CONV = "[convolutional]\nbatch_normalize=1\nfilters=64\nsize=3\npad=1\nactivation=leaky\n"
NETWORK = cfg.parse_text(f"[net]\nwidth=16\nheight=16\nchannels=64\n{CONV}{CONV}", source="a.cfg")
SEGMENTS = layout.segments(NETWORK)
KERNEL = SEGMENTS[-1]
START = 20 + KERNEL.offset
"""Of the second kernel: 36,864 floats."""


def slot(segment: layout.Segment, role: str, shape: tuple[int, ...]) -> layout.Slot:
    return layout.Slot("v", role, np.empty(shape, np.float32), shape, "float32")


def plain() -> tuple[layout.Assignment, ...]:
    shapes = [layout.assignment(one, slot(one, one.role, one.shape)).shape for one in SEGMENTS]
    return tuple(
        layout.assignment(one, slot(one, one.role, shape))
        for one, shape in zip(SEGMENTS, shapes, strict=True)
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
    """What a load of a changed file says after its name."""
    path = tmp_path / "a.weights"
    numbers = helpers.write_weights(path, NETWORK, scale=0.05)
    assert numbers is not None

    def refused(
        change, moves: tuple[layout.Assignment, ...] | None = None
    ) -> tuple[WeightsMismatch, str]:
        path.write_bytes(change(bytearray(path.read_bytes())))
        file = WeightsFile.named(path)
        header = file.header(layout.floats(NETWORK))
        plan = layout.Plan(plain() if moves is None else moves, None, NETWORK)
        arrays = [one.slot.variable for one in plan.assignments]
        with pytest.raises(WeightsMismatch) as caught:
            write.write_arrays(file, header, plan, arrays, verify=True, threads=2)
        return caught.value, str(caught.value).removeprefix(f"{path}: ")

    return refused


def put(start: int, content: bytes):
    def change(raw: bytearray) -> bytes:
        return bytes(raw[:start] + content + raw[start + len(content) :])

    return change


def test_zeros(refusal) -> None:
    error, words = refusal(put(START + 1000, bytes(8192)))
    assert words == (
        f"8192 bytes of zeros at bytes {START + 1000}..{START + 9192}, starting in the kernel of "
        "section 1 [convolutional] (a.cfg:11): they were never written; get the whole file again"
    )
    assert isinstance(error, ContentError)
    assert (error.detected, error.layer, error.role) == ("zeros", 1, "kernel")
    assert (error.offset, error.end) == (START + 1000, START + 9192)


def test_a_block_that_stands_twice(refusal) -> None:
    def change(raw: bytearray) -> bytes:
        block = raw[START + 400 : START + 400 + 70_000]
        return bytes(raw[: START + 76_000] + block + raw[START + 146_000 :])

    error, words = refusal(change)
    assert words == (
        f"bytes {START + 76_000}..{START + 146_000}, starting in the kernel of section 1 "
        f"[convolutional] (a.cfg:11), repeat the 70000 bytes at {START + 400}..{START + 70_400}: "
        "the file was assembled wrongly, for example by a resumed download; get it again"
    )
    assert isinstance(error, ContentError)
    assert (error.detected, error.first_offset, error.first_end) == (
        "repeated",
        START + 400,
        START + 70_400,
    )


@pytest.mark.parametrize(
    ("number", "detected", "said"),
    [
        (
            np.inf,
            "nan_or_inf",
            "has 2 non-finite values at bytes {0}..{1}; the file is damaged or its training "
            "diverged: get an undamaged copy, or use an earlier checkpoint",
        ),
        (
            -1e30,
            "huge",
            "has 2 values of 1e30 or more at bytes {0}..{1}, which no network learns; the file is "
            "damaged: get an undamaged copy",
        ),
    ],
)
def test_values_that_no_network_has(number: float, detected: str, said: str, refusal) -> None:
    error, words = refusal(put(START + 4, np.float32([number, number]).tobytes()))
    where = "kernel of section 1 [convolutional] (a.cfg:11) "
    assert words == where + said.format(START + 4, START + 12)
    assert (error.detected, error.count) == (detected, 2)


def test_a_negative_variance(refusal) -> None:
    start = 20 + SEGMENTS[-2].offset
    error, words = refusal(put(start, np.float32([-1]).tobytes()))
    assert words == (
        "moving_variance of section 1 [convolutional] (a.cfg:11) has 1 negative value at bytes "
        f"{start}..{start + 4}; the size matches but the floats belong to another network, or the "
        "file is damaged: use the cfg it was trained with, or get an undamaged copy"
    )
    assert error.detected == "negative_variance"


def test_a_file_that_ends_inside_a_folded_normalization(refusal) -> None:
    """What is missing is an array of the file, not the variable it is folded into."""
    variance = SEGMENTS[-2]
    start = 20 + variance.offset
    error, words = refusal(lambda raw: bytes(raw[: start + 100]), folded())
    assert words == (
        "too short: section 1 [convolutional] (a.cfg:11) needs moving_variance 64 at bytes "
        f"{start}..{start + 256}, the file ends at {start + 100}; cfg and weights do not match, "
        "or the file is truncated"
    )
    assert isinstance(error, SizeMismatchError)
    assert (error.role, error.expected, error.found) == (
        "moving_variance",
        start + 256,
        start + 100,
    )
