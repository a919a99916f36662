"""ONNX files, read by what people come from or go to; `make test-readers` has all of it."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import yolotf
from support import read_onnx
from support.onnx_engines import assert_close, pictures_for, runtime_heads, tame_file
from yolotf.formats.convert import convert

PYTHON = os.environ.get("YOLOTF_READERS")
PROGRAM = Path(read_onnx.__file__)


@pytest.mark.skipif(PYTHON is None, reason="needs the environment of make test-readers")
@pytest.mark.parametrize("reader", read_onnx.READERS)
@pytest.mark.parametrize("name", ["yolov4-tiny", "yolov4"])
def test_readers_compute_the_heads(name, reader, tmp_path):
    network = yolotf.network(name, classes=3, size=(64, 96))
    weights, model = tmp_path / "a.weights", tmp_path / "a.onnx"
    weights.write_bytes(tame_file(network))
    convert(weights, network, model, batch_size=1)
    images = pictures_for(network, batch=1)
    np.save(tmp_path / "images.npy", images)
    command = [PYTHON, PROGRAM, reader, model, tmp_path / "images.npy", tmp_path / "found.npz"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    with np.load(tmp_path / "found.npz") as found:
        arrays = [found[f"arr_{number}"] for number in range(len(found.files))]
    expected = runtime_heads(network, weights, images)
    pairs = zip(arrays, expected, strict=True)
    assert_close([one.reshape(other.shape) for one, other in pairs], expected)
