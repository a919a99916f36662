"""Models pruned and quantized by tfmot, tf_keras' optimization toolkit; see `make test-tfmot`."""

import os
import subprocess
import sys

import pytest

from support import numpy_loader
from support.networks_of_sections import SMALL

FOLDER = os.environ.get("YOLOTF_TFMOT")
PROGRAM = """
import sys
sys.path.append(sys.argv[3])
import numpy as np
import tensorflow_model_optimization as tfmot
import yolotf

model = yolotf.build_model(sys.argv[1], weights=sys.argv[2])
images = np.random.default_rng(1).random((1, *model.input_shape[1:]), np.float32)
expected = model(images)
pruned = tfmot.sparsity.keras.prune_low_magnitude(model)
for found, like in zip(pruned(images, training=False), expected, strict=True):
    np.testing.assert_allclose(found, like, atol=1e-5)
quantized = tfmot.quantization.keras.quantize_model(model)
assert len(quantized(images)) == len(expected)
try:
    yolotf.load_darknet_weights(quantized, sys.argv[2])
except yolotf.WeightsMismatch as error:
    print(error)
"""


@pytest.mark.skipif(FOLDER is None, reason="needs tfmot, see make test-tfmot")
@pytest.mark.parametrize("network", ["yolov4-tiny", "small"])
def test_pruned_and_quantized_models_are_recognised(network, tmp_path, official_tiny):
    """yolov4-tiny has slices of channels, SMALL a depthwise convolution."""
    weights = official_tiny.weights
    if network == "small":
        network, weights = tmp_path / "small.cfg", tmp_path / "small.weights"
        network.write_text(SMALL.replace("mish", "leaky").replace("swish", "leaky"))
        weights.write_bytes(numpy_loader.random_file(network.read_text()))
    command = [sys.executable, "-c", PROGRAM, network, weights, FOLDER]
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "is quantized (quantization-aware), the file holds float32" in done.stdout
