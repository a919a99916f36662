"""Times from process start to the first detection, in fresh processes that take turns.

* `yolotf` is `Detector`; `yolotf, openvino` and `yolotf, onnxruntime` are detectors with other
  engines. All start from the `.weights` file.
* `yolotf detect` is the whole command, from Enter to the boxes on the terminal.
* OpenVINO and onnxruntime run, in float32, an ONNX file that `yolotf convert` wrote beforehand.
* `classic` is what projects do that load .weights in Python: a Keras model, np.fromfile, transpose,
  set_weights, and a tf.function around the model.
* The last two rows detect nothing. They are floors: importing TensorFlow's Python, and opening its
  two libraries with a session, which `yolotf` has to do as well.

OpenCV, onnxruntime, OpenVINO and `classic` stop at the raw heads; all others return the boxes of
one image. Times are in seconds, RSS is the peak of the process, and `times own` is the ratio to
the total of the engine alone. The column `load` of `build_function` includes tracing, and that of
`yolotf` includes opening TensorFlow's libraries: both happen while the file is loaded.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
WAYS = (
    "yolotf",
    "yolotf, openvino",
    "yolotf, onnxruntime",
    "yolotf detect",
    "yolotf build_function",
    "yolotf Keras",
    "classic",
    "SavedModel",
    "OpenCV DNN",
    "onnxruntime",
    "OpenVINO",
    "import tensorflow",
    "libraries alone",
)
_PACKAGES = {
    "yolotf, openvino": ("openvino",),
    "yolotf, onnxruntime": ("onnxruntime",),
    "OpenCV DNN": ("cv2",),
    "onnxruntime": ("onnxruntime", "onnx"),
    "OpenVINO": ("openvino", "onnx"),
}
OWN = {"yolotf, openvino": "OpenVINO", "yolotf, onnxruntime": "onnxruntime"}
"""A row of yolotf, and the row of the engine alone, which runs the ONNX file."""
PHASES = ("import", "build", "load", "first answer")


class Clock:
    """Seconds of each phase, in the order in which they ended."""

    def __init__(self) -> None:
        self.last = STARTED
        self.seconds: dict[str, float] = {}

    def end(self, phase: str) -> None:
        """Counts the time since the last phase ended as `phase`."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self.last
        self.last = now


def detector(clock: Clock, files: dict[str, str], engine: Any = "tensorflow") -> None:
    """`Detector`, without TensorFlow's Python."""
    from yolotf import Detector, parse_cfg

    network = parse_cfg(files["cfg"])
    clock.end("import")
    detector = Detector(network, files["weights"], engine=engine)
    clock.end("load")
    detector(picture(files)[0])
    clock.end("first answer")


def openvino_detector(clock: Clock, files: dict[str, str]) -> None:
    """`Detector` on OpenVINO, from the `.weights` file."""
    detector(clock, files, "openvino")


def onnxruntime_detector(clock: Clock, files: dict[str, str]) -> None:
    """`Detector` on onnxruntime, from the `.weights` file."""
    detector(clock, files, "onnxruntime")


def command(clock: Clock, files: dict[str, str]) -> None:
    """The command, in a separate process."""
    arguments = ["detect", files["picture"], "--cfg", files["cfg"], "--weights", files["weights"]]
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "yolotf.cli", *arguments, "--json"], check=True, capture_output=True
    )
    clock.last = started
    clock.seconds["import"] = 0.0
    clock.end("first answer")


def onnxruntime(clock: Clock, files: dict[str, str]) -> None:
    """The same network as an ONNX file, converted beforehand; returns raw heads."""
    import onnxruntime as runtime

    clock.end("import")
    session = runtime.InferenceSession(files["onnx"], providers=["CPUExecutionProvider"])
    clock.end("load")
    inputs = session.get_inputs()[0]
    session.run(None, {inputs.name: as_floats(files).transpose(0, 3, 1, 2)})
    clock.end("first answer")


def openvino(clock: Clock, files: dict[str, str]) -> None:
    """The same ONNX file in OpenVINO, in float32."""
    import openvino as runtime

    clock.end("import")
    model = runtime.Core().compile_model(files["onnx"], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    clock.end("load")
    model([as_floats(files).transpose(0, 3, 1, 2)])
    clock.end("first answer")


def import_tensorflow(clock: Clock, files: dict[str, str]) -> None:
    """The import that every program with TensorFlow's Python waits for."""
    import tensorflow  # noqa: F401

    clock.end("import")


def libraries(clock: Clock, files: dict[str, str]) -> None:
    """TensorFlow's two libraries and a session, without TensorFlow's Python."""
    from yolotf import _runtime
    from yolotf.runtime import tensorflow_library

    clock.end("import")
    tensorflow_library.load()
    _runtime.Session(_runtime.Graph(), b"")
    clock.end("load")


def as_floats(files: dict[str, str]) -> Any:
    """Returns `picture` in 0..1."""
    import numpy as np

    return picture(files).astype(np.float32) / 255


def inference(clock: Clock, files: dict[str, str]) -> None:
    """Runs `build_function`: plain TensorFlow operations with folded batch normalization."""
    import tensorflow as tf  # noqa: F401

    clock.end("import")
    from yolotf import parse_cfg
    from yolotf.inference import InferenceFunction

    function = InferenceFunction(parse_cfg(files["cfg"]))
    clock.end("build")
    function.load(files["weights"], trace=True)
    clock.end("load")
    function(picture(files)).counts.numpy()
    clock.end("first answer")


def keras(clock: Clock, files: dict[str, str]) -> None:
    """Runs a Keras model that the op loaded, then decodes."""
    import tensorflow as tf

    clock.end("import")
    import yolotf
    from yolotf.graphs import decode

    network = yolotf.parse_cfg(files["cfg"])
    model = yolotf.build_model(network)
    clock.end("build")
    yolotf.load_darknet_weights(model, files["weights"])
    clock.end("load")

    def detect(images: Any) -> Any:
        return decode.find_detections(
            model(tf.cast(images, tf.float32) / 255, training=False),
            network,
            network.input_shape[:2],
            score_threshold=0.25,
            iou_threshold=0.45,
            max_boxes=200,
        )

    tf.function(detect)(picture(files)).counts.numpy()
    clock.end("first answer")


def classic(clock: Clock, files: dict[str, str]) -> None:
    """Loads as well-known repositories do, into a Keras model that is quick to build."""
    import numpy as np
    import tensorflow as tf

    clock.end("import")
    import yolotf

    network = yolotf.parse_cfg(files["cfg"])
    model = yolotf.build_model(network)
    clock.end("build")
    layers = {layer.name: layer for layer in model.layers}
    with Path(files["weights"]).open("rb") as file:
        np.fromfile(file, np.int32, 5)
        for section in network.layers:
            layer = layers.get(f"conv_{section.index}")
            if layer is None:
                continue
            height, width, channels, filters = layer.kernel.shape
            norm = layers.get(f"conv_{section.index}_bn")
            numbers = np.fromfile(file, np.float32, (4 if norm else 1) * filters)
            if norm:
                norm.set_weights(numbers.reshape(4, filters)[[1, 0, 2, 3]])
            kernel = np.fromfile(file, np.float32, filters * channels * height * width)
            kernel = kernel.reshape(filters, channels, height, width).transpose(2, 3, 1, 0)
            layer.set_weights([kernel] if norm else [kernel, numbers])
    clock.end("load")

    def heads(images: Any) -> Any:
        return model(tf.cast(images, tf.float32) / 255, training=False)

    [head.numpy() for head in tf.function(heads)(picture(files))]
    clock.end("first answer")


def saved_model(clock: Clock, files: dict[str, str]) -> None:
    """Runs the SavedModel of `Detector.export`, without yolotf."""
    import tensorflow as tf

    clock.end("import")
    model = tf.saved_model.load(files["saved_model"])
    clock.end("load")
    answers = model.signatures["serving_default"](tf.constant(picture(files)))
    next(iter(answers.values())).numpy()
    clock.end("first answer")


def opencv(clock: Clock, files: dict[str, str]) -> None:
    """Uses OpenCV's importer and its own kernels."""
    import cv2

    clock.end("import")
    net = cv2.dnn.readNetFromDarknet(files["cfg"], files["weights"])
    clock.end("load")
    net.setInput(cv2.dnn.blobFromImage(picture(files)[0], 1 / 255))
    net.forward(net.getUnconnectedOutLayersNames())
    clock.end("first answer")


CHILDREN: dict[str, Callable[[Clock, dict[str, str]], None]] = dict(
    zip(
        WAYS,
        (
            detector,
            openvino_detector,
            onnxruntime_detector,
            command,
            inference,
            keras,
            classic,
            saved_model,
            opencv,
            onnxruntime,
            openvino,
            import_tensorflow,
            libraries,
        ),
        strict=True,
    )
)


def picture(files: dict[str, str]) -> Any:
    """Returns an image of noise in the network's size: [1, height, width, channels] uint8."""
    import numpy as np

    height, width, channels = map(int, files["shape"].split("x"))
    return np.random.default_rng(3).integers(0, 256, (1, height, width, channels), np.uint8)


def child(way: str, files: dict[str, str]) -> None:
    """Runs one row, and prints its seconds and peak RSS."""
    clock = Clock()
    CHILDREN[way](clock, files)
    # Not getrusage: its maximum survives exec and would be the parent's.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024
    print(json.dumps({"seconds": clock.seconds, "peak_rss_mb": peak}))


def prepare(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, str], list[str]]:
    """Writes the files that the rows read; returns them, and the rows that can run."""
    import numpy as np
    from common import make_weights
    from PIL import Image

    from yolotf import Detector
    from yolotf.darknet.stock import as_network
    from yolotf.formats.convert import convert

    network = as_network(arguments.cfg).resized(arguments.size)
    weights = arguments.weights
    if weights is None:
        weights = folder / "made.weights"
        make_weights(network, weights)
    (folder / "network.cfg").write_text(network.to_cfg())
    ways = [way for way in WAYS if way not in (arguments.without or ())]
    for way, package in _PACKAGES.items():
        if way in ways and not all(map(importlib.util.find_spec, package)):
            ways.remove(way)
    made = folder / "network.onnx"
    if {"onnxruntime", "OpenVINO"} & {*ways}:
        convert(weights, network, made)
    noise = np.random.default_rng(3).integers(0, 256, network.input_shape, np.uint8)
    Image.fromarray(noise).save(folder / "picture.png")
    if "SavedModel" in ways:
        Detector(network, weights).export(folder / "saved_model")
    files = {
        "cfg": str(folder / "network.cfg"),
        "weights": str(weights),
        "saved_model": str(folder / "saved_model"),
        "onnx": str(made),
        "picture": str(folder / "picture.png"),
        "shape": "x".join(map(str, network.input_shape)),
    }
    return files, ways


def plot(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Draws the phases of each row as a bar."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(rows) + 1.6), layout="constrained")
    colours = dict(zip(PHASES, ("#c8c8c8", "#7fa8d9", "#2f6db3", "#e08a3c"), strict=True))
    ways = [row["way"] for row in rows]
    starts = [0.0] * len(rows)
    for phase in PHASES:
        seconds = [row[phase] for row in rows]
        axes.barh(ways, seconds, left=starts, color=colours[phase], label=phase, height=0.62)
        starts = [start + extra for start, extra in zip(starts, seconds, strict=True)]
    for number, end in enumerate(starts):
        axes.text(end, number, f" {end:.1f} s", va="center")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * max(starts))
    axes.set_xlabel("seconds")
    axes.set_title(title)
    axes.legend(ncols=len(PHASES), loc="upper center", bbox_to_anchor=(0.5, -0.22), frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=120)


def _has_own(row: dict[str, Any], totals: dict[str, float]) -> bool:
    return OWN.get(row["way"]) in totals


def main() -> None:
    """Runs all rows and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--cfg", default="yolov4", help="a cfg or a stock network's name")
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without", nargs="+", metavar="WAY", choices=WAYS)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw a PNG")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], json.loads(arguments.child[1]))
        return
    timings: dict[str, list[dict[str, Any]]] = {}
    # Compile the modules, as installing a package does.
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as temporary:
        files, ways = prepare(arguments, Path(temporary))
        from common import settle

        shuffle = random.Random(1).shuffle
        for round_number in range(-1, arguments.rounds):  # the first run is not counted
            shuffle(order := list(ways))
            for way in order:
                settle()
                run = subprocess.run(
                    [sys.executable, __file__, "--child", way, json.dumps(files)],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if run.returncode:
                    sys.exit(f"{way}: {run.stderr}")
                if round_number >= 0:
                    timings.setdefault(way, []).append(json.loads(run.stdout.splitlines()[-1]))
    rows = []
    for way, runs in ((way, timings[way]) for way in ways):
        seconds = {
            phase: statistics.median(run["seconds"].get(phase, 0.0) for run in runs)
            for phase in PHASES
        }
        total = statistics.median(sum(run["seconds"].values()) for run in runs)
        after = statistics.median(
            sum(run["seconds"].values()) - run["seconds"]["import"] for run in runs
        )
        peak = statistics.median(run["peak_rss_mb"] for run in runs)
        rows.append(
            {"way": way, **seconds, "after_import": after, "total": total, "peak_rss_mb": peak}
        )
    from common import processor

    totals = {row["way"]: row["total"] for row in rows}
    for row in rows:
        row["times_own"] = row["total"] / totals[OWN[row["way"]]] if _has_own(row, totals) else None
    facts = {
        "network": arguments.cfg,
        "size": arguments.size,
        "rounds": arguments.rounds,
        "processor": processor(),
    }
    if arguments.plot:
        title = f"{arguments.cfg} at {arguments.size}: process start to first answer"
        plot(rows, title, arguments.plot)
    if arguments.json:
        print(json.dumps({**facts, "rows": rows}, indent=1))
        return
    from common import print_table

    columns = (*PHASES, "after_import", "total")
    print_table(
        f"{arguments.cfg} at {arguments.size}, {facts['processor']}, seconds, "
        f"median of {arguments.rounds} processes",
        ("", *(column.replace("_", " ") for column in columns), "times own", "peak RSS, MB"),
        [
            (
                row["way"],
                *(f"{row[column]:.2f}" for column in columns),
                "" if row["times_own"] is None else f"{row['times_own']:.2f}",
                f"{row['peak_rss_mb']:.0f}",
            )
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
