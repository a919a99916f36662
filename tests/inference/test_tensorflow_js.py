"""Exports in TensorFlow.js, on Node.js: `make test-js` installs what it takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.exports import BODY, CLASSIFIER, HEAD, HEADS, assert_detections, exported, images
from support.networks_of_sections import SECTIONS, SMALL
from yolotf import Classifier

FOLDER = os.environ.get("YOLOTF_JS", "")
RUN = Path(__file__).parents[1] / "javascript/run.mjs"
pytestmark = [
    pytest.mark.javascript,
    pytest.mark.skipif(not FOLDER, reason="needs Node.js and TensorFlow.js; see make test-js"),
]

# Its converter imports packages that it needs for other formats than a SavedModel.
CONVERT = """
import sys, types
sys.path.append(sys.argv[1])
for name in ("tensorflow_decision_forests", "tensorflow_hub", "jax", "jax.experimental"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["jax.experimental"].jax2tf = None
from tensorflowjs.converters import tf_saved_model_conversion_v2 as conversion
conversion.convert_tf_saved_model(
    sys.argv[2], sys.argv[3], signature_def="serving_default", control_flow_v2=True
)
"""

NETWORKS = {
    **{name: HEADS[name] for name in ("two heads", "letter_box", "Gaussian_yolo", "region")},
    **{
        name: f"{BODY}{SECTIONS[name]}\n{HEAD}"
        for name in ("dilation", "local_avgpool", "reorg", "shortcut_per_channel", "xnor")
    },
}


def converted(saved, folder):
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1"}
    arguments = [f"{FOLDER}/python", str(saved), str(folder)]
    subprocess.run([sys.executable, "-c", CONVERT, *arguments], check=True, env=environment)
    return folder


def run(model, images):
    """The outputs by name."""
    path = model / "input.json"
    path.write_text(json.dumps({"shape": images.shape, "data": images.ravel().tolist()}))
    command = ["node", str(RUN), f"{FOLDER}/node_modules", str(model), str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    return {name: np.reshape(output["data"], output["shape"]) for name, output in answer.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_tensorflow_js_detects_the_same(name, tmp_path):
    detector, saved = exported(NETWORKS[name], tmp_path, score_threshold=0.2, max_boxes=20)
    model = converted(saved, tmp_path / "js")
    expected = detector(list(images()))
    assert min(map(len, expected)) > 3
    assert_detections(run(model, images()), expected, box_tolerance=1e-3)


def test_tensorflow_js_gives_no_detections_for_empty_images_and_batches(tmp_path):
    _, saved = exported(SMALL, tmp_path, score_threshold=0.999, max_boxes=20)
    model = converted(saved, tmp_path / "js")
    for batch in (2, 0):
        answer = run(model, np.zeros((batch, 40, 50, 3), np.uint8))
        assert answer["counts"].tolist() == [0] * batch
        assert answer["boxes"].shape == (batch, 20, 4)


def test_tensorflow_js_classifies_the_same(tmp_path):
    classify, saved = exported(CLASSIFIER, tmp_path, Classifier)
    model = converted(saved, tmp_path / "js")
    pictures = images()[:, :29]
    for expected, row in zip(
        classify(list(pictures), top=5), run(model, pictures)["probabilities"], strict=True
    ):
        np.testing.assert_allclose(row[expected.classes], expected.scores, atol=1e-6)
