"""No load accepts a file that `check` calls damaged, and every load accepts the others."""

from __future__ import annotations

import numpy as np
import pytest

import yolotf
from support import helpers
from yolotf.formats.convert import convert
from yolotf.weights import layout

# Read from its text: a load of a stock network by name with other classes is warned of.
NETWORK = yolotf.parse_cfg(yolotf.network("yolov4-tiny", classes=3, size=64).to_cfg())
SEGMENTS = layout.segments(NETWORK)
KERNEL = max(SEGMENTS, key=lambda segment: segment.count)
INSIDE = 20 + KERNEL.offset + 40_004


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / "good.weights"
    helpers.write_weights(path, NETWORK, scale=0.05)
    return path.read_bytes()


def role(name):
    return next(segment for segment in SEGMENTS[20:] if segment.role == name)


def nans(raw, name, number):
    at = 20 + role(name).offset + 4
    return raw[:at] + np.float32(number).tobytes() + raw[at + 4 :]


def dead_channels(raw):
    floats = np.frombuffer(raw[20:], "<f4").copy()
    bits = floats.view(np.uint32)
    for segment in SEGMENTS:
        if segment.role == "moving_variance":
            bits[segment.offset // 4 : segment.offset // 4 + 4] = 0x80000032
    return raw[:20] + floats.tobytes()


DAMAGES = {
    "NaN in beta": lambda raw: nans(raw, "beta", np.nan),
    "infinity in gamma": lambda raw: nans(raw, "gamma", np.inf),
    "NaN in a mean": lambda raw: nans(raw, "moving_mean", np.nan),
    "infinity in a variance": lambda raw: nans(raw, "moving_variance", -np.inf),
    "NaN in a kernel": lambda raw: nans(raw, "kernel", np.nan),
    "a huge gamma": lambda raw: nans(raw, "gamma", 1e30),
    "a huge kernel": lambda raw: nans(raw, "kernel", -3e38),
    "the second half zero": lambda raw: raw[: len(raw) // 2] + bytes(len(raw) - len(raw) // 2),
    "a page of zeros": lambda raw: raw[:INSIDE] + bytes(4096) + raw[INSIDE + 4096 :],
    "a block twice": lambda raw: raw[:INSIDE] + raw[3_000_020:3_100_020] + raw[INSIDE + 100_000 :],
}


def before_and_after(model, attempt):
    before = [variable.numpy().copy() for variable in model.variables]
    with pytest.raises(yolotf.WeightsMismatch) as caught:
        attempt()
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    return caught.value


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_entry_point_refuses_damaged_files(damage, raw, tmp_path):
    good, path = tmp_path / "good.weights", tmp_path / "bad.weights"
    good.write_bytes(raw)
    path.write_bytes(DAMAGES[damage](raw))
    kinds = [cause["kind"] for cause in yolotf.diagnose(path, NETWORK).causes]
    assert "damaged" in kinds
    model = yolotf.build_model(NETWORK)
    load = yolotf.load_darknet_weights
    for options in ({}, {"by_name": True}, {"skip_mismatch": True}, {"cfg": NETWORK}):
        error = before_and_after(model, lambda: load(model, path, **options))  # noqa: B023
        assert error.diagnosis is not None
        assert "damaged" in [cause["kind"] for cause in error.diagnosis.causes]
    with pytest.raises(yolotf.WeightsMismatch) as caught:
        yolotf.Detector(NETWORK, path)
    assert caught.value.diagnosis is not None
    detector = yolotf.Detector(NETWORK, good)
    with pytest.raises(yolotf.WeightsMismatch) as caught:
        detector.reload(path)
    assert caught.value.diagnosis is not None
    assert detector.reloads == 0
    with pytest.raises(yolotf.WeightsMismatch):
        convert(path, NETWORK, tmp_path / "out.keras")
    assert not (tmp_path / "out.keras").exists()


def test_dead_channels_load_at_every_entry_point(raw, tmp_path):
    path = tmp_path / "dead.weights"
    path.write_bytes(dead_channels(raw))
    assert yolotf.diagnose(path, NETWORK).ok
    yolotf.load_darknet_weights(yolotf.build_model(NETWORK), path)
    yolotf.Detector(NETWORK, path).reload(path)
