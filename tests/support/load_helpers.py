"""Small networks and files for the tests of loading, which compare the bytes of every variable."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import yolotf
from support import cfgs, numpy_loader, weights_files
from support.cfgs import conv, normalized, shortcut
from yolotf import errors
from yolotf.models.variables import plain
from yolotf.weights import op_library
from yolotf.weights import write as writing

NET = cfgs.net(16)
HEAD = cfgs.yolo(anchors="1,1,2,2,3,3")


PLAIN = NET + normalized(16, 3) + conv(18) + HEAD
"""A convolution with batch normalization and one with a bias: 802 floats."""

EVERYTHING = (
    NET
    + normalized(16, 3, "linear")
    + normalized(16, 3, "linear", groups=16)
    + normalized(32, 3, "linear", groups=16)
    + normalized(32, 3, "linear", groups=4)
    + "[batchnorm]\n"
    + shortcut("-2,-3", weights_type="per_channel")
    + shortcut(-2, weights_type="per_feature")
    + normalized(32, 3, "linear", share_index=3, groups=4)
    + conv(37, 3, stride=2, activation="mish")
    + conv(8, 1)
    + "[implicit]\nfilters=8\n[scale_channels]\nfrom=-2\nactivation=linear\n"
    + "[local]\nfilters=5\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
    + "[connected]\noutput=21\nbatch_normalize=1\nactivation=linear\n"
    + "[connected]\noutput=7\nactivation=linear\n"
)
"""Every kind of array that a file can hold: plain, grouped and depthwise kernels with one and two
filters per channel, dense kernels, kernels per position, weighted shortcuts, constants.
"""


def build(text: str, **options: Any) -> Any:
    return yolotf.build_model(yolotf.parse_cfg(text), **options)


def content(text: str, seed: int = 0, header: bytes = weights_files.HEADER) -> bytes:
    """Returns a file for a cfg: a header and plausible random values."""
    return header + numpy_loader.random_file(text, seed)[len(weights_files.HEADER) :]


def snapshot(model: Any) -> dict[str, np.ndarray]:
    """Returns the bytes of every weight, by path."""
    return {variable_name(v): bits(v.numpy()) for v in model.weights}


def variable_name(variable: Any) -> str:
    return getattr(variable, "path", variable.name)


def bits(array: Any) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).copy()


def same(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return actual.keys() == expected.keys() and all(
        np.array_equal(actual[name], expected[name]) for name in expected
    )


def scramble(model: Any, seed: int = 99) -> None:
    """Writes other values into every variable, so that none is correct without being loaded."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        variable = plain(weight)
        variable.assign(tf.cast(100 * random.standard_normal(variable.shape), variable.dtype))


def forbid_op(monkeypatch: Any) -> None:
    """Makes every later load take the portable path, as if the op could not be loaded."""

    def refuse() -> None:
        raise errors.TensorFlowVersionError("switched off", built="0.0", running="0.1")

    monkeypatch.setattr(op_library, "op_library", refuse)
    monkeypatch.setattr(writing, "_warned", {"switched off"})


TESTS = Path(__file__).parents[1]
PATHS = [TESTS.parent, TESTS, *TESTS.glob("*/")]
"""Paths on which a new Python process finds the package and the test modules."""


def run_python(code: str, *arguments: str, timeout: float = 120, **environment: str) -> str:
    """Runs code in a new Python process and returns its output; shows the output if it fails."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=TESTS,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, PATHS)),
            "TF_CPP_MIN_LOG_LEVEL": "2",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
