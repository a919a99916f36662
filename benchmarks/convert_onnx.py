"""Times conversions of a `.weights` file to ONNX, each in a separate process.

`yolotf convert` writes the model from the network's description. `tf2onnx` is the usual way: a
Keras model is loaded, traced, and converted by the package tf2onnx. `import tensorflow` is what
that way waits for first, and `checker` is the time in which the package onnx reads and checks the
file that yolotf wrote. Before anything is timed, onnxruntime compares the heads of both models.
Seconds are those of the whole process, RSS is its peak, MB are 10^6 bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import make_weights

OURS, THEIRS, TENSORFLOW, CHECKER = "yolotf convert", "tf2onnx", "import tensorflow", "checker"
TOLERANCE = 1e-4

_TF2ONNX = """
import sys
import tensorflow as tf
import tf2onnx
import yolotf

cfg, weights, output = sys.argv[1:]
network = yolotf.parse_cfg(cfg)
model = yolotf.build_model(network)
yolotf.load_darknet_weights(model, weights)
signature = [tf.TensorSpec([None, *network.input_shape], tf.float32, "images")]
function = tf.function(lambda images: model(images, training=False), input_signature=signature)
tf2onnx.convert.from_function(function, signature, opset=17, output_path=output)
"""
_CHECK = "import sys, onnx; onnx.checker.check_model(sys.argv[1], full_check=True)"


def commands(cfg: Path, weights: Path, folder: Path) -> dict[str, list[str]]:
    """Returns the command of each row."""
    ours, theirs = str(folder / "ours.onnx"), str(folder / "theirs.onnx")
    files = [str(cfg), str(weights)]
    return {
        OURS: ["-m", "yolotf", "convert", files[1], "--cfg", files[0], "-o", ours],
        THEIRS: ["-c", _TF2ONNX, *files, theirs],
        TENSORFLOW: ["-c", "import tensorflow"],
        CHECKER: ["-c", _CHECK, ours],
    }


def run(arguments: list[str]) -> dict[str, float]:
    """Returns seconds, processor seconds and peak memory in bytes of a process."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(said.decode())
    return {
        "seconds": time.perf_counter() - started,
        "processor": used.ru_utime + used.ru_stime,
        "rss": 1024 * used.ru_maxrss,
    }


def check_same(folder: Path, shape: tuple[int, ...]) -> None:
    """Raises if the heads of the two models differ."""
    import onnxruntime

    picture = np.random.default_rng(1).random((1, *shape), np.float32)
    heads = []
    for name, given in (("ours", picture.transpose(0, 3, 1, 2)), ("theirs", picture)):
        session = onnxruntime.InferenceSession(
            folder / f"{name}.onnx", providers=["CPUExecutionProvider"]
        )
        inputs = {session.get_inputs()[0].name: np.ascontiguousarray(given)}
        heads.append(session.run(None, inputs))
    for our_head, other in zip(*heads, strict=True):
        our_head = our_head.transpose(0, 2, 3, 1)
        difference = np.abs(our_head - other).max() / np.abs(other).max()
        if not difference <= TOLERANCE:
            raise SystemExit(f"the heads differ by {difference:.1e} of the largest number")


def main() -> None:
    """Runs all rows and prints the table; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--cfg", default="yolov4")
    parser.add_argument("--repeat", type=int, default=3, metavar="N")
    parser.add_argument("--without", action="append", choices=[THEIRS])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    from yolotf.darknet.stock import as_network

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network = as_network(arguments.cfg)
        weights = arguments.weights
        if weights is None:
            weights = folder / "made.weights"
            make_weights(network, weights)
        (folder / "network.cfg").write_text(network.to_cfg())
        ways = commands(folder / "network.cfg", weights, folder)
        for without in arguments.without or ():
            del ways[without]
        runs: dict[str, list[dict[str, float]]] = {way: [run(ways[way])] for way in ways}
        if THEIRS in ways:
            check_same(folder, tuple(network.input_shape))
        for _ in range(arguments.repeat - 1):
            for way in ways:
                # Once is enough for what takes a minute.
                if way != THEIRS:
                    runs[way].append(run(ways[way]))
        size = weights.stat().st_size
        rows = {
            way: {
                key: statistics.median(run_numbers[key] for run_numbers in many) for key in many[0]
            }
            for way, many in runs.items()
        }
    if arguments.json:
        print(json.dumps({"weights_bytes": size, "ways": rows}))
        return
    print(f"{network.source}, {size:,} bytes of weights, median of {arguments.repeat}")
    print(f"{'':20}{'s':>8}{'processor s':>13}{'peak RSS MB':>13}{'x the file':>12}")
    for way, row in rows.items():
        print(
            f"{way:20}{row['seconds']:8.2f}{row['processor']:13.2f}{row['rss'] / 1e6:13.0f}"
            f"{row['rss'] / size:12.2f}"
        )
    for way in (THEIRS, TENSORFLOW):
        if way in rows:
            print(
                f"{way} / {OURS}: {_ratio(rows, way, 'seconds')}, {_ratio(rows, way, 'processor')}"
            )


def _ratio(rows: dict[str, Any], way: str, key: str) -> str:
    unit = "of the time" if key == "seconds" else "of the processor's"
    return f"{rows[way][key] / rows[OURS][key]:.1f} {unit}"


if __name__ == "__main__":
    main()
