"""ONNX files, read by other programs; `make test-readers` runs all of them."""

import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

import yolotf
from support import read_onnx
from support.networks_of_sections import SECTIONS, around
from support.onnx_engines import assert_close, pictures_for, runtime_heads, tame_file
from yolotf.formats.convert import convert

PYTHON = os.environ.get("YOLOTF_READERS")
with_readers = pytest.mark.skipif(
    PYTHON is None, reason="needs the environment of make test-readers"
)
PROGRAM = Path(read_onnx.__file__)


def read_by(reader, model, images):
    outputs = model.with_suffix(".npz")
    command = [PYTHON, PROGRAM, reader, model, images, outputs]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    with np.load(outputs) as arrays:
        return [arrays[f"arr_{number}"] for number in range(len(arrays.files))]


@with_readers
@pytest.mark.parametrize("reader", read_onnx.READERS)
@pytest.mark.parametrize("name", ["yolov4-tiny", "yolov4"])
def test_readers_compute_the_heads(name, reader, tmp_path):
    network = yolotf.network(name, classes=3, size=(64, 96))
    weights, model = tmp_path / "a.weights", tmp_path / "a.onnx"
    weights.write_bytes(tame_file(network))
    convert(weights, network, model, batch_size=1)
    images = pictures_for(network, batch=1)
    np.save(tmp_path / "images.npy", images)
    arrays = read_by(reader, model, tmp_path / "images.npy")
    expected = runtime_heads(network, weights, images)
    pairs = zip(arrays, expected, strict=True)
    assert_close([output.reshape(other.shape) for output, other in pairs], expected)


NOT_READ = {
    "mnn": {"activations"},
    "ncnn": {
        *("activations", "activations_of_convolutions", "antialiased_pool", "implicit", "local"),
        *("local_overhanging", "maxpool_4_3_padding", "reorg", "reorg3d", "reorg3d_reverse"),
        *("maxpool_depth_before_a_strided_1x1", "reorg_reverse", "split_before_a_strided_1x1"),
        *("strided_1x1_with_padding", "xnor", "xnor_wide"),
    },
}
"""What docs/opencv.md says that a reader does not read, or computes wrongly."""


@with_readers
@pytest.mark.parametrize("name", SECTIONS)
def test_sections_that_readers_compute(name, tmp_path):
    network = yolotf.parse_cfg(around(SECTIONS[name]))
    weights, model = tmp_path / "a.weights", tmp_path / "a.onnx"
    weights.write_bytes(tame_file(network))
    convert(weights, network, model, batch_size=1)
    images = pictures_for(network, batch=1)
    np.save(tmp_path / "images.npy", images)
    expected = runtime_heads(network, weights, images)

    def check(reader):
        arrays = read_by(reader, model, tmp_path / "images.npy")
        pairs = zip(arrays, expected, strict=True)
        assert_close([output.reshape(other.shape) for output, other in pairs], expected)

    for reader in read_onnx.READERS:
        if name in NOT_READ.get(reader, ()):
            with pytest.raises((AssertionError, ValueError)):
                check(reader)
        else:
            check(reader)


@with_readers
@pytest.mark.parametrize("options", [{"decode": True}, {"suppress": True}], ids=str)
def test_opencv_5_finds_what_onnxruntime_finds(options, official_tiny, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    model = tmp_path / "a.onnx"
    convert(official_tiny.weights, official_tiny.cfg, model, **options)
    images = cv2.dnn.blobFromImage(cv2.imread(official_tiny.bus), 1 / 255, (416, 416), swapRB=True)
    np.save(tmp_path / "images.npy", images)
    expected = onnxruntime.InferenceSession(model).run(None, {"images": images})
    outputs = read_by("opencv", model, tmp_path / "images.npy")
    if "suppress" in options:
        assert len(expected[1]) == 6
    for output, other in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(output, other, atol=1e-3)
