"""The same results on every processor: with oneDNN, without it, and with oneDNN limited to AVX2.

Each is a process of its own (`ways_to_run.py`), as TensorFlow looks at its processor once.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import yolotf
from support import helpers
from support.cfgs import conv, maxpool, net, normalized, route, section, shortcut, yolo
from yolotf.formats.convert import convert

pytestmark = pytest.mark.slow

PROCESSORS = {
    "as it comes": {},
    "without oneDNN": {"TF_ENABLE_ONEDNN_OPTS": "0"},
    "oneDNN without AVX-512": {"TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
ENGINES = ["openvino", "onnxruntime"]
LEGACY = {"TF_USE_LEGACY_KERAS": "1"}
SCORES = 1e-4
PIXELS = 0.02
# One of the real networks answers photographs with raw numbers in the thousands. A side is the
# exponential of such a number, so that what lies far outside of a picture varies by a share.
FAR, SHARE = 1e3, 1e-3

# Groups that are neither 1 nor all channels, before every kind of activation, with and without
# batch normalization, stride, dilation, a sum, a kernel stored filters last, a shared kernel.
GROUPED = (
    net(64)
    + normalized(8, 3, stride=2)
    + normalized(16, 3, groups=4)
    + normalized(16, 3, "mish", groups=2)
    + conv(16, 3, groups=4)
    + shortcut(-2, activation="leaky")
    + normalized(24, 3, "swish", groups=8, dilation=2)
    + conv(24, 3, groups=3, activation="relu6", stride=2)
    + normalized(24, 3, "linear", groups=12)
    + normalized(24, 3, "tanh", groups=24, stride_x=1, stride_y=2)
    + normalized(24, 3, "relu", groups=4, flipped=1, stride_x=2)
    + normalized(24, 3, "elu", groups=6)
    + normalized(24, 3, "leaky", groups=6, share_index=-1)
    + conv(48, 3, groups=2, activation="leaky", antialiasing=1, stride=2)
    + maxpool(2)
    + conv(27, 1, groups=3)
    + yolo(4)
    + route(-3)
    + conv(27, 1)
    + yolo(4)
)
RECURRENT = (
    net(32)
    + normalized(8, 3, stride=2)
    + section("crnn", output=8, hidden=12, groups=4, pad=1, batch_normalize=1)
    + section("crnn", output=8, hidden=8, groups=2, pad=1, activation="mish")
    + conv(27, 1)
    + yolo(4)
)


@dataclass
class Material:
    """Networks with their files and pictures, and what was found in them, by processor."""

    folder: Path
    cases: list[dict] = field(default_factory=list)

    def add(self, name, cfg, weights, pictures, ways, score=0.25):
        (self.folder / name).mkdir()
        np.save(self.folder / name / "pictures.npy", np.stack(pictures))
        self.cases.append(
            {
                "name": name,
                "cfg": str(cfg),
                "weights": str(weights),
                "pictures": str(self.folder / name / "pictures.npy"),
                "score": score,
                "ways": ways,
            }
        )
        if "served" in ways:
            yolotf.Detector(cfg, weights, score_threshold=score).export(
                self.folder / name / "served"
            )
        if "converted" in ways:
            convert(weights, cfg, self.folder / name / "converted")
        if "saved" in ways:
            convert(weights, cfg, self.folder / name / "model.keras")

    def add_random(self, name, text, ways):
        """With pictures and weights from nowhere."""
        cfg, weights = self.folder / f"{name}.cfg", self.folder / f"{name}.weights"
        cfg.write_text(text)
        network = yolotf.parse_cfg(cfg)
        helpers.write_weights(weights, network, scale=0.3)
        pictures = np.random.default_rng(1).integers(0, 256, (2, *network.input_shape), np.uint8)
        self.add(name, cfg, weights, pictures, ways, score=0.3)

    def answers(self, name, environment):
        """Of the process `name`."""
        script = Path(__file__).parents[1] / "support/ways_to_run.py"
        done = subprocess.run(
            [sys.executable, script, self.folder, name],
            env={
                **{name: value for name, value in os.environ.items() if name not in LEGACY},
                "PYTHONPATH": os.pathsep.join(helpers.PYTHONPATH),
                "TF_CPP_MIN_LOG_LEVEL": "2",
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with np.load(self.folder / f"{name}.npz") as arrays:
            return dict(arrays)

    def answers_by_processor(self):
        (self.folder / "cases.json").write_text(json.dumps(self.cases))
        with ThreadPoolExecutor(2) as pool:
            answers = pool.map(self.answers, PROCESSORS, PROCESSORS.values())
            return dict(zip(PROCESSORS, answers, strict=True))


def photographs(official_tiny, shape):
    """The demo's two, of the size of a network's input."""
    mode = {1: "L", 3: "RGB"}[shape.channels]
    for path in (official_tiny.bus, official_tiny.zidane):
        with Image.open(path) as image:
            fitted = image.convert(mode).resize((shape.width, shape.height))
        yield np.asarray(fitted).reshape(shape)


def assert_same(by_processor):
    expected, *others = by_processor.values()
    for other in others:
        assert other.keys() == expected.keys()
        for key, array in expected.items():
            if key.endswith(" detections"):
                assert_same_detections(array, other[key], key)
            else:
                atol = 2e-5 * np.abs(array).max()
                np.testing.assert_allclose(other[key], array, rtol=0, atol=atol, err_msg=key)


def assert_same_detections(ours, theirs, key):
    assert len(ours) == len(theirs) > 0, key
    left = list(theirs)  # those of nearly one score may change places
    for detection in ours:
        alike = [
            other
            for other in left
            if tuple(detection[:2]) == tuple(other[:2]) and abs(detection[2] - other[2]) < SCORES
        ]
        assert alike, (key, detection)
        nearest = min(alike, key=lambda other: np.abs(other - detection).sum())
        left = [other for other in left if other is not nearest]
        extent = np.abs(detection[3:])
        within = np.where(extent > FAR, SHARE * extent, PIXELS)
        assert (np.abs(detection - nearest)[3:] <= within).all(), (key, detection, nearest)


def test_grouped_and_official_networks_match_on_all_processors(official_tiny, tmp_path):
    material = Material(tmp_path)
    heads = ["converted", "saved", "built"]
    material.add_random("grouped", GROUPED, ["detector", *ENGINES, "function", "served", *heads])
    material.add_random("recurrent", RECURRENT, ["detector", *ENGINES, "function", "built"])
    tiny = yolotf.parse_cfg(official_tiny.cfg)
    material.add(
        "official",
        *(official_tiny.cfg, official_tiny.weights),
        list(photographs(official_tiny, tiny.input_shape)),
        ["detector", *ENGINES, "function", "served"],
    )
    by_processor = material.answers_by_processor()
    assert_same(by_processor)
    # All ways are the same, too.
    answers = by_processor["without oneDNN"]
    for case in material.cases:
        expected = answers[f"{case['name']} detector detections"]
        for way in {"function", "served", *ENGINES}.intersection(case["ways"]):
            key = f"{case['name']} {way} detections"
            assert_same_detections(expected, answers[key], key)


def test_grouped_networks_match_in_tf_keras(tmp_path):
    """Its fused batch normalization is another pattern for TensorFlow's optimizer."""
    pytest.importorskip("tf_keras")
    material = Material(tmp_path)
    material.add_random("grouped", GROUPED, ["built"])
    material.add_random("recurrent", RECURRENT, ["built"])
    (material.folder / "cases.json").write_text(json.dumps(material.cases))
    environments = {"Keras 3": {}, "tf_keras": {**LEGACY, "TF_ENABLE_ONEDNN_OPTS": "0"}}
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(material.answers, environments, environments.values())
        assert_same(dict(zip(environments, answers, strict=True)))


@pytest.mark.shared
@pytest.mark.skipif(not helpers.SHARED.is_dir(), reason=helpers.NO_SHARED)
def test_every_real_pair_matches_on_all_processors(official_tiny, tmp_path):
    material = Material(tmp_path)
    for cfg in sorted((helpers.SHARED / "corpus/pairs").glob("*.cfg")):
        shape = yolotf.parse_cfg(cfg).input_shape
        pictures = list(photographs(official_tiny, shape))
        weights = cfg.with_suffix(".weights")
        grouped = ["function", "served"] if cfg.stem == "sonhm3029__v1_b" else []
        material.add(cfg.stem, cfg, weights, pictures, ["detector", *ENGINES, *grouped], score=0.1)
    assert len(material.cases) >= 8
    assert_same(material.answers_by_processor())
