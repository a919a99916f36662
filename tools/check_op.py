"""Loads a small network into the installed TensorFlow; fails unless the op loaded it."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

import yolotf
from yolotf.weights import layout

assert sys.prefix in yolotf.__file__, yolotf.__file__
network = yolotf.network("yolov4-tiny", classes=1, size=64)
random = np.random.default_rng(0)
floats = random.uniform(0.5, 1.5, layout.floats(network)).astype(np.float32)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "tiny.weights"
    path.write_bytes(np.array([0, 2, 5, 0, 0], np.int32).tobytes() + floats.tobytes())
    report = yolotf.load_darknet_weights(yolotf.build_model(network), path)
assert report.path_taken == "op", report
print(f"TensorFlow {tf.__version__}:", report)
