"""The example of docs/architecture.md, carried out: a section type that Darknet does not have."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import yolotf
from support import helpers

PAGE = Path(yolotf.__path__[0]).parent / "docs" / "architecture.md"

BEFORE = {
    "darknet": """
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
import tensorflow as tf
import numpy as np
from yolotf.darknet import cfg
from yolotf.darknet.layer import Before, Layer, Place, section
from yolotf.darknet.options import Options
from yolotf.darknet.roles import Role, Stored
""",
    "graphs": """
cfg.Scale = Scale
from yolotf.graphs.lowering import Lowering, lowers
from yolotf.graphs.operations import Tensor
""",
    "models": """
from yolotf.models import build
from yolotf.models.builder import Builder, builds
from yolotf.models.registration import Layer, register
from yolotf.models import variables
""",
}

AFTER = """
variables._ATTRIBUTES["weights"] += ("scale",)
variables.ROLE_OF["scale"] = "weights"

import pathlib, sys, yolotf
from support import weights_files
from yolotf.graphs.network import NetworkGraph
from yolotf.onnx.model import describe

text = (
    "[net]\\nwidth=4\\nheight=2\\nchannels=3\\n[convolutional]\\nfilters=5\\nactivation=linear\\n"
    "[scale]\\nactivation=relu\\n"
)
network = cfg.parse_cfg(text)
random = np.random.default_rng(1)
bias, kernel, factors = (
    random.standard_normal(shape).astype(np.float32) for shape in ((5,), (5, 3), (5,))
)
weights_files.write(pathlib.Path(sys.argv[1]), bias, kernel, factors)
picture = random.random((1, 2, 4, 3)).astype(np.float32)
expected = np.maximum((picture @ kernel.T + bias) * factors, 0)

model = yolotf.build_model(network)
report = yolotf.load_darknet_weights(model, sys.argv[1])
assert report.floats == 25, report
np.testing.assert_allclose(np.asarray(model(picture)), expected, rtol=1e-5, atol=1e-6)
graph = NetworkGraph(network, use_onednn=False)
assert graph.shapes["1/weights"] == (5,)
arrays = {"0/kernel": kernel.T[None, None], "0/bias": bias, "1/weights": factors}
heads, _ = graph.heads(
    tf.raw_ops, tf.constant(picture), lambda key: tf.constant(arrays[key]), fused=False
)
np.testing.assert_allclose(heads[0].numpy(), expected, rtol=1e-5, atol=1e-6)
onnx = describe(network)
assert [one.name for one in onnx.weights] == ["conv_0/bias", "conv_0/kernel", "scale_1/weights"]
print("as the page says")
"""


@pytest.mark.slow
def test_a_section_made_by_the_page_is_loaded_run_and_exported(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    darknet, graphs, models = (block for block in blocks if "Scale" in block)
    parts = [
        BEFORE["darknet"] + darknet,
        BEFORE["graphs"] + graphs,
        BEFORE["models"] + models,
        AFTER,
    ]
    script = tmp_path / "scale.py"
    script.write_text("from __future__ import annotations\n" + "\n".join(parts))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "a.weights")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(helpers.PYTHONPATH)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "as the page says\n"
