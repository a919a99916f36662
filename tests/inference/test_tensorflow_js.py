"""Exports in TensorFlow.js, on Node.js: `make test-js` installs what it takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support import numpy_loader
from support.cfgs import conv, net, normalized, yolo
from support.networks_of_sections import SECTIONS, SMALL
from yolotf import Classifier, Detector, parse_cfg

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

HEAD = conv(18) + yolo(4, "20,9, 30,30", mask="0,1", num=2)
BODY = net(32, 64) + normalized(8, 3, stride=2) + normalized(8, 3, "mish")
NETWORKS = {
    "two heads": SMALL,
    "letter_box": SMALL.replace("channels=3", "channels=3\nletter_box=1", 1),
    "Gaussian_yolo": BODY
    + conv(26)
    + "[Gaussian_yolo]\nmask=0,1\nanchors=20,9, 30,30\nclasses=4\nnum=2\n",
    "region": BODY
    + conv(18)
    + "[region]\nanchors=1,2, 3,4\nclasses=4\nnum=2\ncoords=4\nsoftmax=1\n",
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
    text = NETWORKS[name]
    (tmp_path / "a.weights").write_bytes(numpy_loader.random_file(text, 3))
    detector = Detector(parse_cfg(text), tmp_path / "a.weights", score_threshold=0.2, max_boxes=20)
    detector.export(tmp_path / "saved")
    model = converted(tmp_path / "saved", tmp_path / "js")
    images = np.random.default_rng(3).integers(0, 256, (2, 40, 50, 3)).astype(np.uint8)
    answer = run(model, images)
    expected = detector(list(images))
    assert answer["counts"].tolist() == [len(detections) for detections in expected]
    assert min(map(len, expected)) > 3
    for number, detections in enumerate(expected):
        rows = slice(len(detections))
        np.testing.assert_allclose(answer["boxes"][number, rows], detections.xyxy, atol=1e-3)
        np.testing.assert_allclose(answer["scores"][number, rows], detections.scores, atol=1e-5)
        np.testing.assert_array_equal(answer["classes"][number, rows], detections.classes)


def test_tensorflow_js_gives_no_detections_for_empty_images_and_batches(tmp_path):
    (tmp_path / "a.weights").write_bytes(numpy_loader.random_file(SMALL, 3))
    detector = Detector(
        parse_cfg(SMALL), tmp_path / "a.weights", score_threshold=0.999, max_boxes=20
    )
    detector.export(tmp_path / "saved")
    model = converted(tmp_path / "saved", tmp_path / "js")
    for batch in (2, 0):
        answer = run(model, np.zeros((batch, 40, 50, 3), np.uint8))
        assert answer["counts"].tolist() == [0] * batch
        assert answer["boxes"].shape == (batch, 20, 4)


def test_tensorflow_js_classifies_the_same(tmp_path):
    text = net(32, 40) + normalized(8, 3, stride=2) + "[avgpool]\n" + conv(5) + "[softmax]\n"
    (tmp_path / "a.weights").write_bytes(numpy_loader.random_file(text, 3))
    classify = Classifier(parse_cfg(text), tmp_path / "a.weights")
    classify.export(tmp_path / "saved")
    model = converted(tmp_path / "saved", tmp_path / "js")
    images = np.random.default_rng(3).integers(0, 256, (2, 29, 50, 3)).astype(np.uint8)
    for expected, row in zip(
        classify(list(images), top=5), run(model, images)["probabilities"], strict=True
    ):
        np.testing.assert_allclose(row[expected.classes], expected.scores, atol=1e-6)
