"""Milliseconds per image after warming up; all rows run in one process and take turns.

All rows get the same images in the network's size, and are first checked to return the same raw
heads.

* `yolotf` is `Detector`; `yolotf, openvino` and `yolotf, onnxruntime` are detectors with other
  engines; `build_function` is the TensorFlow function. These return boxes, so their times include
  decoding and suppression. All other rows stop at the raw heads.
* `300 detections` is `yolotf` on an image with that many detections: the score threshold is lowered
  until ten times as many boxes are candidates.
* The Keras model is that of `build_model`, in a `tf.function`: batch normalization is not folded,
  and TensorFlow fuses what it can.
* onnxruntime and OpenVINO, if they are installed, run the ONNX file of raw heads that `yolotf
  convert` writes for exactly the measured number of images, from floats prepared beforehand.
  OpenVINO runs in float32 like all others, and with its default, which is bfloat16 (about 3 digits)
  on processors that have it.

`times own` is the ratio of yolotf's row to that of the engine alone: in time, and in processor time
of this process. A network and batch size is measured for `--seconds` or `--rounds`, whichever ends
first, but at least for three rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from common import make_weights, print_table, processor

import yolotf
from yolotf.inference import build_function
from yolotf.runtime.network import RuntimeNetwork
from yolotf.runtime.options import EngineName
from yolotf.weights import op_library

YOLOTF, FOLDED, KERAS = "yolotf", "build_function", "Keras, tf.function"
OPENCV, ONNX = "OpenCV DNN", "onnxruntime"
OPENVINO, OPENVINO_AS_IT_COMES = "OpenVINO, float32", "OpenVINO as it comes"
OURS: dict[EngineName, str] = {"openvino": "yolotf, openvino", "onnxruntime": "yolotf, onnxruntime"}
OURS_BFLOAT16 = "yolotf, openvino, bfloat16"
OWN = {
    OURS["openvino"]: OPENVINO,
    OURS["onnxruntime"]: ONNX,
    OURS_BFLOAT16: OPENVINO_AS_IT_COMES,
}
"""A row of yolotf, and the row of the engine alone."""
CROWDED = "yolotf, 300 detections"
_CROWD = 300
_LEAST_ROUNDS = 3
Way = Callable[[Any], Any]


class Ways:
    """The rows for one network: `heads` return raw heads, channels last; `timed` are timed."""

    def __init__(self, network: yolotf.Network, weights: Path, folder: Path, images: Any) -> None:
        self._floats = channels_first(images)
        self.heads: dict[str, Way] = {}
        self.timed: dict[str, Way] = {}
        self._detector(network, weights)
        self._engines(network, weights)
        self._crowded(network, weights)
        self._folded(network, weights)
        self._keras(network, weights)
        self._opencv(network, weights, folder)
        self._onnx(network, weights, folder, len(images))

    def _detector(self, network: yolotf.Network, weights: Path) -> None:
        detector = yolotf.Detector(network, weights)
        engine, loaded = RuntimeNetwork.opened(network, weights)

        def heads(images: Any) -> Any:
            return engine.raw_heads(images.astype(np.float32) / 255, loaded)

        self.heads[YOLOTF] = heads
        self.timed[YOLOTF] = _timed(detector)

    def _engines(self, network: yolotf.Network, weights: Path) -> None:
        for engine, name in OURS.items():
            if importlib.util.find_spec(engine) is None:
                continue
            detector = yolotf.Detector(network, weights, engine=engine)
            self.timed[name] = _timed(detector)
            served = detector._served

            def heads(images: Any, served: Any = served) -> Any:
                floats = images.astype(np.float32) / 255
                return served.engine.raw_heads(floats, served.active.loaded)

            self.heads[name] = heads
        if OURS["openvino"] in self.timed:
            with contextlib.suppress(yolotf.YolotfError):  # this processor has no bfloat16
                self.timed[OURS_BFLOAT16] = _timed(
                    yolotf.Detector(network, weights, engine="openvino", precision="bfloat16")
                )

    def _crowded(self, network: yolotf.Network, weights: Path) -> None:
        picture = noise(network, 1)[0]
        # Made-up weights detect nothing: the scores of their best boxes are close together.
        every = yolotf.Detector(
            network, weights, score_threshold=0, iou_threshold=0.99, max_boxes=10 * _CROWD
        )(picture)
        score = float(every.scores[-1])
        detector = yolotf.Detector(
            network, weights, score_threshold=score, iou_threshold=0.99, max_boxes=_CROWD
        )
        if len(detector(picture)) != _CROWD:
            sys.exit(f"{network.name}: {len(detector(picture))} detections, not {_CROWD}")
        self.timed[CROWDED] = _timed(detector)

    def _folded(self, network: yolotf.Network, weights: Path) -> None:
        function = build_function(network, weights)

        def heads(images: Any) -> Any:
            return [raw.numpy() for raw in function.raw_heads(images.astype(np.float32) / 255)]

        self.heads[FOLDED] = heads
        self.timed[FOLDED] = lambda images: function(images).boxes.numpy()

    def _keras(self, network: yolotf.Network, weights: Path) -> None:
        model = yolotf.build_model(network)
        yolotf.load_darknet_weights(model, weights)

        def computed(images: Any) -> Any:
            return model(tf.cast(images, tf.float32) / 255, training=False)

        run = tf.function(computed)
        self.heads[KERAS] = self.timed[KERAS] = lambda images: [raw.numpy() for raw in run(images)]

    def _opencv(self, network: yolotf.Network, weights: Path, folder: Path) -> None:
        try:
            import cv2
        except ImportError:
            return
        # Without the heads, which OpenCV would decode itself.
        path = folder / "network.cfg"
        path.write_text(network.to_cfg())
        net = cv2.dnn.readNetFromDarknet(str(path), str(weights))
        before = [f"{kind}_{index}" for kind, index in _before_heads(network)]
        names = net.getLayerNames()
        outputs = [next(layer for layer in names if layer.split("/")[0] == name) for name in before]

        def run(images: Any) -> Any:
            net.setInput(cv2.dnn.blobFromImages(list(images), 1 / 255))
            return net.forward(outputs)

        self.timed[OPENCV] = run
        self.heads[OPENCV] = lambda images: [raw.transpose(0, 2, 3, 1) for raw in run(images)]

    def _onnx(self, network: yolotf.Network, weights: Path, folder: Path, batch: int) -> None:
        path = folder / f"batch_{batch}.onnx"
        yolotf.convert(weights, network, path, batch_size=batch)
        self._openvino(path)
        try:
            import onnxruntime
        except ImportError:
            return
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = op_library.thread_count()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        self._add_own(ONNX, lambda: session.run(None, {"images": self._floats}))

    def _openvino(self, path: Path) -> None:
        try:
            import openvino
        except ImportError:
            return
        threads: dict[str, Any] = {"INFERENCE_NUM_THREADS": op_library.thread_count()}
        for name, precision in (
            (OPENVINO, {"INFERENCE_PRECISION_HINT": "f32"}),
            (OPENVINO_AS_IT_COMES, {}),
        ):
            compiled = openvino.Core().compile_model(path, "CPU", {**threads, **precision})

            def run(compiled: Any = compiled) -> list[Any]:
                return list(compiled([self._floats]).values())

            # bfloat16 has too few digits for this comparison.
            self._add_own(name, run, compared=bool(precision))

    def _add_own(self, name: str, run: Callable[[], list[Any]], *, compared: bool = True) -> None:
        self.timed[name] = lambda _: run()
        if compared:
            self.heads[name] = lambda _: [raw.transpose(0, 2, 3, 1) for raw in run()]


def _timed(detector: yolotf.Detector) -> Way:
    return lambda images: detector(list(images))


def channels_first(images: Any) -> Any:
    """Returns images as ONNX models take them: [batch, channels, height, width], 0..1."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def noise(network: yolotf.Network, count: int) -> Any:
    """Returns random images in the network's size."""
    shape = (count, *network.input_shape)
    return np.random.default_rng(3).integers(0, 256, shape, np.uint8)


def _before_heads(network: yolotf.Network) -> list[tuple[str, int]]:
    """Returns OpenCV's names of the layers before the heads."""
    return [("conv", head.index - 1) for head in network.heads]


def check(ways: Ways, images: Any) -> None:
    """Raises unless all rows return the same raw heads."""
    expected = ways.heads[KERAS](images)
    for name, way in ways.heads.items():
        for ours, theirs in zip(way(images), expected, strict=True):
            difference = float(np.abs(ours - theirs).max())
            if difference > 1e-3 * float(np.ptp(theirs)):
                sys.exit(f"{name}: a raw head differs from the Keras model's by {difference}")


def measure(
    ways: Ways, images: Any, rounds: int, seconds: float
) -> dict[str, list[tuple[float, float]]]:
    """Returns milliseconds and processor milliseconds per image, for every row and round.

    The rows take turns, in another order in each round. A turn is a pause and two calls, of which
    only the second is timed: before, the caches hold the data of another row, and its threads may
    still be spinning.
    """
    order = list(ways.timed)
    shuffle = random.Random(1).shuffle
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways.timed}
    end = time.perf_counter() + seconds
    for round_number in range(-1, rounds):  # the first round is not counted
        if round_number >= _LEAST_ROUNDS and time.perf_counter() > end:
            break
        shuffle(order)
        for name in order:
            way = ways.timed[name]
            time.sleep(0.1)
            way(images)
            started, processor = time.perf_counter(), time.process_time()
            way(images)
            spent = time.perf_counter() - started, time.process_time() - processor
            if round_number >= 0:
                wall, busy = (1e3 * seconds / len(images) for seconds in spent)
                times[name].append((wall, busy))
    return times


def main() -> None:
    """Runs all rows and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="+", default=["yolov4-tiny", "yolov4"])
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7, help="at most")
    parser.add_argument("--seconds", type=float, default=40, help="a network and batch size")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in arguments.networks:
            network = yolotf.network(name, size=arguments.size)
            weights = folder / f"{name}.weights"
            make_weights(network, weights)
            for batch in arguments.batches:
                images = noise(network, batch)
                ways = Ways(network, weights, folder, images)
                check(ways, images)
                times = measure(ways, images, arguments.rounds, arguments.seconds)
                wall = {
                    way: statistics.median(wall_ms for wall_ms, _ in pairs)
                    for way, pairs in times.items()
                }
                spent = {
                    way: statistics.median(processor_ms for _, processor_ms in pairs)
                    for way, pairs in times.items()
                }
                rows += [
                    {
                        "network": name,
                        "batch": batch,
                        "way": way,
                        "rounds": len(times[way]),
                        "ms_per_picture": median,
                        "minimum_ms": min(wall_ms for wall_ms, _ in times[way]),
                        "processor_ms": spent[way],
                        "pictures_per_second": 1e3 / median,
                        "times_yolotf": median / wall[YOLOTF],
                        "times_own": median / wall[OWN[way]] if OWN.get(way) in wall else None,
                        "processor_times_own": spent[way] / spent[OWN[way]]
                        if OWN.get(way) in wall
                        else None,
                    }
                    for way, median in wall.items()
                ]
                del ways
    facts = {"size": arguments.size, "processor": processor(), "tensorflow": tf.__version__}
    if arguments.json:
        print(json.dumps({**facts, "rows": rows}, indent=1))
        return
    print_table(
        f"{arguments.size} x {arguments.size}, {facts['processor']}, TensorFlow {tf.__version__}, "
        f"median of {min(row['rounds'] for row in rows)} rounds or more",
        (
            *("network", "batch", "way", "ms", "times yolotf's", "times own"),
            *("processor ms", "times own"),
        ),
        [
            (
                row["network"],
                str(row["batch"]),
                row["way"],
                f"{row['ms_per_picture']:.1f}",
                f"{row['times_yolotf']:.2f}",
                "" if row["times_own"] is None else f"{row['times_own']:.2f}",
                f"{row['processor_ms']:.1f}",
                "" if row["times_own"] is None else f"{row['processor_times_own']:.2f}",
            )
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
