"""Holes and repeated blocks are damage; dead filters, patterns and untrained networks are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_diagnosis import trained

from support import helpers
from support.diagnosis_cases import pairs
from support.messages import said
from yolotf import diagnosis
from yolotf.darknet import stock as networks
from yolotf.weights import layout

NETWORK = networks.network("yolov4-tiny", classes=3)
RAW = trained(NETWORK)
KERNEL = max(layout.segments(NETWORK), key=lambda segment: segment.count)
INSIDE = 20 + KERNEL.offset + 40_004
KB, MB = 1024, 1024 * 1024


def check(content: bytes, path: Path) -> diagnosis.Diagnosis:
    path.write_bytes(content)
    return diagnosis.diagnose(path, NETWORK)


@pytest.mark.parametrize("start", [len(RAW) // 2, len(RAW) - MB, len(RAW) - 6 * MB, len(RAW) - 400])
def test_a_tail_of_zeros_is_damage(start: int, tmp_path: Path) -> None:
    result = check(RAW[:start] + bytes(len(RAW) - start), tmp_path / "f.weights")
    assert not result.ok
    assert {cause["detected"] for cause in result.causes} == {"zeros"}
    assert result.causes[0].offset < len(RAW)


@pytest.mark.parametrize("size", [4 * KB, 64 * KB, MB, 4 * MB])
def test_zeros_inside_a_kernel_are_damage(size: int, tmp_path: Path) -> None:
    result = check(RAW[:INSIDE] + bytes(size) + RAW[INSIDE + size :], tmp_path / "f.weights")
    (cause,) = result.causes
    assert (cause["detected"], cause.layer, cause.role) == ("zeros", KERNEL.layer, "kernel")
    assert (cause.offset, cause.end) == (INSIDE, INSIDE + size)


def test_a_hole_of_a_sparse_file_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "f.weights"
    with path.open("wb") as file:
        file.write(RAW[:1_000_000])
        file.truncate(len(RAW))
    result = diagnosis.diagnose(path, NETWORK)
    assert {cause["detected"] for cause in result.causes} == {"zeros"}


@pytest.mark.parametrize("size", [64 * KB, 100_000, MB])
def test_repeated_block_is_damage(size: int, tmp_path: Path) -> None:
    block = RAW[3_000_020 : 3_000_020 + size]
    result = check(RAW[:INSIDE] + block + RAW[INSIDE + size :], tmp_path / "f.weights")
    (cause,) = result.causes
    assert cause["detected"] == "repeated"
    ranges = sorted([(cause.offset, cause.end), (cause.repeats, cause.repeats + cause.count)])
    assert ranges == sorted([(3_000_020, 3_000_020 + size), (INSIDE, INSIDE + size)])


@pytest.mark.parametrize("role", ["beta", "gamma", "moving_mean", "moving_variance", "kernel"])
def test_flipped_exponent_bit_is_damage(role: str, tmp_path: Path) -> None:
    """Flipping the highest exponent bit turns trained numbers into numbers of 1e36."""
    bits = np.frombuffer(RAW[20:], np.uint32).copy()
    segment = next(
        candidate for candidate in layout.segments(NETWORK)[30:] if candidate.role == role
    )
    at = segment.offset // 4 + 7
    bits[at] = np.float32(0.7).view(np.uint32) ^ np.uint32(1 << 30)
    result = check(RAW[:20] + bits.tobytes(), tmp_path / "f.weights")
    (cause,) = result.to_dict()["causes"]
    assert (cause["detected"], cause["layer"], cause["role"]) == ("huge", segment.layer, role)
    assert (cause["offset"], cause["end"], cause["count"]) == (20 + 4 * at, 24 + 4 * at, 1)
    said(cause["message"])


def test_large_numbers_are_no_damage(tmp_path: Path) -> None:
    floats = np.frombuffer(RAW[20:], "<f4").copy()
    floats[KERNEL.offset // 4 + 5] = 9e29
    assert check(RAW[:20] + floats.tobytes(), tmp_path / "f.weights").ok


def test_dead_filters_are_no_damage(tmp_path: Path) -> None:
    floats = np.frombuffer(RAW[20:], "<f4").copy()
    for segment in layout.segments(NETWORK):
        start, row = segment.offset // 4, segment.count // segment.shape[0]
        floats[start + 2 * row : start + 5 * row] = 0
    assert check(RAW[:20] + floats.tobytes(), tmp_path / "f.weights").ok


@pytest.mark.parametrize("pattern", [[0.5], [1.0, -1.0], list(np.arange(1, 101))])
def test_patterns_are_no_damage(pattern: list[float], tmp_path: Path) -> None:
    floats = np.frombuffer(RAW[20:], "<f4").copy()
    start = KERNEL.offset // 4
    floats[start : start + KERNEL.count] = np.resize(pattern, KERNEL.count)
    assert check(RAW[:20] + floats.tobytes(), tmp_path / "f.weights").ok


@pytest.mark.parametrize("pair", helpers.shared_params(pairs, lambda pair: pair[0].stem[:40]))
def test_real_files_have_no_damage(pair: tuple[Path, Path]) -> None:
    assert diagnosis.diagnose(*pair).ok
