"""A refused load raises one sentence, and TensorFlow prints nothing about it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from support import helpers

SCRIPT = """
import pathlib, sys
import yolotf
from support import helpers
from yolotf.formats.convert import convert
folder = sys.argv[1]
network = yolotf.network("yolov4-tiny", classes=2, size=64)
helpers.write_weights(pathlib.Path(folder, "a.weights"), network, scale=0.05)
raw = open(folder + "/a.weights", "rb").read()
model = yolotf.build_model(network)
print("STARTED", file=sys.stderr, flush=True)
hole = raw[:9_000_000] + bytes(100_000) + raw[9_100_000:]
nan = raw[:9_000_000] + b"\\xff" * 4 + raw[9_000_004:]
refused = 0
for number, content in enumerate((raw[:-4], raw[:100], raw + b"more", hole, nan)):
    path = f"{folder}/{number}.weights"
    open(path, "wb").write(content)
    for load in (
        lambda: yolotf.load_darknet_weights(model, path),
        lambda: yolotf.load_darknet_weights(model, path, by_name=True),
        lambda: yolotf.load_darknet_weights(model, path, skip_mismatch=True),
        lambda: yolotf.load_darknet_weights(model, path, cfg=network),
        lambda: convert(path, network, folder + "/out.keras"),
        lambda: yolotf.Detector(network, path),
    ):
        try:
            load()
        except yolotf.WeightsMismatch:
            refused += 1
print(refused)
"""


@pytest.mark.slow
def test_tensorflow_prints_nothing_about_a_refused_load(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=str(tmp_path),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(helpers.PYTHONPATH)},
    )
    assert int(done.stdout.split()[-1]) >= 26
    # What TensorFlow says of the machine when it is imported is not about the load.
    stderr = done.stderr.partition("STARTED\n")[2]
    assert "local_rendezvous" not in stderr
    assert "INVALID_ARGUMENT" not in stderr
    assert "InvalidArgument" not in stderr
    assert "Traceback" not in stderr
