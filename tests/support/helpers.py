"""Helpers of several test modules; `shared` is a folder beside the checkout that users lack."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from support import numpy_loader, weights_files
from yolotf.darknet import cfg
from yolotf.weights import layout

SHARED = Path(__file__).parents[3] / "shared"
NO_SHARED = "needs ../shared, which is not there"
PYTHONPATH = [str(folder) for folder in Path(__file__).parents[1:3]]
"""PYTHONPATH with which another process finds this package and these modules."""


def shared_params(values: Callable[[], Iterable[Any]], identify: Callable[[Any], str]) -> list[Any]:
    """Returns parameters for `pytest.mark.parametrize`: `values()`, or one skipped parameter.

    `values` is only called where shared exists.
    """
    if not SHARED.is_dir():
        skip = pytest.mark.skip(reason=NO_SHARED)
        return [pytest.param(None, id="no-shared", marks=[skip, pytest.mark.shared])]
    return [pytest.param(value, id=identify(value), marks=pytest.mark.shared) for value in values()]


def run_tests(only: Mapping[str, str], **environment: str) -> Counter[str]:
    """Runs tests in another process, where all must pass; returns how many did in each file.

    Tests may only be skipped because there is no shared folder.

    Args:
        only: an expression for pytest's `-k` for each file, as a path below `tests`; "" for all.
        environment: additional environment variables.
    """
    tests, root = map(Path, PYTHONPATH)
    words = [
        f"({Path(file).name} and ({words}))" if words else Path(file).name
        for file, words in only.items()
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-rsp", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *(str(tests / file) for file in only), "-k", " or ".join(words)],
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(PYTHONPATH)},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    lines = done.stdout.splitlines()
    skipped = [line for line in lines if line.startswith("SKIPPED") and NO_SHARED not in line]
    assert not skipped, skipped
    return Counter(re.findall(r"^PASSED tests/(\S+?)::", done.stdout, re.MULTILINE))


def inventory() -> list[dict[str, str]]:
    """Returns the rows of cfg/inventory.tsv whose cfg exists."""
    with (SHARED / "cfg/inventory.tsv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [row for row in rows if (SHARED / "cfg" / row["file"]).is_file()]


def must_cfgs() -> list[Path]:
    """Returns the detectors that have to work."""
    return [SHARED / "cfg" / row["file"] for row in inventory() if row["klass"] == "MUST detector"]


def stock_cfgs() -> list[Path]:
    """Returns every cfg that ships with Darknet and exists."""
    return sorted((SHARED / "cfg").glob("*.cfg"))


def shared_json(path: str) -> Any:
    """Returns a JSON file under shared."""
    return json.loads((SHARED / path).read_text(encoding="utf-8"))


def cfg_params(paths: Callable[[], Iterable[Path]]) -> list[Any]:
    """Returns `shared_params` for cfg files."""
    return shared_params(paths, lambda path: path.stem)


def layer_facts(layer: cfg.Layer) -> dict[str, Any]:
    """Returns every resolved field of a layer, except its text and its line."""
    return {
        item.name: getattr(layer, item.name)
        for item in dataclasses.fields(layer)
        if item.name not in ("section", "line")
    }


def network_facts(network: cfg.Network) -> list[dict[str, Any]]:
    """Returns `layer_facts` of all layers."""
    return [layer_facts(layer) for layer in network.layers]


def opencv_shapes(text: str, size_bytes: int, picture: cfg.Shape) -> dict[int, cfg.Shape]:
    """Returns the output shape of every layer of a cfg, computed by OpenCV's importer.

    `size_bytes` is the size of the file that it reads, which is filled with zeros.
    """
    weights = np.zeros(size_bytes, np.uint8)
    weights[: len(weights_files.HEADER)] = np.frombuffer(weights_files.HEADER, np.uint8)
    net = cv2.dnn.readNetFromDarknet(np.frombuffer(text.encode(), np.uint8), weights)
    indices, _, outputs = net.getLayersShapes((1, picture.channels, picture.height, picture.width))
    shapes: dict[int, cfg.Shape] = {}
    for index, output in zip(indices[1:], outputs[1:], strict=True):
        # A section becomes several OpenCV layers with its number in their names: conv_3, bn_3,
        # leaky_3. A head becomes a permutation to rows, columns, channels, and then boxes.
        kind, _, number = net.getLayer(int(index)).name.rpartition("_")
        shape = [int(extent) for extent in np.ravel(output[0])]
        if len(shape) != 4 or not number.isdigit():
            continue
        rows, columns, channels = shape[1:] if kind == "permute" else (*shape[2:], shape[1])
        shapes[int(number)] = cfg.Shape(rows, columns, channels)
    return shapes


def write_weights(path, network, floats=None, *, seed=1, scale=1.0):
    """Writes a file of normal values with positive gammas and variances; returns the values."""
    rng = np.random.default_rng(seed)
    numbers = rng.standard_normal(layout.floats(network), dtype=np.float32) * np.float32(scale)
    for segment in layout.segments(network):
        if segment.role in ("gamma", "moving_variance"):
            start = segment.offset // layout.FLOAT_BYTES
            part = numbers[start : start + segment.count]
            part[:] = np.abs(part) + np.float32(0.5)
    weights_files.write_in_parts(path, [numbers[:floats]], weights_files.header(64))
    return numbers


def write_detector(text: str) -> None:
    """Writes a cfg of three classes into this folder, with random weights: net.cfg and so on."""
    Path("net.cfg").write_text(text)
    Path("net.weights").write_bytes(numpy_loader.random_file(text))
    Path("net.names").write_text("cat\ndog\nkite\n")
